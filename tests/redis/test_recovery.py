"""What was on its way when the server went away is neither lost nor done twice by the same worker."""

from __future__ import annotations

import asyncio

import pytest
from blockbuster import BlockBuster

from graflow import TaskWorker, WorkflowEngine, parallel, task, workflow
from graflow.backends.redis import chores
from graflow.backends.redis.backend import RedisBackend
from graflow.backends.redis.client import RedisClient
from tests.redis.proxy import Fault, FaultProxy, message
from tests.redis.server import RedisServer

WIDTH = 20


async def test_an_outcome_that_waits_for_the_server_is_not_taken_for_a_lost_attempt(
    blockbuster: BlockBuster, caplog: pytest.LogCaptureFixture
) -> None:
    begun: list[int] = []
    running, go = asyncio.Event(), asyncio.Event()

    async def slow(number: int) -> int:
        begun.append(number)
        if len(begun) == WIDTH:
            running.set()
        await go.wait()
        return number

    tasks = [task(f"s{number}")(slow).bind(number=number) for number in range(WIDTH)]
    blockbuster.deactivate()
    with RedisServer(aof=True) as server:
        backend = RedisBackend(server.url, local_code=True, heart="loop")
        async with TaskWorker(backend), WorkflowEngine(backend) as engine:
            handle = await engine.submit(parallel(*tasks))
            await asyncio.wait_for(running.wait(), 5)
            await asyncio.to_thread(server.kill)
            go.set()
            await asyncio.wait_for(told(caplog, "broke off"), 5)  # and now the worker wants to know what it may have lost
            await asyncio.to_thread(server.start)
            result = await handle.result(timeout=20)
    assert sorted(result.results.values()) == list(range(WIDTH))
    assert sorted(begun) == list(range(WIDTH))


async def test_a_member_that_was_stopped_while_the_link_was_down_is_stopped_once_it_is_back(redis_server: RedisServer) -> None:
    """Its run goes on, and so it is not enough to look whether that is over."""
    running, cancelled, rescued, go = asyncio.Event(), asyncio.Event(), asyncio.Event(), asyncio.Event()

    @task(queue="far")
    async def long() -> None:
        running.set()
        try:
            await go.wait()
        finally:
            cancelled.set()

    @task(queue="near")
    async def brief() -> None:
        await running.wait()
        raise ValueError("the group fails by this one")

    @task(queue="near")
    async def rescue() -> str:
        rescued.set()
        await go.wait()
        return "rescued"

    with workflow("rescued") as wf:
        group = parallel(long, brief, name="both")
        wf.add(group, rescue)
        wf.add_edge(group, rescue, on="failure")
    async with FaultProxy(redis_server.port) as proxy:
        far, near = (RedisBackend(url, local_code=True, heart="loop") for url in (proxy.url, redis_server.url))
        async with TaskWorker(far, queues=["far"]), TaskWorker(near, queues=["near"]), WorkflowEngine(near) as engine:
            proxy.when(Fault.SWALLOW, reply=message, times=1000)
            handle = await engine.submit(wf)
            await asyncio.wait_for(rescued.wait(), 10)
            assert not cancelled.is_set()
            proxy.mend()
            proxy.reset()
            await asyncio.wait_for(cancelled.wait(), 10)
            go.set()
            assert (await handle.result(timeout=10)).output == "rescued"


@pytest.mark.parametrize("what", [("m", b"\xc1"), ("m", b"\x99" + b"\x01" * 9), ("t", b"by hand")])
async def test_what_cannot_be_read_keeps_nothing_else_from_being_put_back(
    redis_url: str, redis_client: RedisClient, what: tuple[str, bytes], caplog: pytest.LogCaptureFixture
) -> None:
    @task
    async def good() -> str:
        return "done"

    commands, keys = redis_client.commands, redis_client.keys
    stream = "2:coroutine:default"
    backend = RedisBackend(redis_url, local_code=True, heart="loop")
    async with WorkflowEngine(backend) as engine:
        handle = await engine.submit(good)
        field, text = what
        await commands.xadd(keys.stream(stream), {field: text})
        ((_, found),) = await commands.xreadgroup("g", "c", {keys.stream(stream): ">"})
        read = [(stream, id.decode(), *next(iter(fields.items()))) for id, fields in found]
        assert len(read) == 2
        await chores.send_back(redis_client, "c", read[::-1])
        assert await commands.zcard(f"{keys.prefix}dlq") == 1
        assert (await commands.xpending(keys.stream(stream), "g"))["pending"] == 0
        assert "cannot be read" in caplog.text
        async with TaskWorker(backend):
            assert (await handle.result(timeout=10)).output == "done"


async def told(caplog: pytest.LogCaptureFixture, text: str) -> None:
    while text not in caplog.text:  # noqa: ASYNC110 - the log has no event
        await asyncio.sleep(0.01)
