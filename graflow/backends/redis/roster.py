"""Who is there: what living workers say about themselves, and which steps none of them can run."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING, Any

import msgspec

from graflow.backends.redis.blobs import encode
from graflow.backends.redis.commands import ask_all
from graflow.backends.redis.snapshot import unserved_by_anyone

if TYPE_CHECKING:
    from collections.abc import Iterable

    from graflow.backends.base import Slots
    from graflow.backends.redis.client import RedisClient
    from graflow.backends.redis.snapshot import RunReader


def introduction(name: str, ids: Iterable[str], slots: Iterable[Slots]) -> bytes:
    """What a process says about itself and its workers, which share a lease of that name."""
    handlers: set[str] = set()
    queues: set[str] | None = set()
    for each in slots:
        handlers.update(each.handlers)
        queues = None if queues is None or each.queues is None else queues | set(each.queues)
    info = {
        "name": name,
        "workers": sorted({name, *ids}),
        "handlers": sorted(handlers),
        "queues": None if queues is None else sorted(queues),
        "pid": os.getpid(),
        "host": socket.gethostname(),
    }
    return encode(info)


async def workers(client: RedisClient) -> list[dict[str, Any]]:
    """What each process with living workers says about itself: name, the ids of its workers, handlers, queues (None for all), pid and host."""
    keys = client.keys
    ((seconds, micros),) = await ask_all(client, [("TIME",)])
    now = int(seconds) * 1000 + int(micros) // 1000 + client.shift
    (alive,) = await ask_all(client, [("ZRANGEBYSCORE", keys.leases, now, "+inf")])
    if not alive:
        return []
    (infos,) = await ask_all(client, [("HMGET", keys.workers, *alive)])
    return [msgspec.msgpack.decode(info) for info in infos if info]


async def living(client: RedisClient) -> frozenset[str]:
    """The living workers by id. Several may share a lease, and each of them has containers that its neighbours must not take for orphans."""
    return frozenset(name for each in await workers(client) for name in (each["name"], *each.get("workers", ())))


async def unserved(client: RedisClient, reader: RunReader) -> dict[str, str]:
    """Steps in progress that no living worker can run, and why."""
    there = await workers(client)
    told: dict[str, str] = {}
    for name, queue, handler in reader.in_progress():
        if not any(handler in each["handlers"] and (each["queues"] is None or queue in each["queues"]) for each in there):
            told[name] = unserved_by_anyone(queue, handler)
    return told
