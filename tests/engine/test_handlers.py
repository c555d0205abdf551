"""Handlers: what runs where, how much at once, and what a handler of the user's own is told."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import pytest

from graflow import SyncTaskContext, TaskContext, WorkflowEngine, task
from graflow.errors import ConfigurationError, TaskFailedError
from graflow.handlers import CoroutineHandler, Handler, TaskCall, ThreadHandler
from tests.engine.support import Gate, Meter, turns, until


@task
async def on_loop() -> int:
    return threading.get_ident()


@task
def in_thread() -> int:
    return threading.get_ident()


# ---- where ---------------------------------------------------------------------------------------------------------


async def test_a_coroutine_runs_on_the_loop_and_a_def_never_does() -> None:
    here = threading.get_ident()
    async with WorkflowEngine() as engine:
        assert (await engine.execute(on_loop)).output == here
        assert (await engine.execute(in_thread)).output != here


async def test_a_def_given_to_the_coroutine_handler_still_runs_in_a_thread() -> None:
    @task(handler="coroutine")
    def misplaced() -> int:
        return threading.get_ident()

    async with WorkflowEngine() as engine:
        assert (await engine.execute(misplaced)).output != threading.get_ident()


async def test_a_coroutine_given_to_the_thread_handler_still_runs_on_the_loop() -> None:
    @task(handler="thread")
    async def misplaced() -> int:
        return threading.get_ident()

    async with WorkflowEngine() as engine:
        assert (await engine.execute(misplaced)).output == threading.get_ident()


async def test_a_def_may_block() -> None:
    @task
    def blocking() -> str:
        time.sleep(0.001)  # blockbuster watches the loop's thread
        return "slept"

    async with WorkflowEngine() as engine:
        assert (await engine.execute(blocking)).output == "slept"


async def test_a_def_that_gives_a_coroutine_has_failed_and_is_told_why() -> None:
    async def inner() -> None: ...

    @task
    def forgetful() -> Any:
        return inner()

    async with WorkflowEngine() as engine:
        with pytest.raises(TaskFailedError, match=r"'forgetful' is a def that returned a coroutine, .*; declare it async def"):
            await engine.execute(forgetful)


async def test_a_def_may_run_an_event_loop_of_its_own() -> None:
    @task
    def nested(ctx: SyncTaskContext) -> int:
        async def main() -> int:
            ctx.emit("from another loop")
            return 1

        return asyncio.run(main())

    async with WorkflowEngine() as engine:
        handle = await engine.submit(nested)
        assert (await handle.result()).output == 1
        assert [event.data["data"] async for event in handle.events() if event.type == "message"] == ["from another loop"]


async def test_a_blocking_context_refuses_to_block_the_loop() -> None:
    """A def's context that reaches the loop's thread would wait for itself for ever."""
    escaped: list[SyncTaskContext] = []

    @task
    def leaky(ctx: SyncTaskContext) -> None:
        escaped.append(ctx)

    async with WorkflowEngine() as engine:
        await engine.execute(leaky)
        with pytest.raises(RuntimeError, match="used on the event loop"):
            escaped[0].result_of("leaky")


# ---- how much ------------------------------------------------------------------------------------------------------


async def test_no_more_coroutines_run_at_once_than_there_are_slots() -> None:
    meter, gate = Meter(), Gate()

    @task
    async def measured(n: int) -> None:
        with meter:
            await gate.wait()

    async with WorkflowEngine(concurrency=7) as engine:
        handle = await engine.submit(measured.map(range(50)))
        await gate.arrived(7)
        await turns()
        assert meter.now == 7
        gate.open()
        await handle.result()
    assert (meter.most, meter.entered) == (7, 50)


async def test_no_more_threads_run_at_once_than_the_handler_has() -> None:
    meter, barrier = Meter(), threading.Barrier(3)

    @task
    def measured(n: int) -> None:
        with meter:
            barrier.wait(10)  # so many there are, or nobody would get through

    async with WorkflowEngine(handlers={"thread": ThreadHandler(threads=3)}) as engine:
        await engine.execute(measured.map(range(12)))
    assert (meter.most, meter.entered) == (3, 12)


async def test_each_handler_has_slots_of_its_own() -> None:
    """A kind that is full holds up no other, and each keeps to its own bound."""

    class Counting(Handler):
        def __init__(self, concurrency: int | None) -> None:
            self.concurrency = concurrency
            self.meter, self.gate = Meter(), Gate()

        async def run(self, call: TaskCall) -> None:
            with self.meter:
                await self.gate.wait()

    one, two, many = Counting(1), Counting(2), Counting(None)
    handlers = {"one": one, "two": two, "many": many}

    @task(handler="one")
    async def for_one(n: int) -> None: ...

    @task(handler="two")
    async def for_two(n: int) -> None: ...

    @task(handler="many")
    async def for_many(n: int) -> None: ...

    async with WorkflowEngine(handlers=handlers, concurrency=4) as engine:
        handle = await engine.submit(for_one.map(range(5)) | for_two.map(range(5)) | for_many.map(range(9)))
        await one.gate.arrived(1)
        await two.gate.arrived(2)
        await many.gate.arrived(4)
        await turns()
        for handler in (many, two, one):
            handler.gate.open()
        await handle.result()
    assert [handler.meter.most for handler in (one, two, many)] == [1, 2, 4]


async def test_a_group_with_a_limit_keeps_to_it_however_many_slots_there_are() -> None:
    meter = Meter()

    @task
    async def measured(n: int) -> None:
        with meter:
            await turns(3)

    async with WorkflowEngine() as engine:
        await engine.execute(measured.map(range(30), limit=4))
    assert (meter.most, meter.entered) == (4, 30)


# ---- of the user's own ---------------------------------------------------------------------------------------------


class Recording(Handler):
    """Runs what it is given, and notes what it was told."""

    def __init__(self) -> None:
        self.calls: list[TaskCall] = []
        self.told: list[tuple[Any, ...]] = []

    async def run(self, call: TaskCall) -> Any:
        self.calls.append(call)
        return await call.invoke()

    async def start(self) -> None:
        self.told.append(("start",))

    async def stop(self) -> None:
        self.told.append(("stop",))

    async def on_task_success(self, call: TaskCall, duration: float) -> None:
        self.told.append(("success", call.task_id, call.attempt, duration))

    async def on_task_failure(self, call: TaskCall, error: BaseException, duration: float) -> None:
        self.told.append(("failure", call.task_id, call.attempt, error, duration))

    async def on_task_timeout(self, call: TaskCall, duration: float) -> None:
        self.told.append(("timeout", call.task_id, call.attempt, duration))


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

    from graflow import testing

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
    from graflow.backends.memory import MemoryBackend

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


# ---- at the same moment --------------------------------------------------------------------------------------------


async def test_a_thread_task_that_is_given_up_before_a_thread_took_it_never_runs() -> None:
    ran: list[int] = []
    started, leave = threading.Event(), threading.Event()

    class OneThread(ThreadHandler):
        def __init__(self) -> None:
            super().__init__(threads=1)
            self.concurrency = 2  # one attempt more than there are threads: it waits for one

        async def offload(self, call: TaskCall, function: Any) -> Any:
            if self._limiter is None:
                import anyio

                self._limiter = anyio.CapacityLimiter(1)
            return await super().offload(call, function)

    @task
    def first() -> None:
        started.set()
        leave.wait(30)

    @task
    def second() -> None:
        ran.append(2)

    async with WorkflowEngine(handlers={"thread": OneThread()}) as engine:
        running = await engine.submit(first)
        await asyncio.to_thread(started.wait)
        waiting = await engine.submit(second)
        await turns()
        await waiting.cancel()
        leave.set()
        await running.result()
        assert engine.worker is not None
        worker = engine.worker
        await until(lambda: not worker.metrics().abandoned_threads)
    assert ran == []
