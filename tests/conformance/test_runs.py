"""What can be seen of a run and done to it, from its steps and from outside."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from graflow import RunStatus, TaskGraph, parallel, task
from graflow.backends.base import Backend, RunOptions
from graflow.core.calls import find_arguments
from graflow.core.outcome import Failure, Success
from graflow.errors import MissingArgumentError, RunConflictError, UnknownRunError, UnknownTaskError
from tests.conformance.conftest import PassTime
from tests.conformance.hands import Bench, a, b, c, names, plan_of

# ---- what a step may know ------------------------------------------------------------------------------------------


async def arguments(bench: Bench, delivery: Any) -> dict[str, Any]:
    view = await bench.coordinator.view(delivery, delivery.call.names)
    return find_arguments(delivery.call, view, delivery.spec.task_id)


async def test_arguments_are_found_in_results_the_channel_and_the_predecessor(bench: Bench) -> None:
    @task
    async def last(a: int, limit: int, b: int, spare: int = 9) -> None: ...

    await bench.submit(a >> b >> last, inputs={"limit": 7})
    (first,) = await bench.fetch()
    (second,) = await bench.succeed(first, 1)
    assert await arguments(bench, second) == {"a": 1}
    await bench.coordinator.channel("r").set("spare", 3)
    (third,) = await bench.succeed(second, 2)
    assert await arguments(bench, third) == {"a": 1, "limit": 7, "b": 2, "spare": 3}


async def test_a_group_is_given_as_a_list_or_by_name(bench: Bench) -> None:
    @task
    async def as_list(g: list[int]) -> None: ...

    @task
    async def by_name(g: dict[str, int]) -> None: ...

    await bench.submit(parallel(a, a.clone("a2"), name="g") >> parallel(as_list, by_name))
    first, second = await bench.fetch()
    lists, dicts = await bench.settle((first, Success(1)), (second, Success(2)))
    assert await arguments(bench, lists) == {"g": [1, 2]}
    assert await arguments(bench, dicts) == {"g": {"a": 1, "a2": 2}}


async def test_a_missing_argument_names_what_there_was(bench: Bench) -> None:
    @task
    async def needy(wanted: int, also: int) -> None: ...

    await bench.submit(a >> needy, inputs={"limit": 7})
    (first,) = await bench.fetch()
    (second,) = await bench.succeed(first, 1)
    with pytest.raises(MissingArgumentError) as caught:
        await arguments(bench, second)
    assert caught.value.available == ("a", "limit")


async def test_the_result_of_any_completed_node_can_be_asked_for(bench: Bench) -> None:
    graph = TaskGraph("g")
    graph.add(a >> c.bind(b=0), b.bind(a=0))
    await bench.submit(graph)
    first, second = await bench.fetch()
    (third,) = await bench.succeed(first, [1])
    assert await bench.coordinator.result_of(third, "a") == [1]
    with pytest.raises(MissingArgumentError, match=r"result_of\('b'\): that task has not completed") as missing:
        await bench.coordinator.result_of(third, "b")
    assert (missing.value.task_id, missing.value.parameter, missing.value.available) == ("c", "b", ("a",))
    with pytest.raises(UnknownTaskError, match=r"result_of\('z'\): the run has no such task; it has 'a', 'c', 'b'") as unknown:
        await bench.coordinator.result_of(third, "z")
    assert (unknown.value.ids, unknown.value.known) == (("z",), ("a", "c", "b"))
    await bench.succeed(second, 2)
    assert await bench.coordinator.result_of(third, "b") == 2


# ---- from outside --------------------------------------------------------------------------------------------------


async def test_a_run_is_submitted_once(bench: Bench) -> None:
    plan = plan_of(a)
    assert await bench.submit(plan)
    assert not await bench.submit(plan)
    assert len(await bench.fetch()) == 1
    with pytest.raises(RunConflictError):
        await bench.submit(plan, inputs={"n": 1})
    with pytest.raises(RunConflictError):
        await bench.submit(b)
    with pytest.raises(RunConflictError):
        await bench.submit(plan, if_exists="error")


async def test_cancelling_ends_a_run_once(bench: Bench) -> None:
    await bench.submit(a >> b)
    (first,) = await bench.fetch()
    assert await bench.coordinator.cancel("r", "enough")
    assert not await bench.coordinator.cancel("r", "again")
    assert first.stopped
    await bench.settle((first, None))
    snapshot = await bench.coordinator.snapshot("r")
    assert (snapshot.status, snapshot.ending.cause, snapshot.ending.reason) == (RunStatus.CANCELLED, "cancelled", "enough")  # type: ignore[union-attr]
    assert await bench.nothing_to_fetch()


async def test_a_run_that_takes_too_long_ends(bench: Bench, wait: PassTime) -> None:
    await bench.submit(a, timeout=10)
    (first,) = await bench.fetch()
    await wait(9)
    assert not first.stopped
    await wait(2)
    assert first.stopped
    await bench.settle((first, Success(1)))
    ending = (await bench.coordinator.snapshot("r")).ending
    assert ending is not None
    assert (ending.cause, ending.limit) == ("timeout", 10)


async def test_a_suspended_step_waits_to_be_resumed(bench: Bench) -> None:
    await bench.submit(a >> b)
    (first,) = await bench.fetch()
    await bench.suspend(first)
    await bench.coordinator.wait("r")
    snapshot = await bench.coordinator.snapshot("r")
    assert (snapshot.status, snapshot.ending) == (RunStatus.SUSPENDED, None)
    assert snapshot.waiting["a"] == "suspended: a question"
    assert await bench.nothing_to_fetch()
    assert not await bench.coordinator.resume("r", "b")
    assert await bench.coordinator.resume("r", "a")
    assert not await bench.coordinator.resume("r", "a")
    (second,) = await bench.fetch()
    assert (second.spec.attempt, second.spec.retries) == (2, 0)
    assert await bench.succeed(first, "too late") == []
    assert names(await bench.succeed(second, 1)) == ["b"]


async def test_waiting_ends_when_the_run_does(bench: Bench) -> None:
    await bench.submit(a)
    waiting = [asyncio.create_task(bench.coordinator.wait("r")) for _ in range(3)]
    (first,) = await bench.fetch()
    await asyncio.sleep(0)
    assert not any(each.done() for each in waiting)
    await bench.succeed(first)
    await asyncio.gather(*waiting)
    await bench.coordinator.wait("r")  # at once, from now on


async def test_a_wait_that_is_cancelled_leaves_the_run_and_the_others_alone(bench: Bench) -> None:
    await bench.submit(a)
    waiting = [asyncio.create_task(bench.coordinator.wait("r")) for _ in range(2)]
    (first,) = await bench.fetch()
    waiting[0].cancel()
    await asyncio.sleep(0)
    await bench.succeed(first, 1)
    await waiting[1]
    assert (await bench.coordinator.snapshot("r")).status == RunStatus.SUCCEEDED


async def test_a_snapshot_shows_what_there_is(bench: Bench, wait: PassTime) -> None:
    await bench.submit(parallel(a, a.clone("a2"), name="g") >> b.bind(a=0))
    first, second = await bench.fetch()
    await wait(5)
    await bench.succeed(first, 1)
    seen = await bench.coordinator.snapshot("r")
    assert (seen.run_id, seen.status, seen.results, seen.groups, seen.ending) == ("r", RunStatus.RUNNING, {"a": 1}, {}, None)
    assert seen.duration == pytest.approx(5, abs=0.1)
    (third,) = await bench.succeed(second, 2)
    await bench.succeed(third, 3)
    await wait(5)
    seen = await bench.coordinator.snapshot("r")
    assert (seen.status, seen.output, seen.groups) == (RunStatus.SUCCEEDED, 3, {"g": [1, 2]})
    assert seen.duration == pytest.approx(5, abs=0.1)
    assert seen.ending is not None
    assert seen.ending.cause == "completed"


async def test_failures_are_listed_in_the_order_in_which_they_happened(bench: Bench) -> None:
    graph = TaskGraph("g")
    graph.add(*(a.clone(f"a{n}") for n in range(3)))
    await bench.submit(graph, on_failure="continue")
    deliveries = await bench.fetch()
    for place in (2, 0, 1):
        await bench.fail(deliveries[place], ValueError(str(place)))
    snapshot = await bench.coordinator.snapshot("r")
    assert list(snapshot.failures) == ["a2", "a0", "a1"]
    first = snapshot.failures["a2"]
    assert isinstance(first, Failure)
    assert (first.error.task_id, first.error.message) == ("a2", "2")
    assert snapshot.ending is not None
    assert snapshot.ending.task_id == "a2"


async def test_unknown_runs_are_an_error_wherever_they_are_asked_for(bench: Bench) -> None:
    coordinator = bench.coordinator
    for call in (coordinator.snapshot("r"), coordinator.wait("r"), coordinator.cancel("r", ""), coordinator.resume("r", "a")):
        with pytest.raises(UnknownRunError):
            await call
    with pytest.raises(UnknownRunError):
        await coordinator.channel("r").get("key")
    with pytest.raises(UnknownRunError):
        await bench.events()


async def test_a_pinned_run_stays_readable(backend: Backend) -> None:
    bench = Bench(backend)
    await backend.coordinator.submit(plan_of(a), RunOptions("r", remembered=False))
    pin = backend.coordinator.pin("r")
    (first,) = await bench.fetch()
    await bench.succeed(first, 1)
    await asyncio.sleep(0)
    assert (await backend.coordinator.snapshot("r")).output == 1
    assert pin is not None


# ---- events --------------------------------------------------------------------------------------------------------


async def test_events_are_told_in_order_and_end_with_the_run(bench: Bench) -> None:
    await bench.submit(a >> b)
    (first,) = await bench.fetch()
    bench.coordinator.publish(first, "progress", {"done": 1})
    (second,) = await bench.succeed(first, 1)
    await bench.succeed(second, 2)
    bench.coordinator.publish(second, "progress", {"done": 2})  # too late
    events = await bench.events()
    assert [(event.type, event.task_id) for event in events] == [
        ("run_started", None), ("task_started", "a"), ("progress", "a"), ("task_succeeded", "a"),
        ("task_started", "b"), ("task_succeeded", "b"), ("run_finished", None),
    ]  # fmt: skip
    assert dict(events[2].data) == {"done": 1}
    assert await bench.events(after=events[4].id) == events[5:]
    assert await bench.events(after=events[-1].id) == []


async def test_events_can_be_followed_while_they_come(bench: Bench) -> None:
    await bench.submit(a)
    reader = bench.coordinator.events("r")
    assert (await anext(reader)).type == "run_started"
    waiting = asyncio.ensure_future(anext(reader))
    await asyncio.sleep(0)
    assert not waiting.done()
    (first,) = await bench.fetch()
    assert (await waiting).type == "task_started"
    await bench.succeed(first)
    assert [event.type async for event in reader] == ["task_succeeded", "run_finished"]


async def test_what_an_attempt_tells_after_it_is_over_is_not_told(bench: Bench) -> None:
    await bench.submit(a >> b)
    (first,) = await bench.fetch()
    (second,) = await bench.succeed(first, 1)
    bench.coordinator.publish(first, "progress", {"done": 1})
    await bench.succeed(second)
    assert "progress" not in [event.type for event in await bench.events()]
