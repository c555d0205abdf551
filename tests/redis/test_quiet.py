"""Whoever waits is quiet: nothing polls. For 20 seconds of real time, in which all that is told here waits at once."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager

import pytest

from graflow import TaskWorker, WorkflowEngine, task
from graflow.backends.redis.backend import RedisBackend
from graflow.backends.redis.presence import PATIENCE
from tests.redis.proxy import Command, FaultProxy
from tests.redis.server import RedisServer, servers

WINDOW = 20
RUNS = 1000
PINGS = 2
"""of the one connection that everything waits on, which is asked after 15 seconds of silence whether it still lives; over another, which can be
asked for such a thing, goes the question whether the server still has what it had"""


@task(queue="nobody-serves-it")
async def patient() -> None: ...


@pytest.fixture
def pair() -> Iterator[tuple[RedisServer, RedisServer]]:
    """Two servers of the newest version that there is."""
    if not servers():
        pytest.skip("no redis-server on this machine")
    program = servers()[max(servers())]
    with ExitStack() as stack:
        yield stack.enter_context(RedisServer(program)), stack.enter_context(RedisServer(program))


class Waiting:
    """Something of everything that can be waited for, on a server without workers."""

    def __init__(self, backend: RedisBackend, engine: WorkflowEngine) -> None:
        self.backend, self.engine = backend, engine
        self.tasks: list[asyncio.Task[object]] = []

    async def begin(self) -> None:
        """Await 1000 runs, a barrier, a value in a channel and the events of a run, and let everything come to rest."""
        handles = [await self.engine.submit(patient, run_id=f"run{number}") for number in range(RUNS)]
        await asyncio.sleep(PATIENCE + 2)  # that no worker is there is told, once for each run
        coordinator = self.backend.coordinator
        await coordinator.create_barrier("barrier", 2)
        await coordinator.signal_barrier("barrier", "one of two")
        waits = [
            *(handle.result() for handle in handles),
            coordinator.wait_barrier("barrier"),
            coordinator.channel("run0").wait("some key"),
            anext(aiter(handles[0].events(after=await self.last_event("run0")))),
        ]
        self.tasks = [asyncio.ensure_future(wait) for wait in waits]
        await asyncio.sleep(1)  # the first look of each

    async def last_event(self, run_id: str) -> str:
        """The id of the newest event there is."""
        async for event in (await self.engine.attach(run_id)).events():
            if event.type == "no_worker":
                return event.id
        raise AssertionError

    async def end(self) -> None:
        """Nobody waits any more."""
        for each in self.tasks:
            each.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)


@asynccontextmanager
async def waiting_on(url: str) -> AsyncIterator[Waiting]:
    """All that waits, at rest."""
    backend = RedisBackend(url)
    async with WorkflowEngine(backend) as engine:
        waiting = Waiting(backend, engine)
        try:
            await waiting.begin()
            yield waiting
        finally:
            await waiting.end()


async def stats(url: str) -> Counter[str]:
    """How often the server has carried out which command."""
    backend = RedisBackend(url)
    async with AsyncExitStack() as stack:
        await backend.open()
        stack.push_async_callback(backend.close)
        info = await backend.client.commands.info("commandstats")
    return Counter({name.removeprefix("cmdstat_"): each["calls"] for name, each in info.items()})


def names(commands: list[Command]) -> Counter[str]:
    """How often which command was sent."""
    return Counter(command[0].decode().upper() for command in commands)


@pytest.mark.timeout(90)
async def test_whoever_waits_sends_nothing_and_an_idle_worker_a_command_a_second(pair: tuple[RedisServer, RedisServer]) -> None:
    without, served = pair
    async with AsyncExitStack() as stack:
        engines, workers = [await stack.enter_async_context(FaultProxy(server.port)) for server in pair]
        waiting = await stack.enter_async_context(waiting_on(engines.url))
        await stack.enter_async_context(TaskWorker(RedisBackend(workers.url), queues=["default", "other"]))
        await asyncio.sleep(1)
        before = await stats(without.url)
        counted = await stats(without.url) - before  # what it costs to count
        before, idle_before = await stats(without.url), await stats(served.url)
        engines.seen.clear()
        workers.seen.clear()
        await asyncio.sleep(WINDOW)
        sent, idle = names(engines.seen), names(workers.seen)
        carried_out = await stats(without.url) - before - counted
        idle_carried_out = await stats(served.url) - idle_before - counted
        assert not any(each.done() for each in waiting.tasks)
        assert sent.keys() <= {"PING", "GETEX"}, f"with 1000 runs, a barrier, a channel and events awaited: {sent}"
        assert max(sent.values(), default=0) <= PINGS
        assert carried_out.total() <= 2 * PINGS, carried_out
        assert 0 < idle.total() <= WINDOW, f"an idle worker: {idle}"
        assert 0 < idle_carried_out.total() <= WINDOW, f"an idle worker, with what its scripts call: {idle_carried_out}"
