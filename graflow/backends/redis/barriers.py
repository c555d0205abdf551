"""Barriers between processes: n parties, and a door that opens once. Whoever waits is told by pub/sub and sends nothing in the meantime."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, TypeVar

from graflow.backends.barriers import check_name, check_parties, check_place, check_timeout, other_parties, run_is_over, unknown_barrier
from graflow.backends.redis.asking import operation
from graflow.backends.redis.looking import Look
from graflow.backends.redis.scripts import barriers
from graflow.backends.redis.scripts.barriers import NotRunning, Place
from graflow.backends.redis.watch import unknown

if TYPE_CHECKING:
    from graflow.backends.redis.client import RedisClient
    from graflow.backends.redis.waiting import Waiting

T = TypeVar("T")

TOUCH: Final = 12 * 3600.0
"""Seconds after which whoever still waits looks, which keeps the barrier from being forgotten."""


class RedisBarriers:
    """The barrier primitive of the coordinator protocol. A barrier of a run goes with the run, any other 24 h after it was last touched."""

    def __init__(self, client: RedisClient, waiting: Waiting) -> None:
        self._client = client
        self._waiting = waiting

    async def create_barrier(self, group_id: str, parties: int, *, run_id: str | None = None) -> None:
        """A barrier that opens once, when so many parties have arrived; creating it again with as many changes nothing.

        Raises:
            ConfigurationError: it exists with other parties, or ``parties`` is no number of them.
            UnknownRunError: no such run, or it is over.
        """
        place = _place(group_id, run_id)
        check_parties(group_id, parties)
        known = _running(place, await barriers.create(self._client, place, operation(), parties))
        if known != parties:
            raise other_parties(group_id, parties, known, run_id)

    async def signal_barrier(self, group_id: str, party: str, *, run_id: str | None = None) -> bool:
        """A party arrives; True for the one that opens the barrier. A party that signals twice counts once."""
        place = _place(group_id, run_id)
        check_name(party, "party")
        opened = _running(place, await barriers.signal(self._client, place, operation(), party))
        if opened is None:
            raise unknown_barrier(group_id, run_id)
        return opened

    async def wait_barrier(self, group_id: str, timeout: float | None = None, *, run_id: str | None = None) -> bool:
        """Until the barrier is open; False when ``timeout`` seconds pass first, it is removed, or its run ends.

        Raises:
            BackendUnavailableError: the backend was closed, or is away for too long. The barrier may still open.
        """
        place = _place(group_id, run_id)
        check_timeout(timeout)
        waits = timeout is None or timeout > 0
        try:
            async with asyncio.timeout(timeout if waits else None):  # with no time to wait there is still time to look
                found = _running(place, await barriers.look(self._client, place))
                if found is None:
                    raise unknown_barrier(group_id, run_id)
                birth, is_open = found
                return is_open or (waits and await self._until_open(place, birth))
        except TimeoutError:
            return False

    async def _until_open(self, place: Place, birth: bytes) -> bool:
        async with _DoorLook(self._client, self._waiting, place, birth) as look:
            while look.opened is None:
                found = await barriers.look(self._client, place)
                if found is None or isinstance(found, NotRunning) or found[0] != birth:
                    return False  # it was there before: so it has been removed, with its run or without, and this is another
                if found[1]:
                    return True
                await look.sleep()
            return look.opened

    async def cleanup_barrier(self, group_id: str, *, run_id: str | None = None) -> None:
        """Forget a barrier. Whoever still waits for it is told that it did not open."""
        await barriers.remove(self._client, _place(group_id, run_id), operation())


class _DoorLook(Look):
    """Waits for a barrier. The message itself says what has become of it, so that nothing needs to be asked."""

    __slots__ = ("_closed", "_open", "_timer", "opened")

    def __init__(self, client: RedisClient, waiting: Waiting, place: Place, birth: bytes) -> None:
        super().__init__(client, waiting, client.keys.door(place.group) if place.run is None else client.keys.changed(place.run))
        self.opened: bool | None = None
        self._open = b"\x011" + birth
        self._closed = b"\x010" + birth
        self._timer: asyncio.TimerHandle | None = None

    def told(self, message: bytes) -> bool:
        if self.opened is None and message in (self._open, self._closed):
            self.opened = message == self._open
        return self.opened is not None or not message  # nothing: the run has ended

    async def sleep(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(TOUCH, self.wake)
        try:
            await super().sleep()
        finally:
            self._timer.cancel()


def _place(group_id: str, run_id: str | None) -> Place:
    check_place(group_id, run_id)
    return Place(group_id, run_id)


def _running(place: Place, reply: T | NotRunning) -> T:
    if isinstance(reply, NotRunning):
        run_id = place.run or ""
        raise run_is_over(run_id) if reply.known else unknown(run_id)
    return reply
