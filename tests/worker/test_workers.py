"""Workers on one backend share what there is to do, and count what they did."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest

from graflow import TaskContext, TaskWorker, parallel, task
from graflow.backends.memory import MemoryBackend
from graflow.core.suspension import SuspendStep
from graflow.errors import ConfigurationError
from graflow.handlers import CoroutineHandler, Handler, TaskCall
from tests.conformance.hands import Bench, finished
from tests.engine.support import Gate, Meter, turns


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
        while not done.is_set():  # counting the turns is the point
            await asyncio.sleep(0)
            rounds += 1
    assert rounds > 20


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


# ---- settings that make no sense -----------------------------------------------------------------------------------


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
        ({"queues": ()}, "queues", "queues=(): give the names of the queues to serve, one at least, or None for all"),
        ({"queues": 5}, "queues", "queues=5: give the names of the queues to serve, one at least, or None for all"),
        ({"queues": [""]}, "queues", "queues[0]='': give a text that is not empty"),
        ({"queues": ["a", 5]}, "queues", "queues[1]=5: give a text that is not empty"),
        ({"queues": ["a,b"]}, "queues", "queues[0]='a,b': give printable characters, without commas, and without blanks at the ends"),
        ({"worker_id": ""}, "worker_id", "worker_id='': give a text that is not empty, or leave it out"),
        ({"worker_id": 5}, "worker_id", "worker_id=5: give a text that is not empty, or leave it out"),
        ({"handlers": [CoroutineHandler()]}, "handlers", None),
        ({"handlers": {"x\n": CoroutineHandler()}}, "handlers", None),
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
