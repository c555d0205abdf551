"""What tasks share: entered when the engine is, seen as ``ctx.resources``, left in the end whatever happens."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest

from graflow import SyncTaskContext, TaskContext, WorkflowEngine, task
from graflow.errors import ConfigurationError
from graflow.worker import TaskWorker
from tests.engine.support import Gate


class Pool:
    def __init__(self) -> None:
        self.told: list[str] = []

    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[Mapping[str, Any]]:
        self.told.append("entered")
        try:
            yield {"pool": self}
        finally:
            await asyncio.sleep(0)
            self.told.append("left")


@task
async def from_loop(ctx: TaskContext) -> Any:
    return ctx.resources["pool"]


@task
def from_thread(ctx: SyncTaskContext) -> Any:
    return ctx.resources["pool"]


async def test_coroutines_and_threads_see_what_it_yields() -> None:
    pool = Pool()
    async with WorkflowEngine(lifespan=pool.lifespan) as engine:
        assert (await engine.execute(from_loop)).output is pool
        assert (await engine.execute(from_thread)).output is pool
        assert pool.told == ["entered"]
    assert pool.told == ["entered", "left"]


async def test_without_one_there_are_no_resources() -> None:
    @task
    async def look(ctx: TaskContext) -> int:
        return len(ctx.resources)

    async with WorkflowEngine() as engine:
        assert (await engine.execute(look)).output == 0


async def test_it_is_left_when_the_block_raises() -> None:
    pool = Pool()
    with pytest.raises(LookupError):
        async with WorkflowEngine(lifespan=pool.lifespan):
            raise LookupError
    assert pool.told == ["entered", "left"]


async def test_it_is_left_after_the_last_task_has_unwound() -> None:
    pool, gate = Pool(), Gate()

    @task
    async def slow(ctx: TaskContext) -> None:
        try:
            await gate.wait()
        finally:
            ctx.resources["pool"].told.append("unwound")

    async with WorkflowEngine(lifespan=pool.lifespan) as engine:
        await engine.submit(slow)
        await gate.arrived()
    assert pool.told == ["entered", "unwound", "left"]


async def test_what_it_raises_at_the_start_is_raised_and_the_engine_is_not_in_use() -> None:
    @asynccontextmanager
    async def unlucky() -> AsyncIterator[Mapping[str, Any]]:
        raise ConnectionError("no database")
        yield {}

    engine = WorkflowEngine(lifespan=unlucky)
    for _ in range(2):
        with pytest.raises(ConnectionError, match="no database"):
            await engine.__aenter__()
        with pytest.raises(ConfigurationError, match="the engine is not running"):
            await engine.submit(from_loop)


async def test_what_it_raises_at_the_end_is_raised() -> None:
    @asynccontextmanager
    async def unlucky() -> AsyncIterator[Mapping[str, Any]]:
        yield {}
        raise ConnectionError("cannot say goodbye")

    with pytest.raises(ConnectionError, match="cannot say goodbye"):
        async with WorkflowEngine(lifespan=unlucky):
            pass


async def test_a_start_that_is_cancelled_is_undone() -> None:
    pool, begun = Pool(), asyncio.Event()

    @asynccontextmanager
    async def slow() -> AsyncIterator[Mapping[str, Any]]:
        try:
            begun.set()
            await asyncio.Event().wait()
            yield {}
        finally:
            pool.told.append("undone")

    entering = asyncio.create_task(WorkflowEngine(lifespan=slow).__aenter__())
    await begun.wait()
    entering.cancel()
    with pytest.raises(asyncio.CancelledError):
        await entering
    assert pool.told == ["undone"]


async def test_it_may_hold_task_groups_and_cancel_scopes() -> None:
    """Those must be left by the task that entered them, and an engine may be closed by another than opened it."""
    told: list[str] = []

    async def beat() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            told.append("stopped")

    @asynccontextmanager
    async def background() -> AsyncIterator[Mapping[str, Any]]:
        async with anyio.create_task_group() as group:
            group.start_soon(beat)
            await asyncio.sleep(0)
            yield {"pool": group}
            group.cancel_scope.cancel()

    async with WorkflowEngine(lifespan=background) as engine:
        await engine.execute(from_loop)
    assert told == ["stopped"]

    worker = TaskWorker(engine.backend, lifespan=background)
    await worker.__aenter__()
    await asyncio.create_task(worker.stop())
    assert told == ["stopped"] * 2


async def test_it_is_entered_anew_each_time_the_engine_is() -> None:
    pool = Pool()
    engine = WorkflowEngine(lifespan=pool.lifespan)
    for _ in range(2):
        async with engine:
            assert (await engine.execute(from_loop)).output is pool
    assert pool.told == ["entered", "left"] * 2


async def test_it_must_yield_a_mapping() -> None:
    @asynccontextmanager
    async def nothing() -> AsyncIterator[Any]:
        yield

    with pytest.raises(ConfigurationError) as caught:
        await WorkflowEngine(lifespan=nothing).__aenter__()
    assert str(caught.value) == "lifespan= yielded a NoneType; yield a mapping of names to what tasks find in ctx.resources"
    assert caught.value.setting == "lifespan"


async def test_it_must_be_a_context_manager() -> None:
    async def generator() -> AsyncIterator[Mapping[str, Any]]:
        yield {}

    engine = WorkflowEngine(lifespan=generator)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError) as caught:
        await engine.__aenter__()
    assert str(caught.value) == (
        "lifespan= gives an object of type async_generator, which is no async context manager; decorate the function with "
        "@contextlib.asynccontextmanager"
    )
