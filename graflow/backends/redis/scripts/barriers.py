"""The scripts of barriers, and how each is called.

Each has the partition's prefix as ``KEYS[1]`` and as ``ARGV`` the run, ``""`` for none, the group, and what its function here takes besides.
Those that take an operation may be sent twice: the second time they answer as they did the first. A barrier of a run goes with it, any other
by itself 24 h after it was touched last.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from graflow.backends.redis.scripts import Script

if TYPE_CHECKING:
    from graflow.backends.redis.client import RedisClient

_COMMON: Final = "barrier_common"

CREATE: Final = Script("barrier_create", _COMMON, "barrier_create")
SIGNAL: Final = Script("barrier_signal", _COMMON, "barrier_signal")
LOOK: Final = Script("barrier_look", _COMMON, "barrier_look")
REMOVE: Final = Script("barrier_remove", _COMMON, "barrier_remove")


class Place(msgspec.Struct, frozen=True):
    """Where a barrier is: its group, and the run that it belongs to, None for one that belongs to none."""

    group: str
    run: str | None = None

    @property
    def words(self) -> tuple[str, str]:
        """How the scripts are told."""
        return self.run or "", self.group


class NotRunning(msgspec.Struct, frozen=True):
    """Nothing was done: there is no such run, or it is over."""

    known: bool


async def create(client: RedisClient, place: Place, operation: str, parties: int) -> int | NotRunning:
    """Make the barrier if there is none of that name; how many parties it has."""
    reply = await client.call(CREATE, (*place.words, operation, parties))
    return _not_running(reply) or int(reply)


async def signal(client: RedisClient, place: Place, operation: str, party: str) -> bool | NotRunning | None:
    """The party is there; whether it opens the barrier, None if there is none."""
    reply = await client.call(SIGNAL, (*place.words, operation, party))
    return _not_running(reply) or (None if reply == b"" else reply == b"1")


async def look(client: RedisClient, place: Place) -> tuple[bytes, bool] | NotRunning | None:
    """What tells the barrier from others of its name, and whether it is open; None if there is none."""
    reply = await client.call(LOOK, place.words)
    return None if reply == b"" else _not_running(reply) or (reply[0], reply[1] == 1)


async def remove(client: RedisClient, place: Place, operation: str) -> None:
    """Forget the barrier, and tell those who wait."""
    await client.call(REMOVE, (*place.words, operation))


def _not_running(reply: Any) -> NotRunning | None:
    match reply:
        case [state]:
            return NotRunning(known=state is not None)
        case _:
            return None
