"""Many users do many things at once, with tasks that misbehave in every way: no run is lost, and nothing is left."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import sys
from collections.abc import Iterator
from random import Random
from typing import Any

import pytest

from graflow import (
    RetryLater,
    RetryPolicy,
    SyncTaskContext,
    TaskContext,
    TaskWorker,
    WorkflowEngine,
    at_least_n,
    chain,
    parallel,
    task,
    testing,
)
from graflow.core.node import Node
from graflow.errors import RunError
from tests.engine.support import collected, turns

USERS = 12


class Turmoil:
    """Tasks and graphs that come out of one seed, and a note of every task that ran twice at the same time."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.overlapping: list[tuple[str, str]] = []
        self._inside = collections.Counter[tuple[str, str]]()
        self._names = 0

    def graph(self, depth: int = 0) -> Node[Any]:
        kind = self.random.choice(("task", "task", "chain", "group")) if depth < 3 else "task"
        if kind == "task":
            self._names += 1
            return self.random.choice([self.coroutine(), self.coroutine(), self.timed(), self.thread()]).clone(f"t{self._names}")
        parts = [self.graph(depth + 1) for _ in range(self.random.randint(2, 4))]
        if kind == "chain":
            return chain(*parts)
        policy: Any = self.random.choice(["strict", "best_effort", at_least_n(1), at_least_n(1, early=True)])
        return parallel(*parts, policy=policy, limit=self.random.choice([None, None, 1, 2]))

    def options(self) -> dict[str, Any]:
        options: dict[str, Any] = {"on_failure": self.random.choice(["fail", "continue"])}
        if self.random.random() < 0.2:
            options["timeout"] = self.random.random() * 5 + 0.1
        if self.random.random() < 0.2:
            options["max_steps"] = self.random.randint(1, 20)
        return options

    def coroutine(self) -> Any:
        @task(retry=RetryPolicy(2))
        async def wild(ctx: TaskContext) -> int:
            with self._noted(ctx):
                try:
                    await self._misbehave(ctx)
                    return 1
                finally:
                    if self.random.random() < 0.1:
                        await asyncio.sleep(0.1)

        return wild

    def timed(self) -> Any:
        @task(timeout=2)
        async def timed() -> int:
            await asyncio.sleep(self.random.random() * 4)
            return 2

        return timed

    def thread(self) -> Any:
        @task
        def in_thread(ctx: SyncTaskContext) -> int:
            if self.random.random() < 0.1:
                raise OSError
            ctx.emit(1)
            return ctx.channel.atomic_add("n")

        return in_thread

    @contextlib.contextmanager
    def _noted(self, ctx: TaskContext) -> Iterator[None]:
        key = (ctx.run_id, ctx.task_id)
        self._inside[key] += 1
        if self._inside[key] > 1:
            self.overlapping.append(key)
        try:
            yield
        finally:
            self._inside[key] -= 1

    async def _misbehave(self, ctx: TaskContext) -> None:
        me = asyncio.current_task()
        assert me is not None
        match self.random.randrange(20):
            case 0 | 1:
                raise ValueError
            case 2:
                raise RetryLater(after=1)
            case 3:
                me.cancel()
            case 4:
                raise asyncio.CancelledError
            case 5:
                sys.exit(1)
            case 6:
                ctx.next_task(self.coroutine().clone(f"new-{self.random.randrange(50)}"), if_exists="ignore")
            case 7:
                ctx.terminate_workflow("enough")
            case 8:
                ctx.cancel_workflow("no more")
            case 9:
                try:
                    await asyncio.sleep(5)
                except asyncio.CancelledError:
                    await asyncio.sleep(1)
            case 10:
                async with asyncio.timeout(0.5):
                    await asyncio.sleep(1)
            case 11:
                await asyncio.sleep(0)
            case _:
                await asyncio.sleep(self.random.random() * 3)


async def use(engine: WorkflowEngine, turmoil: Turmoil) -> None:
    """What one user does: waits for a run, or loses patience, or watches it and cancels it."""
    random = turmoil.random
    await asyncio.sleep(random.random() * 5)
    graph, options = turmoil.graph(), turmoil.options()
    match random.randrange(3):
        case 0:
            await engine.execute(graph, **options)
        case 1:
            async with asyncio.timeout(random.random() * 5):
                await engine.execute(graph, **options)
        case _:
            handle = await engine.submit(graph, **options)
            watching = asyncio.create_task(collected(handle))
            await asyncio.sleep(random.random() * 4)
            if random.random() < 0.5:
                await handle.cancel()
            try:
                await handle.result()
            finally:
                types = [event.type for event in await watching]
                assert (types[-1], types.count("run_finished")) == ("run_finished", 1)


async def come_and_go(engine: WorkflowEngine, random: Random) -> None:
    """Further workers on the same backend, which stop in the midst of things."""
    while True:
        async with TaskWorker(engine.backend, concurrency=random.randint(1, 5), queues=None, grace=random.choice([0, 1, 3])):
            await asyncio.sleep(random.random() * 5)


@pytest.mark.parametrize("seed", range(8))
async def test_in_all_the_turmoil_no_run_is_lost_and_nothing_is_left(seed: int) -> None:
    turmoil = Turmoil(seed)
    concurrency = turmoil.random.choice([1, 2, 5, 100])
    async with testing.engine(seed=seed, strict=seed % 3 == 0, concurrency=concurrency) as engine:
        workers = asyncio.create_task(come_and_go(engine, Random(seed)))
        async with asyncio.timeout(10_000):
            outcomes = await asyncio.gather(*(use(engine, turmoil) for _ in range(USERS)), return_exceptions=True)
        workers.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await workers
        await turns(5)
        assert [error for error in outcomes if error is not None and not isinstance(error, RunError | TimeoutError)] == []
        metrics = await engine.backend.queue.metrics()
        assert (metrics.in_flight, metrics.delayed) == (0, 0)
        assert engine.worker is not None
        assert engine.worker.metrics().tasks_running == 0
        slots = engine.worker._slots
        assert (slots.free("coroutine"), slots.free("thread")) == (concurrency, 32)
    assert turmoil.overlapping == []
