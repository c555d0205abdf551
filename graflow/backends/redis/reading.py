"""A run's hashes, read in one step."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from graflow.backends.redis.image import RunImage
from graflow.backends.redis.link import pack
from graflow.backends.redis.outcomes import ELSEWHERE
from graflow.backends.redis.snapshot import RunReader

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from graflow.backends.redis.client import RedisClient
    from graflow.backends.redis.link import Word
    from graflow.backends.redis.planstore import PlanStore


async def read_run(client: RedisClient, plans: PlanStore, run_id: str) -> RunReader | None:
    """A moment of a run with its results, None if there is no such run."""
    keys = client.keys
    commands = (("MULTI",), ("HGETALL", keys.run(run_id)), ("HGETALL", keys.results(run_id)), ("TIME",), ("EXEC",))
    fields, results, time = (await ask_all(client, commands))[-1]
    if not fields or b"v" not in _pairs(fields):
        return None
    values = await resolved(client, _pairs(results))
    image = RunImage(_pairs(fields), values)
    now = int(time[0]) * 1000 + int(time[1]) / 1000 + client.shift
    return RunReader(image, await plans.describe(image.plan), now)


async def ask_all(client: RedisClient, commands: Sequence[tuple[Word, ...]]) -> list[Any]:
    """Commands that change nothing, sent together; sent again when a reply is lost."""

    async def ask() -> list[Any]:
        line = client.line("read")
        return await asyncio.gather(*(line.ask(pack(command)) for command in commands))

    return await client.insist(ask)


async def resolved(client: RedisClient, values: Mapping[bytes, bytes]) -> dict[bytes, bytes]:
    """Values by name, with those that are only the name of a key replaced by what is there."""
    found = dict(values)
    elsewhere = {name: value[1:] for name, value in found.items() if value[:1] == ELSEWHERE}
    if elsewhere:
        large = await ask_all(client, [("GET", key) for key in elsewhere.values()])
        found.update({name: value for name, value in zip(elsewhere, large, strict=True) if value is not None})
    return found


def _pairs(flat: Sequence[bytes]) -> dict[bytes, bytes]:
    return dict(zip(flat[::2], flat[1::2], strict=True))


