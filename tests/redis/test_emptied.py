"""A server that is emptied keeps its connections and says nothing: whoever waits there for something learns that it will not come."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import AsyncExitStack
from typing import Any

import pytest

from graflow import TaskWorker, WorkflowEngine, task
from graflow.backends.redis.backend import RedisBackend
from graflow.backends.redis.client import RedisClient
from graflow.engine.handle import RunHandle
from graflow.errors import RunLostError, UnknownRunError

SOON = 10.0


@task(queue="nobody-serves-it")
async def patient() -> None: ...


class Waits:
    """Something of everything that can be waited for in a run."""

    def __init__(self, backend: RedisBackend, engine: WorkflowEngine) -> None:
        self.backend, self.engine = backend, engine
        self.waits: dict[str, asyncio.Task[Any]] = {}

    async def begin(self) -> RunHandle[None]:
        """Have them wait."""
        handle = await self.engine.submit(patient, run_id="r")
        coordinator, channel = self.backend.coordinator, self.backend.coordinator.channel("r")
        await coordinator.create_barrier("barrier", 2)
        waits: dict[str, Awaitable[Any]] = {
            "result": handle.result(),
            "attached": (await self.engine.attach("r")).result(),
            "events": self.last_event(handle),
            "channel": channel.wait("key"),
            "barrier": coordinator.wait_barrier("barrier"),
        }
        self.waits = {name: asyncio.ensure_future(wait) for name, wait in waits.items()}
        async with channel.lock("lock"):
            self.waits["lock"] = asyncio.ensure_future(self.hold("lock"))
            await asyncio.sleep(1)  # until all of them sleep: nothing tells
            assert not any(wait.done() for wait in self.waits.values())
            await self.backend.client.commands.flushall()
            async with asyncio.timeout(SOON):
                await asyncio.wait(self.waits.values())
        return handle

    async def last_event(self, handle: RunHandle[None]) -> None:
        async for _ in handle.events():
            pass

    async def hold(self, key: str) -> None:
        async with self.backend.coordinator.channel("r").lock(key):
            pass

    def check(self) -> None:
        """Each of them says that the run is lost; the barrier belongs to none."""
        assert self.waits.pop("barrier").result() is False
        for name, wait in self.waits.items():
            error = wait.exception()
            assert isinstance(error, RunLostError), f"{name}: {error!r}"
            assert error.run_id == "r"


@pytest.fixture
async def backend(redis_url: str) -> AsyncIterator[RedisBackend]:
    made = RedisBackend(redis_url, local_code=True, heart="loop")
    await made.open()
    yield made
    await made.close()


@pytest.mark.parametrize("workers", [0, 1])
async def test_all_that_waits_on_a_server_that_is_emptied_is_told(backend: RedisBackend, redis_url: str, workers: int) -> None:
    if not workers:
        backend.waiting._ping_every = 0.2  # of silence; there is none where a worker is heard
    async with AsyncExitStack() as stack:
        engine = await stack.enter_async_context(WorkflowEngine(backend))
        if workers:
            await stack.enter_async_context(TaskWorker(RedisBackend(redis_url, local_code=True, heart="loop")))
        waits = Waits(backend, engine)
        await waits.begin()
        waits.check()


async def test_a_handle_says_that_its_run_is_lost_and_not_that_there_was_none(backend: RedisBackend, redis_client: RedisClient) -> None:
    backend.waiting._ping_every = 0.2
    async with WorkflowEngine(backend) as engine:
        handles = [await engine.submit(patient, run_id="r"), await engine.attach("r")]
        await redis_client.commands.flushall()
        for handle in handles:
            for asking in (handle.status, handle.peek, handle.cancel, handle.result):
                with pytest.raises(RunLostError, match="emptied"):
                    await asking()
            with pytest.raises(RunLostError, match="emptied"):
                await anext(aiter(handle.events()))
            with pytest.raises(RunLostError, match="emptied"):
                await handle.resume("patient")
        with pytest.raises(UnknownRunError):
            await engine.attach("never-submitted")


async def test_a_run_that_was_over_is_forgotten_and_not_lost(backend: RedisBackend, redis_client: RedisClient) -> None:
    async with WorkflowEngine(backend) as engine:
        handle = await engine.submit(patient)
        await handle.cancel()
        await redis_client.commands.flushall()
        with pytest.raises(UnknownRunError, match="no longer remembered"):
            await handle.resume("patient")


async def test_a_server_that_still_has_what_it_had_is_left_alone(backend: RedisBackend, redis_client: RedisClient) -> None:
    """A ping after a moment of silence finds the same epoch, and wakes nobody."""
    backend.waiting._ping_every = 0.05
    async with WorkflowEngine(backend) as engine:
        handle = await engine.submit(patient)
        waiting = asyncio.ensure_future(handle.result())
        await asyncio.sleep(0.1)
        stats = await redis_client.commands.info("commandstats")
        await asyncio.sleep(0.5)
        later = await redis_client.commands.info("commandstats")
        assert later["cmdstat_getex"]["calls"] > stats["cmdstat_getex"]["calls"]
        assert later["cmdstat_evalsha"] == stats["cmdstat_evalsha"]
        waiting.cancel()
        await asyncio.wait((waiting,))
