"""Barriers between processes: n parties, and a door that opens once. Whoever waits is told by pub/sub and sends nothing in the meantime."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from graflow.backends.redis.asking import operation
from graflow.backends.redis.looking import Look
from graflow.backends.redis.scripts import barriers
from graflow.errors import ConfigurationError

if TYPE_CHECKING:
    from graflow.backends.redis.client import RedisClient
    from graflow.backends.redis.waiting import Waiting

TOUCH: Final = 12 * 3600.0
"""Seconds after which whoever still waits looks, which keeps the barrier from being forgotten."""


class RedisBarriers:
    """The barrier primitive of the coordinator protocol, by group id. What is not touched for 24 h is forgotten."""

    def __init__(self, client: RedisClient, waiting: Waiting) -> None:
        self._client = client
        self._waiting = waiting

    async def create_barrier(self, group_id: str, parties: int) -> None:
        """A barrier that opens once, when so many parties have arrived; creating it again changes nothing."""
        if parties < 1:
            raise ConfigurationError(f"barrier {group_id!r} wants at least one party, not {parties}", setting="parties")
        await barriers.create(self._client, operation(), group_id, parties)

    async def signal_barrier(self, group_id: str, party: str) -> bool:
        """A party arrives; True for the one that opens the barrier. A party that signals twice counts once."""
        opened = await barriers.signal(self._client, operation(), group_id, party)
        if opened is None:
            raise _unknown(group_id)
        return opened

    async def wait_barrier(self, group_id: str, timeout: float | None = None) -> bool:
        """Until the barrier is open; False when ``timeout`` seconds pass first, or it is removed.

        Raises:
            BackendUnavailableError: the backend was closed, or is away for too long. The barrier may still open.
        """
        waits = timeout is None or timeout > 0
        try:
            async with asyncio.timeout(timeout if waits else None):  # with no time to wait there is still time to look
                found = await barriers.look(self._client, group_id)
                if found is None:
                    raise _unknown(group_id)
                birth, is_open = found
                return is_open or (waits and await self._until_open(group_id, birth))
        except TimeoutError:
            return False

    async def _until_open(self, group_id: str, birth: bytes) -> bool:
        async with _DoorLook(self._client, self._waiting, group_id, birth) as look:
            while look.opened is None:
                found = await barriers.look(self._client, group_id)
                if found is None or found[0] != birth:
                    return False  # it was there before: so it has been removed, and this is another
                if found[1]:
                    return True
                await look.sleep()
            return look.opened

    async def cleanup_barrier(self, group_id: str) -> None:
        """Forget a barrier. Whoever still waits for it is told that it did not open."""
        await barriers.remove(self._client, operation(), group_id)


class _DoorLook(Look):
    """Waits for a barrier. The message itself says what has become of it, so that nothing needs to be asked."""

    __slots__ = ("_closed", "_open", "_timer", "opened")

    def __init__(self, client: RedisClient, waiting: Waiting, group: str, birth: bytes) -> None:
        super().__init__(client, waiting, client.keys.door(group))
        self.opened: bool | None = None
        self._open = b"1" + birth
        self._closed = b"0" + birth
        self._timer: asyncio.TimerHandle | None = None

    def told(self, message: bytes) -> bool:
        if self.opened is None and message in (self._open, self._closed):
            self.opened = message == self._open
        return self.opened is not None

    async def sleep(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(TOUCH, self.wake)
        try:
            await super().sleep()
        finally:
            self._timer.cancel()


def _unknown(group_id: str) -> ConfigurationError:
    return ConfigurationError(f"no barrier {group_id!r}: create_barrier({group_id!r}, parties) comes first", setting="group_id")
