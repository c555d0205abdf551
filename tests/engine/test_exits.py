"""What is no ordinary exception: a task ends its attempt with it, and neither its worker nor the process."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest

from graflow import GroupPolicy, RetryPolicy, Task, TaskWorker, WorkflowEngine, parallel, task
from graflow.errors import ParallelGroupError, TaskFailedError
from graflow.handlers import Handler, TaskCall
from graflow.worker.attempt import AwaitedCode
from tests.engine.support import Gate


class Strange(BaseException):
    pass


def leave() -> None:
    sys.exit("enough")


def be_strange() -> None:
    raise Strange("odd")


def raise_group() -> None:
    raise BaseExceptionGroup("several", [Strange(), ValueError()])


def give_up() -> None:
    pytest.fail("by a stub")


def close() -> None:
    raise GeneratorExit("closed")


def interrupt() -> None:
    raise KeyboardInterrupt("by itself")


EXITS = pytest.mark.parametrize(
    ("function", "error_type", "message"),
    [
        (leave, "SystemExit", "enough"),
        (be_strange, "tests.engine.test_exits.Strange", "odd"),
        (raise_group, "BaseExceptionGroup", "several (2 sub-exceptions)"),
        (give_up, "Failed", "by a stub"),
        (close, "GeneratorExit", "closed"),
    ],
)


@task
async def one() -> int:
    return 1


async def fails(made: Task[..., Any], error_type: str, message: str) -> None:
    async with WorkflowEngine(concurrency=1) as engine:
        with pytest.raises(TaskFailedError) as caught:
            await engine.execute(made)
        assert caught.value.error_type == error_type
        assert f"{error_type}: {message}" in str(caught.value)
        assert caught.value.__cause__ is not None
        assert (await engine.execute(one)).output == 1  # the worker and its slot are there


@EXITS
async def test_a_coroutine_that_would_exit_has_failed(function: Callable[[], None], error_type: str, message: str) -> None:
    @task
    async def exiting() -> None:
        await asyncio.sleep(0)
        function()

    await fails(exiting, error_type, message)


@EXITS
async def test_a_thread_that_would_exit_has_failed(function: Callable[[], None], error_type: str, message: str) -> None:
    await fails(task("exiting")(function), error_type, message)


async def test_a_handler_that_would_exit_fails_its_task() -> None:
    class Exiting(Handler):
        async def run(self, call: TaskCall) -> None:
            leave()

    @task(handler="exiting")
    def anything() -> None: ...

    async with WorkflowEngine(handlers={"exiting": Exiting()}) as engine:
        with pytest.raises(TaskFailedError, match="SystemExit: enough"):
            await engine.execute(anything)


async def test_a_policy_that_would_exit_fails_its_group() -> None:
    def policy(state: object) -> bool:
        sys.exit("enough")

    async with WorkflowEngine() as engine:
        with pytest.raises(TaskFailedError, match="SystemExit: enough"):
            await engine.execute(parallel(one, one.clone("two"), policy=policy))


async def test_an_exit_is_not_retried_unless_the_policy_says_so() -> None:
    attempts: list[int] = []

    @task(retry=RetryPolicy(2, initial_interval=0))
    async def exiting() -> None:
        attempts.append(1)
        leave()

    @task(retry=RetryPolicy(2, initial_interval=0, retry_on=(SystemExit,)))
    async def exiting_at_first() -> int:
        attempts.append(1)
        if len(attempts) < 4:
            leave()
        return len(attempts)

    async with WorkflowEngine() as engine:
        with pytest.raises(TaskFailedError):
            await engine.execute(exiting)
        assert len(attempts) == 1
        assert (await engine.execute(exiting_at_first)).output == 4


async def test_an_exit_in_a_branch_is_a_failure_of_the_branch() -> None:
    @task
    async def exiting() -> None:
        leave()

    async with WorkflowEngine() as engine:
        with pytest.raises(ParallelGroupError) as caught:
            await engine.execute(parallel(exiting, one))
        assert isinstance(caught.value.failed["exiting"].__cause__, SystemExit)
        lenient = await engine.execute(parallel(exiting, one, policy=GroupPolicy("best_effort")))
        assert lenient.output == [1]


async def test_a_stray_stop_iteration_fails_the_task() -> None:
    @task
    def in_thread() -> None:
        next(iter(()))

    @task
    async def on_loop() -> None:
        next(iter(()))

    async with WorkflowEngine() as engine:
        for stray in (in_thread, on_loop):
            with pytest.raises(TaskFailedError, match="StopIteration"):
                await engine.execute(stray)


class Unreadable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")

    __repr__ = __str__


async def test_an_error_that_cannot_be_read_fails_the_task_all_the_same() -> None:
    @task
    async def failing() -> None:
        raise Unreadable

    async with WorkflowEngine() as engine:
        with pytest.raises(TaskFailedError, match=r"'failing' failed \(attempt 1\): .*Unreadable: <its __str__ raised RuntimeError>"):
            await engine.execute(failing)


async def test_a_thread_is_not_interrupted_from_the_keyboard() -> None:
    """Only the main thread is: it was the task's own doing."""
    await fails(task("failing")(interrupt), "KeyboardInterrupt", "by itself")


async def test_where_signals_are_handled_an_interrupt_is_the_tasks_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in ``graflow-aworker``, which says so of its worker."""
    created = TaskWorker.__init__

    def create(self: TaskWorker, *args: Any, **options: Any) -> None:
        created(self, *args, **options)
        self.heeds_keyboard = False

    monkeypatch.setattr(TaskWorker, "__init__", create)

    @task
    async def failing() -> None:
        await asyncio.sleep(0)
        interrupt()

    await fails(failing, "KeyboardInterrupt", "by itself")


async def test_closing_an_attempt_half_way_is_not_taken_for_its_failure() -> None:
    """A loop that is torn down drops what still runs. If that were caught, Python would complain of a coroutine that ignored GeneratorExit."""
    runner = asyncio.create_task(asyncio.sleep(0))
    steps: list[str] = []

    async def attempt() -> None:
        with AwaitedCode(runner):
            await Gate().wait()
        steps.append("went on")

    coroutine = attempt()
    coroutine.send(None)
    coroutine.close()
    await runner
    assert steps == []


def test_an_interrupt_from_the_keyboard_ends_the_program_and_unwinds_the_run() -> None:
    steps: list[str] = []

    @task
    async def slow() -> None:
        try:
            await Gate().wait()
        finally:
            steps.append("unwound")

    @task
    async def interrupted() -> None:
        await asyncio.sleep(0)
        raise KeyboardInterrupt

    async def main() -> None:
        async with WorkflowEngine() as engine:
            try:
                await engine.execute(slow | interrupted)
            finally:
                steps.append("left")

    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        asyncio.run(main())
    assert sorted(steps) == ["left", "unwound"]
    assert time.monotonic() - began < 3  # nobody waits for the attempt in which it was raised


def test_a_loop_that_ends_without_the_engine_having_been_left_does_not_go_on_running_it() -> None:
    """Whoever enters an engine by hand and forgets about it gets no more than a cancelled task."""
    steps: list[str] = []

    @task
    async def slow() -> None:
        steps.append("began")
        await Gate().wait()

    @task
    async def after() -> None:
        steps.append("after")

    async def main() -> None:
        engine = WorkflowEngine()
        await engine.__aenter__()
        await engine.submit(slow >> after)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    asyncio.run(main())
    assert steps == ["began"]
