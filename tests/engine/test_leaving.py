"""Leaving the block that holds a run, or the engine."""

from __future__ import annotations

import asyncio

import pytest

from graflow import RunStatus, WorkflowEngine, task
from graflow.errors import GraflowError, WorkflowCancelledError
from graflow.handlers import CoroutineHandler
from tests.engine.support import Gate, nothing_left, turns

# ---- the block of a handle -----------------------------------------------------------------------------------------


async def test_leaving_the_block_of_a_handle_cancels_a_run_that_goes_on() -> None:
    gate = Gate()

    @task
    async def slow() -> None:
        await gate.wait()

    async with WorkflowEngine() as engine:
        async with await engine.submit(slow) as handle:
            await gate.arrived()
        assert gate.unwound == 1
        with pytest.raises(WorkflowCancelledError, match="its handle's block was left"):
            await handle.result()


async def test_leaving_the_block_of_a_handle_by_an_exception_cancels_the_run_and_passes_it_on() -> None:
    gate = Gate()

    @task
    async def slow() -> None:
        await gate.wait()

    async with WorkflowEngine() as engine:

        async def leave() -> None:
            async with await engine.submit(slow):
                await gate.arrived()
                raise LookupError("mine")

        with pytest.raises(LookupError, match="mine"):
            await leave()
        assert gate.unwound == 1


async def test_leaving_the_block_of_a_handle_by_cancellation_cancels_the_run_first() -> None:
    gate, entered, unwound = Gate(), asyncio.Event(), asyncio.Event()

    @task
    async def slow() -> None:
        try:
            await gate.wait()
        finally:
            await turns(5)
            unwound.set()

    async with WorkflowEngine() as engine:

        async def hold() -> None:
            async with await engine.submit(slow, run_id="r"):
                entered.set()
                await asyncio.Event().wait()

        holding = asyncio.create_task(hold())
        await entered.wait()
        await gate.arrived()
        holding.cancel()
        await turns(2)
        holding.cancel()  # a second one does not cut the unwinding short
        with pytest.raises(asyncio.CancelledError):
            await holding
        assert unwound.is_set()
        assert await (await engine.attach("r")).status() == RunStatus.CANCELLED


async def test_leaving_the_block_of_a_handle_after_the_end_changes_nothing() -> None:
    @task
    async def one() -> int:
        return 1

    async with WorkflowEngine() as engine:
        async with await engine.submit(one) as handle:
            await handle.result()
        assert await handle.status() == RunStatus.SUCCEEDED


# ---- the block of the engine ---------------------------------------------------------------------------------------


async def test_leaving_the_engine_cancels_its_runs_and_leaves_nothing_behind() -> None:
    gate = Gate()

    @task
    async def slow() -> None:
        await gate.wait()

    async with nothing_left():
        async with WorkflowEngine() as engine:
            handles = [await engine.submit(slow) for _ in range(3)]
            await gate.arrived(3)
        assert gate.unwound == 3
        for handle in handles:
            with pytest.raises(WorkflowCancelledError, match="the engine was closed"):
                await handle.result()


async def test_leaving_the_engine_by_an_exception_does_the_same_and_passes_it_on() -> None:
    gate = Gate()

    @task
    async def slow() -> None:
        await gate.wait()

    async def leave() -> None:
        async with WorkflowEngine() as engine:
            await engine.submit(slow)
            await gate.arrived()
            raise LookupError("mine")

    async with nothing_left():
        with pytest.raises(LookupError, match="mine"):
            await leave()
    assert gate.unwound == 1


async def test_leaving_the_engine_by_cancellation_unwinds_its_runs_all_the_same() -> None:
    gate, unwound = Gate(), asyncio.Event()

    @task
    async def slow() -> None:
        try:
            await gate.wait()
        finally:
            await turns(10)
            unwound.set()

    async def serve() -> None:
        async with WorkflowEngine() as engine:
            await engine.execute(slow)

    async with nothing_left():
        serving = asyncio.create_task(serve())
        await gate.arrived()
        serving.cancel()
        await turns(3)
        serving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await serving
        assert unwound.is_set()


async def test_being_cancelled_again_while_leaving_the_engine_cuts_nothing_short() -> None:
    gate, steps = Gate(), list[str]()

    class Stopping(CoroutineHandler):
        async def stop(self) -> None:
            steps.append("handler stopped")

    @task
    async def slow() -> None:
        try:
            await gate.wait()
        finally:
            await turns(10)
            steps.append("unwound")

    async def serve() -> None:
        async with WorkflowEngine(handlers={"coroutine": Stopping()}) as engine:
            await engine.submit(slow)
            await asyncio.Event().wait()

    async with nothing_left():
        serving = asyncio.create_task(serve())
        await gate.arrived()
        for _ in range(3):
            serving.cancel()
            await turns(2)
        with pytest.raises(asyncio.CancelledError):
            await serving
        assert steps == ["unwound", "handler stopped"]


async def test_whoever_waits_for_a_run_is_told_when_the_engine_is_left() -> None:
    gate = Gate()

    @task
    async def slow() -> None:
        await gate.wait()

    async with WorkflowEngine() as engine:
        handle = await engine.submit(slow)
        waiting = asyncio.create_task(handle.result())
        await gate.arrived()
    with pytest.raises(WorkflowCancelledError, match="the engine was closed"):
        await waiting


async def test_a_run_that_waits_to_be_run_again_is_not_begun_when_the_engine_is_left() -> None:
    gate = Gate()

    @task
    async def slow() -> None:
        try:
            await gate.wait()
        finally:
            await turns(5)

    async with WorkflowEngine() as engine:
        handle = await engine.submit(slow, run_id="r")
        await gate.arrived()
        cancelling = asyncio.create_task(handle.cancel())
        await turns(1)
        again = asyncio.create_task(engine.submit(slow, run_id="r", if_exists="rerun_failed"))
        await turns(1)
    await cancelling
    with pytest.raises(GraflowError, match="run 'r' was not begun: the engine was closed while the run before it unwound"):
        await again


async def test_delayed_retries_do_not_keep_the_engine_from_closing() -> None:
    @task(retry=5)
    async def failing() -> None:
        raise ValueError

    async with nothing_left(), WorkflowEngine() as engine:
        await engine.submit(failing)
        await turns()
        assert (await engine.backend.queue.metrics()).delayed == 1
