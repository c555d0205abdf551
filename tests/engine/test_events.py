"""What a run tells those who watch it, and in which order."""

from __future__ import annotations

import asyncio
import threading
from datetime import UTC
from typing import Any

import pytest

from graflow import RunEvent, SyncTaskContext, TaskContext, TaskGraph, WorkflowEngine, parallel, task, testing
from graflow.backends.memory import MemoryBackend
from graflow.errors import SerializationError
from tests.engine.support import Gate, collected, told, turns


@task
async def one() -> int:
    return 1


@task
async def failing() -> None:
    raise ValueError("no")


async def story(graph: Any, **options: Any) -> list[RunEvent]:
    """The events of a run, whatever comes of it."""
    async with testing.engine() as engine:
        handle = await engine.submit(graph, **options)
        events = await collected(handle)
        await asyncio.gather(handle.result(), return_exceptions=True)
    return events


# ---- what is told --------------------------------------------------------------------------------------------------


async def test_a_run_of_one_task() -> None:
    events = await story(one, run_id="r")
    assert told(events) == ["run_started", "task_started:one", "task_succeeded:one", "run_finished"]
    assert [event.id for event in events] == ["1", "2", "3", "4"]
    assert [event.attempt for event in events] == [None, 1, 1, None]
    assert dict(events[0].data) == {"workflow": "one"}
    assert dict(events[-1].data) == {"status": "succeeded", "cause": "completed", "reason": ""}
    assert all(event.time.tzinfo is UTC for event in events)


async def test_times_are_those_of_the_backends_clock() -> None:
    @task
    async def slow() -> None:
        await asyncio.sleep(90)

    events = await story(slow)
    assert [(event.time - events[0].time).total_seconds() for event in events] == [0, 0, 90, 90]


async def test_a_failure() -> None:
    events = await story(failing >> one)
    assert told(events) == ["run_started", "task_started:failing", "task_failed:failing", "run_finished"]
    assert dict(events[2].data) == {"error_type": "ValueError", "message": "no"}
    assert dict(events[3].data) == {"status": "failed", "cause": "failed", "reason": ""}


async def test_a_branch_not_taken_is_skipped() -> None:
    @task
    async def choose(ctx: TaskContext) -> None:
        ctx.goto("left")

    graph = TaskGraph("g")
    left, right, join = one.clone("left"), one.clone("right"), one.clone("join")
    graph.add(choose >> left >> join, choose >> right >> join)
    assert told(await story(graph)) == [
        "run_started", "task_started:choose", "task_succeeded:choose", "task_skipped:right",
        "task_started:left", "task_succeeded:left", "task_started:join", "task_succeeded:join", "run_finished",
    ]  # fmt: skip


async def test_what_follows_a_failure_is_skipped_with_the_reason() -> None:
    graph = TaskGraph("g")
    graph.add(failing >> one, one.clone("other"))
    events = await story(graph, on_failure="continue")
    skipped = next(event for event in events if event.type == "task_skipped")
    assert (skipped.task_id, dict(skipped.data)) == ("one", {"because": "an earlier task failed"})


async def test_a_group_and_its_members() -> None:
    events = await story(parallel(one, one.clone("two"), name="both"))
    assert told(events) == [
        "run_started", "group_started:both", "task_started:one", "task_started:two",
        "task_succeeded:one", "task_succeeded:two", "group_succeeded:both", "run_finished",
    ]  # fmt: skip


async def test_a_group_that_fails_and_a_member_that_is_cancelled() -> None:
    @task
    async def slow() -> None:
        await asyncio.sleep(60)

    events = await story(parallel(slow, failing, name="both"))
    assert told(events) == [
        "run_started", "group_started:both", "task_started:slow", "task_started:failing",
        "task_failed:failing", "task_cancelled:slow", "group_failed:both", "run_finished",
    ]  # fmt: skip
    assert dict(events[-2].data) == {
        "error_type": "ParallelGroupError",
        "message": "group 'both': 1 of 2 branches failed (failing: ValueError: no)",
    }


async def test_iterations() -> None:
    @task(max_cycles=3)
    async def loop(ctx: TaskContext) -> None:
        if ctx.can_iterate():
            ctx.next_iteration()

    assert told(await story(loop)) == [
        "run_started", "task_started:loop", "iteration:loop", "task_started:loop", "iteration:loop",
        "task_started:loop", "task_succeeded:loop", "run_finished",
    ]  # fmt: skip


async def test_a_cancelled_run() -> None:
    gate = Gate()

    @task
    async def slow() -> None:
        await gate.wait()

    async with WorkflowEngine() as engine:
        handle = await engine.submit(slow >> one)
        await gate.arrived()
        await handle.cancel("superseded")
        events = await collected(handle)
    assert told(events) == ["run_started", "task_started:slow", "task_cancelled:slow", "run_finished"]
    assert dict(events[-1].data) == {"status": "cancelled", "cause": "cancelled", "reason": "superseded"}


