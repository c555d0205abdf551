"""A coordinator hands attempts out; each outcome moves its run on, in one step."""

from __future__ import annotations

import asyncio

from graflow import RunStatus, TaskGraph, parallel, task
from graflow.backends.base import Backend
from graflow.core.outcome import Success
from tests.conformance.conftest import PassTime
from tests.conformance.hands import Bench, Hands, a, b, c, failure, names

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
