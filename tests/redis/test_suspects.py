"""Of all that a dead worker held, one may have killed it. The others do not go to the dead letters along with that one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from graflow import RunStatus, TaskGraph, task
from graflow.backends.base import Delivery
from graflow.backends.redis.backend import RedisBackend
from graflow.backends.redis.client import RedisClient
from graflow.backends.redis.leases import MOST_LOST, reap
from graflow.backends.redis.scripts.runs import CLAIM
from tests.conformance.hands import Bench, finished, plan_of
from tests.redis.proxy import Fault, FaultProxy
from tests.redis.server import RedisServer

WIDTH = 5
SOON = 10.0


@task
async def step() -> None: ...


def side_by_side(width: int = WIDTH) -> TaskGraph:
    graph = TaskGraph("side by side")
    for number in range(width):
        graph.add(step.clone(f"s{number}"))
    return graph


class Crowd:
    """Workers by hand, which take all that there is and die."""

    def __init__(self, url: str, client: RedisClient) -> None:
        self.url, self.client = url, client
        self.backends: list[RedisBackend] = []

    async def worker(self, url: str = "") -> tuple[Bench, RedisBackend]:
        """One more."""
        backend = RedisBackend(url or self.url, local_code=True, heart="loop")
        await backend.open()
        self.backends.append(backend)
        return Bench(backend), backend

    async def dies(self, backend: RedisBackend) -> None:
        """Its lease lapses, and what it held is put back in line."""
        await self.client.commands.zadd(self.client.keys.leases, {backend.crew.consumer: 0})
        await reap(self.client)

    async def one_that_dies_with_all(self, width: int = WIDTH) -> None:
        """A worker that dies with all that there is."""
        bench, backend = await self.worker()
        held: list[Delivery] = []
        while len(held) < width:
            held += await bench.fetch()
        await self.dies(backend)

    async def letters(self) -> list[str]:
        """The tasks among the dead letters."""
        return [str(letter.task) for letter in await self.backends[0].dead_letters.list()]

    async def close(self) -> None:
        for backend in self.backends:
            await backend.close()


@pytest.fixture
async def crowd(redis_url: str, redis_client: RedisClient) -> AsyncIterator[Crowd]:
    """Workers of an empty server, none to begin with."""
    crowd = Crowd(redis_url, redis_client)
    yield crowd
    await crowd.close()


async def suspected(crowd: Crowd) -> None:
    """Five attempts of one run, which have cost as many workers as an attempt may."""
    bench, _ = await crowd.worker()
    await bench.submit(plan_of(side_by_side()), on_failure="continue")
    for _ in range(MOST_LOST):
        async with asyncio.timeout(SOON):  # all of them start again, at once and together
            await crowd.one_that_dies_with_all()


async def work_off(bench: Bench, held: Delivery, number: int) -> list[str]:
    """What one worker does of so many, one after the other."""
    done: list[str] = []
    while True:
        done.append(held.spec.task_id)
        found = await bench.succeed(held)
        if len(done) == number:
            return done
        (held,) = found or await bench.fetch()


async def test_those_that_one_more_death_would_condemn_are_held_one_at_a_time(crowd: Crowd) -> None:
    await suspected(crowd)
    (one, first), (other, _) = await crowd.worker(), await crowd.worker()
    async with asyncio.timeout(SOON):
        (condemned,), (spared,) = await one.fetch(), await other.fetch()
        assert await one.nothing_to_fetch()
        await crowd.dies(first)
        assert await crowd.letters() == [condemned.spec.task_id]
        done = await work_off(other, spared, WIDTH - 1)
        assert sorted((*done, condemned.spec.task_id)) == [f"s{number}" for number in range(WIDTH)]
        assert (await finished(first)).status is RunStatus.FAILED
    assert await crowd.letters() == [condemned.spec.task_id]


async def test_what_has_cost_nobody_is_held_beside_a_suspect(crowd: Crowd) -> None:
    await suspected(crowd)
    bench, _ = await crowd.worker()
    async with asyncio.timeout(SOON):
        await bench.fetch()
        await bench.submit(plan_of(side_by_side()), "another")
        innocent: list[Delivery] = []
        while len(innocent) < WIDTH:
            innocent += await bench.fetch()
    assert {each.spec.run_id for each in innocent} == {"another"}


async def test_a_worker_that_did_not_hear_what_it_was_given_is_given_no_second_suspect(crowd: Crowd, redis_server: RedisServer) -> None:
    await suspected(crowd)
    async with FaultProxy(redis_server.port) as proxy:
        bench, backend = await crowd.worker(proxy.url)
        rule = proxy.when(Fault.DROP_REPLY, command=lambda command: CLAIM.sha.encode() in command)
        async with asyncio.timeout(SOON):
            (held,) = await bench.fetch()
            assert rule.hits
            assert await bench.nothing_to_fetch()
            assert len(await work_off(bench, held, WIDTH)) == WIDTH
            assert (await finished(backend)).status is RunStatus.SUCCEEDED
        await backend.close()
        crowd.backends.remove(backend)


async def test_a_run_that_is_cancelled_takes_its_suspects_along(crowd: Crowd) -> None:
    await suspected(crowd)
    bench, backend = await crowd.worker()
    async with asyncio.timeout(SOON):
        await bench.fetch()
        assert await bench.nothing_to_fetch()
        await backend.coordinator.cancel("r", "enough")
    assert not (await backend.queue.metrics()).delayed
    assert not await crowd.client.commands.exists(crowd.client.keys.later("r"))
