"""Sleeping until there is a reason to look again: what the waits of channels, locks and barriers have in common."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final
from weakref import WeakKeyDictionary

from graflow.errors import BackendUnavailableError

if TYPE_CHECKING:
    from typing import Self

    from graflow.backends.redis.client import RedisClient
    from graflow.backends.redis.waiting import Subscription, Waiting


class Look:
    """One wait, as an ``async with``. Once it is entered nothing that is published goes unheard: so one looks, and sleeps until the next look.

    ``told`` says whether a message is a reason to look. A connection that was made anew always is, and a server that was emptied.
    """

    __slots__ = ("_channel", "_client", "_news", "_over", "_subscription", "_waiting")

    def __init__(self, client: RedisClient, waiting: Waiting, channel: str) -> None:
        self._client = client
        self._waiting = waiting
        self._channel = channel
        self._news = asyncio.Event()
        self._subscription: Subscription | None = None
        self._over = False

    def told(self, message: bytes) -> bool:
        """Whether to look because of this message."""
        raise NotImplementedError

    def wake(self) -> None:
        """There is a reason to look."""
        self._news.set()

    def end(self) -> None:
        """There will be no more messages, and nothing to look at."""
        self._over = True
        self._news.set()

    async def sleep(self) -> None:
        """Until there is a reason to look; at once if there has been one since the last time.

        Raises:
            BackendUnavailableError: the backend was closed.
        """
        await self._news.wait()
        self._news.clear()
        if self._over:
            raise BackendUnavailableError(f"the connection to Redis at {self._client.where} is closed")

    def _hear(self, message: bytes | None) -> None:
        if message is None or self.told(message):
            self.wake()

    async def __aenter__(self) -> Self:
        await self._waiting.epochs.begin()
        self._subscription = await self._waiting.listen(self._channel, self._hear)
        _asleep.setdefault(self._waiting, set()).add(self)
        return self

    async def __aexit__(self, *_: object) -> None:
        _asleep.get(self._waiting, set[Look]()).discard(self)
        if self._subscription is not None:
            self._subscription.cancel()


_asleep: Final[WeakKeyDictionary[Waiting, set[Look]]] = WeakKeyDictionary()


def end_looks(waiting: Waiting) -> None:
    """Wake everyone who waits on this hub for a key, a lock or a barrier, because it is about to be closed: each ends with an error."""
    for look in tuple(_asleep.get(waiting, ())):
        look.end()
