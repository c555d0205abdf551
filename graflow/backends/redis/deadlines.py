"""Runs with a time limit, ended by whoever submitted them where no worker is there to do so."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, Final

from graflow.backends.redis.scripts.runs import BUDGET, CONTROL
from graflow.errors import BackendUnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable

    from graflow.backends.redis.client import RedisClient

_log = logging.getLogger("graflow.redis")

AFTER: Final = 0.05
"""seconds that the workers, who know of the limit too, are given to be first"""


class Deadlines:
    """One timer for each run with a limit that this process has begun.

    Args:
        client: the server.
    """

    def __init__(self, client: RedisClient) -> None:
        self._client = client
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._ending: set[asyncio.Task[Any]] = set()

    def set(self, run_id: str, timeout: float, is_over: Callable[[], bool]) -> None:
        """End a run in ``timeout`` seconds, unless ``is_over`` by then."""
        self.forget(run_id)
        self._timers[run_id] = asyncio.get_running_loop().call_later(timeout + AFTER, self._due, run_id, timeout, is_over)

    def forget(self, run_id: str) -> None:
        """The run needs no ending."""
        timer = self._timers.pop(run_id, None)
        if timer is not None:
            timer.cancel()

    async def close(self) -> None:
        """Leave the runs to the workers."""
        for run_id in list(self._timers):
            self.forget(run_id)
        for ending in self._ending:
            ending.cancel()
        if self._ending:
            await asyncio.wait(self._ending)

    def _due(self, run_id: str, timeout: float, is_over: Callable[[], bool]) -> None:
        del self._timers[run_id]
        if not is_over():
            ending = asyncio.create_task(self._end(run_id, timeout), name="graflow-deadline")
            self._ending.add(ending)
            ending.add_done_callback(self._ending.discard)

    async def _end(self, run_id: str, timeout: float) -> None:
        reason = f"the run did not end within {timeout} s"
        try:
            await self._client.call(CONTROL, (self._client.shift, BUDGET, run_id, "expire", reason, ""))
        except BackendUnavailableError as error:
            _log.warning("run %s is over its time and cannot be ended: %s", run_id, error, extra={"run_id": run_id})
