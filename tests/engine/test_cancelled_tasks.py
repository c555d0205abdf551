"""What tasks make of being cancelled, and what becomes of those that cancel."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from graflow import RunStatus, TaskContext, TaskGraph, WorkflowEngine, parallel, task, testing
from graflow.errors import TaskFailedError, WorkflowCancelledError
from graflow.handlers import CoroutineHandler, TaskCall
from tests.engine.support import Gate, turns


async def test_a_task_that_swallows_its_cancellation_is_refused_its_result() -> None:
    gate, done = Gate(), asyncio.Event()

    @task
    async def stubborn() -> str:
        try:
            await gate.wait()
        except asyncio.CancelledError:
            await turns(5)
        done.set()
        return "late"

    @task
    async def after(stubborn: str) -> None:
        raise AssertionError("nothing follows a run that was cancelled")

    async with WorkflowEngine() as engine:
        handle = await engine.submit(stubborn >> after)
        await gate.arrived()
        await handle.cancel()
        assert done.is_set()
        result = await handle.peek()
        assert (result.status, dict(result.results)) == (RunStatus.CANCELLED, {})


async def test_a_task_that_does_not_heed_its_cancellation_is_waited_for_only_so_long(caplog: pytest.LogCaptureFixture) -> None:
    gate, release = Gate(), asyncio.Event()

    @task
    async def deaf() -> None:
        try:
            await gate.wait()
        except asyncio.CancelledError:
            await release.wait()

    async with testing.engine() as engine:
        handle = await engine.submit(deaf)
        await gate.arrived()
        began = engine.clock.monotonic()
        await handle.cancel()
        assert engine.clock.monotonic() - began == 5
        assert "some of its tasks do not heed their cancellation: deaf" in caplog.text
        release.set()
        await turns()


async def test_leaving_the_engine_gives_up_on_a_task_that_never_ends(caplog: pytest.LogCaptureFixture) -> None:
    gate, stop = Gate(), asyncio.Event()

    @task
    async def deaf() -> None:
        while not stop.is_set():
            try:
                await gate.wait()
            except asyncio.CancelledError:
                continue

    async with testing.engine() as engine:
        await engine.submit(deaf)
        await gate.arrived()
    assert "ends while tasks do not heed their cancellation: " in caplog.text
    stop.set()
    gate.open()
    await turns()


async def test_a_task_may_await_in_its_finally_also_when_cancelled_twice() -> None:
    gate, steps = Gate(), list[str]()

    @task
    async def careful() -> None:
        try:
            await gate.wait()
        finally:
            steps.append("begin")
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            steps.append("end")

    async with WorkflowEngine() as engine:
        handle = await engine.submit(careful)
        await gate.arrived()
        await asyncio.gather(handle.cancel(), handle.cancel(), engine.backend.coordinator.cancel(handle.run_id, "again"))
    assert steps == ["begin", "end"]


async def test_a_task_that_raises_while_it_is_cancelled_changes_nothing() -> None:
    gate = Gate()

    @task(retry=3)
    async def clumsy() -> None:
        try:
            await gate.wait()
        finally:
            raise RuntimeError("while cleaning up")

    async with WorkflowEngine() as engine:
        handle = await engine.submit(clumsy)
        await gate.arrived()
        await handle.cancel("enough")
        with pytest.raises(WorkflowCancelledError, match="enough"):
            await handle.result()
        assert dict((await handle.peek()).errors) == {}


async def test_a_task_that_raises_cancelled_error_itself_has_failed() -> None:
    @task
    async def odd() -> None:
        raise asyncio.CancelledError("on a whim")

    @task
    async def one() -> int:
        return 1

    async with WorkflowEngine() as engine:
        with pytest.raises(TaskFailedError, match="CancelledError: on a whim") as caught:
            await engine.execute(odd)
        assert isinstance(caught.value.__cause__, asyncio.CancelledError)
        assert (await engine.execute(one)).output == 1


async def test_a_def_task_that_raises_cancelled_error_has_failed() -> None:
    @task
    def odd() -> None:
        raise asyncio.CancelledError("on a whim")

    async with WorkflowEngine() as engine:
        with pytest.raises(TaskFailedError, match="CancelledError: on a whim"):
            await engine.execute(odd)


async def test_a_task_that_awaits_something_cancelled_has_failed() -> None:
    @task
    async def unlucky() -> None:
        other = asyncio.create_task(asyncio.sleep(10))
        other.cancel()
        await other

    async with WorkflowEngine() as engine:
        with pytest.raises(TaskFailedError, match="CancelledError"):
            await engine.execute(unlucky)


async def test_a_task_that_cancels_its_own_asyncio_task_has_failed() -> None:
    @task
    async def drastic() -> None:
        me = asyncio.current_task()
        assert me is not None
        me.cancel()
        await asyncio.sleep(0)

    async with WorkflowEngine(concurrency=1) as engine:
        for _ in range(3):  # its slot is free again
            with pytest.raises(TaskFailedError, match="CancelledError"):
                await engine.execute(drastic)


async def test_a_cancellation_that_a_task_leaves_behind_does_not_strike_the_next_one() -> None:
    @task
    async def rude() -> str:
        me = asyncio.current_task()
        assert me is not None
        me.cancel()
        return "returned before it could take effect"

    @task
    async def polite(rude: str) -> str:
        await turns(3)
        return rude

    async with WorkflowEngine(concurrency=1) as engine:
        assert (await engine.execute(rude >> polite)).output == "returned before it could take effect"


async def test_a_cancellation_that_a_task_leaves_behind_strikes_neither_its_hook_nor_a_task_group_of_the_next() -> None:
    told: list[str] = []

    class Telling(CoroutineHandler):
        async def on_task_success(self, call: TaskCall, duration: float) -> None:
            await turns(3)
            told.append(call.task_id)

    @task
    async def rude() -> None:
        me = asyncio.current_task()
        assert me is not None
        me.cancel()

    @task
    async def grouping() -> str:
        me = asyncio.current_task()
        assert me is not None
        assert not me.cancelling()  # what code asks that tells its own cancellation from that of what it awaits

        async def fail() -> None:
            raise LookupError

        found = "missed"
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(fail())
        except* LookupError:
            found = "caught"
        return found

    async with WorkflowEngine(concurrency=1, handlers={"coroutine": Telling()}) as engine:
        assert (await engine.execute(rude >> grouping)).output == "caught"
    assert told == ["rude", "grouping"]


async def test_a_task_that_swallows_its_own_cancellation_goes_on() -> None:
    @task
    async def calm() -> int:
        me = asyncio.current_task()
        assert me is not None
        me.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(0)
        return 1

    @task
    async def after(calm: int) -> int:
        async with asyncio.timeout(10):
            await asyncio.sleep(0)
        return calm + 1

    async with WorkflowEngine(concurrency=1) as engine:
        assert (await engine.execute(calm >> after)).output == 2


async def test_a_task_may_cancel_its_own_run_by_its_context() -> None:
    @task
    async def enough(ctx: TaskContext) -> None:
        ctx.cancel_workflow("seen enough")
        await asyncio.sleep(0)  # it takes effect when the task has returned

    async with WorkflowEngine() as engine:
        with pytest.raises(WorkflowCancelledError) as caught:
            await engine.execute(enough)
        assert (caught.value.task_id, caught.value.reason) == ("enough", "seen enough")


async def test_a_task_may_cancel_its_own_run_by_its_handle() -> None:
    steps: list[str] = []

    async with WorkflowEngine() as engine:

        @task
        async def drastic(ctx: TaskContext) -> None:
            handle = await engine.attach(ctx.run_id)
            try:
                await handle.cancel("from within")
            finally:
                steps.append("unwound")
            steps.append("never reached")

        handle = await engine.submit(drastic)
        with pytest.raises(WorkflowCancelledError, match="from within"):
            await handle.result()
    assert steps == ["unwound"]


async def test_a_task_that_cancels_its_own_run_and_returns_at_once_is_stopped_all_the_same() -> None:
    async with WorkflowEngine(concurrency=1) as engine:

        @task
        async def quick(ctx: TaskContext) -> int:
            await engine.backend.coordinator.cancel(ctx.run_id, "from within")
            return 1

        @task
        async def one() -> int:
            await asyncio.sleep(0)
            return 1

        with pytest.raises(WorkflowCancelledError, match="from within"):
            await engine.execute(quick)
        assert (await engine.execute(one)).output == 1


async def test_a_task_may_cancel_another_run() -> None:
    gate = Gate()

    @task
    async def victim() -> None:
        await gate.wait()

    async with WorkflowEngine() as engine:

        @task
        async def killer() -> str:
            await (await engine.attach("victim")).cancel("by another run")
            return "done"

        handle = await engine.submit(victim, run_id="victim")
        await gate.arrived()
        assert (await engine.execute(killer)).output == "done"
        with pytest.raises(WorkflowCancelledError, match="by another run"):
            await handle.result()


async def test_task_groups_and_timeouts_inside_a_task_work_as_always() -> None:
    @task
    async def careful() -> list[str]:
        found: list[str] = []
        try:
            async with asyncio.timeout(0.001):
                await asyncio.Event().wait()
        except TimeoutError:
            found.append("timeout")

        async def fail() -> None:
            raise LookupError

        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(fail())
                group.create_task(asyncio.sleep(100))
        except* LookupError:
            found.append("group")
        async with asyncio.TaskGroup() as group:
            children = [group.create_task(asyncio.sleep(0, n)) for n in range(3)]
        return [*found, *(str(child.result()) for child in children)]

    async with testing.engine() as engine:
        assert (await engine.execute(careful)).output == ["timeout", "group", "0", "1", "2"]


async def test_a_cancelled_run_cancels_the_task_groups_inside_its_tasks() -> None:
    gate = Gate()

    @task
    async def many() -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(3):
                group.create_task(gate.wait())

    async with WorkflowEngine() as engine:
        handle = await engine.submit(many)
        await gate.arrived(3)
        await handle.cancel()
        assert gate.unwound == 3


async def test_a_member_that_is_stopped_leaves_its_runner_fit_for_more() -> None:
    gate = Gate()

    @task
    async def slow() -> None:
        await gate.wait()

    @task
    async def failing() -> None:
        await gate.arrived()
        raise ValueError("the other one is stopped")

    @task
    async def rescue() -> str:
        await turns(3)
        async with asyncio.timeout(10):
            await turns(3)
        return "rescued"

    group = parallel(slow, failing, name="group")
    async with WorkflowEngine(concurrency=2) as engine:
        graph = TaskGraph("g")
        graph.add_edge(group, rescue, on="failure")
        assert (await engine.execute(graph)).output == "rescued"
        assert gate.unwound == 1
