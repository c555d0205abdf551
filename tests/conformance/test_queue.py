"""A queue: first in, first out within a priority; delayed attempts when their time has come."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from graflow import parallel, task
from graflow.backends.base import Backend, QueueMetrics, TaskQueue
from graflow.errors import QueueFullError
from graflow.wire.messages import TaskSpec
from tests.conformance.conftest import OpenBackend, PassTime
from tests.conformance.hands import Bench, Hands, a, b


def spec(name: str, **fields: Any) -> TaskSpec:
    return TaskSpec(run_id="r", node=0, task_id=name, **fields)


@pytest.fixture
def queue(backend: Backend) -> TaskQueue:
    return backend.queue


async def taken(queue: TaskQueue, count: int = 100, **hands: Any) -> list[str]:
    return [each.task_id for each in await queue.dequeue(Hands(coroutine=count, **hands))]


async def test_an_empty_queue_gives_nothing_and_does_not_wait(queue: TaskQueue) -> None:
    assert await queue.dequeue(Hands()) == []
    assert await queue.is_empty()
    assert await queue.metrics() == QueueMetrics()


async def test_what_was_put_in_first_comes_out_first_as_it_was(queue: TaskQueue) -> None:
    specs = [TaskSpec(run_id=f"run {n % 3}", node=n, task_id=f"t{n}", cycle=n + 1, attempt=2, retries=1) for n in range(20)]
    for each in specs:
        await queue.enqueue(each)
    assert not await queue.is_empty()
    assert list(await queue.dequeue(Hands(coroutine=7))) == specs[:7]
    assert list(await queue.dequeue(Hands(coroutine=100))) == specs[7:]
    assert await queue.is_empty()


async def test_no_more_is_taken_than_there_are_slots(queue: TaskQueue) -> None:
    for n in range(3):
        await queue.enqueue(spec(f"t{n}"))
    assert await taken(queue, 0) == []
    assert await taken(queue, 1) == ["t0"]
    assert await taken(queue, 1) == ["t1"]
    assert await taken(queue, 5) == ["t2"]


async def test_only_what_the_worker_has_a_handler_for_is_taken(queue: TaskQueue) -> None:
    await queue.enqueue(spec("on-gpu", handler="gpu"))
    await queue.enqueue(spec("on-loop"))
    await queue.enqueue(spec("in-thread", handler="thread"))
    assert await taken(queue) == ["on-loop"]
    assert [each.task_id for each in await queue.dequeue(Hands(thread=5, gpu=0))] == ["in-thread"]
    assert not await queue.is_empty()
    assert [each.task_id for each in await queue.dequeue(Hands(gpu=1))] == ["on-gpu"]


async def test_only_the_queues_that_the_worker_serves_are_taken_from(queue: TaskQueue) -> None:
    for name in ("a", "b", "c"):
        await queue.enqueue(spec(f"in {name}", queue=name))
    assert await taken(queue, queues=("b",)) == ["in b"]
    assert await taken(queue, queues=("b", "d")) == []
    assert sorted(await taken(queue, queues=("c", "a"))) == ["in a", "in c"]


async def test_queues_are_served_in_turn(queue: TaskQueue) -> None:
    for n in range(3):
        for name in ("a", "b"):
            await queue.enqueue(spec(f"{name}{n}", queue=name))
    order = [(await taken(queue, 1))[0] for _ in range(6)]
    assert sorted(order[:2]) == ["a0", "b0"]
    assert sorted(order[2:4]) == ["a1", "b1"]


# ---- priorities ----------------------------------------------------------------------------------------------------


async def test_the_more_urgent_come_first_and_among_equals_the_earlier(queue: TaskQueue) -> None:
    for n, priority in enumerate(("low", "normal", "critical", "high", "critical", "low", "high")):
        await queue.enqueue(spec(f"{priority} {n}", priority=priority))
    assert await taken(queue, 7) == ["critical 2", "critical 4", "high 3", "high 6", "normal 1", "low 0", "low 5"]


async def test_every_eighth_goes_to_one_of_the_lower_priorities_in_turn(queue: TaskQueue) -> None:
    for priority in ("low", "normal", "high"):
        for n in range(3):
            await queue.enqueue(spec(f"{priority} {n}", priority=priority))
    for _ in range(60):
        await queue.enqueue(spec("critical", priority="critical"))
    order = [(await taken(queue, 1))[0] for _ in range(48)]
    assert [name for place, name in enumerate(order, 1) if place % 8] == ["critical"] * 42
    assert order[7::8] == ["low 0", "normal 0", "high 0", "low 1", "normal 1", "high 1"]


async def test_a_share_that_nobody_wants_goes_to_the_most_urgent(queue: TaskQueue) -> None:
    for n in range(20):
        await queue.enqueue(spec(f"t{n}", priority="critical"))
    assert await taken(queue) == [f"t{n}" for n in range(20)]


# ---- delays --------------------------------------------------------------------------------------------------------


async def test_a_delayed_attempt_comes_when_its_time_has_come(queue: TaskQueue, wait: PassTime) -> None:
    await queue.enqueue(spec("later"), delay=10)
    await queue.enqueue(spec("now"))
    assert await taken(queue) == ["now"]
    assert not await queue.is_empty()
    await wait(9)
    assert await taken(queue) == []
    await wait(1.5)
    assert await taken(queue) == ["later"]
    assert await queue.is_empty()


async def test_delayed_attempts_come_in_the_order_in_which_they_are_due(queue: TaskQueue, wait: PassTime) -> None:
    for delay in (3, 1, 2, 1):
        await queue.enqueue(spec(f"after {delay}"), delay=delay)
    await wait(5)
    assert await taken(queue) == ["after 1", "after 1", "after 2", "after 3"]


async def test_a_delayed_attempt_keeps_its_priority(queue: TaskQueue, wait: PassTime) -> None:
    await queue.enqueue(spec("urgent", priority="critical"), delay=5)
    await queue.enqueue(spec("usual"))
    await wait(6)
    assert await taken(queue) == ["urgent", "usual"]


async def test_what_came_before_it_was_due_is_before_it(queue: TaskQueue, wait: PassTime) -> None:
    await queue.enqueue(spec("delayed"), delay=5)
    await wait(4)
    await queue.enqueue(spec("earlier"))
    await wait(2)
    await queue.enqueue(spec("last"))
    assert await taken(queue) == ["earlier", "delayed", "last"]


# ---- limits and metrics --------------------------------------------------------------------------------------------


async def test_a_full_queue_refuses_more_until_there_is_room(open_backend: OpenBackend) -> None:
    async with open_backend(queue_limit=3) as (backend, _):
        queue = backend.queue
        await queue.enqueue(spec("a"))
        await queue.enqueue(spec("b"), delay=60)  # what waits for its time takes room too
        await queue.enqueue(spec("c"))
        with pytest.raises(QueueFullError) as caught:
            await queue.enqueue(spec("d", queue="reports"))
        assert (caught.value.queue, caught.value.limit) == ("reports", 3)
        assert str(caught.value) == (
            "queue 'reports' takes nothing more: 3 attempts wait in all queues together, as many as may; "
            "let workers catch up, or raise the limit"
        )
        assert await taken(queue, 1) == ["a"]
        await queue.enqueue(spec("d"))
        assert await taken(queue) == ["c", "d"]


async def test_metrics_tell_of_depth_age_and_counts(backend: Backend, queue: TaskQueue, wait: PassTime) -> None:
    await queue.enqueue(spec("a"))
    await wait(5)
    await queue.enqueue(spec("b", queue="other", handler="thread"))
    await queue.enqueue(spec("c"), delay=60)
    await wait(2)
    metrics = await queue.metrics()
    assert (metrics.depth, metrics.delayed, metrics.enqueued, metrics.fetched) == (2, 1, 3, 0)
    assert metrics.oldest_age == pytest.approx(7, abs=0.1)
    assert await taken(queue) == ["a"]
    metrics = await queue.metrics()
    assert (metrics.depth, metrics.delayed, metrics.enqueued, metrics.fetched) == (1, 1, 3, 1)
    if backend.local:  # a server dates entries by its own clock, which a test cannot put forward
        assert metrics.oldest_age == pytest.approx(2, abs=0.1)
    await wait(60)
    metrics = await queue.metrics()
    assert (metrics.depth, metrics.delayed) == (2, 0)


async def test_metrics_of_one_queue_leave_the_others_out(backend: Backend, wait: PassTime) -> None:
    bench, queue = Bench(backend), backend.queue

    @task(queue="reports")
    async def report() -> None: ...

    await bench.submit(parallel(*(a.clone(f"a{n}") for n in range(3)), report, report.clone("urgent")))
    await wait(5)
    found = [each for each in await bench.fetch() if each.spec.task_id in ("a0", "report")]
    for name, depth, in_flight in (("default", 0, 3), ("reports", 0, 2), ("nobody's", 0, 0)):
        assert await queue.metrics(name) == QueueMetrics(depth=depth, in_flight=in_flight)
    await bench.coordinator.release(found)
    for name, depth, in_flight in (("default", 1, 2), ("reports", 1, 1)):
        metrics = await queue.metrics(name)
        assert (metrics.depth, metrics.in_flight, metrics.enqueued, metrics.delayed) == (depth, in_flight, 0, 0)
    await wait(7)
    if backend.local:  # see above
        assert (await queue.metrics("reports")).oldest_age == pytest.approx(7, abs=0.1)
    assert (await queue.metrics("reports")).oldest_age > 6
    assert (await queue.metrics("nobody's")).oldest_age == 0
    assert ((await queue.metrics()).depth, (await queue.metrics()).in_flight) == (2, 3)


async def test_a_run_that_finds_no_room_names_the_queue_that_it_was_for(open_backend: OpenBackend) -> None:
    @task(queue="reports")
    async def report() -> None: ...

    async with open_backend(queue_limit=1) as (backend, _):
        bench = Bench(backend)
        await bench.submit(a)
        for graph in (report >> b, parallel(report, report.clone("r"))):
            with pytest.raises(QueueFullError) as caught:
                await bench.submit(graph, "s")
            assert (caught.value.queue, caught.value.limit) == ("reports", 1)
        with pytest.raises(QueueFullError) as caught:
            await bench.submit(a >> report, "s", start=1)
        assert caught.value.queue == "reports"


async def test_metrics_cannot_be_changed(queue: TaskQueue) -> None:
    with pytest.raises(AttributeError):
        (await queue.metrics()).depth = 5  # type: ignore[misc]


async def test_each_attempt_goes_to_one_of_many_who_ask_at_once(queue: TaskQueue) -> None:
    for n in range(100):
        await queue.enqueue(spec(f"t{n}"))
    found = await asyncio.gather(*(taken(queue, 7) for _ in range(20)))
    assert sorted(name for names in found for name in names) == sorted(f"t{n}" for n in range(100))
