"""Retries: how often, after how long, on what, and what stays the same from one attempt to the next."""

from __future__ import annotations

import asyncio
from itertools import pairwise

import pytest

from graflow import RetryLater, RetryPolicy, TaskContext, WorkflowEngine, task, testing
from graflow.errors import TaskFailedError
from tests.engine.support import collected, told


class Times:
    """When attempts began, as seconds since the one before."""

    def __init__(self) -> None:
        self._at: list[float] = []

    def note(self) -> None:
        self._at.append(asyncio.get_running_loop().time())

    @property
    def gaps(self) -> list[float]:
        return [later - earlier for earlier, later in pairwise(self._at)]

    def __len__(self) -> int:
        return len(self._at)


async def test_without_a_policy_there_is_one_attempt() -> None:
    times = Times()

    @task
    async def failing() -> None:
        times.note()
        raise ValueError("no")

    async with testing.engine() as engine:
        with pytest.raises(TaskFailedError) as caught:
            await engine.execute(failing)
    assert len(times) == caught.value.attempt == 1


async def test_a_policy_gives_so_many_further_attempts_after_growing_waits() -> None:
    times = Times()

    @task(retry=RetryPolicy(5, initial_interval=1, backoff_factor=3, max_interval=20, jitter=False))
    async def failing() -> None:
        times.note()
        raise ValueError(f"attempt {len(times)}")

    async with testing.engine() as engine:
        with pytest.raises(TaskFailedError) as caught:
            await engine.execute(failing)
    assert times.gaps == [1, 3, 9, 20, 20]
    assert caught.value.attempt == 6
    assert str(caught.value) == "task 'failing' failed (attempt 6): ValueError: attempt 6"


async def test_with_jitter_waits_are_drawn_from_zero_to_the_full_wait() -> None:
    async def gaps(seed: int) -> list[float]:
        times = Times()

        @task(retry=RetryPolicy(20, initial_interval=8, backoff_factor=1))
        async def failing() -> None:
            times.note()
            raise ValueError

        async with testing.engine(seed=seed) as engine:
            with pytest.raises(TaskFailedError):
                await engine.execute(failing)
        return times.gaps

    first = await gaps(1)
    assert all(0 <= gap <= 8 for gap in first)
    assert max(first) - min(first) > 4
    assert await gaps(1) == pytest.approx(first)
    assert await gaps(2) != pytest.approx(first)


async def test_an_attempt_that_succeeds_ends_the_retries() -> None:
    times = Times()

    @task(retry=3)
    async def flaky(ctx: TaskContext) -> int:
        times.note()
        if ctx.attempt < 3:
            raise ValueError
        return ctx.attempt

    async with testing.engine() as engine:
        assert (await engine.execute(flaky)).output == 3
    assert len(times) == 3


async def test_a_def_task_is_retried_alike() -> None:
    attempts: list[int] = []

    @task(retry=RetryPolicy(2, jitter=False))
    def flaky() -> int:
        attempts.append(1)
        if len(attempts) < 3:
            raise OSError
        return len(attempts)

    async with testing.engine() as engine:
        result = await engine.execute(flaky)
    assert (result.output, result.duration) == (3, 3)  # waits of 1 and 2 s


@pytest.mark.parametrize(
    ("policy", "attempts"),
    [
        (RetryPolicy(2, retry_on=(LookupError,)), 3),
        (RetryPolicy(2, retry_on=(OSError,)), 1),
        (RetryPolicy(2, give_up_on=(KeyError,)), 1),
        (RetryPolicy(2, give_up_on=(IndexError,)), 3),
        (RetryPolicy(2, retry_on=(LookupError,), give_up_on=(LookupError,)), 1),
        (RetryPolicy(0), 1),
    ],
)
async def test_the_policy_says_which_errors_are_final(policy: RetryPolicy, attempts: int) -> None:
    times = Times()

    @task(retry=policy)
    async def failing() -> None:
        times.note()
        raise KeyError("k")

    async with testing.engine() as engine:
        with pytest.raises(TaskFailedError):
            await engine.execute(failing)
    assert len(times) == attempts


async def test_retry_later_waits_as_long_as_it_says_and_costs_no_retry() -> None:
    times = Times()

    @task(retry=RetryPolicy(1, initial_interval=30, jitter=False))
    async def busy(ctx: TaskContext) -> int:
        times.note()
        if ctx.attempt <= 4:
            raise RetryLater(after=7)
        if ctx.attempt == 5:
            raise ValueError
        return ctx.attempt

    async with testing.engine() as engine:
        assert (await engine.execute(busy)).output == 6
    assert times.gaps == [7, 7, 7, 7, 30]


