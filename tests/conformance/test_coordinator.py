"""A coordinator: runs are submitted, attempts handed out and settled, and each outcome moves its run on in one step."""

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
from tests.conformance.hands import Bench, Hands, failure, names, plan_of


@task
async def a() -> int: ...


@task
async def b(a: int) -> int: ...


@task
async def c(b: int) -> int: ...


@pytest.fixture
def bench(backend: Backend) -> Bench:
    return Bench(backend)


# ---- handing out ---------------------------------------------------------------------------------------------------


async def test_a_run_hands_out_what_can_start_and_what_follows_as_it_is_settled(bench: Bench) -> None:
    assert await bench.submit(a >> b >> c)
    (first,) = await bench.fetch()
    assert names([first]) == ["a"]
    assert await bench.nothing_to_fetch()
    (second,) = await bench.succeed(first, 1)
    assert names([second]) == ["b"]
    (third,) = await bench.succeed(second, 2)
    assert await bench.succeed(third, 3) == []
    snapshot = await bench.coordinator.snapshot("r")
    assert (snapshot.status, snapshot.output, snapshot.results) == (RunStatus.SUCCEEDED, 3, {"a": 1, "b": 2, "c": 3})


async def test_a_delivery_says_what_is_to_be_run(bench: Bench) -> None:
    @task(queue="reports", priority="high", retry=2, timeout=5)
    async def report(n: int) -> None: ...

    graph = TaskGraph("monthly")
    graph.add(report)
    await bench.submit(graph)
    (delivery,) = await bench.fetch()
    spec = delivery.spec
    assert (spec.run_id, spec.task_id, spec.cycle, spec.attempt, spec.retries) == ("r", "report", 1, 1, 0)
    assert (spec.queue, spec.handler, spec.priority) == ("reports", "coroutine", "high")
    assert (delivery.task, delivery.workflow, delivery.stopped) == (report, "monthly", False)


async def test_no_more_is_handed_out_than_there_are_slots(backend: Backend) -> None:
    bench = Bench(backend, Hands(coroutine=2, thread=1))

    @task
    def in_thread() -> None: ...

    await bench.submit(parallel(*(a.clone(f"a{n}") for n in range(5)), *(in_thread.clone(f"t{n}") for n in range(3))))
    found = await bench.fetch()
    assert sorted(names(found)) == ["a0", "a1", "t0"]
    assert await bench.nothing_to_fetch()
    assert names(await bench.succeed(found[0])) == ["a2"]


async def test_only_what_the_worker_has_handlers_and_queues_for_is_handed_out(backend: Backend) -> None:
    everything, loop_only, reports = Bench(backend, Hands(coroutine=5, gpu=5)), Bench(backend), Bench(backend, Hands(queues=("reports",)))

    @task(handler="gpu")
    async def on_gpu() -> None: ...

    @task(queue="reports")
    async def report() -> None: ...

    await everything.submit(parallel(on_gpu, report, a))
    assert names(await reports.fetch()) == ["report"]
    assert names(await loop_only.fetch()) == ["a"]
    assert await loop_only.nothing_to_fetch()
    assert names(await everything.fetch()) == ["on_gpu"]


async def test_a_worker_that_waits_is_given_work_when_there_is_some(bench: Bench) -> None:
    waiting = asyncio.create_task(bench.fetch())
    await asyncio.sleep(0)
    await bench.submit(a)
    assert names(await waiting) == ["a"]


async def test_of_many_workers_that_wait_each_attempt_goes_to_one(backend: Backend) -> None:
    benches = [Bench(backend, Hands(coroutine=3)) for _ in range(5)]
    waiting = [asyncio.create_task(bench.fetch()) for bench in benches]
    await asyncio.sleep(0)
    await benches[0].submit(parallel(*(a.clone(f"a{n}") for n in range(15))))
    found = [name for each in await asyncio.gather(*waiting) for name in names(each)]
    assert sorted(found) == sorted(f"a{n}" for n in range(15))


async def test_a_wait_for_work_that_is_cancelled_loses_nothing(backend: Backend) -> None:
    benches = [Bench(backend) for _ in range(2)]
    waiting = [asyncio.create_task(bench.fetch()) for bench in benches]
    await asyncio.sleep(0)
    await benches[0].submit(parallel(a, a.clone("a2")))
    waiting[0].cancel()  # in the very moment in which there is something
    await asyncio.wait(waiting)
    found = [name for each in waiting if not each.cancelled() for name in names(each.result())]
    if len(found) < 2:
        found += names(await benches[1].fetch())
    assert sorted(found) == ["a", "a2"]


async def test_slots_that_become_free_while_a_worker_waits_are_used(backend: Backend) -> None:
    bench = Bench(backend, Hands(coroutine=1))
    await bench.submit(parallel(a, a.clone("a2")))
    (first,) = await bench.fetch()
    assert names(await bench.succeed(first)) == ["a2"]


