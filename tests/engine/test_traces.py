"""What is left when a run is over: nothing, but for what somebody holds."""

from __future__ import annotations

import asyncio
import gc
import weakref
from typing import Any

import pytest

from graflow import TaskContext, WorkflowEngine, task
from graflow.backends.memory.coordinator import MemoryCoordinator
from graflow.errors import TaskFailedError
from tests.engine.support import Gate, nothing_left


class Big:
    """A value whose end can be noticed."""


def books(engine: WorkflowEngine) -> list[int]:
    """How much the coordinator has on its books."""
    coordinator: Any = engine.backend.coordinator
    assert isinstance(coordinator, MemoryCoordinator)
    return [len(coordinator._runs), len(coordinator._records), len(coordinator._remembered)]


async def settle_down() -> None:
    """Let what is on its way arrive, and collect what refers to itself."""
    for _ in range(3):
        await asyncio.sleep(0)
    gc.collect()


async def test_five_thousand_runs_awaited_at_once_leave_nothing_on_the_books() -> None:
    gate = Gate()

    @task
    async def slow(n: int) -> int:
        await gate.wait()
        return n

    @task
    async def after(slow: int) -> int:
        return slow + 1

    graph = slow >> after
    async with WorkflowEngine(concurrency=10_000) as engine, nothing_left():
        waiting = [asyncio.create_task(engine.execute(graph, inputs={"n": n})) for n in range(5_000)]
        await gate.arrived(5_000)
        assert books(engine) == [5_000, 5_000, 0]
        gate.open()
        assert [(await each).output for each in waiting] == list(range(1, 5_001))
        waiting.clear()
        await settle_down()
        assert books(engine) == [0, 0, 0]


@pytest.mark.parametrize("ends_well", [True, False])
async def test_results_and_tasks_of_a_run_are_freed_when_its_handle_is_dropped(ends_well: bool) -> None:
    gone: list[weakref.ref[Any]] = []

    async def use(engine: WorkflowEngine) -> None:
        held = Big()
        gone.append(weakref.ref(held))

        @task
        async def make(ctx: TaskContext) -> Big:
            await ctx.channel.set("k", held)
            ctx.emit(held)
            made = Big()
            gone.append(weakref.ref(made))
            if not ends_well:
                raise ValueError(made)
            return made

        @task
        def from_thread(make: Big) -> Big:
            return held

        gone.append(weakref.ref(make.function))
        handle = await engine.submit(make >> from_thread, inputs={"held": held})
        try:
            result = await handle.result()
            assert result["from_thread"] is held
        except TaskFailedError:
            assert not ends_well
        gone.append(weakref.ref(handle))

    async with WorkflowEngine() as engine:
        await use(engine)
        await settle_down()
        assert [ref() for ref in gone if ref() is not None] == []
        assert books(engine) == [0, 0, 0]


async def test_a_handle_keeps_results_and_not_the_run() -> None:
    gone: list[weakref.ref[Any]] = []

    @task
    async def make(ctx: TaskContext) -> int:
        scratch = Big()
        gone.append(weakref.ref(scratch))
        await ctx.channel.set("scratch", scratch)
        return 1

    async with WorkflowEngine() as engine:
        handle = await engine.submit(make)
        await handle.result()
        await settle_down()
        assert gone[0]() is None  # the channel is gone
        assert (await handle.result()).output == 1


async def test_a_remembered_run_keeps_results_and_not_the_run() -> None:
    gone: list[weakref.ref[Any]] = []

    @task
    async def make(ctx: TaskContext) -> int:
        scratch = Big()
        gone.append(weakref.ref(scratch))
        await ctx.channel.set("scratch", scratch)
        return 1

    async with WorkflowEngine() as engine:
        await engine.execute(make, run_id="r")
        await settle_down()
        assert gone[0]() is None
        assert books(engine) == [0, 1, 1]
        assert (await (await engine.attach("r")).result()).output == 1


async def test_a_remembered_failure_keeps_its_error_and_not_the_run() -> None:
    gone: list[weakref.ref[Any]] = []

    @task
    async def fail(ctx: TaskContext) -> int:
        await ctx.channel.set("scratch", keep())
        raise ValueError

    def keep() -> Big:
        scratch = Big()
        gone.append(weakref.ref(scratch))
        return scratch

    async with WorkflowEngine() as engine:
        with pytest.raises(TaskFailedError):
            await engine.execute(fail, run_id="r")
        await settle_down()
        assert gone[0]() is None


async def test_an_idle_engine_holds_none_of_the_runs_that_it_has_had() -> None:
    refs: list[weakref.ref[Any]] = []

    @task
    async def make(n: int) -> Big:
        made = Big()
        refs.append(weakref.ref(made))
        return made

    async with WorkflowEngine() as engine:
        for count in range(20):
            await engine.execute(make.map(range(count)))
        await settle_down()
        assert [ref() for ref in refs if ref() is not None] == []


async def test_failed_runs_leave_nothing_either() -> None:
    @task
    async def failing() -> None:
        raise ValueError

    async with WorkflowEngine() as engine, nothing_left():
        for _ in range(200):
            with pytest.raises(TaskFailedError):
                await engine.execute(failing)
        await settle_down()
        assert books(engine) == [0, 0, 0]
        assert await engine.backend.queue.is_empty()


async def test_results_are_freed_without_the_garbage_collector() -> None:
    """What a run holds must not wait for a collection: results can be large."""
    refs: list[weakref.ref[Any]] = []

    @task
    async def make() -> Big:
        made = Big()
        refs.append(weakref.ref(made))
        return made

    @task
    async def use(make: Big) -> int:
        return 1

    async with WorkflowEngine() as engine:
        await engine.execute(make >> use)  # what is made once is made
        gc.collect()
        gc.disable()
        try:
            await engine.execute(make >> use)
            for _ in range(3):
                await asyncio.sleep(0)
            assert refs[-1]() is None
        finally:
            gc.enable()


async def test_what_a_step_with_a_context_was_given_is_freed_without_the_garbage_collector() -> None:
    """The context leads to its attempt, and that to the plan: kept until the next collection, a worker would have two large plans at once."""
    refs: list[weakref.ref[Any]] = []

    @task
    async def make() -> Big:
        made = Big()
        refs.append(weakref.ref(made))
        return made

    @task
    async def use(ctx: TaskContext, make: Big) -> int:
        return ctx.attempt

    async with WorkflowEngine() as engine:
        await engine.execute(make >> use)  # what is made once is made
        gc.collect()
        gc.disable()
        try:
            await engine.execute(make >> use)
            for _ in range(3):
                await asyncio.sleep(0)
            assert refs[-1]() is None
        finally:
            gc.enable()
