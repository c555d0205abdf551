"""Cancelling at an awkward moment."""

from __future__ import annotations

import asyncio

import pytest

from graflow import RunStatus, WorkflowEngine, task
from graflow.backends.memory import MemoryBackend
from graflow.errors import WorkflowCancelledError
from graflow.handlers import CoroutineHandler, TaskCall
from tests.engine.support import Gate, open_files, timers, turns


class SlowHooks(CoroutineHandler):
    """A handler whose hook takes until it is told."""

    def __init__(self) -> None:
        self.gate = Gate()

    async def on_task_success(self, call: TaskCall, duration: float) -> None:
        await self.gate.wait()


async def test_a_run_cancelled_while_a_hook_is_under_way_waits_for_the_hook() -> None:
    handler = SlowHooks()

    @task
    async def one() -> int:
        return 1

    async with WorkflowEngine(handlers={"coroutine": handler}) as engine:
        handle = await engine.submit(one)
        await handler.gate.arrived()
        cancelling = asyncio.create_task(handle.cancel("meanwhile"))
        await turns()
        assert not cancelling.done()
        handler.gate.open()
        await cancelling
        assert handler.gate.unwound == 0
        result = await handle.peek()
        assert (result.status, dict(result.results)) == (RunStatus.CANCELLED, {})


async def test_leaving_the_engine_while_a_hook_is_under_way_waits_for_the_hook() -> None:
    handler = SlowHooks()

    @task
    async def one() -> int:
        return 1

    engine = WorkflowEngine(handlers={"coroutine": handler})
    async with engine:
        await engine.submit(one)
        await handler.gate.arrived()
        asyncio.get_running_loop().call_soon(handler.gate.open)
    assert handler.gate.unwound == 0


async def test_a_run_cancelled_in_the_moment_its_task_returns_is_cancelled_once_and_for_all() -> None:
    """The run is cancelled in the same turn of the loop in which the task is woken."""
    waiting: list[asyncio.Future[int]] = []

    @task
    async def one() -> int:
        waiting.append(asyncio.get_running_loop().create_future())
        return await waiting[0]

    async with WorkflowEngine(concurrency=1) as engine:
        handle = await engine.submit(one)
        await turns(3)
        waiting[0].set_result(1)
        await handle.cancel("just now")
        with pytest.raises(WorkflowCancelledError, match="just now"):
            await handle.result()

        @task
        async def two() -> int:
            await turns(3)
            return 2

        assert (await engine.execute(two)).output == 2


async def test_a_shared_backend_outlives_no_engine() -> None:
    """Leaving an engine ends what lives in its backend, whoever began it."""
    gate = Gate()

    @task
    async def slow() -> None:
        await gate.wait()

    backend = MemoryBackend()
    before, files = timers(), open_files()
    async with WorkflowEngine(backend) as engine:
        await engine.submit(slow)
        await gate.arrived()
    async with WorkflowEngine(backend) as engine:
        handle = await engine.submit(slow)
        await gate.arrived()
        gate.open()
        await handle.result()
    assert (timers(), open_files()) == (before, files)
