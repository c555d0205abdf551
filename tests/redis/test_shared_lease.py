"""Workers that share one backend share its lease, and each of them is among the living by its own name."""

from __future__ import annotations

import asyncio
from typing import Any, Literal

import pytest

from graflow import TaskWorker, WorkflowEngine, task
from graflow.backends.redis.backend import RedisBackend
from graflow.backends.redis.client import RedisClient
from graflow.backends.redis.leases import LoopHeart
from graflow.backends.redis.roster import workers
from tests.redis.test_leases import INFO


async def infos(backend: RedisBackend) -> dict[str, Any]:
    (only,) = await workers(backend.client)
    return only


@pytest.mark.parametrize("heart", ["loop", "process"])
async def test_all_workers_of_a_backend_are_among_the_living(redis_url: str, heart: Literal["loop", "process"]) -> None:
    """The containers of one that is not are taken for orphans by its neighbours."""
    shared, other = RedisBackend(redis_url, heart=heart), RedisBackend(redis_url, heart="loop")
    async with TaskWorker(shared, worker_id="one"), TaskWorker(other, worker_id="neighbour"):
        assert await other.living() == {"one", "neighbour"}
        async with TaskWorker(shared, worker_id="two", queues=["gpu"]):
            assert await other.living() == await shared.living() == {"one", "two", "neighbour"}


async def test_workers_that_begin_at_the_same_time_are_all_among_them(redis_url: str) -> None:
    backend = RedisBackend(redis_url, heart="loop")
    team = [TaskWorker(backend, worker_id=f"w{number}") for number in range(5)]
    await asyncio.gather(*(each.__aenter__() for each in team))
    assert await backend.living() == {f"w{number}" for number in range(5)}
    assert (await infos(backend))["workers"] == [f"w{number}" for number in range(5)]
    await asyncio.gather(*(each.stop() for each in team))


async def test_they_are_so_under_the_next_name_too(redis_url: str) -> None:
    backend, looker = RedisBackend(redis_url, heart="loop"), RedisClient(redis_url)
    await looker.open()
    async with TaskWorker(backend, worker_id="one"), TaskWorker(backend, worker_id="two"):
        before = backend.crew.consumer
        assert isinstance(backend.crew.heart, LoopHeart)
        await looker.commands.zrem(looker.keys.leases, before)
        async with asyncio.timeout(15):
            while backend.crew.consumer in ("", before):  # noqa: ASYNC110 - the crew has no event for it
                await asyncio.sleep(0.02)
        assert await backend.living() == {"one", "two"}
    await looker.close()


async def test_what_a_later_worker_serves_is_known_too(redis_url: str) -> None:
    @task(queue="gpu")
    async def far() -> None: ...

    backend = RedisBackend(redis_url, heart="loop", local_code=True)
    async with TaskWorker(backend), WorkflowEngine(backend) as engine:
        assert (await infos(backend))["queues"] == ["default"]
        async with TaskWorker(backend, queues=["gpu"]):
            assert (await infos(backend))["queues"] == ["default", "gpu"]
            await engine.execute(far)


async def test_what_is_said_late_neither_brings_a_lapsed_lease_back_nor_stays(redis_client: RedisClient) -> None:
    heart = LoopHeart(redis_client, lambda: None)
    await heart.start("w", INFO)
    await redis_client.commands.delete(redis_client.keys.leases, redis_client.keys.workers)
    await heart.say(INFO + b"")
    assert not await redis_client.commands.exists(redis_client.keys.leases, redis_client.keys.workers)
    await heart.stop()
