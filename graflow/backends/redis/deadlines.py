"""Runs with a time limit, ended by whoever submitted them where no worker is there to do so."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, Final

from graflow.backends.redis.scripts.runs import BUDGET, CONTROL
from graflow.errors import BackendUnavailableError

if TYPE_CHECKING:
    from graflow.backends.redis.client import RedisClient

_log = logging.getLogger("graflow.redis")

AFTER: Final = 0.05
"""seconds that the workers, who know of the limit too, are given to be first"""


class Deadlines:
    """One timer for each run with a limit that this process has begun, until the run's end is heard of.

    Args:
        client: the server.
    """

    def __init__(self, client: RedisClient) -> None:
        self._client = client
        self._timers: dict[str, tuple[int, asyncio.TimerHandle]] = {}
        self._ending: set[asyncio.Task[Any]] = set()

    def __len__(self) -> int:
        return len(self._timers)

    def set(self, run_id: str, generation: int, timeout: float) -> None:
        """End a run in ``timeout`` seconds, unless it is over by then."""
        self.forget(run_id)
        timer = asyncio.get_running_loop().call_later(timeout + AFTER, self._due, run_id, generation, timeout)
        self._timers[run_id] = generation, timer

    def forget(self, run_id: str, generation: int | None = None) -> None:
        """The run needs no ending; of several that had this id, the one of ``generation``."""
        known = self._timers.get(run_id)
        if known is not None and generation in (None, known[0]):
            del self._timers[run_id]
            known[1].cancel()

    async def close(self) -> None:
        """Leave the runs to the workers."""
        for run_id in list(self._timers):
            self.forget(run_id)
        for ending in self._ending:
            ending.cancel()
        if self._ending:
            await asyncio.wait(self._ending)

    def _due(self, run_id: str, generation: int, timeout: float) -> None:
        del self._timers[run_id]
        ending = asyncio.create_task(self._end(run_id, generation, timeout), name="graflow-deadline")
        self._ending.add(ending)
        ending.add_done_callback(self._ending.discard)

    async def _end(self, run_id: str, generation: int, timeout: float) -> None:
        reason = f"the run did not end within {timeout} s"
        try:
            await self._client.call(CONTROL, (self._client.shift, BUDGET, run_id, "expire", reason, generation))
        except BackendUnavailableError as error:
            _log.warning("run %s is over its time and cannot be ended: %s", run_id, error, extra={"run_id": run_id})
