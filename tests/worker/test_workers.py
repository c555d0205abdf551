"""Workers on one backend: they share what there is to do, and hand back what they cannot finish."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest

from graflow import TaskContext, TaskWorker, parallel, task
from graflow.backends.memory import MemoryBackend
from graflow.core.suspension import SuspendStep
from graflow.errors import ConfigurationError
from graflow.handlers import CoroutineHandler, Handler, TaskCall
from graflow.testing import VirtualClock
from tests.conformance.hands import Bench
from tests.engine.support import Gate, Meter, nothing_left, turns


@pytest.fixture
async def clock() -> AsyncIterator[VirtualClock]:
    with VirtualClock() as clock:
        yield clock


@pytest.fixture
async def backend(clock: VirtualClock) -> AsyncIterator[MemoryBackend]:
    backend = MemoryBackend(clock=clock)
    yield backend
    await backend.close()


async def finished(backend: MemoryBackend, run_id: str = "r") -> Any:
    """The snapshot of a run that is waited for."""
    await backend.coordinator.wait(run_id)
    return await backend.coordinator.snapshot(run_id)


@task
async def one() -> int:
    return 1


# ---- working -------------------------------------------------------------------------------------------------------


async def test_a_worker_runs_what_is_submitted_before_and_after_it_was_started(backend: MemoryBackend) -> None:
    await Bench(backend).submit(one, "before")
    async with TaskWorker(backend):
        assert (await finished(backend, "before")).output == 1
        await Bench(backend).submit(one, "after")
        assert (await finished(backend, "after")).output == 1


async def test_several_workers_share_the_work(backend: MemoryBackend) -> None:
    gate, seen = Gate(), dict[int, str]()

    class Named(CoroutineHandler):
        def __init__(self, name: str) -> None:
            self.name = name

        async def run(self, call: TaskCall) -> Any:
            seen[call.arguments["n"]] = self.name
            return await call.invoke()

    @task
    async def slow(n: int) -> int:
        await gate.wait()
        return n

    workers = [TaskWorker(backend, handlers={"coroutine": Named(name)}, concurrency=5) for name in "abc"]
    async with workers[0], workers[1], workers[2]:
        await Bench(backend).submit(slow.map(range(15)))
        await gate.arrived(15)
        assert sorted(seen.values()) == ["a"] * 5 + ["b"] * 5 + ["c"] * 5
        gate.open()
        assert (await finished(backend)).output == list(range(15))
        assert [worker.metrics().tasks_succeeded for worker in workers] == [5, 5, 5]


async def test_a_worker_serves_its_queues_only(backend: MemoryBackend) -> None:
    @task(queue="reports")
    async def report() -> str:
        return "report"

    async with TaskWorker(backend) as usual:
        await Bench(backend).submit(parallel(one, report))
        await turns()
        assert usual.metrics().tasks_processed == 1
        assert (await backend.coordinator.snapshot("r")).status == "running"
        async with TaskWorker(backend, queues=("reports", "other")) as reports:
            assert (await finished(backend)).output == [1, "report"]
            assert reports.metrics().tasks_processed == 1
    async with TaskWorker(backend, queues=None) as everything:
        await Bench(backend).submit(parallel(one, report), "s")
        assert (await finished(backend, "s")).output == [1, "report"]
        assert everything.metrics().tasks_processed == 2


async def test_a_worker_keeps_to_its_concurrency_whoever_brings_the_work(backend: MemoryBackend) -> None:
    meter = Meter()

    @task
    async def measured(n: int) -> None:
        with meter:
            await asyncio.sleep(1)

    async with TaskWorker(backend, concurrency=3), TaskWorker(backend, concurrency=2):
        await Bench(backend).submit(measured.map(range(40)))
        assert (await finished(backend)).duration == 8
    assert meter.most == 5


async def test_a_long_row_of_steps_that_never_wait_leaves_room_for_others(backend: MemoryBackend) -> None:
    """A step without an await would otherwise be followed by the next one, and the loop would do nothing else."""
    count = 2_000
    done = asyncio.Event()

    @task(max_cycles=count)
    async def busy(ctx: TaskContext) -> None:
        if ctx.cycle < count:
            ctx.next_iteration()
        else:
            done.set()

    async with TaskWorker(backend):
        await Bench(backend).submit(busy)
        rounds = 0
        while not done.is_set():  # noqa: ASYNC110 - counting the turns is the point
            await asyncio.sleep(0)
            rounds += 1
    assert rounds > 20


# ---- stopping ------------------------------------------------------------------------------------------------------


async def test_stopping_lets_running_tasks_end_within_the_grace_and_takes_nothing_new(backend: MemoryBackend, clock: VirtualClock) -> None:
    @task
    async def slow() -> str:
        await asyncio.sleep(20)
        return "done"

    @task
    async def after(slow: str) -> str:
        return f"after {slow}"

    worker = TaskWorker(backend, grace=25)
    async with worker:
        await Bench(backend).submit(slow >> after)
        await asyncio.sleep(1)
        began = clock.monotonic()
        await worker.stop()
        assert clock.monotonic() - began == 19
    snapshot = await backend.coordinator.snapshot("r")
    assert (snapshot.status, snapshot.results) == ("running", {"slow": "done"})
    async with TaskWorker(backend):
        assert (await finished(backend)).output == "after done"


async def test_what_has_not_ended_within_the_grace_is_handed_back_and_run_elsewhere_as_the_same_attempt(
    backend: MemoryBackend, clock: VirtualClock
) -> None:
    seen: list[tuple[int, str]] = []

    @task
    async def slow(ctx: TaskContext) -> str:
        seen.append((ctx.attempt, ctx.idempotency_key))
        try:
            await asyncio.sleep(100)
        finally:
            await asyncio.sleep(1)
        return "done"

    async with TaskWorker(backend, grace=25) as first:
        await Bench(backend).submit(slow)
        await asyncio.sleep(1)
        began = clock.monotonic()
        await first.stop()
        assert clock.monotonic() - began == 26  # its finally is waited for
        assert not await backend.queue.is_empty()
        assert first.metrics().tasks_processed == 0
    async with TaskWorker(backend) as second:
        assert (await finished(backend)).output == "done"
        assert second.metrics().tasks_processed == 1
    assert seen == [(1, "r:slow:1")] * 2
    events = await Bench(backend).events()
    assert [(event.type, event.attempt) for event in events if event.task_id] == [
        ("task_started", 1), ("task_started", 1), ("task_succeeded", 1),
    ]  # fmt: skip


async def test_no_retry_is_spent_on_what_is_handed_back(backend: MemoryBackend) -> None:
    @task(retry=1)
    async def slow(ctx: TaskContext) -> int:
        if ctx.attempt == 1:
            await asyncio.sleep(10)
            raise ValueError
        return ctx.attempt

    for _ in range(3):
        async with TaskWorker(backend, grace=0):
            await Bench(backend).submit(slow)
            await asyncio.sleep(1)
    async with TaskWorker(backend):
        assert (await finished(backend)).output == 2


async def test_a_task_that_returns_when_it_is_to_be_handed_back_has_succeeded(backend: MemoryBackend) -> None:
    @task
    async def careful() -> str:
        try:
            await asyncio.sleep(100)
        except asyncio.CancelledError:
            return "what there was so far"
        return "all"

    async with TaskWorker(backend, grace=0):
        await Bench(backend).submit(careful)
        await asyncio.sleep(1)
    assert (await finished(backend)).output == "what there was so far"


async def test_a_task_that_raises_when_it_is_to_be_handed_back_is_handed_back(backend: MemoryBackend) -> None:
    """Its connection was closed by its cancellation, not by a fault that a retry or a failure edge should know of."""
    visits: list[int] = []

    @task
    async def clumsy() -> int:
        visits.append(1)
        if len(visits) == 1:
            try:
                await asyncio.sleep(100)
            except asyncio.CancelledError:
                raise ConnectionError("closed in the midst of it") from None
        return len(visits)

    async with TaskWorker(backend, grace=0):
        await Bench(backend).submit(clumsy)
        await asyncio.sleep(1)
    async with TaskWorker(backend):
        assert (await finished(backend)).output == 2


async def test_a_worker_that_does_not_get_rid_of_a_task_ends_without_it(
    backend: MemoryBackend, clock: VirtualClock, caplog: pytest.LogCaptureFixture
) -> None:
    release = asyncio.Event()
    visits: list[int] = []

    @task
    async def deaf() -> int:
        visits.append(1)
        while len(visits) == 1 and not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue
        return len(visits)

    async with TaskWorker(backend, worker_id="w", grace=10) as worker:
        await Bench(backend).submit(deaf)
        await asyncio.sleep(1)
        began = clock.monotonic()
        await worker.stop()
        assert clock.monotonic() - began == 15
    assert "worker w ends while tasks do not heed their cancellation: deaf" in caplog.text
    async with TaskWorker(backend):
        assert (await finished(backend)).output == 2
    release.set()  # what the first attempt comes to is of no interest any more
    await turns()
    assert (await finished(backend)).output == 2


async def test_run_works_until_stop_is_called_and_returns_when_all_is_done(backend: MemoryBackend, clock: VirtualClock) -> None:
    @task
    async def slow() -> str:
        await asyncio.sleep(20)
        return "done"

    worker = TaskWorker(backend)
    running = asyncio.create_task(worker.run())
    await Bench(backend).submit(slow)
    await asyncio.sleep(1)
    asyncio.create_task(worker.stop())  # noqa: RUF006 - as a signal handler would
    await asyncio.sleep(1)
    assert not running.done()  # else asyncio.run() would end the loop in the midst of the draining
    await running
    assert (await backend.coordinator.snapshot("r")).output == "done"


async def test_cancelling_run_stops_the_worker_with_its_grace(backend: MemoryBackend) -> None:
    @task
    async def slow() -> str:
        await asyncio.sleep(20)
        return "done"

    worker = TaskWorker(backend)
    running = asyncio.create_task(worker.run())
    await Bench(backend).submit(slow)
    await asyncio.sleep(1)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert (await backend.coordinator.snapshot("r")).output == "done"


async def test_stopping_is_done_once_and_waited_for_by_all_who_ask(backend: MemoryBackend, clock: VirtualClock) -> None:
    class Counting(CoroutineHandler):
        stops = 0

        async def stop(self) -> None:
            self.stops += 1

    @task
    async def slow() -> str:
        await asyncio.sleep(20)
        return "done"

    handler = Counting()
    worker = TaskWorker(backend, handlers={"coroutine": handler})
    await worker.stop()  # before it was started: nothing
    async with worker:
        await Bench(backend).submit(slow)
        await asyncio.sleep(1)
        began = clock.monotonic()
        await asyncio.gather(*(worker.stop() for _ in range(5)))
        assert clock.monotonic() - began == 19
        await worker.stop()
    await worker.stop()
    assert handler.stops == 1


async def test_whoever_is_cancelled_while_a_worker_stops_does_not_stop_the_stopping(backend: MemoryBackend) -> None:
    @task
    async def slow() -> str:
        await asyncio.sleep(20)
        return "done"

    async with TaskWorker(backend) as worker:
        await Bench(backend).submit(slow)
        await asyncio.sleep(1)
        stopping = asyncio.create_task(worker.stop())
        await asyncio.sleep(1)
        stopping.cancel()
        with pytest.raises(asyncio.CancelledError):
            await stopping
        await worker.stop()
        assert (await backend.coordinator.snapshot("r")).output == "done"


async def test_a_worker_can_be_started_again_with_all_its_slots(backend: MemoryBackend) -> None:
    @task
    async def slow() -> int:
        await asyncio.sleep(10)
        return 1

    worker = TaskWorker(backend, concurrency=1, grace=0)
    await Bench(backend).submit(slow)
    async with nothing_left():
        for _ in range(3):
            async with worker:
                await asyncio.sleep(1)  # handed back each time
    async with worker:
        assert (await finished(backend)).output == 1


async def test_a_worker_cannot_be_started_twice_at_once(backend: MemoryBackend) -> None:
    async with TaskWorker(backend, worker_id="w") as worker:
        with pytest.raises(ConfigurationError, match="worker w is running already; make another TaskWorker"):
            await worker.__aenter__()


async def test_a_worker_that_stops_leaves_nothing_behind(backend: MemoryBackend) -> None:
    async with nothing_left():
        async with TaskWorker(backend):
            await Bench(backend).submit(one)
            await finished(backend)
        assert await backend.queue.is_empty()


# ---- counting ------------------------------------------------------------------------------------------------------


async def test_metrics_of_a_worker_that_has_done_nothing_are_zeros(backend: MemoryBackend) -> None:
    worker = TaskWorker(backend, worker_id="w")
    for _ in range(2):
        metrics = worker.metrics()
        assert metrics.worker_id == "w"
        assert {metrics.tasks_processed, metrics.tasks_succeeded, metrics.tasks_failed, metrics.tasks_running} == {0}
        assert (metrics.total_execution_time, metrics.average_execution_time, metrics.success_rate) == (0.0, 0.0, 0.0)
        async with worker:
            assert worker.metrics() == metrics


async def test_metrics_count_attempts_by_how_they_ended_and_the_seconds_they_took(backend: MemoryBackend) -> None:
    gate = Gate()

    @task
    async def good() -> None:
        await asyncio.sleep(3)

    @task(retry=1)
    async def flaky(ctx: TaskContext) -> None:
        await asyncio.sleep(1)
        if ctx.attempt == 1:
            raise ValueError

    @task(timeout=2)
    async def slow() -> None:
        await asyncio.sleep(10)

    @task
    async def asking() -> None:
        raise SuspendStep("counts as nothing yet")

    @task
    async def going_on() -> None:
        await gate.wait()

    async with TaskWorker(backend) as worker:
        await Bench(backend).submit(parallel(good, flaky, slow, asking, going_on, policy="best_effort"))
        await asyncio.sleep(60)
        metrics = worker.metrics()
        assert (metrics.tasks_processed, metrics.tasks_succeeded, metrics.tasks_failed, metrics.tasks_running) == (4, 2, 2, 1)
        assert metrics.total_execution_time == 3 + 1 + 1 + 2
        assert (metrics.average_execution_time, metrics.success_rate) == (7 / 4, 0.5)
        await backend.coordinator.cancel("r", "what is stopped does not count")
        await turns()
        assert worker.metrics().tasks_processed == 4
        assert worker.metrics().tasks_running == 0


async def test_metrics_go_on_when_the_worker_is_started_again(backend: MemoryBackend) -> None:
    worker = TaskWorker(backend)
    for run_id in ("first", "second"):
        async with worker:
            await Bench(backend).submit(one, run_id)
            await finished(backend, run_id)
    assert worker.metrics().tasks_processed == 2


async def test_metrics_cannot_be_changed(backend: MemoryBackend) -> None:
    metrics = TaskWorker(backend).metrics()
    with pytest.raises(AttributeError):
        metrics.tasks_processed = 5  # type: ignore[misc]


async def test_every_worker_has_an_id_of_its_own(backend: MemoryBackend) -> None:
    assert len({TaskWorker(backend).worker_id for _ in range(3)}) == 3


async def test_retries_are_spread_by_the_seed(backend: MemoryBackend) -> None:
    """The same seed gives the same waits: what happened can be made to happen again."""

    async def waits(seed: int, run_id: str) -> list[float]:
        @task(retry=5)
        async def failing() -> None:
            raise ValueError

        async with TaskWorker(backend, seed=seed):
            await Bench(backend).submit(failing, run_id)
            await finished(backend, run_id)
        return [event.data["delay"] for event in await Bench(backend).events(run_id) if event.type == "task_retrying"]

    first, same, other = await waits(1, "a"), await waits(1, "b"), await waits(2, "c")
    assert first == same != other


# ---- settings that make no sense ------------------------------------------------------------------------------------


class Idle(Handler):
    concurrency = 0

    async def run(self, call: TaskCall) -> None: ...


@pytest.mark.parametrize(
    ("options", "setting", "text"),
    [
        ({"concurrency": 0}, "concurrency", "concurrency=0: give how many attempts may run at once, 1 or more"),
        ({"concurrency": True}, "concurrency", "concurrency=True: give how many attempts may run at once, 1 or more"),
        ({"concurrency": "5"}, "concurrency", "concurrency='5': give how many attempts may run at once, 1 or more"),
        ({"queues": "reports"}, "queues", "queues='reports' would mean its single letters; give ['reports']"),
        ({"handlers": [CoroutineHandler()]}, "handlers", None),
        ({"handlers": {"x": CoroutineHandler}}, "handlers", "handlers['x'] is a class; give an instance of it: CoroutineHandler(...)"),
        ({"handlers": {"x": 5}}, "handlers", "handlers['x'] is of type int; give an instance of a subclass of Handler"),
        (
            {"handlers": {"idle": Idle()}},
            "handlers['idle'].concurrency",
            "handlers['idle'].concurrency=0: give how many attempts may run at once, 1 or more",
        ),
        ({"grace": -1}, "grace", "grace=-1: give the seconds that running tasks are given to end, 0 or more"),
    ],
)
def test_settings_that_make_no_sense_are_refused(options: Mapping[str, Any], setting: str, text: str | None) -> None:
    with pytest.raises(ConfigurationError) as caught:
        TaskWorker("memory://", **options)
    assert caught.value.setting == setting
    if text is not None:
        assert str(caught.value) == text
