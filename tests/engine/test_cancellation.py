"""Cancelling a run, and cancelling the wait for it."""

from __future__ import annotations

import asyncio
import threading

import pytest

from graflow import RunStatus, WorkflowEngine, task, testing
from graflow.errors import WorkflowCancelledError
from tests.engine.support import Gate, nothing_left, turns, until

# ---- from outside --------------------------------------------------------------------------------------------------


async def test_cancelling_execute_cancels_the_run_and_waits_until_its_tasks_have_unwound() -> None:
    gate, unwound = Gate(), asyncio.Event()

    @task
    async def slow() -> None:
        try:
            await gate.wait()
        finally:
            await turns(5)  # a finally that awaits
            unwound.set()

    async with WorkflowEngine() as engine:
        waiting = asyncio.create_task(engine.execute(slow, run_id="r"))
        await gate.arrived()
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert unwound.is_set()
        handle = await engine.attach("r")
        assert await handle.status() == RunStatus.CANCELLED
        with pytest.raises(WorkflowCancelledError, match="the wait for its result was cancelled") as caught:
            await handle.result()
        assert caught.value.task_id is None


async def test_cancelling_execute_again_does_not_cut_the_unwinding_short() -> None:
    gate, unwound = Gate(), asyncio.Event()

    @task
    async def slow() -> None:
        try:
            await gate.wait()
        finally:
            await turns(10)
            unwound.set()

    async with WorkflowEngine() as engine:
        waiting = asyncio.create_task(engine.execute(slow))
        await gate.arrived()
        waiting.cancel()
        await turns(3)
        waiting.cancel()
        await turns(1)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert unwound.is_set()


async def test_cancelling_the_wait_for_a_result_leaves_the_run_alone() -> None:
    gate = Gate()

    @task
    async def slow() -> str:
        await gate.wait()
        return "done"

    async with WorkflowEngine() as engine:
        handle = await engine.submit(slow)
        waiting = [asyncio.create_task(handle.result()) for _ in range(3)]
        await gate.arrived()
        waiting[0].cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting[0]
        assert await handle.status() == RunStatus.RUNNING
        gate.open()
        assert [(await other).output for other in waiting[1:]] == ["done", "done"]
        assert gate.unwound == 0


async def test_asyncio_timeout_around_execute_cancels_the_run() -> None:
    gate = Gate()

    @task
    async def slow() -> None:
        await gate.wait()

    async with testing.engine() as engine:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(60):
                await engine.execute(slow, run_id="r")
        assert gate.unwound == 1
        assert await (await engine.attach("r")).status() == RunStatus.CANCELLED


async def test_cancelling_a_handle_ends_the_run_with_the_reason_and_waits_for_it() -> None:
    gate = Gate()

    @task
    async def slow() -> None:
        await gate.wait()

    async with WorkflowEngine() as engine:
        handle = await engine.submit(slow)
        await gate.arrived()
        await handle.cancel("superseded")
        assert gate.unwound == 1
        with pytest.raises(WorkflowCancelledError) as caught:
            await handle.result()
        assert (caught.value.reason, caught.value.task_id, caught.value.run_id) == ("superseded", None, handle.run_id)
        assert str(caught.value) == f"run {handle.run_id!r} of 'slow' was cancelled from outside: superseded"
        await handle.cancel("again")  # nothing happens
        with pytest.raises(WorkflowCancelledError, match="superseded"):
            await handle.result()


async def test_cancelling_before_anything_has_started_runs_nothing() -> None:
    ran: list[int] = []

    @task
    async def never() -> None:
        ran.append(1)

    async with WorkflowEngine() as engine:
        handle = await engine.submit(never)
        await handle.cancel()
        assert (await handle.peek()).status == RunStatus.CANCELLED
        await turns()
    assert ran == []


async def test_cancelling_a_run_that_is_over_changes_nothing() -> None:
    @task
    async def one() -> int:
        return 1

    async with WorkflowEngine() as engine:
        handle = await engine.submit(one)
        await handle.result()
        await handle.cancel()
        assert (await handle.result()).output == 1


# ---- many ----------------------------------------------------------------------------------------------------------


async def test_a_run_of_a_thousand_running_tasks_is_cancelled_and_leaves_nothing() -> None:
    gate = Gate()

    @task
    async def slow(n: int) -> int:
        await gate.wait()
        return n

    async with WorkflowEngine(concurrency=1_000) as engine:
        async with nothing_left():
            handle = await engine.submit(slow.map(range(1_000)))
            await gate.arrived(1_000)
            assert (await engine.backend.queue.metrics()).in_flight == 1_000
            await handle.cancel()
            assert (gate.unwound, gate.waiting) == (1_000, 0)
        assert await engine.backend.queue.is_empty()
        assert (await engine.backend.queue.metrics()).in_flight == 0
        assert (await engine.execute(slow.map([]))).output == []


async def test_a_run_of_a_thousand_queued_tasks_is_cancelled_and_the_next_run_is_not_held_up() -> None:
    gate = Gate()

    @task
    async def slow(n: int) -> int:
        await gate.wait()
        return n

    @task
    async def one() -> int:
        return 1

    async with WorkflowEngine(concurrency=2) as engine:
        handle = await engine.submit(slow.map(range(1_000)))
        await gate.arrived(2)
        await handle.cancel()
        assert gate.unwound == 2
        assert (await engine.execute(one)).output == 1
        metrics = await engine.backend.queue.metrics()
        assert (metrics.depth, metrics.in_flight) == (0, 0)


async def test_threads_of_a_cancelled_run_are_abandoned_and_counted_until_they_end() -> None:
    started, leave = threading.Semaphore(0), threading.Event()

    @task
    def stuck(n: int) -> None:
        started.release()
        leave.wait(30)

    async with WorkflowEngine() as engine:
        handle = await engine.submit(stuck.map(range(4)))
        for _ in range(4):
            await asyncio.to_thread(started.acquire)
        await handle.cancel()
        worker = engine.worker
        assert worker is not None
        assert worker.metrics().abandoned_threads == 4
        leave.set()
        await until(lambda: not worker.metrics().abandoned_threads)
