"""The backends that the conformance suite runs on. A further one is one more entry of ``CHANNELS`` and of ``BACKENDS``."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import Any, NamedTuple, Protocol

import pytest

from graflow.backends.base import Backend
from graflow.backends.memory import MemoryBackend
from graflow.backends.memory.channel import MemoryChannel
from graflow.backends.redis.backend import RedisBackend
from graflow.backends.redis.scripts.runs import BUDGET, CLAIM
from graflow.core.channel import Channel
from graflow.testing import VirtualClock
from graflow.wire.codec import roundtrip
from tests.conformance.hands import Bench
from tests.conftest import Servers
from tests.redis.channels import open_shop
from tests.redis.server import servers

PassTime = Callable[[float], Awaitable[None]]


class ChannelUnderTest(NamedTuple):
    """A channel of a run of its own, how ``seconds`` go by for it, and how what was started comes to where it waits."""

    channel: Channel
    pass_time: PassTime
    settle: Callable[[], Awaitable[None]]


OpenChannel = Callable[[], AbstractAsyncContextManager[ChannelUnderTest]]


class Start(Protocol):
    """Starts coroutines and lets each come to where it waits."""

    async def __call__(self, *coroutines: Coroutine[Any, Any, Any]) -> list[asyncio.Task[Any]]: ...


async def some_turns() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def shift_loop_clock() -> PassTime:
    """Make the running loop's clock one that a test can put forward; what became due has happened when it returns."""
    loop = asyncio.get_running_loop()
    real_time, shift = loop.time, 0.0
    loop.time = lambda: real_time() + shift  # type: ignore[method-assign]

    async def pass_time(seconds: float) -> None:
        nonlocal shift
        shift += seconds
        for _ in range(20):
            await asyncio.sleep(0)

    return pass_time


@asynccontextmanager
async def memory(seal: Callable[[Any], Any] | None = None) -> AsyncIterator[ChannelUnderTest]:
    channel = MemoryChannel(seal=seal)
    yield ChannelUnderTest(channel, shift_loop_clock(), some_turns)
    channel.close()


@asynccontextmanager
async def on_redis(url: str) -> AsyncIterator[ChannelUnderTest]:
    async with open_shop(url) as shop:
        yield ChannelUnderTest(shop.channel, shop.pass_time, shop.settle)


def with_server(name: str, running: Servers) -> OpenChannel:
    return partial(on_redis, running.get(name).url)


CHANNELS: dict[str, Callable[[Servers], OpenChannel]] = {
    "memory": lambda _: memory,
    "strict-memory": lambda _: partial(memory, seal=roundtrip),
    **{name: partial(with_server, name) for name in servers()},
}


@pytest.fixture(params=list(CHANNELS))
def open_channel(request: pytest.FixtureRequest, running_servers: Servers) -> OpenChannel:
    """How a channel of each backend in turn is opened. Not async: starting a server blocks."""
    return CHANNELS[request.param](running_servers)


@pytest.fixture
async def channel_under_test(open_channel: OpenChannel) -> AsyncIterator[ChannelUnderTest]:
    async with open_channel() as under_test:
        yield under_test


@pytest.fixture
def channel(channel_under_test: ChannelUnderTest) -> Channel:
    """An empty channel of each backend in turn."""
    return channel_under_test.channel


@pytest.fixture
def pass_time(channel_under_test: ChannelUnderTest) -> PassTime:
    """``await pass_time(seconds)``: so many seconds go by for the channel."""
    return channel_under_test.pass_time


@pytest.fixture
def start(channel_under_test: ChannelUnderTest) -> Start:
    """``await start(*coroutines)``: tasks, each of which has come to where it waits for something."""

    async def started(*coroutines: Coroutine[Any, Any, Any]) -> list[asyncio.Task[Any]]:
        tasks = [asyncio.create_task(coroutine) for coroutine in coroutines]
        await channel_under_test.settle()
        return tasks

    return started


# ---- whole backends ------------------------------------------------------------------------------------------------


class BackendUnderTest(NamedTuple):
    """An open backend with nothing in it, and how ``seconds`` go by for it."""

    backend: Backend
    pass_time: PassTime


class OpenBackend(Protocol):
    """Opens a backend whose queue takes at most so many attempts."""

    def __call__(self, *, queue_limit: int | None = None) -> AbstractAsyncContextManager[BackendUnderTest]: ...


def memory_backend(strict: bool) -> OpenBackend:
    @asynccontextmanager
    async def opened(*, queue_limit: int | None = None) -> AsyncIterator[BackendUnderTest]:
        with VirtualClock() as clock:
            backend = MemoryBackend(strict=strict, clock=clock, queue_limit=queue_limit)
            await backend.open()
            yield BackendUnderTest(backend, asyncio.sleep)  # which takes virtual time
            await backend.close()

    return opened


def redis_backend(name: str, running: Servers) -> OpenBackend:
    url = running.get(name).url

    @asynccontextmanager
    async def opened(*, queue_limit: int | None = None) -> AsyncIterator[BackendUnderTest]:
        backend = RedisBackend(url, queue_limit=queue_limit, local_code=True, heart="loop")
        await backend.open()
        yield BackendUnderTest(backend, partial(put_forward, backend))
        await backend.close()

    return opened


async def put_forward(backend: RedisBackend, seconds: float) -> None:
    """Time goes by for the scripts; what became due has happened when it returns, and workers have lived all the while."""
    client = backend.client
    for consumer in await client.commands.zrange(client.keys.leases, 0, -1):
        await client.commands.zincrby(client.keys.leases, seconds * 1000, consumer)
    client.shift += round(seconds * 1000)
    await client.call(CLAIM, (client.shift, BUDGET, b"\x90", "nobody", b"", b"0"))
    await client.commands.xadd(client.keys.tick, {"m": ""})  # who waits for the next due time looks again
    heard = asyncio.Event()
    async with await backend.waiting.listen("heard", lambda _: heard.set()):
        await client.commands.publish("heard", "")  # what was published before it has been heard by then
        await heard.wait()


BACKENDS: dict[str, Callable[[Servers], OpenBackend]] = {
    "memory": lambda _: memory_backend(strict=False),
    "strict-memory": lambda _: memory_backend(strict=True),
    **{name: partial(redis_backend, name) for name in servers()},
}


@pytest.fixture(params=list(BACKENDS))
def open_backend(request: pytest.FixtureRequest, running_servers: Servers) -> OpenBackend:
    """How each backend in turn is opened."""
    return BACKENDS[request.param](running_servers)


@pytest.fixture
async def under_test(open_backend: OpenBackend) -> AsyncIterator[BackendUnderTest]:
    async with open_backend() as opened:
        yield opened


@pytest.fixture
def backend(under_test: BackendUnderTest) -> Backend:
    """Each backend in turn, empty."""
    return under_test.backend


@pytest.fixture
def wait(under_test: BackendUnderTest) -> PassTime:
    """``await wait(seconds)``: so many seconds go by for the backend."""
    return under_test.pass_time


@pytest.fixture
def bench(backend: Backend) -> Bench:
    """The same, in a worker's hands."""
    return Bench(backend)
