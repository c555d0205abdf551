"""What tasks tell while they run: collected, and sent with the next outcome or in a moment."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from graflow.backends.redis.blobs import as_text, encode
from graflow.backends.redis.events import NUMBERS
from graflow.backends.redis.scripts.runs import BUDGET, TELL
from graflow.wire import codec

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping

    from graflow.backends.redis.client import RedisClient
    from graflow.backends.redis.entries import Entry


def told_once(told: list[tuple[Any, ...]]) -> bytes:
    """Events for the scripts, under an id by which they know them again when they are sent twice."""
    return encode([uuid4().hex, *told])


class Teller:
    """Events that wait to be sent.

    Args:
        client: the server.
        spawn: runs something in the background.
    """

    def __init__(self, client: RedisClient, spawn: Callable[[Coroutine[Any, Any, None]], None]) -> None:
        self._client = client
        self._spawn = spawn
        self._told: list[tuple[Any, ...]] = []
        self._under_way = 0
        self._arrived = asyncio.Event()

    def tell(self, entry: Entry, type: str, data: Mapping[str, Any]) -> None:
        """Add an event of an attempt; it is sent after this turn of the loop, unless an outcome takes it along before."""
        blob = as_text(codec.encode(dict(data), name="data"))
        if not self._told:
            asyncio.get_running_loop().call_soon(self._send_soon)
        self._told.append((entry.run_id, entry.generation, entry.node, entry.cycle, entry.attempt, NUMBERS[type], blob))

    async def sent(self) -> None:
        """Until what is on its way has arrived: an outcome that came before it would make it void."""
        while self._under_way:
            await self._arrived.wait()

    def take(self) -> bytes:
        """What is to be sent, for somebody who sends something anyhow; empty when there is nothing."""
        told, self._told = self._told, []
        return told_once(told) if told else b""

    def _send_soon(self) -> None:
        told = self.take()
        if told:
            self._under_way += 1
            self._arrived.clear()
            self._spawn(self._send(told))

    async def _send(self, told: bytes) -> None:
        try:
            await self._client.call(TELL, (self._client.shift, BUDGET, told))
        finally:
            self._under_way -= 1
            if not self._under_way:
                self._arrived.set()
