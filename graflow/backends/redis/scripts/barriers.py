"""The scripts of barriers, and how each is called.

Each has the partition's prefix as ``KEYS[1]`` and as ``ARGV`` what its function here takes. Those that take an operation may be sent twice: the
second time they answer as they did the first. A barrier goes by itself 24 h after it was touched last.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from graflow.backends.redis.scripts import Script

if TYPE_CHECKING:
    from graflow.backends.redis.client import RedisClient

CREATE: Final = Script("barrier_create")
SIGNAL: Final = Script("barrier_signal")
LOOK: Final = Script("barrier_look")
REMOVE: Final = Script("barrier_remove")


async def create(client: RedisClient, operation: str, group: str, parties: int) -> None:
    """Make the barrier if there is none of that name."""
    await client.call(CREATE, (operation, group, parties))


async def signal(client: RedisClient, operation: str, group: str, party: str) -> bool | None:
    """The party is there; whether it opens the barrier, None if there is none."""
    reply = await client.call(SIGNAL, (operation, group, party))
    return None if reply is None else reply == b"1"


async def look(client: RedisClient, group: str) -> tuple[bytes, bool] | None:
    """What tells the barrier from others of its name, and whether it is open; None if there is none."""
    reply = await client.call(LOOK, (group,))
    return None if reply is None else (reply[0], reply[1] == 1)


async def remove(client: RedisClient, operation: str, group: str) -> None:
    """Forget the barrier, and tell those who wait."""
    await client.call(REMOVE, (operation, group))
