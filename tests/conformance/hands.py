"""A worker's hands without the worker: slots, and the few moves that the tests of a coordinator are made of."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from graflow import TaskGraph, task
from graflow.backends.base import Backend, Delivery, RunOptions
from graflow.core.compiler import compile_plan
from graflow.core.node import Node
from graflow.core.outcome import Directives, Outcome, Retry, Success, Suspend, describe
from graflow.core.plan import Plan
from graflow.wire.messages import RunEvent


@task
async def a() -> int: ...


@task
async def b(a: int) -> int: ...


@task
async def c(b: int) -> int: ...


class Hands:
    """Slots that are free, and what was taken with them. ``Hands(coroutine=2, queues=("gpu",))`` has two of one kind."""

    def __init__(self, *, queues: Sequence[str] | None = None, **free: int) -> None:
        self._free = free or {"coroutine": 100}
        self.queues = queues

    @property
    def handlers(self) -> Sequence[str]:
        return list(self._free)

    def free(self, handler: str) -> int:
        return self._free[handler]

    def take(self, handler: str) -> None:
        assert self._free[handler] > 0, "more was handed out than there was room for"
        self._free[handler] -= 1

    def give_back(self, handler: str = "coroutine", count: int = 1) -> None:
        self._free[handler] += count


class Bench:
    """A backend's coordinator, used as a worker would."""

    def __init__(self, backend: Backend, hands: Hands | None = None) -> None:
        self.coordinator = backend.coordinator
        self.local = backend.local
        self.hands = hands or Hands()

    async def submit(self, graph: Node[Any] | TaskGraph | Plan, run_id: str = "r", **options: Any) -> bool:
        plan = graph if isinstance(graph, Plan) else plan_of(graph)
        return await self.coordinator.submit(plan, RunOptions(run_id, **options))

    async def fetch(self) -> list[Delivery]:
        """What there is to do. There is something, or the test waits for ever."""
        return await self.coordinator.fetch(self.hands)

    async def nothing_to_fetch(self) -> bool:
        """Whether there is nothing to do at this moment."""
        fetching = asyncio.ensure_future(self.coordinator.fetch(self.hands))
        if self.local:
            for _ in range(20):
                await asyncio.sleep(0)
        else:  # a server is given time to answer: nothing tells that there is nothing
            await asyncio.wait((fetching,), timeout=0.2)
        if fetching.done():
            return False
        fetching.cancel()
        await asyncio.wait((fetching,))
        return True

    async def settle(self, *settled: tuple[Delivery, Outcome | None]) -> list[Delivery]:
        for delivery, _ in settled:
            self.hands.give_back(delivery.spec.handler)
        return await self.coordinator.settle(settled, self.hands)

    async def succeed(self, delivery: Delivery, value: Any = None, **directives: Any) -> list[Delivery]:
        return await self.settle((delivery, Success(value, Directives(**directives) if directives else None)))

    async def fail(self, delivery: Delivery, error: BaseException | None = None) -> list[Delivery]:
        return await self.settle((delivery, failure(delivery, error)))

    async def retry(self, delivery: Delivery, delay: float = 0.0, *, counted: bool = True) -> list[Delivery]:
        return await self.settle((delivery, Retry(delay, failure(delivery).error, counted)))

    async def suspend(self, delivery: Delivery, reason: str = "a question") -> list[Delivery]:
        return await self.settle((delivery, Suspend(reason)))

    async def events(self, run_id: str = "r", after: str | None = None) -> list[RunEvent]:
        """All events of a run that is over."""
        return [event async for event in self.coordinator.events(run_id, after)]


def plan_of(graph: Node[Any] | TaskGraph) -> Plan:
    """The plan of a graph, or of whatever else can be run."""
    if isinstance(graph, TaskGraph):
        return compile_plan(graph)
    drawn = TaskGraph("graph")
    drawn.add(graph)
    return compile_plan(drawn)


def failure(delivery: Delivery, error: BaseException | None = None) -> Any:
    """The outcome of an attempt that raised."""
    return describe(error or ValueError("no"), delivery.spec.task_id, delivery.spec.attempt)


def names(deliveries: Sequence[Delivery]) -> list[str]:
    """Which tasks were handed out, with ``#2`` for a second attempt."""
    return [each.spec.task_id + (f"#{each.spec.attempt}" if each.spec.attempt > 1 else "") for each in deliveries]


async def finished(backend: Backend, run_id: str = "r") -> Any:
    """The snapshot of a run that is waited for."""
    await backend.coordinator.wait(run_id)
    return await backend.coordinator.snapshot(run_id)
