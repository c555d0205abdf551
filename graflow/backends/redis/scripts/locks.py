"""The scripts of a run's locks, and how each is called.

Each has the partition's prefix as ``KEYS[1]``, and as ``ARGV`` the client's shift, the run, the lock's name, the token of whoever asks, and what its
function here takes besides. A token is ``<process>/<anything>`` and is used for one holding only. Any of them may be sent twice.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from graflow.backends.redis.scripts import Script

if TYPE_CHECKING:
    from graflow.backends.redis.client import RedisClient

TAKE: Final = Script("lock_take", "lock_common", "lock_take")
LEAVE: Final = Script("lock_leave", "lock_common", "lock_leave")

ONLY_NOW: Final = b"-"
"""in place of a ticket: the token will not be used again"""


class Answer(msgspec.Struct, frozen=True):
    """What came of an attempt to take a lock.

    Attributes:
        held: the token has it.
        over: the run has ended, and nobody waits any more.
        ticket: what to wait with.
        wait: milliseconds after which the one who has it loses it.
        place: how many wait that were there before.
    """

    held: bool = False
    over: bool = False
    ticket: bytes = b""
    wait: int = 0
    place: int = 0


async def take(client: RedisClient, run: str, name: bytes, token: str, ttl: int, ticket: bytes = b"") -> Answer | None:
    """Take the lock for ``ttl`` milliseconds, or a place in the line: without a ticket, or with ``ONLY_NOW``, only if nobody has it or waits for
    it. None if there is no such run."""
    reply = await client.call(TAKE, (client.shift, run, name, token, ttl, ticket))
    if reply is None:
        return None
    match reply[0]:
        case b"held":
            return Answer(held=True)
        case b"over":
            return Answer(over=True)
        case b"busy":
            return Answer(ticket=reply[1])
        case _:
            return Answer(wait=reply[1], place=reply[2])


async def leave(client: RedisClient, run: str, name: bytes, token: str) -> bool:
    """Give up the lock, or the place in the line; whether the token held it up to now."""
    reply = await client.call(LEAVE, (client.shift, run, name, token))
    return bool(reply == b"1")