async def test_retry_later_needs_no_policy() -> None:
    @task
    async def busy(ctx: TaskContext) -> int:
        if ctx.attempt == 1:
            raise RetryLater(after=0)
        return ctx.attempt

    async with testing.engine() as engine:
        assert (await engine.execute(busy)).output == 2


async def test_every_visit_has_a_retry_budget_of_its_own() -> None:
    seen: list[tuple[int, int]] = []

    @task(retry=RetryPolicy(2, jitter=False), max_cycles=3)
    async def flaky(ctx: TaskContext) -> str:
        seen.append((ctx.cycle, ctx.attempt))
        if ctx.attempt < 3:
            raise ValueError
        if ctx.can_iterate():
            ctx.next_iteration()
        return "done"

    async with testing.engine() as engine:
        assert (await engine.execute(flaky)).output == "done"
    assert seen == [(cycle, attempt) for cycle in (1, 2, 3) for attempt in (1, 2, 3)]


async def test_the_idempotency_key_is_the_same_for_all_attempts_at_a_visit_and_for_no_other() -> None:
    keys: dict[int, set[str]] = {}

    @task(retry=1, max_cycles=3)
    async def charge(ctx: TaskContext) -> None:
        keys.setdefault(ctx.cycle, set()).add(ctx.idempotency_key)
        if ctx.attempt == 1:
            raise ValueError
        if ctx.can_iterate():
            ctx.next_iteration()

    async with testing.engine() as engine:
        await engine.execute(charge, run_id="r")
    assert keys == {1: {"r:charge:1"}, 2: {"r:charge:2"}, 3: {"r:charge:3"}}


async def test_waiting_for_a_retry_holds_no_slot() -> None:
    order: list[str] = []

    @task(retry=RetryPolicy(1, initial_interval=60, jitter=False))
    async def flaky(ctx: TaskContext) -> None:
        order.append(f"flaky {ctx.attempt}")
        if ctx.attempt == 1:
            raise ValueError

    @task
    async def other() -> None:
        order.append("other")

    async with testing.engine(concurrency=1) as engine:
        handle = await engine.submit(flaky)
        await engine.execute(other)
        assert (await engine.backend.queue.metrics()).delayed == 1
        await handle.result()
    assert order == ["flaky 1", "other", "flaky 2"]


async def test_what_a_failed_attempt_asked_for_is_forgotten() -> None:
    @task
    async def never() -> None:
        raise AssertionError

    @task
    async def always() -> int:
        return 1

    @task(retry=1)
    async def torn(ctx: TaskContext) -> None:
        if ctx.attempt == 1:
            ctx.next_task(never)
            ctx.terminate_workflow("no")
            raise ValueError

    async with testing.engine() as engine:
        result = await engine.execute(torn >> always)
    assert dict(result.results) == {"torn": None, "always": 1}


async def test_events_tell_of_every_attempt_and_of_why_it_is_made_again() -> None:
    @task(retry=RetryPolicy(1, initial_interval=2, jitter=False))
    async def failing() -> None:
        raise ValueError("no")

    async with testing.engine() as engine:
        handle = await engine.submit(failing)
        events = await collected(handle)
    assert told(events) == [
        "run_started",
        "task_started:failing",
        "task_retrying:failing",
        "task_started:failing#2",
        "task_failed:failing#2",
        "run_finished",
    ]
    assert dict(events[2].data) == {"delay": 2, "error_type": "ValueError", "message": "no"}
    assert events[2].attempt == 1
    assert (events[3].time - events[2].time).total_seconds() == 2


async def test_attempts_are_counted_by_the_worker_and_retried_ones_as_failed() -> None:
    @task(retry=2)
    async def flaky(ctx: TaskContext) -> None:
        if ctx.attempt < 3:
            raise ValueError

    async with testing.engine() as engine:
        await engine.execute(flaky)
        assert engine.worker is not None
        metrics = engine.worker.metrics()
    assert (metrics.tasks_processed, metrics.tasks_succeeded, metrics.tasks_failed) == (3, 1, 2)


async def test_arguments_that_are_missing_may_be_there_at_the_next_attempt() -> None:
    @task(retry=RetryPolicy(3, initial_interval=10, jitter=False))
    async def needy(limit: int) -> int:
        return limit

    async with testing.engine() as engine:
        handle = await engine.submit(needy)

        async def provide() -> None:
            await asyncio.sleep(5)
            await engine.backend.coordinator.channel(handle.run_id).set("limit", 7)

        _, result = await asyncio.gather(provide(), handle.result())
    assert result.output == 7


async def test_a_cancelled_run_forgets_its_delayed_attempts() -> None:
    @task(retry=5)
    async def failing() -> None:
        raise ValueError

    async with WorkflowEngine() as engine:
        handle = await engine.submit(failing)
        async for event in handle.events():
            if event.type == "task_retrying":
                break
        await handle.cancel()
        assert await engine.backend.queue.is_empty()
