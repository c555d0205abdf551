"""Which life of the server this is. One that was emptied keeps its connections and tells nobody: whoever waits would do so for ever."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, Final, Protocol
from uuid import uuid4

import msgspec
from redis.exceptions import ResponseError

from graflow.backends.redis import faults
from graflow.backends.redis.blobs import from_text
from graflow.backends.redis.client import FAILURES
from graflow.backends.redis.faults import Remedy
from graflow.errors import BackendUnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable

    from graflow.backends.redis.client import RedisClient

_log = logging.getLogger("graflow.redis")

LIFE: Final = 7 * 86400
"""seconds that an epoch is kept after somebody has asked for it"""

_pulse: Final = msgspec.msgpack.Decoder(tuple[msgspec.Raw, msgspec.Raw, msgspec.Raw]).decode


class Hub(Protocol):
    """What is needed of :class:`graflow.backends.redis.waiting.Waiting`, whose this is."""

    async def listen(self, channel: str, callback: Callable[[bytes | None], object]) -> object:
        """Listen to a channel."""
        ...

    def look_again(self) -> None:
        """Have everybody look again."""
        ...


class Epochs:
    """The server's epoch, a key that is made where there is none. When it has changed, everybody who waits in this process looks again.

    Workers tell of it with their signs of life. Where none lives, it is asked for when the server has been silent, along with the ping that such
    silence calls for.

    Args:
        client: the server.
        waiting: the connection of all waits.
    """

    def __init__(self, client: RedisClient, waiting: Hub) -> None:
        self._client = client
        self._waiting = waiting
        self.on_pulse: list[Callable[[str, bytes], object]] = []
        """called with a worker that gives a sign of life, and what it says of itself"""
        self._key = f"{client.keys.prefix}epoch"
        self._epoch = b""
        self._subscription: object = None
        self._beginning = asyncio.Lock()
        self._looking: asyncio.Task[None] | None = None

    async def begin(self) -> None:
        """Know which epoch this is, and hear of the next, from the first time on. Before one looks at what one will wait for: the next sign of life
        may be that of a server which was emptied in between."""
        if self._subscription is not None:
            return
        async with self._beginning:
            if self._subscription is None:
                self._epoch = await self._client.insist(self._ask)
                self._subscription = await self._waiting.listen(self._client.keys.pulse, self._feel)

    async def close(self) -> None:
        """Ask no more."""
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.wait((self._looking,))

    def doubt(self) -> None:
        """Nothing was heard of the server for long: ask, if anybody wants to know."""
        if self._subscription is not None and (self._looking is None or self._looking.done()):
            self._looking = asyncio.create_task(self._look(), name="graflow-epoch")

    async def _look(self) -> None:
        try:
            self._hear(await self._ask())
        except (*FAILURES, BackendUnavailableError) as error:  # the ping will tell, too
            _log.info("whether Redis at %s was emptied could not be asked: %s", self._client.where, error)

    async def _ask(self) -> bytes:
        commands = self._client.commands
        epoch: Any = await commands.getex(self._key, ex=LIFE)
        if epoch is None:
            try:
                await commands.set(self._key, uuid4().hex, nx=True, ex=LIFE)
            except ResponseError as error:
                if faults.classify(error) is not Remedy.FULL:
                    raise
            epoch = await commands.get(self._key)
        return bytes(epoch or b"")

    def _feel(self, payload: bytes | None) -> None:
        if payload is not None:
            epoch, consumer, info = map(from_text, _pulse(payload))
            for hear in self.on_pulse:
                hear(consumer.decode(), info)
            self._hear(epoch)

    def _hear(self, epoch: bytes) -> None:
        if epoch and epoch != self._epoch:
            self._epoch = epoch
            self._waiting.look_again()
