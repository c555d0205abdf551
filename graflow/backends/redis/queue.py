"""The queue by itself: messages of one's own put in line and taken off it, and how much waits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import uuid4
from weakref import WeakKeyDictionary

from graflow.backends.base import QueueMetrics
from graflow.backends.limits import queue_full
from graflow.backends.redis.commands import ask_all
from graflow.backends.redis.entries import decode_entry
from graflow.backends.redis.keys import parse_stream, stream_name
from graflow.backends.redis.scripts.runs import BUDGET, DEQUEUE, ENQUEUE
from graflow.backends.redis.turns import Turns
from graflow.wire.messages import TaskSpec, decode_message, encode_message

if TYPE_CHECKING:
    from collections.abc import Iterable

    from graflow.backends.base import Slots
    from graflow.backends.redis.client import RedisClient


class RedisTaskQueue:
    """A :class:`~graflow.backends.base.TaskQueue` of streams, one for each queue, handler and priority.

    Args:
        client: the server.
        limit: how many attempts may wait at once, None for any number.
    """

    def __init__(self, client: RedisClient, *, limit: int | None = None) -> None:
        self._client = client
        self._limit = limit
        self._turns: WeakKeyDictionary[Slots, Turns] = WeakKeyDictionary()
        self._any_turns = Turns()

    async def enqueue(self, spec: TaskSpec, *, delay: float = 0.0) -> None:
        """Put an attempt in line, ``delay`` seconds from now.

        Raises:
            QueueFullError: the queue has reached its limit, or the server's memory is full.
        """
        stream = stream_name(spec.queue, spec.handler, spec.priority)
        wait = max(0, round(delay * 1000))
        args = (self._client.shift, BUDGET, stream, encode_message(spec), wait, self._limit or 0, uuid4().hex)
        if await self._client.call(ENQUEUE, args) < 0:
            raise queue_full(spec.queue, self._limit or 0)

    async def dequeue(self, slots: Slots) -> list[TaskSpec]:
        """Take what fits into the free slots, by priority and for good; an empty list when there is nothing. Never waits."""
        turns = self._any_turns
        queues = slots.queues if slots.queues is not None else await self._queues()
        wanted = turns.wanted([(handler, slots.free(handler)) for handler in slots.handlers], queues)
        if not wanted:
            return []
        found: list[TaskSpec] = []
        for stream, _, field, text in await self._client.call(DEQUEUE, (self._client.shift, BUDGET, "dequeue", wanted, uuid4().hex)):
            queue, handler, priority = parse_stream(stream.decode())
            turns.took(handler)
            if field == b"t":
                found.append(decode_message(text))
                continue
            entry = decode_entry(text)
            found.append(
                TaskSpec(
                    run_id=entry.run_id,
                    node=entry.node,
                    task_id=f"#{entry.node}",
                    cycle=entry.cycle,
                    attempt=entry.attempt,
                    retries=entry.retries,
                    queue=queue,
                    handler=handler,
                    priority=priority,
                    plan=entry.plan,
                )
            )
        return found

    async def is_empty(self) -> bool:
        """Whether nothing waits, delayed attempts included."""
        metrics = await self.metrics()
        return not metrics.depth and not metrics.delayed

    async def metrics(self, queue: str | None = None) -> QueueMetrics:
        """Depth, age and counts; of one queue, what stands in it and is in somebody's hands."""
        if queue is not None:
            return await self._metrics_of(queue)
        keys = self._client.keys
        names, (seconds, micros), waiting, flat = await ask_all(
            self._client, [("SMEMBERS", keys.streams), ("TIME",), ("ZCARD", keys.delayed), ("HGETALL", keys.counts)]
        )
        now = int(seconds) * 1000 + int(micros) / 1000 + self._client.shift
        (due,) = await ask_all(self._client, [("ZCOUNT", keys.delayed, "-inf", now)])
        counts: dict[bytes, bytes] = dict(zip(flat[::2], flat[1::2], strict=True))
        depth, in_flight, oldest = await self._standing(names)
        return QueueMetrics(
            depth=depth + due,
            delayed=waiting - due,
            in_flight=in_flight,
            oldest_age=_age(now, oldest),
            enqueued=int(counts.get(b"enqueued", 0)),
            fetched=int(counts.get(b"fetched", 0)),
        )

    async def _metrics_of(self, queue: str) -> QueueMetrics:
        names, (seconds, micros) = await ask_all(self._client, [("SMEMBERS", self._client.keys.streams), ("TIME",)])
        now = int(seconds) * 1000 + int(micros) / 1000 + self._client.shift
        depth, in_flight, oldest = await self._standing([name for name in names if parse_stream(name.decode())[0] == queue])
        return QueueMetrics(depth=depth, in_flight=in_flight, oldest_age=_age(now, oldest))

    async def _standing(self, names: Iterable[bytes]) -> tuple[int, int, float | None]:
        """How much stands in some streams, how much of them is in somebody's hands, and since when the first has waited."""
        depth = in_flight = 0
        oldest: float | None = None
        for name in names:
            length, pending, first = await self._stream(self._client.keys.stream(name.decode()))
            depth += length - pending
            in_flight += pending
            if first is not None:
                oldest = first if oldest is None else min(oldest, first)
        return depth, in_flight, oldest

    async def _stream(self, key: str) -> tuple[int, int, float | None]:
        """How much is in a stream, how much of it is in somebody's hands, and since when the first of the others has waited."""
        if not await self._exists(key):
            return 0, 0, None
        length, groups = await ask_all(self._client, [("XLEN", key), ("XINFO", "GROUPS", key)])
        if not length or not groups:
            return length, 0, None
        group: dict[bytes, Any] = dict(zip(groups[0][::2], groups[0][1::2], strict=True))
        (first,) = await ask_all(self._client, [("XRANGE", key, b"(" + group[b"last-delivered-id"], "+", "COUNT", 1)])
        return length, int(group[b"pending"]), int(first[0][0].partition(b"-")[0]) if first else None

    async def _exists(self, key: str) -> bool:
        (found,) = await ask_all(self._client, [("EXISTS", key)])
        return bool(found)

    async def _queues(self) -> list[str]:
        (names,) = await ask_all(self._client, [("SMEMBERS", self._client.keys.streams)])
        return sorted({parse_stream(name.decode())[0] for name in names})


def _age(now: float, since: float | None) -> float:
    return max(0.0, now - since) / 1000 if since is not None else 0.0
