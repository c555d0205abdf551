"""What a run may take at most, and what it has put off, ends with it: neither is work that waits, and nothing of either is left."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from graflow import RetryPolicy, TaskWorker, WorkflowEngine, task
from graflow.backends.redis.backend import RedisBackend
from graflow.backends.redis.client import RedisClient
from graflow.errors import RunTimeoutError, WorkflowCancelledError

HOUR = 3600.0
SOON = 10.0


@task
async def nothing() -> str:
    return "done"


@task(queue="nobody-serves-it")
async def patient() -> None: ...


@task(retry=RetryPolicy(3, initial_interval=HOUR, max_interval=HOUR, jitter=False))
async def tried_again_in_an_hour() -> None:
    raise ValueError("not yet")


@pytest.fixture
async def backend(redis_url: str) -> AsyncIterator[RedisBackend]:
    made = RedisBackend(redis_url, local_code=True, heart="loop", queue_limit=2)
    await made.open()
    yield made
    await made.close()


async def number_of_deadlines(client: RedisClient) -> int:
    return int(await client.commands.zcard(client.keys.deadlines))


async def until_put_off(backend: RedisBackend) -> None:
    async with asyncio.timeout(SOON):
        while not (await backend.queue.metrics()).delayed:  # noqa: ASYNC110 - it happens on the server
            await asyncio.sleep(0.01)


async def test_time_limits_of_runs_take_no_room_in_the_queue_and_end_with_them(
    backend: RedisBackend, redis_client: RedisClient, no_key_leaks: None
) -> None:
    async with TaskWorker(backend), WorkflowEngine(backend) as engine:
        for _ in range(5):
            assert (await engine.execute(nothing, timeout=HOUR)).output == "done"
        assert await backend.queue.is_empty()
        assert not await number_of_deadlines(redis_client)
        assert not len(backend.coordinator._watch.deadlines)


async def test_the_limit_of_a_run_that_goes_on_is_no_work_that_waits(backend: RedisBackend, redis_client: RedisClient) -> None:
    async with WorkflowEngine(backend) as engine:
        handle = await engine.submit(patient, timeout=HOUR)
        metrics = await backend.queue.metrics()
        assert (metrics.depth, metrics.delayed) == (1, 0)
        assert await number_of_deadlines(redis_client) == 1
        await engine.submit(patient, timeout=HOUR)  # a limit of two
        await handle.cancel()
        assert await number_of_deadlines(redis_client) == 1


async def test_a_worker_ends_a_run_whose_time_is_up_where_its_engine_is_gone(backend: RedisBackend, redis_client: RedisClient) -> None:
    backend.client.shift = -1000  # its clock is behind, and it was submitted long ago
    async with WorkflowEngine(backend) as engine:
        handle = await engine.submit(patient, timeout=0.5)
        backend.coordinator._watch.deadlines.forget(handle.run_id)
        backend.client.shift = 0
        async with TaskWorker(backend):
            with pytest.raises(RunTimeoutError, match=r"0\.5 s"):
                await handle.result(timeout=SOON)
        assert not await number_of_deadlines(redis_client)


async def test_what_ran_out_of_time_is_not_the_run_that_was_begun_anew_under_that_id(backend: RedisBackend) -> None:
    async with WorkflowEngine(backend) as engine:
        first = await engine.submit(patient, run_id="nightly", timeout=0.5)
        await first.cancel()
        again = await engine.submit(patient, run_id="nightly", if_exists="rerun_failed")
        await backend.coordinator._watch.deadlines._end("nightly", 1, 0.5)  # as of another generation
        assert await again.status() == "running"


async def test_a_cancelled_run_takes_with_it_what_it_had_put_off(
    backend: RedisBackend, redis_client: RedisClient, no_key_leaks: None
) -> None:
    async with WorkflowEngine(backend) as engine:
        async with TaskWorker(backend):
            handles = [await engine.submit(tried_again_in_an_hour) for _ in range(2)]
            await until_put_off(backend)
        for handle in handles:  # and no worker is there that could do it
            await handle.cancel()
            with pytest.raises(WorkflowCancelledError):
                await handle.result()
        assert not (await backend.queue.metrics()).delayed
        assert not await redis_client.commands.exists(
            redis_client.keys.delayed, *(redis_client.keys.later(each.run_id) for each in handles)
        )
