"""Timeouts of attempts and of runs."""

from __future__ import annotations

import asyncio
import threading
from itertools import pairwise

import pytest

from graflow import RetryLater, RetryPolicy, RunStatus, SyncTaskContext, TaskContext, WorkflowEngine, task, testing
from graflow.errors import RunTimeoutError, TaskFailedError, TaskTimeoutError
from graflow.handlers import Handler, TaskCall, ThreadHandler
from tests.engine.support import Gate, timers, turns, until

# ---- of an attempt -------------------------------------------------------------------------------------------------


async def test_a_coroutine_that_takes_too_long_is_cancelled_and_fails() -> None:
    gate = Gate()

    @task(timeout=30)
    async def slow() -> None:
        await gate.wait()

    async with testing.engine() as engine:
        began = engine.clock.monotonic()
        with pytest.raises(TaskFailedError) as caught:
            await engine.execute(slow)
        assert engine.clock.monotonic() - began == 30
    assert gate.unwound == 1
    cause = caught.value.__cause__
    assert isinstance(cause, TaskTimeoutError)
    assert (cause.task_id, cause.timeout) == ("slow", 30)
    assert str(cause) == "task 'slow' (attempt 1) ran longer than its timeout of 30 s; give it more time, or make it faster"
    assert caught.value.error_type == "graflow.errors.TaskTimeoutError"
    assert "await gate.wait()" in caught.value.remote_traceback  # where the time went


async def test_a_task_that_is_in_time_is_left_alone() -> None:
    @task(timeout=30)
    async def quick() -> int:
        await asyncio.sleep(29)
        return 1

    async with testing.engine() as engine:
        assert (await engine.execute(quick)).output == 1


async def test_a_task_that_swallows_its_timeout_has_timed_out_all_the_same() -> None:
    @task(timeout=1)
    async def stubborn() -> str:
        try:
            await asyncio.sleep(10)
        except asyncio.CancelledError:
            return "late"
        return "in time"

    async with testing.engine() as engine:
        with pytest.raises(TaskFailedError, match="ran longer than its timeout of 1 s"):
            await engine.execute(stubborn)


async def test_a_task_that_makes_another_error_of_its_timeout_has_timed_out_all_the_same() -> None:
    class Wrapped(Exception):
        pass

    @task(timeout=1, retry=RetryPolicy(1, jitter=False, retry_on=(TaskTimeoutError,)))
    async def wrapping(ctx: TaskContext) -> int:
        if ctx.attempt == 2:
            return 2
        try:
            await asyncio.sleep(10)
        except asyncio.CancelledError as cancelled:
            raise Wrapped("the connection was closed") from cancelled
        return 1

    async with testing.engine() as engine:
        assert (await engine.execute(wrapping)).output == 2


async def test_a_task_that_asks_for_a_retry_when_it_has_timed_out_is_not_heard() -> None:
    @task(timeout=1)
    async def wrapping() -> None:
        try:
            await asyncio.sleep(10)
        except asyncio.CancelledError:
            raise RetryLater(after=1) from None

    async with testing.engine() as engine:
        with pytest.raises(TaskFailedError, match="ran longer"):
            await engine.execute(wrapping)


async def test_a_timeout_error_of_the_tasks_own_stays_what_it_is() -> None:
    @task(timeout=100)
    async def own() -> None:
        async with asyncio.timeout(1):
            await asyncio.sleep(10)

    async with testing.engine() as engine:
        with pytest.raises(TaskFailedError, match=r"'own' failed .*: TimeoutError") as caught:
            await engine.execute(own)
        assert type(caught.value.__cause__) is TimeoutError


async def test_a_timeout_is_per_attempt_and_is_retried() -> None:
    seen: list[float] = []

    @task(timeout=10, retry=RetryPolicy(2, initial_interval=5, jitter=False))
    async def slow() -> None:
        seen.append(engine.clock.monotonic())
        await asyncio.sleep(11)

    async with testing.engine() as engine:
        with pytest.raises(TaskFailedError) as caught:
            await engine.execute(slow)
    assert caught.value.attempt == 3
    assert [later - earlier for earlier, later in pairwise(seen)] == [15, 20]


