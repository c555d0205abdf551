"""The scripts of dead letters, and how each is called. Both may be sent twice: the second time they answer as they did the first."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from uuid import uuid4

from graflow.backends.redis.scripts import Script
from graflow.backends.redis.scripts.runs import BUDGET, MACHINE

if TYPE_CHECKING:
    from graflow.backends.redis.client import RedisClient

REDRIVE: Final = Script("redrive", *MACHINE, "redrive")
PURGE: Final = Script("purge")
PURGED_AT_ONCE: Final = 500


async def redrive(client: RedisClient, letter: str) -> tuple[str, str]:
    """Put a letter back in line: ``done``, or why not (``unknown``, ``gone``, ``again``, ``over``, ``decided``), and for ``over`` how it ended."""
    reply = await client.call(REDRIVE, (client.shift, BUDGET, letter, uuid4().hex))
    return reply[0].decode(), reply[1].decode() if len(reply) > 1 else ""


async def purge(client: RedisClient, letter: str) -> int:
    """Drop one letter; how many it were."""
    return int(await client.call(PURGE, (uuid4().hex, 1, "id", letter)))


async def purge_until(client: RedisClient, time: int) -> int:
    """Drop the oldest letters that came up to a time in milliseconds, :data:`PURGED_AT_ONCE` at most; how many it were."""
    return int(await client.call(PURGE, (uuid4().hex, PURGED_AT_ONCE, "until", time)))
