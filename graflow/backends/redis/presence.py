"""Which workers are there, from the pulse that each of them gives: so a run that nobody can run says so, and nobody has to ask."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

from graflow.backends.redis.blobs import as_text
from graflow.backends.redis.events import NUMBERS
from graflow.backends.redis.scripts.runs import BUDGET, TELL
from graflow.backends.redis.telling import told_once
from graflow.wire import codec

if TYPE_CHECKING:
    from collections.abc import Mapping

    from graflow.backends.redis.client import RedisClient

PATIENCE: Final = 9.0
"""seconds after its last pulse at which a worker is no more counted on, and after which a run without one says so: more than a lease, and than two
beats, of which every other one is silent until somebody listens"""
RUN: Final = -1

Need = tuple[str, str]
"""(queue, handler)"""


class _Worker(msgspec.Struct):
    handlers: list[str]
    queues: list[str] | None


class _Expected(NamedTuple):
    generation: int
    needs: Mapping[Need, str]
    due: float


_worker: Final = msgspec.msgpack.Decoder(_Worker).decode


class Presence:
    """The workers that were heard of lately, and the runs that wait for what one of them can do.

    Args:
        client: the server.
    """

    def __init__(self, client: RedisClient) -> None:
        self._client = client
        self._heard: dict[str, tuple[float, _Worker]] = {}
        self._expected: dict[str, _Expected] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._telling: set[asyncio.Task[Any]] = set()

    def hear(self, consumer: str, info: bytes) -> None:
        """A worker lives. ``info`` is what it says of itself."""
        if info:
            self._heard[consumer] = (asyncio.get_running_loop().time() + PATIENCE, _worker(info))

    def expect(self, run_id: str, generation: int, needs: Mapping[Need, str]) -> None:
        """A run was begun that needs these queues and handlers, each with a task that does."""
        loop = asyncio.get_running_loop()
        self._expected[run_id] = _Expected(generation, needs, loop.time() + PATIENCE)
        if self._timer is None:
            self._timer = loop.call_later(PATIENCE, self._check)

    def forget(self, run_id: str) -> None:
        """A run is over."""
        self._expected.pop(run_id, None)

    async def close(self) -> None:
        """Stop looking."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for telling in self._telling:
            telling.cancel()
        if self._telling:
            await asyncio.wait(self._telling)

    def _check(self) -> None:
        self._timer = None
        loop = asyncio.get_running_loop()
        now = loop.time()
        self._heard = {name: (until, worker) for name, (until, worker) in self._heard.items() if until > now}
        for run_id, expected in list(self._expected.items()):
            if expected.due > now:  # in the order in which they were begun: the next ones are no older
                self._timer = loop.call_at(expected.due, self._check)
                return
            del self._expected[run_id]
            missing = [(need, task_id) for need, task_id in expected.needs.items() if not self._is_served(need)]
            if missing:
                telling = asyncio.create_task(self._tell(run_id, expected.generation, missing), name="graflow-no-worker")
                self._telling.add(telling)
                telling.add_done_callback(self._telling.discard)

    def _is_served(self, need: Need) -> bool:
        queue, handler = need
        return any(handler in each.handlers and (each.queues is None or queue in each.queues) for _, each in self._heard.values())

    async def _tell(self, run_id: str, generation: int, missing: list[tuple[Need, str]]) -> None:
        """An event of the run for each thing that it lacks."""
        told = [
            (
                run_id,
                generation,
                RUN,
                0,
                0,
                NUMBERS["no_worker"],
                as_text(codec.encode({"queue": queue, "handler": handler, "task_id": task_id})),
            )
            for (queue, handler), task_id in missing
        ]
        await self._client.call(TELL, (self._client.shift, BUDGET, told_once(told)))