# ---- settling ------------------------------------------------------------------------------------------------------


async def test_outcomes_may_be_settled_together(bench: Bench) -> None:
    await bench.submit(parallel(a, a.clone("a2"), name="g") >> b.bind(a=0))
    first, second = await bench.fetch()
    (after,) = await bench.settle((first, Success(1)), (second, Success(2)))
    assert names([after]) == ["b"]


async def test_settling_again_what_is_settled_changes_nothing(bench: Bench) -> None:
    await bench.submit(a >> b)
    (first,) = await bench.fetch()
    (second,) = await bench.succeed(first, 1)
    assert await bench.succeed(first, 100) == []
    assert await bench.fail(first) == []
    assert (await bench.coordinator.snapshot("r")).results == {"a": 1}
    await bench.succeed(second, 2)
    assert (await bench.coordinator.snapshot("r")).results == {"a": 1, "b": 2}


async def test_in_one_batch_the_first_failure_decides_and_later_outcomes_are_refused(bench: Bench) -> None:
    graph = TaskGraph("g")
    graph.add(a, a.clone("a2"), a.clone("a3"))
    await bench.submit(graph)
    first, second, third = await bench.fetch()
    await bench.settle((first, Success(1)), (second, failure(second)), (third, Success(3)))
    snapshot = await bench.coordinator.snapshot("r")
    assert (snapshot.status, snapshot.results, list(snapshot.failures)) == (RunStatus.FAILED, {"a": 1}, ["a2"])


async def test_an_attempt_whose_outcome_no_longer_counts_is_marked_and_interrupted(bench: Bench) -> None:
    await bench.submit(parallel(a, a.clone("a2"), name="g"))
    first, second = await bench.fetch()
    interrupted: list[str] = []
    second.interrupt = lambda: interrupted.append("second")
    await bench.fail(first)
    assert (second.stopped, interrupted) == (True, ["second"])
    waiting = asyncio.create_task(bench.coordinator.wait("r"))
    for _ in range(5):
        await asyncio.sleep(0)
    assert not waiting.done()  # the run has ended; whoever waits is told when its attempts have unwound
    await bench.settle((second, None))
    await waiting
    assert (await bench.coordinator.snapshot("r")).results == {}


async def test_an_outcome_that_comes_too_late_is_refused_without_an_error(bench: Bench) -> None:
    await bench.submit(parallel(a, a.clone("a2"), name="g"))
    first, second = await bench.fetch()
    await bench.fail(first)
    assert await bench.succeed(second, "late") == []
    assert (await bench.coordinator.snapshot("r")).results == {}


async def test_a_retry_is_handed_out_after_its_delay_as_the_next_attempt(bench: Bench, wait: PassTime) -> None:
    await bench.submit(a)
    (first,) = await bench.fetch()
    assert await bench.retry(first, 10) == []
    await wait(9)
    assert await bench.nothing_to_fetch()
    await wait(1.5)
    (second,) = await bench.fetch()
    assert (second.spec.attempt, second.spec.retries, second.spec.cycle) == (2, 1, 1)
    (third,) = await bench.retry(second, counted=False)
    assert (third.spec.attempt, third.spec.retries) == (3, 1)
    await bench.succeed(third, "at last")
    assert (await bench.coordinator.snapshot("r")).output == "at last"


async def test_attempts_that_are_handed_back_are_handed_out_again_as_the_same_attempts(bench: Bench) -> None:
    await bench.submit(parallel(a, a.clone("a2")))
    deliveries = await bench.fetch()
    await bench.coordinator.release(deliveries)
    again = await bench.fetch()
    assert [each.spec for each in again] == [each.spec for each in deliveries]
    await bench.settle(*((each, Success(place)) for place, each in enumerate(again)))
    assert await bench.succeed(deliveries[0], "too late") == []
    assert (await bench.coordinator.snapshot("r")).results == {"a": 0, "a2": 1}


async def test_handing_back_what_no_longer_counts_puts_nothing_in_line(bench: Bench) -> None:
    await bench.submit(parallel(a, a.clone("a2"), name="g"))
    first, second = await bench.fetch()
    await bench.fail(first)
    await bench.coordinator.release([second, first])
    assert await bench.nothing_to_fetch()
    await bench.coordinator.wait("r")


async def test_what_is_in_line_when_the_run_ends_is_dropped(backend: Backend) -> None:
    bench = Bench(backend, Hands(coroutine=1))
    await bench.submit(parallel(*(a.clone(f"a{n}") for n in range(10)), name="g"))
    (first,) = await bench.fetch()
    assert await bench.fail(first) == []
    assert await bench.nothing_to_fetch()


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
    (third,) = await bench.succeed(second, 2)
    assert await arguments(bench, third) == {"a": 1, "limit": 7, "b": 2}
    await bench.coordinator.channel("r").set("spare", 3)
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
        coordinator.channel("r")
    with pytest.raises(UnknownRunError):
        coordinator.pin("r")
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
