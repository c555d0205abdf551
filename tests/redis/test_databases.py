"""Pub/sub knows no databases, and Graflow does: what happens in one is not heard in another, under the same namespace."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import Literal

import pytest

from graflow import TaskContext, TaskWorker, WorkflowEngine, task
from graflow.backends.redis.backend import RedisBackend
from graflow.backends.redis.client import RedisClient
from graflow.backends.redis.keys import Keys
from graflow.backends.redis.waiting import Waiting
from tests.redis.server import RedisServer


def database(server: RedisServer, number: int) -> str:
    return server.url.rpartition("/")[0] + f"/{number}"


@pytest.mark.parametrize("heart", ["process", "loop"])
async def test_the_workers_of_one_database_are_none_of_another(redis_server: RedisServer, heart: Literal["process", "loop"]) -> None:
    """An engine took them for its own: it never said that nobody served its run, and asked again with each of their pulses."""
    heard: dict[int, list[bytes]] = {0: [], 3: []}
    there = asyncio.Event()
    async with AsyncExitStack() as stack:
        for number in heard:
            client = RedisClient(database(redis_server, number))
            await client.open()
            stack.push_async_callback(client.close)
            waiting = Waiting(client)
            stack.push_async_callback(waiting.close)

            def hear(message: bytes | None, number: int = number) -> None:
                if message is not None:
                    heard[number].append(message)
                    if number == 3:
                        there.set()

            await waiting.listen(client.keys.pulse, hear)
            if number == 0:
                first = waiting
        async with TaskWorker(RedisBackend(database(redis_server, 3), heart=heart)):
            await asyncio.wait_for(there.wait(), 10)
        async with await first.listen("after that", lambda _: None):  # what was published before has been heard by now
            assert heard[0] == []


@task
async def meets(ctx: TaskContext) -> str:
    async with ctx.channel.lock("door"):
        await ctx.channel.set("here", "yes")
    found: str = await ctx.channel.wait("there", timeout=10)
    return found


async def test_a_run_in_another_database_than_the_first_hears_all_it_should(redis_server: RedisServer) -> None:
    url = database(redis_server, 3)
    backend = RedisBackend(url)
    async with WorkflowEngine(backend) as engine, TaskWorker(url):
        handle = await engine.submit(meets, run_id="r")
        coordinator = backend.coordinator
        async with asyncio.timeout(20):
            assert await coordinator.channel("r").wait("here") == "yes"
            await coordinator.create_barrier("g", 1, run_id="r")
            waiting = asyncio.create_task(coordinator.wait_barrier("g", run_id="r"))
            await asyncio.sleep(0)
            await coordinator.signal_barrier("g", "a", run_id="r")
            assert await waiting is True
            await coordinator.channel("r").set("there", "met")
            assert [event.type async for event in handle.events()][-1] == "run_finished"
            assert (await handle.result()).output == "met"


def test_workers_of_two_databases_live_in_two_places() -> None:
    """Or one of them would take the containers of the other for orphans: it finds no such worker among the living."""
    places = {RedisBackend(f"redis://localhost:6379/{number}").place for number in (0, 3)}
    assert places == {"localhost:6379/graflow", "localhost:6379/3/graflow"}


def test_only_what_is_published_says_which_database_it_is_for() -> None:
    """Keys need not, and a partition has them in one slot all the same."""
    first, other = Keys("shop"), Keys("shop", database=3)
    assert (other.run("r"), other.scope) == (first.run("r"), ("{shop:0}:", "{shop:0}:@3:"))
    assert first.scope == ("{shop:0}:",)
    for name in ("stops", "pulse", "queues"):
        assert getattr(other, name) == getattr(first, name).replace(":0}:", ":0}:@3:")
    for name in ("inbox", "told", "changed", "door"):
        assert getattr(other, name)("x") == getattr(first, name)("x").replace(":0}:", ":0}:@3:")
