"""A worker that stops finishes what it can and hands back the rest."""

from __future__ import annotations

import asyncio

import pytest

from graflow import TaskContext, TaskWorker, task
from graflow.backends.memory import MemoryBackend
from graflow.errors import ConfigurationError
from graflow.handlers import CoroutineHandler
from graflow.testing import VirtualClock
from tests.conformance.hands import Bench, finished
from tests.engine.support import nothing_left, turns


@task
async def one() -> int:
    return 1


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
