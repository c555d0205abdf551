"""An outcome that cannot be written is the failure of its own task: others, which travel in the same commit, are written."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from redis.exceptions import ResponseError

from graflow import RetryLater, RunStatus, TaskContext, TaskWorker, WorkflowEngine, task
from graflow.backends.redis import chores
from graflow.backends.redis.backend import RedisBackend
from graflow.core.outcome import Directives, Retry, Success, Suspend
from graflow.core.suspension import SuspendStep
from graflow.errors import TaskFailedError
from tests.conformance.hands import Bench, a, failure, finished

INNOCENT = 20


@pytest.fixture
async def backend(redis_url: str) -> AsyncIterator[RedisBackend]:
    made = RedisBackend(redis_url, local_code=True, heart="loop")
    await made.open()
    yield made
    await made.close()


@task
async def innocent() -> str:
    await asyncio.sleep(0)
    return "fine"


@task
async def waits_for_nan() -> None:
    error = RetryLater(1.0)
    error.after = float("nan")
    raise error


@task
async def waits_for_a_text() -> None:
    error = RetryLater(1.0)
    error.after = "x"  # type: ignore[assignment]
    raise error


@task
async def suspends_for_a_number() -> None:
    raise SuspendStep(5)  # type: ignore[arg-type]


@task
async def cancels_with_half_a_character(ctx: TaskContext) -> None:
    ctx.cancel_workflow("\ud800")


@pytest.mark.parametrize("poison", [waits_for_nan, waits_for_a_text, suspends_for_a_number, cancels_with_half_a_character])
async def test_innocent_runs_end_beside_one_whose_outcome_cannot_be_written(
    backend: RedisBackend, poison: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async with TaskWorker(backend), WorkflowEngine(backend) as engine:
        handles = [await engine.submit(innocent if number % 4 else poison) for number in range(INNOCENT)]
        async with asyncio.timeout(10):
            for number, handle in enumerate(handles):
                if number % 4:
                    assert (await handle.result()).output == "fine"
                else:
                    with pytest.raises(TaskFailedError):
                        await handle.result()
    assert "failed while running a task" not in caplog.text


async def test_a_large_result_that_the_server_does_not_take_fails_its_task_only(
    backend: RedisBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is refused where the whole batch is written, and not where it is encoded."""
    write = chores.write_values

    async def refuse(client: Any, values: dict[str, bytes], items: Any) -> None:
        if any(b"poison" in value for value in values.values()):
            raise ResponseError("ERR string exceeds maximum allowed size")
        await write(client, values, items)

    monkeypatch.setattr(chores, "write_values", refuse)

    @task
    async def large() -> str:
        return "poison" * 20_000

    async with TaskWorker(backend), WorkflowEngine(backend) as engine:
        handles = [await engine.submit(innocent if number % 4 else large) for number in range(INNOCENT)]
        async with asyncio.timeout(10):
            for number, handle in enumerate(handles):
                if number % 4:
                    assert (await handle.result()).output == "fine"
                else:
                    with pytest.raises(TaskFailedError, match=r"the outcome of task 'large' cannot be written: ResponseError"):
                        await handle.result()


@pytest.mark.parametrize("kind", ["retry", "far retry", "suspend", "half a character"])
async def test_each_outcome_of_a_batch_is_encoded_by_itself(backend: RedisBackend, kind: str) -> None:
    """Also where no worker has looked at it before."""
    bench = Bench(backend)
    for name in ("first", "poison", "last"):
        await bench.submit(a, name)
    held = {}
    while len(held) < 3:
        held.update({each.spec.run_id: each for each in await bench.fetch()})
    outcome: Any = {
        "retry": Retry(float("nan"), failure(held["poison"]).error),
        "far retry": Retry(1e300, failure(held["poison"]).error),
        "suspend": Suspend(5),  # type: ignore[arg-type]
        "half a character": Success(None, Directives(terminate="\ud800")),
    }[kind]
    await bench.settle((held["first"], Success(1)), (held["poison"], outcome), (held["last"], Success(3)))
    for name in ("first", "last"):
        assert (await finished(backend, name)).status is RunStatus.SUCCEEDED
    ended = await finished(backend, "poison")
    assert ended.status is RunStatus.FAILED
    assert "the outcome of task 'a' cannot be written" in repr(ended)
