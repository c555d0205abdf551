"""A worker's lease: renewed while it lives, and the same call looks for work of those that do not."""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Final

from graflow.backends.redis.scripts.runs import BEAT, BUDGET, REAP
from graflow.errors import BackendUnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable

    from graflow.backends.redis.client import RedisClient

_log = logging.getLogger("graflow.redis")

LEASE: Final = 6.0
"""seconds after its last sign of life at which a worker is taken for dead"""
BEAT_EVERY: Final = 2.0
"""seconds between signs of life"""
MOST_LOST: Final = 3
"""workers that a task may cost before it goes to the dead letters"""
REAPED_AT_ONCE: Final = 100


class Heart(ABC):
    """Keeps a lease alive.

    Args:
        client: the server.
        lost: called, on the loop, when the lease has lapsed: what the worker does counts no more, and it must take a new name.
    """

    def __init__(self, client: RedisClient, lost: Callable[[], object]) -> None:
        self._client = client
        self._lost = lost
        self._lease = LEASE

    @abstractmethod
    async def start(self, consumer: str, info: bytes) -> None:
        """Take a lease under a name. ``info`` says what the worker can do."""

    @abstractmethod
    async def stop(self) -> None:
        """Give the lease up."""


class LoopHeart(Heart):
    """Beats on the event loop. For tests and for workers that share their loop with nothing that blocks: it stops when the loop does."""

    def __init__(self, client: RedisClient, lost: Callable[[], object]) -> None:
        super().__init__(client, lost)
        self._beating: asyncio.Task[None] | None = None
        self._consumer = ""

    async def start(self, consumer: str, info: bytes) -> None:
        """Take a lease under a name."""
        self._consumer = consumer
        await beat(self._client, consumer, info, lease=self._lease)
        self._beating = asyncio.create_task(self._beat(), name=f"graflow-heart-{consumer}")

    async def stop(self) -> None:
        """Give the lease up."""
        beating, self._beating = self._beating, None
        if beating is not None:
            beating.cancel()
            await asyncio.wait((beating,))
        await retire(self._client, self._consumer)

    async def _beat(self) -> None:
        line = self._client.line("heart")
        while True:
            await asyncio.sleep(BEAT_EVERY)
            try:
                lives, others = await self._client.call(BEAT, (self._client.shift, self._consumer, round(self._lease * 1000), b""), line=line)
                if others:
                    await reap(self._client)
            except BackendUnavailableError as error:
                _log.warning("worker %s cannot renew its lease: %s", self._consumer, error, extra={"worker_id": self._consumer})
                continue
            if not lives:
                self._beating = None
                self._lost()
                return


async def beat(client: RedisClient, consumer: str, info: bytes = b"", *, lease: float = LEASE) -> bool:
    """Renew a lease, or with ``info`` take one; False when it has lapsed."""
    lives, _ = await client.call(BEAT, (client.shift, consumer, round(lease * 1000), info))
    return bool(lives)


async def reap(client: RedisClient) -> int:
    """Put the work of dead workers back in line; how much there was."""
    total = 0
    while True:
        reaped, _ = await client.call(REAP, (client.shift, BUDGET, MOST_LOST, REAPED_AT_ONCE))
        total += reaped
        if reaped < REAPED_AT_ONCE:
            break
    if total:
        _log.warning("%d attempts of workers that are gone were put back in line", total)
    return total


async def retire(client: RedisClient, consumer: str) -> None:
    """The worker ends: its lease is not waited for. What it still held is found by whoever looks next."""
    keys = client.keys
    async with client.commands.pipeline(transaction=False) as pipe:
        pipe.zrem(keys.leases, consumer)
        pipe.hdel(keys.workers, consumer)
        await pipe.execute()
