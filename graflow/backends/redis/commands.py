"""Plain commands over a line, sent together."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from graflow.backends.redis.link import pack

if TYPE_CHECKING:
    from collections.abc import Sequence

    from graflow.backends.redis.client import RedisClient
    from graflow.backends.redis.link import Word


async def ask_all(client: RedisClient, commands: Sequence[tuple[Word, ...]]) -> list[Any]:
    """Commands that change nothing, sent together; sent again when a reply is lost."""

    async def ask() -> list[Any]:
        line = client.line("read")
        return await asyncio.gather(*(line.ask(pack(command)) for command in commands))

    return await client.insist(ask)
