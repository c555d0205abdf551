"""The backends that the conformance suite runs on. A further one is one more entry of ``CHANNELS``."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, NamedTuple

import pytest

from graflow.backends.memory.channel import MemoryChannel
from graflow.core.channel import Channel
from graflow.wire.codec import roundtrip

PassTime = Callable[[float], Awaitable[None]]


class ChannelUnderTest(NamedTuple):
    """A channel of a run of its own, and how ``seconds`` go by for it."""

    channel: Channel
    pass_time: PassTime


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
    yield ChannelUnderTest(channel, shift_loop_clock())
    channel.close()


def strict_memory() -> AbstractAsyncContextManager[ChannelUnderTest]:
    return memory(seal=roundtrip)


CHANNELS: dict[str, Callable[[], AbstractAsyncContextManager[ChannelUnderTest]]] = {
    "memory": memory,
    "strict-memory": strict_memory,
}


@pytest.fixture(params=list(CHANNELS))
async def channel_under_test(request: pytest.FixtureRequest) -> AsyncIterator[ChannelUnderTest]:
    async with CHANNELS[request.param]() as under_test:
        yield under_test


@pytest.fixture
def channel(channel_under_test: ChannelUnderTest) -> Channel:
    """An empty channel of each backend in turn."""
    return channel_under_test.channel


@pytest.fixture
def pass_time(channel_under_test: ChannelUnderTest) -> PassTime:
    """``await pass_time(seconds)``: so many seconds go by for the channel."""
    return channel_under_test.pass_time
