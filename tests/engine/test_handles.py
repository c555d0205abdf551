"""A handle: the state of a run, its result, and a look at it while it goes on."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from graflow import RunStatus, TaskContext, WorkflowEngine, task, testing
from graflow.core.suspension import SuspendStep
from graflow.errors import ConfigurationError, TaskFailedError, WorkflowCancelledError
from tests.engine.support import Gate, collected, told, turns


@task
async def one() -> int:
    return 1


async def test_a_result_can_be_asked_for_by_many_and_again() -> None:
    gate = Gate()

    @task
    async def slow() -> list[int]:
        await gate.wait()
        return [1]

    async with WorkflowEngine() as engine:
        handle = await engine.submit(slow)
        waiting = [asyncio.create_task(handle.result()) for _ in range(10)]
        await gate.arrived()
        gate.open()
        assert [(await each).output for each in waiting] == [[1]] * 10
        assert (await handle.result()).output == [1]


async def test_the_status_follows_the_run() -> None:
    gate = Gate()

    @task
    async def slow() -> None:
        await gate.wait()

    @task
    async def failing() -> None:
        raise ValueError

    async with WorkflowEngine() as engine:
        handle = await engine.submit(slow)
        assert await handle.status() == RunStatus.RUNNING == "running"
        gate.open()
        await handle.result()
        assert await handle.status() == RunStatus.SUCCEEDED
        failed = await engine.submit(failing)
        with pytest.raises(TaskFailedError):
            await failed.result()
        assert await failed.status() == RunStatus.FAILED


async def test_a_look_at_a_run_shows_what_there_is_now_and_never_raises() -> None:
    gate = Gate()

    @task
    async def quick() -> str:
        return "quick"

    @task
    async def slow(quick: str) -> str:
        await gate.wait()
        raise ValueError("in the end")

    @task
    async def last(slow: str) -> None: ...

    async with testing.engine() as engine:
        handle = await engine.submit(quick >> slow >> last)
        await gate.arrived()
        await asyncio.sleep(10)
        seen = await handle.peek()
        assert (seen.run_id, seen.status, seen.duration, seen.output) == (handle.run_id, RunStatus.RUNNING, 10, None)
        assert (dict(seen.results), dict(seen.errors)) == ({"quick": "quick"}, {})
        assert dict(seen.others) == {"slow": "in progress", "last": "not reached"}
        gate.open()
        with pytest.raises(TaskFailedError):
            await handle.result()
        seen = await handle.peek()
        assert (seen.status, seen.duration) == (RunStatus.FAILED, 10)
        assert str(seen.errors["slow"]) == "task 'slow' failed (attempt 1): ValueError: in the end"
        assert dict(seen.others) == {"last": "not reached"}


async def test_results_seen_during_a_run_are_a_copy_of_the_books() -> None:
    gate = Gate()

    @task
    async def slow(one: int) -> int:
        await gate.wait()
        return one + 1

    async with WorkflowEngine() as engine:
        handle = await engine.submit(one >> slow)
        await gate.arrived()
        seen = await handle.peek()
        assert dict(seen.results) == {"one": 1}
        gate.open()
        await handle.result()
        assert dict(seen.results) == {"one": 1}


async def test_a_suspended_run_is_returned_with_its_reasons_and_can_be_resumed() -> None:
    answers: list[str] = []

    @task
    async def ask(ctx: TaskContext) -> str:
        if not answers:
            raise SuspendStep("waiting for an answer")
        return answers[0]

    @task
    async def after(ask: str) -> str:
        return f"after {ask}"

    async with WorkflowEngine() as engine:
        handle = await engine.submit(ask >> after)
        result = await handle.result()
        assert (result.status, result.output) == (RunStatus.SUSPENDED, None)
        assert dict(result.others) == {"ask": "suspended: waiting for an answer", "after": "not reached"}
        assert (await handle.peek()).status == await handle.status() == RunStatus.SUSPENDED
        assert not await handle.resume("after")
        assert not await handle.resume("nobody")
        answers.append("yes")
        assert await handle.resume("ask")
        assert not await handle.resume("ask")
        assert (await handle.result()).output == "after yes"
        assert told(await collected(handle)) == [
            "run_started", "task_started:ask", "task_suspended:ask", "task_started:ask#2", "task_succeeded:ask#2",
            "task_started:after", "task_succeeded:after", "run_finished",
        ]  # fmt: skip


async def test_execute_returns_a_suspended_run_too() -> None:
    @task
    async def ask() -> None:
        raise SuspendStep("a question")

    async with WorkflowEngine() as engine:
        assert (await engine.execute(ask)).status == RunStatus.SUSPENDED


async def test_a_run_is_not_suspended_while_anything_else_goes_on() -> None:
    gate = Gate()

    @task
    async def ask() -> None:
        raise SuspendStep("a question")

    @task
    async def slow() -> None:
        await gate.wait()

    async with WorkflowEngine() as engine:
        handle = await engine.submit(ask | slow)
        await gate.arrived()
        await turns()
        seen = await handle.peek()
        assert seen.status == RunStatus.RUNNING
        assert seen.others["ask"] == "suspended: a question"
        gate.open()
        assert (await handle.result()).status == RunStatus.SUSPENDED


async def test_a_suspended_run_can_be_cancelled() -> None:
    @task
    async def ask() -> None:
        raise SuspendStep("a question")

    async with WorkflowEngine() as engine:
        handle = await engine.submit(ask)
        await handle.result()
        await handle.cancel("never mind")
        with pytest.raises(WorkflowCancelledError, match="never mind"):
            await handle.result()
        assert not await handle.resume("ask")
        async with await engine.submit(ask) as left:
            await left.result()
        assert await left.status() == RunStatus.CANCELLED


async def test_a_run_that_ends_while_it_is_submitted_can_be_read() -> None:
    @task
    async def item(n: int) -> None: ...

    async with WorkflowEngine() as engine:
        handle = await engine.submit(item.map([]))
        assert (await handle.result()).output == []
        assert told(await collected(handle)) == ["run_started", "group_started:item", "group_succeeded:item", "run_finished"]


async def test_a_handle_says_which_run_it_is_on() -> None:
    async with WorkflowEngine() as engine:
        assert repr(await engine.submit(one, run_id="r")) == "<RunHandle r>"


@pytest.mark.parametrize("timeout", ["x", float("nan"), True])
async def test_a_wait_that_makes_no_sense_is_refused(timeout: Any) -> None:
    async with testing.engine() as engine:
        handle = await engine.submit(one)
        with pytest.raises(ConfigurationError) as caught:
            await handle.result(timeout=timeout)
        assert str(caught.value) == f"timeout={timeout!r}: give the seconds to wait, or None for as long as it takes"
        assert (await handle.result(timeout=60)).output == 1


@pytest.mark.parametrize("run_id", ["", 5, "\ud800"])
async def test_a_run_is_called_by_a_text_that_can_be_written_down(run_id: Any) -> None:
    async with testing.engine() as engine:
        for call in (engine.submit(one, run_id=run_id), engine.attach(run_id)):
            with pytest.raises(ConfigurationError) as caught:
                await call
            assert caught.value.setting == "run_id"
