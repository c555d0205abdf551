"""Handlers of the user's own: what they are told, and when."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from graflow import TaskContext, WorkflowEngine, task, testing
from graflow.backends.memory import MemoryBackend
from graflow.errors import ConfigurationError, TaskFailedError
from graflow.handlers import CoroutineHandler, Handler, TaskCall
from tests.engine.support import Gate, Recording


@task
async def on_loop() -> int:
    return threading.get_ident()


@task
def in_thread() -> int:
    return threading.get_ident()


# ---- of the user's own ---------------------------------------------------------------------------------------------


async def test_a_handler_is_given_the_call_with_all_that_is_known_of_it() -> None:
    handler = Recording()

    @task(handler="mine", max_cycles=2)
    async def mine(ctx: TaskContext, a: int, b: int = 5) -> int:
        if ctx.can_iterate():
            ctx.next_iteration(a + 1)
        return a + b

    async with WorkflowEngine(handlers={"mine": handler}) as engine:
        assert (await engine.execute(mine, inputs={"a": 1}, run_id="r")).output == 7
    first, second = handler.calls
    assert (first.run_id, first.task_id, first.attempt, first.cycle) == ("r", "mine", 1, 1)
    assert (second.attempt, second.cycle) == (1, 2)
    assert first.task == mine
    assert {name: value for name, value in second.arguments.items() if name != "ctx"} == {"a": 2}
    assert first.arguments["ctx"] is first.context
    assert first.context.task_id == "mine"


async def test_a_handler_may_run_a_def_in_a_thread_by_invoking_it() -> None:
    @task(handler="mine")
    def mine() -> int:
        return threading.get_ident()

    async with WorkflowEngine(handlers={"mine": Recording()}) as engine:
        assert (await engine.execute(mine)).output != threading.get_ident()


async def test_a_handler_need_not_call_the_function_at_all() -> None:
    class Canned(Handler):
        async def run(self, call: TaskCall) -> str:
            return f"instead of {call.task_id}"

    @task(handler="canned")
    def never() -> str:
        raise AssertionError

    async with WorkflowEngine(handlers={"canned": Canned()}) as engine:
        assert (await engine.execute(never)).output == "instead of never"


async def test_a_handler_may_call_with_other_arguments() -> None:
    class Doubling(Handler):
        async def run(self, call: TaskCall) -> Any:
            call.arguments = {name: value * 2 for name, value in call.arguments.items()}
            return await call.invoke()

    @task(handler="doubling")
    async def show(n: int) -> int:
        return n

    async with WorkflowEngine(handlers={"doubling": Doubling()}) as engine:
        for _ in range(2):  # the second run starts from the same
            assert (await engine.execute(show.bind(n=4))).output == 8


async def test_what_a_handler_raises_is_the_failure_of_the_task() -> None:
    class Broken(Handler):
        async def run(self, call: TaskCall) -> Any:
            raise ConnectionError("no daemon")

    @task(handler="broken")
    def anything() -> None: ...

    async with WorkflowEngine(handlers={"broken": Broken()}) as engine:
        with pytest.raises(TaskFailedError, match=r"'anything' failed .*: ConnectionError: no daemon"):
            await engine.execute(anything)


@pytest.mark.parametrize("name", ["coroutine", "thread"])
async def test_a_built_in_handler_can_be_replaced(name: str) -> None:
    handler = Recording()
    async with WorkflowEngine(handlers={name: handler}) as engine:
        here = threading.get_ident()
        result = await engine.execute(on_loop >> in_thread)
        assert result[on_loop] == here
        assert result[in_thread] != here
    assert [call.task_id for call in handler.calls] == [{"coroutine": "on_loop", "thread": "in_thread"}[name]]


async def test_a_handler_applies_to_members_of_groups_and_to_tasks_made_at_run_time() -> None:
    handler = Recording()

    @task(handler="mine")
    async def member(n: int = 0) -> None: ...

    @task
    async def maker(ctx: TaskContext) -> list[int]:
        ctx.next_task(member.clone("made"))
        return [1, 2]

    async with WorkflowEngine(handlers={"mine": handler}) as engine:
        await engine.execute(maker >> member.map(maker))
    assert sorted(call.task_id for call in handler.calls) == ["made", "member[0]", "member[1]"]


async def test_a_task_made_at_run_time_for_a_handler_that_nobody_has_fails_its_maker() -> None:
    @task(handler="gpu")
    async def costly() -> None: ...

    @task
    async def maker(ctx: TaskContext) -> None:
        ctx.next_task(costly)

    async with WorkflowEngine() as engine:
        with pytest.raises(
            TaskFailedError, match="task 'costly' asks for the handler 'gpu', but there are only 'coroutine', 'thread'"
        ) as caught:
            await engine.execute(maker)
        assert isinstance(caught.value.__cause__, ConfigurationError)


# ---- hooks ---------------------------------------------------------------------------------------------------------


async def test_hooks_are_told_of_every_attempt_and_how_it_ended() -> None:
    handler = Recording()
    error = ValueError("no")

    @task(handler="mine", retry=1)
    async def flaky(ctx: TaskContext) -> str:
        await asyncio.sleep(2)
        if ctx.attempt == 1:
            raise error
        return "done"

    @task(handler="mine", timeout=5)
    async def slow(flaky: str) -> None:
        await asyncio.sleep(10)

    async with testing.engine(handlers={"mine": handler}) as engine:
        with pytest.raises(TaskFailedError):
            await engine.execute(flaky >> slow)
    assert handler.told == [
        ("start",),
        ("failure", "flaky", 1, error, 2),
        ("success", "flaky", 2, 2),
        ("timeout", "slow", 1, 5),
        ("stop",),
    ]


async def test_a_value_that_cannot_travel_is_a_failure_for_the_hook_too() -> None:
    handler = Recording()

    @task(handler="mine")
    async def bad() -> Any:
        return threading.Lock()

    async with WorkflowEngine(MemoryBackend(strict=True), handlers={"mine": handler}) as engine:
        with pytest.raises(TaskFailedError):
            await engine.execute(bad)
    assert [told[0] for told in handler.told] == ["start", "failure", "stop"]


async def test_a_cancelled_attempt_is_no_matter_for_hooks() -> None:
    handler, gate = Recording(), Gate()

    @task(handler="mine")
    async def slow() -> None:
        await gate.wait()

    async with WorkflowEngine(handlers={"mine": handler}) as engine:
        handle = await engine.submit(slow)
        await gate.arrived()
        await handle.cancel()
    assert handler.told == [("start",), ("stop",)]


@pytest.mark.parametrize("error", [ValueError("hook"), SystemExit(3), asyncio.CancelledError("hook")])
async def test_a_hook_that_raises_is_logged_and_changes_nothing(caplog: pytest.LogCaptureFixture, error: BaseException) -> None:
    class Grumbling(CoroutineHandler):
        async def on_task_success(self, call: TaskCall, duration: float) -> None:
            raise error

        async def on_task_failure(self, call: TaskCall, error_: BaseException, duration: float) -> None:
            raise error

    @task
    async def fine() -> int:
        return 1

    @task
    async def failing(fine: int) -> None:
        raise LookupError("the task's own")

    async with WorkflowEngine(handlers={"coroutine": Grumbling()}, concurrency=1) as engine:
        with pytest.raises(TaskFailedError, match="LookupError: the task's own") as caught:
            await engine.execute(fine >> failing)
        assert dict(caught.value.result.results) == {"fine": 1}
    records = [record for record in caplog.records if record.name == "graflow.worker"]
    assert [record.getMessage() for record in records] == ["a hook of Grumbling raised"] * 2
    assert [record.task_id for record in records] == ["fine", "failing"]  # type: ignore[attr-defined]
    assert records[0].exc_info is not None
    assert records[0].exc_info[1] is error


# ---- life ----------------------------------------------------------------------------------------------------------


async def test_a_handler_is_started_before_the_first_attempt_and_stopped_after_the_last() -> None:
    handler, gate = Recording(), Gate()

    @task(handler="mine")
    async def slow() -> None:
        try:
            await gate.wait()
        finally:
            handler.told.append(("unwound",))

    engine = WorkflowEngine(handlers={"mine": handler})
    assert handler.told == []
    async with engine:
        assert handler.told == [("start",)]
        await engine.submit(slow)
        await gate.arrived()
    assert handler.told == [("start",), ("unwound",), ("stop",)]


async def test_a_handler_of_two_names_is_started_and_stopped_once() -> None:
    handler = Recording()
    async with WorkflowEngine(handlers={"mine": handler, "also-mine": handler}):
        pass
    assert handler.told == [("start",), ("stop",)]


async def test_a_handler_is_stopped_when_the_block_raises() -> None:
    handler = Recording()
    with pytest.raises(LookupError):
        async with WorkflowEngine(handlers={"mine": handler}):
            raise LookupError
    assert handler.told == [("start",), ("stop",)]


async def test_handlers_that_had_started_are_stopped_when_another_one_fails_to() -> None:
    class Unable(Recording):
        async def start(self) -> None:
            raise ConnectionError("no daemon")

    started, unable, never = Recording(), Unable(), Recording()
    engine = WorkflowEngine(handlers={"a": started, "b": unable, "c": never})
    with pytest.raises(ConnectionError, match="no daemon"):
        await engine.__aenter__()
    assert (started.told, unable.told, never.told) == ([("start",), ("stop",)], [], [])
    with pytest.raises(ConfigurationError, match="the engine is not running"):
        await engine.submit(on_loop)


async def test_a_handler_that_fails_to_stop_keeps_no_other_from_stopping() -> None:
    class Unable(Recording):
        async def stop(self) -> None:
            raise ConnectionError("no daemon")

    other = Recording()
    with pytest.raises(ConnectionError, match="no daemon"):
        async with WorkflowEngine(handlers={"a": other, "b": Unable()}):
            pass
    assert other.told == [("start",), ("stop",)]


async def test_an_engine_can_be_used_again_and_starts_its_handlers_again() -> None:
    handler = Recording()
    engine = WorkflowEngine(handlers={"mine": handler})
    for _ in range(2):
        async with engine:
            assert (await engine.execute(on_loop)).output == threading.get_ident()
            assert (await engine.execute(in_thread)).output != threading.get_ident()
    assert handler.told == [("start",), ("stop",)] * 2
