"""A run's hashes, read in one step."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from graflow.backends.redis.commands import ask_all
from graflow.backends.redis.image import RunImage
from graflow.backends.redis.outcomes import ELSEWHERE
from graflow.backends.redis.scripts.runs import LOOK
from graflow.backends.redis.snapshot import RunReader

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from graflow.backends.redis.client import RedisClient
    from graflow.backends.redis.planstore import PlanStore

MANY: Final = 2000
"""results above which a run is read by commands instead of by a script"""


async def read_run(client: RedisClient, plans: PlanStore, run_id: str) -> RunReader | None:
    """A moment of a run with its results, None if there is no such run."""
    now, fields, results = await client.call(LOOK, (client.shift, MANY, run_id))
    known = _pairs(fields)
    if b"v" not in known:
        return None
    if results is None:
        known, values = await client.insist(lambda: _read_many(client, run_id))
    else:
        values = _pairs(results)
    image = RunImage(known, await resolved(client, values))
    return RunReader(image, await plans.describe(image.plan), now)


async def _read_many(client: RedisClient, run_id: str) -> tuple[dict[bytes, bytes], dict[bytes, bytes]]:
    """The hashes of a large run, between which nothing has changed; the server does other things between the commands' replies."""
    async with client.commands.pipeline(transaction=True) as pipe:
        pipe.hgetall(client.keys.run(run_id))
        pipe.hgetall(client.keys.results(run_id))
        fields, results = await pipe.execute()
    return fields, results


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