async def test_a_thread_that_takes_too_long_is_told_abandoned_and_counted_until_it_returns() -> None:
    told, leave = threading.Event(), threading.Event()

    @task(timeout=0.02)
    def stuck(ctx: SyncTaskContext) -> str:
        while not ctx.is_cancelled:
            leave.wait(0.001)
        told.set()
        leave.wait(30)
        return "nobody listens"

    async with WorkflowEngine() as engine:
        worker = engine.worker
        assert worker is not None
        with pytest.raises(TaskFailedError, match=r"ran longer than its timeout of 0.02 s"):
            await engine.execute(stuck)
        await until(told.is_set)
        assert worker.metrics().abandoned_threads == 1
        assert worker.metrics().tasks_running == 0
        leave.set()
        await until(lambda: not worker.metrics().abandoned_threads)


async def test_abandoned_threads_take_no_capacity_away() -> None:
    leave = threading.Event()

    @task(timeout=0.01)
    def stuck() -> None:
        leave.wait(30)

    @task
    def quick() -> int:
        return 1

    async with WorkflowEngine(handlers={"thread": ThreadHandler(threads=1)}) as engine:
        worker = engine.worker
        assert worker is not None
        for _ in range(3):
            with pytest.raises(TaskFailedError):
                await engine.execute(stuck)
        assert worker.metrics().abandoned_threads == 3
        assert (await engine.execute(quick)).output == 1
        leave.set()
        await until(lambda: not worker.metrics().abandoned_threads)


async def test_a_handler_of_the_users_own_is_cancelled_when_the_time_is_up() -> None:
    class Slow(Handler):
        def __init__(self) -> None:
            self.gate = Gate()

        async def run(self, call: TaskCall) -> None:
            await self.gate.wait()

    handler = Slow()

    @task(timeout=1, handler="slow")
    def anything() -> None: ...

    async with testing.engine(handlers={"slow": handler}) as engine:
        with pytest.raises(TaskFailedError, match="ran longer"):
            await engine.execute(anything)
    assert handler.gate.unwound == 1


# ---- of a run -------------------------------------------------------------------------------------------------------


async def test_a_run_that_takes_too_long_is_ended_and_its_error_holds_what_was_completed() -> None:
    gate = Gate()

    @task
    async def first() -> int:
        await asyncio.sleep(5)
        return 1

    @task
    async def slow(first: int) -> None:
        await gate.wait()

    async with testing.engine() as engine:
        began = engine.clock.monotonic()
        with pytest.raises(RunTimeoutError) as caught:
            await engine.execute(first >> slow, timeout=60)
        assert engine.clock.monotonic() - began == 60
    assert gate.unwound == 1
    assert caught.value.timeout == 60
    assert str(caught.value) == f"run {caught.value.run_id!r} of 'slow' did not end within its timeout of 60 s"
    result = caught.value.result
    assert (result.status, dict(result.results), dict(result.others)) == (RunStatus.FAILED, {"first": 1}, {"slow": "cancelled"})


async def test_a_run_that_ends_in_time_leaves_no_timer() -> None:
    @task
    async def quick() -> int:
        return 1

    async with WorkflowEngine() as engine:
        before = timers()
        await engine.execute(quick, timeout=60)
        assert timers() == before


async def test_a_result_that_is_not_there_in_time_raises_and_the_run_goes_on() -> None:
    @task
    async def slow() -> str:
        await asyncio.sleep(60)
        return "done"

    async with testing.engine() as engine:
        handle = await engine.submit(slow)
        for _ in range(2):
            with pytest.raises(TimeoutError):
                await handle.result(timeout=10)
        assert await handle.status() == RunStatus.RUNNING
        assert (await handle.result(timeout=100)).output == "done"
        assert (await handle.result(timeout=0)).output == "done"


async def test_a_result_may_be_asked_for_without_waiting() -> None:
    gate = Gate()

    @task
    async def slow() -> None:
        await gate.wait()

    async with WorkflowEngine() as engine:
        handle = await engine.submit(slow)
        with pytest.raises(TimeoutError):
            await handle.result(timeout=0)
        gate.open()
        await turns()
        await handle.result(timeout=0)
