"""Events can be read from the start or after one of them, by as many as like, as slowly as they like."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from graflow import RunEvent, TaskContext, WorkflowEngine, task, testing
from graflow.errors import ConfigurationError, RunError, TaskFailedError
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


async def test_events_can_be_read_after_any_of_them_also_after_the_end() -> None:
    async with WorkflowEngine() as engine:
        handle = await engine.submit(one >> one.clone("two"))
        everything = await collected(handle)
        for place, event in enumerate(everything, 1):
            assert await collected(handle, after=event.id) == everything[place:]
        assert await collected(handle) == everything


@pytest.mark.parametrize("after", [5, "x", ""])
async def test_reading_after_what_is_no_event_says_so(after: Any) -> None:
    async with WorkflowEngine() as engine:
        handle = await engine.submit(one)
        with pytest.raises(ConfigurationError, match=f"after={after!r}: ") as caught:
            await collected(handle, after)
        assert caught.value.setting == "after"


async def test_many_readers_see_the_same_also_those_who_come_late_or_read_slowly() -> None:
    gate = Gate()

    @task
    async def slow(ctx: TaskContext) -> None:
        for n in range(5):
            ctx.emit(n)
            await turns(2)
        await gate.wait()
        ctx.emit("last")

    async with WorkflowEngine() as engine:
        handle = await engine.submit(slow)

        async def read_slowly() -> list[RunEvent]:
            events: list[RunEvent] = []
            async for event in handle.events():
                events.append(event)
                await turns(7)
            return events

        readers = [asyncio.create_task(collected(handle)) for _ in range(5)] + [asyncio.create_task(read_slowly())]
        await gate.arrived()
        readers.append(asyncio.create_task(collected(handle)))
        await turns()
        gate.open()
        stories = await asyncio.gather(*readers)
        assert all(told(each) == told(stories[0]) for each in stories)
        assert [event.id for event in stories[0]] == [str(n) for n in range(1, len(stories[0]) + 1)]


async def test_a_slow_reader_holds_up_nobody() -> None:
    async with WorkflowEngine() as engine:
        handle = await engine.submit(one >> one.clone("two"))
        reader = handle.events()
        assert (await anext(reader)).type == "run_started"
        assert (await handle.result()).output == 1
        assert told([event async for event in reader])[-1] == "run_finished"


async def test_a_reader_may_leave_or_be_cancelled() -> None:
    gate = Gate()

    @task
    async def slow() -> None:
        await gate.wait()

    async with WorkflowEngine() as engine:
        handle = await engine.submit(slow)
        async for event in handle.events():
            if event.type == "task_started":
                break
        reading = asyncio.create_task(collected(handle))
        await gate.arrived()
        await turns()
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        gate.open()
        await handle.result()
        assert told(await collected(handle))[-1] == "run_finished"


async def test_a_run_can_be_watched_by_whoever_attaches_to_it() -> None:
    gate = Gate()

    @task
    async def slow() -> None:
        await gate.wait()

    async with WorkflowEngine() as engine:
        await engine.submit(slow, run_id="r")
        reading = asyncio.create_task(collected(await engine.attach("r")))
        await gate.arrived()
        gate.open()
        assert told(await reading) == ["run_started", "task_started:slow", "task_succeeded:slow", "run_finished"]


async def test_readers_are_done_when_the_engine_is_left() -> None:
    gate = Gate()

    @task
    async def slow() -> None:
        await gate.wait()

    async with WorkflowEngine() as engine:
        handle = await engine.submit(slow)
        reading = asyncio.create_task(collected(handle))
        await gate.arrived()
    assert told(await reading)[-1] == "run_finished"
    assert told(await collected(handle))[-1] == "run_finished"


@pytest.mark.parametrize("graph", [one, failing, one >> failing, one | failing])
async def test_the_events_agree_with_the_result(graph: Any) -> None:
    async with WorkflowEngine() as engine:
        handle = await engine.submit(graph)
        events = await collected(handle)
        try:
            result = await handle.result()
        except RunError as error:
            result = error.result
        assert events[-1].data["status"] == result.status
        assert {event.task_id for event in events if event.type == "task_succeeded"} == set(result.results)
        failed = {event.task_id for event in events if event.type in ("task_failed", "group_failed")}
        assert failed == set(result.errors)
        assert all(isinstance(error, TaskFailedError) for error in result.errors.values())