async def test_a_run_that_a_task_ended() -> None:
    @task
    async def enough(ctx: TaskContext) -> None:
        ctx.terminate_workflow("found it")

    events = await story(enough >> one)
    assert dict(events[-1].data) == {"status": "succeeded", "cause": "terminated", "reason": "found it"}


@pytest.mark.parametrize(("options", "cause"), [({"timeout": 5}, "timeout"), ({"max_steps": 1}, "steps"), ({}, "failed")])
async def test_the_end_is_told_last_and_once_whatever_its_cause(options: dict[str, Any], cause: str) -> None:
    @task
    async def slow() -> None:
        await asyncio.sleep(1)

    @task
    async def slower(slow: None) -> None:
        await asyncio.sleep(10)
        raise ValueError

    events = await story(slow >> slower, **options)
    assert [event.type for event in events].count("run_finished") == 1
    assert (events[-1].type, events[-1].data["status"], events[-1].data["cause"]) == ("run_finished", "failed", cause)


async def test_nothing_is_told_after_the_end_however_long_tasks_take_to_unwind() -> None:
    gate = Gate()

    @task
    async def chatty(ctx: TaskContext) -> None:
        try:
            await gate.wait()
        finally:
            ctx.emit("after the end")
            await turns(3)
            ctx.progress(1, 1)

    async with WorkflowEngine() as engine:
        handle = await engine.submit(chatty)
        await gate.arrived()
        await handle.cancel()
        assert told(await collected(handle))[-1] == "run_finished"
        assert "message" not in [event.type for event in await collected(handle)]


# ---- a task's own --------------------------------------------------------------------------------------------------


async def test_a_coroutine_reports_progress_and_sends_events_of_its_own() -> None:
    @task
    async def chatty(ctx: TaskContext) -> None:
        ctx.progress(1, 4, "a quarter")
        ctx.progress(2)
        ctx.emit({"token": "Hello"}, name="token")
        ctx.emit("plain")

    events = (await story(chatty))[2:-2]
    assert [(event.type, event.task_id, event.attempt, dict(event.data)) for event in events] == [
        ("progress", "chatty", 1, {"done": 1, "total": 4, "message": "a quarter"}),
        ("progress", "chatty", 1, {"done": 2, "total": None, "message": ""}),
        ("message", "chatty", 1, {"name": "token", "data": {"token": "Hello"}}),
        ("message", "chatty", 1, {"name": "message", "data": "plain"}),
    ]


async def test_a_thread_does_the_same_and_its_events_come_before_its_end() -> None:
    @task
    def chatty(ctx: SyncTaskContext) -> None:
        for n in range(100):
            ctx.emit(n)
        ctx.progress(100, 100)

    async with WorkflowEngine() as engine:
        for _ in range(10):
            events = await collected(await engine.submit(chatty))
            assert [event.data["data"] for event in events if event.type == "message"] == list(range(100))
            assert told(events)[-3:] == ["progress:chatty", "task_succeeded:chatty", "run_finished"]


async def test_a_readers_loop_sees_events_as_they_come() -> None:
    gate, seen = Gate(), list[Any]()

    @task
    async def chatty(ctx: TaskContext) -> None:
        for n in range(3):
            ctx.emit(n)
            await gate.wait() if n == 1 else None

    async with WorkflowEngine() as engine:
        handle = await engine.submit(chatty)

        async def read() -> None:
            async for event in handle.events():
                seen.append(event.data.get("data", event.type))

        reading = asyncio.create_task(read())
        await gate.arrived()
        await turns()
        assert seen == ["run_started", "task_started", 0, 1]
        gate.open()
        await reading
        assert seen[4:] == [2, "task_succeeded", "run_finished"]


async def test_what_cannot_travel_is_refused_where_it_is_sent_in_strict_mode() -> None:
    @task
    async def chatty(ctx: TaskContext) -> str:
        try:
            ctx.emit({"lock": [threading.Lock()]})
        except SerializationError as error:
            return error.path
        return "sent"

    @task
    def chatty_thread(ctx: SyncTaskContext) -> str:
        try:
            ctx.emit({"lock": [threading.Lock()]})
        except SerializationError as error:
            return error.path
        return "sent"

    async with WorkflowEngine(MemoryBackend(strict=True)) as engine:
        assert (await engine.execute(chatty)).output == 'data["lock"][0]'
        assert (await engine.execute(chatty_thread)).output == 'data["lock"][0]'
    async with WorkflowEngine() as engine:
        assert (await engine.execute(chatty)).output == "sent"


async def test_what_was_sent_in_strict_mode_is_what_it_was_then() -> None:
    @task
    async def chatty(ctx: TaskContext) -> None:
        items = [1]
        ctx.emit(items)
        items.append(2)

    async with WorkflowEngine(MemoryBackend(strict=True)) as engine:
        events = await collected(await engine.submit(chatty))
        assert [event.data["data"] for event in events if event.type == "message"] == [[1]]
