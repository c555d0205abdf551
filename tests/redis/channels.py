"""A channel on a server, and time that goes by for both."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

from graflow.backends.redis.channel import RedisChannel
from graflow.backends.redis.client import RedisClient
from graflow.backends.redis.looking import end_looks
from graflow.backends.redis.waiting import Waiting

ROUNDS = 6
"""Questions and answers that come after one another until a wait is asleep, and some to spare."""


class Shop:
    """A client, its waits, and one run that is under way, ``run``."""

    def __init__(self, client: RedisClient, waiting: Waiting, put_forward: Callable[[float], None]) -> None:
        self.client = client
        self.waiting = waiting
        self.run = "r"
        self.put_forward = put_forward
        """puts this loop's clock forward"""

    @property
    def channel(self) -> RedisChannel:
        return RedisChannel(self.client, self.waiting, self.run)

    async def begin(self, run: str | None = None, state: str = "r") -> None:
        """As if a run had been submitted."""
        await self.client.commands.hset(self.client.keys.run(run or self.run), "st", state)

    async def end(self, kept: int = 60) -> None:
        """As the script does that ends a run."""
        keys, commands = self.client.keys, self.client.commands
        extra = f"{keys.prefix}chx:{self.run}"
        await commands.hset(keys.run(self.run), "st", "succeeded")
        for key in (keys.run(self.run), keys.channel(self.run), extra, *await commands.smembers(extra)):
            await commands.expire(key, kept)
        await commands.publish(keys.changed(self.run), "")

    async def settle(self) -> None:
        """Until whatever has been started has come to where it waits: the server answers in order, scripts and subscriptions alike.

        What the first wait of a process asks of the server besides goes over another connection, and is over before.
        """
        await self.waiting.epochs.begin()
        for _ in range(ROUNDS):
            assert await self.client.ping()
            async with await self.waiting.listen(self.client.keys.changed("nobody's"), lambda _: None):
                for _ in range(5):
                    await asyncio.sleep(0)

    async def pass_time(self, seconds: float) -> None:
        """So much time goes by, here and on the server; what became due has happened when this returns."""
        await self.settle()
        self.client.shift += round(seconds * 1000)
        self.put_forward(seconds)
        await self.settle()

    async def start(self, *coroutines: Coroutine[Any, Any, Any]) -> list[asyncio.Task[Any]]:
        """Start coroutines and let each come to where it waits."""
        tasks = [asyncio.create_task(coroutine) for coroutine in coroutines]
        await self.settle()
        return tasks

    async def keys(self) -> set[str]:
        """What is on the server, but for the run itself and the server's epoch, without the prefix; remembered answers are not counted."""
        names = [key.decode().removeprefix(self.client.keys.prefix) for key in await self.client.commands.keys("*")]
        return {name for name in names if not name.startswith(("run:", "once:", "epoch"))}


@asynccontextmanager
async def open_shop(url: str, *, namespace: str = "graflow") -> AsyncIterator[Shop]:
    """Connect to a server that is empty, and begin a run."""
    client = RedisClient(url, namespace=namespace)
    await client.open()
    waiting = Waiting(client)
    shop = Shop(client, waiting, clock_of_loop())
    try:
        await shop.begin()
        yield shop
    finally:
        end_looks(waiting)
        await asyncio.sleep(0)
        await waiting.close()
        await client.close()


def clock_of_loop() -> Callable[[float], None]:
    """Make the running loop's clock one that can be put forward."""
    loop = asyncio.get_running_loop()
    real_time, shift = loop.time, 0.0
    loop.time = lambda: real_time() + shift  # type: ignore[method-assign]

    def put_forward(seconds: float) -> None:
        nonlocal shift
        shift += seconds

    return put_forward
