"""Who is there: what living workers say about themselves, and which steps none of them can run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from graflow.backends.redis.commands import ask_all

if TYPE_CHECKING:
    from graflow.backends.redis.client import RedisClient
    from graflow.backends.redis.snapshot import RunReader


async def workers(client: RedisClient) -> list[dict[str, Any]]:
    """What each living worker says about itself: name, handlers, queues (None for all), pid and host."""
    keys = client.keys
    ((seconds, micros),) = await ask_all(client, [("TIME",)])
    now = int(seconds) * 1000 + int(micros) // 1000 + client.shift
    (alive,) = await ask_all(client, [("ZRANGEBYSCORE", keys.leases, now, "+inf")])
    if not alive:
        return []
    (infos,) = await ask_all(client, [("HMGET", keys.workers, *alive)])
    return [msgspec.msgpack.decode(info) for info in infos if info]


async def unserved(client: RedisClient, reader: RunReader) -> dict[str, str]:
    """Steps in progress that no living worker can run, and why."""
    there = await workers(client)
    told: dict[str, str] = {}
    for name, queue, handler in reader.in_progress():
        if not any(handler in each["handlers"] and (each["queues"] is None or queue in each["queues"]) for each in there):
            told[name] = f"no worker serves the queue {queue!r} with the handler {handler!r}"
    return told
