"""The blocking read of a worker ends when it is told to, at whatever moment that comes: while it is prepared, on its way, or waiting."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from graflow.backends.redis.client import BLOCK, RedisClient
from graflow.backends.redis.desk import Desk

AT_ONCE = BLOCK / 5
MOMENTS = range(60)
"""Turns of the loop. A read has a connection to make, groups and itself to ask for: each takes a few, and each of them is a moment."""


class OneSlot:
    """Room for one coroutine."""

    handlers: Sequence[str] = ("coroutine",)
    queues: Sequence[str] | None = ("default",)

    def free(self, handler: str) -> int:
        return 1

    def take(self, handler: str) -> None: ...


async def some_turns(number: int) -> None:
    for _ in range(number):
        await asyncio.sleep(0)


async def test_a_read_ends_at_once_at_whatever_moment_it_is_told_to(redis_client: RedisClient) -> None:
    for turns in MOMENTS:
        desk = Desk(redis_client, OneSlot(), list)
        reading = desk.begin_reading("worker", BLOCK)
        await some_turns(turns)
        async with asyncio.timeout(AT_ONCE):
            await desk.unblock()
            assert await reading == []
        await desk.close()


async def test_a_desk_is_closed_at_once_at_whatever_moment(redis_client: RedisClient, caplog: pytest.LogCaptureFixture) -> None:
    for turns in MOMENTS:
        desk = Desk(redis_client, OneSlot(), list)
        reading = desk.begin_reading("worker", BLOCK)
        await some_turns(turns)
        async with asyncio.timeout(AT_ONCE):
            await desk.close()
        assert reading.done()


async def test_a_read_that_was_ended_keeps_the_next_from_nothing(redis_client: RedisClient) -> None:
    desk = Desk(redis_client, OneSlot(), list)
    await desk.unblock()  # nothing waits
    assert await desk.begin_reading("worker", 0.01) == []
    await redis_client.commands.xadd(redis_client.keys.stream("2:coroutine:default"), {"m": b"text"})
    ((stream, _, field, text),) = await desk.begin_reading("worker", BLOCK)
    assert (stream, field, text) == ("2:coroutine:default", b"m", b"text")
    await desk.close()
