"""What is put off begins when it is due, whoever of those who knew of it is still there."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from graflow import TaskContext, TaskWorker, WorkflowEngine, task
from graflow.backends.redis.backend import RedisBackend
from graflow.backends.redis.client import BLOCK, RedisClient
from graflow.backends.redis.leases import beat, reap
from graflow.core.retry import RetryPolicy

SOON = 12.0
WAIT = 2.0
NEVER = 1000.0
Make = Callable[[], RedisBackend]


@pytest.fixture
def make(redis_url: str) -> Make:
    """Backends of workers that have nothing in common but the server."""
    return lambda: RedisBackend(redis_url, local_code=True, heart="loop")


class Tried:
    """A task that fails at first, and is tried again after a while."""

    def __init__(self) -> None:
        self.failed = asyncio.Event()

        @task(retry=RetryPolicy(1, initial_interval=WAIT, jitter=False))
        async def tried(ctx: TaskContext) -> int:
            if ctx.attempt == 1:
                self.failed.set()
                raise ValueError("not yet")
            return ctx.attempt

        self.task = tried


async def is_put_off(client: RedisClient) -> None:
    """Until the server knows of it, and nobody is left to be told."""
    commands, keys = client.commands, client.keys
    while not await commands.zcard(keys.delayed) or await commands.xlen(keys.tick):  # noqa: ASYNC110 - it happens on the server
        await asyncio.sleep(0.01)


def make_ignorant(backend: RedisBackend) -> None:
    """As if somebody else had been told."""
    backend.crew._due = asyncio.get_running_loop().time() + NEVER


async def test_a_worker_that_comes_asks_for_what_others_have_left(make: Make, redis_client: RedisClient) -> None:
    tried = Tried()
    async with WorkflowEngine(make()) as engine:
        async with TaskWorker(make()):
            handle = await engine.submit(tried.task)
            await asyncio.wait_for(tried.failed.wait(), SOON)
            await asyncio.wait_for(is_put_off(redis_client), SOON)
        await redis_client.commands.delete(redis_client.keys.tick)  # nothing of what it said on leaving
        async with TaskWorker(make()):
            assert (await handle.result(timeout=SOON)).output == 2


async def test_a_worker_that_leaves_has_another_ask(make: Make, redis_client: RedisClient) -> None:
    tried, other = Tried(), make()
    async with WorkflowEngine(make()) as engine, TaskWorker(other, queues=["default", "others"]):
        async with TaskWorker(make()):
            handle = await engine.submit(tried.task)
            await asyncio.wait_for(tried.failed.wait(), SOON)
            await asyncio.wait_for(is_put_off(redis_client), SOON)
            make_ignorant(other)
        assert (await handle.result(timeout=SOON)).output == 2


async def test_a_worker_whose_slots_are_taken_puts_in_line_what_others_do_not_know_of(make: Make, redis_client: RedisClient) -> None:
    tried, other = Tried(), make()
    busy, go = asyncio.Event(), asyncio.Event()

    @task(queue="own")
    async def long() -> None:
        busy.set()
        await go.wait()

    async with WorkflowEngine(make()) as engine, TaskWorker(make(), queues=["default", "own"], serve=["coroutine"], concurrency=1):
        handle = await engine.submit(tried.task)
        await asyncio.wait_for(tried.failed.wait(), SOON)
        await asyncio.wait_for(is_put_off(redis_client), SOON)
        held = await engine.submit(long)
        await asyncio.wait_for(busy.wait(), SOON)
        async with TaskWorker(other, queues=["default"]):
            while not other.crew._due:  # noqa: ASYNC110 - there is nothing else that tells
                await asyncio.sleep(0.01)
            make_ignorant(other)
            assert (await handle.result(timeout=SOON)).output == 2
            assert not go.is_set()
            go.set()
            await held.result(timeout=SOON)


async def test_the_living_are_told_of_a_death_and_once_more_when_no_read_of_the_dead_can_be_left(redis_client: RedisClient) -> None:
    client, commands, keys = redis_client, redis_client.commands, redis_client.keys
    await beat(client, "alive", b"\x80", lease=NEVER)
    await commands.xgroup_create(keys.tick, "g", "0", mkstream=True)
    await commands.expire(keys.tick, 60)
    await commands.zadd(keys.delayed, {"2:coroutine:default\nx": 1e15})
    await reap(client)
    assert await commands.zrange(keys.leases, 0, -1) == [b"alive"]
    assert not await commands.xlen(keys.tick)
    await commands.zadd(keys.leases, {"dead": 0})
    await reap(client)
    assert await commands.xlen(keys.tick) == 1
    assert set(await commands.zrange(keys.leases, 0, -1)) == {b"!", b"alive"}
    seconds, _ = await commands.time()
    until = await commands.zscore(keys.leases, "!")
    assert until is not None
    assert until / 1000 - seconds > BLOCK
    await commands.zadd(keys.leases, {"!": 1})
    await reap(client)
    assert await commands.xlen(keys.tick) == 2
    assert await commands.zrange(keys.leases, 0, -1) == [b"alive"]
    assert not await beat(client, "dead")
    assert set(await commands.zrange(keys.leases, 0, -1)) == {b"!", b"alive"}  # it may have read once more
    await commands.delete(keys.delayed)


async def test_nobody_is_to_look_again_where_nobody_is(redis_client: RedisClient) -> None:
    await redis_client.commands.zadd(redis_client.keys.leases, {"dead": 0})
    await reap(redis_client)
    assert not await redis_client.commands.exists(redis_client.keys.leases)
    assert not await beat(redis_client, "dead")
    assert not await redis_client.commands.exists(redis_client.keys.leases)
