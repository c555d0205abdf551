"""Where one worker of this process gets its work: a blocking read while it is idle, and what is handed out with each outcome."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, Final

from redis.exceptions import ResponseError

from graflow.backends.redis import faults
from graflow.backends.redis.client import BLOCK, FAILURES
from graflow.backends.redis.keys import parse_stream, stream_name
from graflow.backends.redis.link import Link, Word, pack
from graflow.backends.redis.turns import Turns
from graflow.core.options import PRIORITIES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from graflow.backends.base import Slots
    from graflow.backends.redis.client import RedisClient

_log = logging.getLogger("graflow.redis")

Entries = list[tuple[str, str, bytes, bytes]]
"""stream, id, field, message"""
TICK: Final = "!tick"
_GRACE: Final = 2.0
_PAUSES: Final = (0.05, 0.1, 0.2, 0.5, 1.0)
_AGAIN: Final = 0.01
"""seconds after which a read that did not wait yet when it was to end is ended again"""


class Desk:
    """The blocking read of one worker.

    It is only a wake-up: one entry of each stream at most, as a read cannot be narrowed once it waits. It is never cancelled: whether the server
    had already handed something out could not be told. It is ended from outside, and what it brings then is put back.

    Args:
        client: the server.
        slots: how much the worker can take.
        queues_of: the queues that there are, for a worker that serves all.
    """

    def __init__(self, client: RedisClient, slots: Slots, queues_of: Any) -> None:
        self._client = client
        self._queues_of = queues_of
        self.slots = slots
        self.turns: Turns = Turns()
        self.lock: asyncio.Lock = asyncio.Lock()
        """one waits for work at a time"""
        self.reserved: dict[str, int] = {}
        """slots that are asked for in a call under way"""
        self.freed: asyncio.Event = asyncio.Event()
        self.unsure: bool = False
        """a read was lost: what it took is among the pending entries"""
        self._link: Link | None = None
        self._link_id = 0
        self._armed: frozenset[str] | None = None
        """the streams of the read that waits, or is about to"""
        self._sent = False
        """whether that read is on its way: before, there is nothing that the server could end"""
        self._unwanted = False
        """whether it is to end, or not to begin"""
        self._known: set[str] = set()
        """streams that have their group"""
        self._failures = 0
        self._closed = False
        self._reading: asyncio.Task[Entries] | None = None

    # ---- how much ----

    def free(self) -> list[tuple[str, int]]:
        """How many more of each handler could start, beyond those that are on their way."""
        slots, reserved = self.slots, self.reserved
        return [(handler, slots.free(handler) - reserved.get(handler, 0)) for handler in slots.handlers]

    def queues(self) -> Sequence[str]:
        """The queues that the worker serves."""
        chosen = self.slots.queues
        return self._queues_of() if chosen is None else chosen

    def streams(self) -> list[str]:
        """The streams of handlers with a free slot, whether or not it is spoken for by a call under way."""
        return [
            stream_name(queue, handler, rank)
            for handler in self.slots.handlers
            if self.slots.free(handler) > 0
            for queue in self.queues()
            for rank in PRIORITIES
        ]

    def every_stream(self) -> list[str]:
        """The streams of all handlers, whether there is room or not."""
        return [stream_name(queue, handler, rank) for handler in self.slots.handlers for queue in self.queues() for rank in PRIORITIES]

    # ---- waiting ----

    def begin_reading(self, consumer: str, seconds: float) -> asyncio.Task[Entries]:
        """Wait until there is something, for so many seconds at most; nothing when the time is up, or when the wait was ended from outside. It is a
        task of its own, which goes on when nobody waits for it any more."""
        streams = self.streams()
        self._armed, self._unwanted = frozenset(streams), False
        self._reading = asyncio.create_task(self._read(streams, consumer, seconds), name="graflow-read")
        return self._reading

    async def _read(self, streams: Sequence[str], consumer: str, seconds: float) -> Entries:
        prefix = self._client.keys.prefix
        try:
            link = await self._connected()
            await self._ensure_groups(link, streams)
            if self._unwanted or self._closed:
                return []
            self._sent = True
            wait = max(1, round(min(BLOCK, seconds) * 1000))
            names = [f"{prefix}q:{stream}" for stream in streams]
            words: tuple[Word, ...] = (
                "XREADGROUP",
                "GROUP",
                "g",
                consumer,
                "COUNT",
                1,
                "BLOCK",
                wait,
                "STREAMS",
                self._client.keys.tick,
                *names,
            )
            reply = await link.ask(pack((*words, *(">" for _ in range(len(names) + 1)))))
        except FAILURES as error:
            await self._failed(error)
            return []
        finally:
            self._armed, self._sent = None, False
            if self._closed:  # while the connection was being made
                self._drop_link()
        self._failures = 0
        return _entries(reply, prefix)

    async def rearm(self) -> None:
        """End the read if it does not wait for all that the worker could take by now."""
        if self._armed is not None and not self._armed.issuperset(self.streams()):
            await self.unblock()

    async def unblock(self) -> None:
        """End the read that waits, if one does, or have it not begin."""
        armed = self._armed
        self._unwanted = True
        try:
            while armed is not None and self._armed is armed and self._sent and not await self._end_read():  # noqa: ASYNC110 - until it arrives
                await asyncio.sleep(_AGAIN)
        except FAILURES as error:  # it ends by itself within seconds
            _log.info("a read could not be ended early: %s", error)

    async def _end_read(self) -> bool:
        """Whether the server has ended it, or cannot. The two go over two connections: a read that has not arrived does not wait yet, and would for
        seconds once it has."""
        link = self._link
        if link is None or not link.alive or not self._link_id:
            return True
        return bool(await self._client.line("control").ask(pack(("CLIENT", "UNBLOCK", self._link_id))))

    def forget_groups(self) -> None:
        """The server may have been emptied: have the groups looked after again."""
        self._known.clear()

    async def close(self) -> None:
        """Give the connection up, and the read that waits on it."""
        self._closed = True
        self._drop_link()
        if self._reading is not None:
            await asyncio.wait((self._reading,))

    def _drop_link(self) -> None:
        if self._link is not None:
            self._link.abort()
            self._link = None

    async def _connected(self) -> Link:
        if self._link is None or not self._link.alive:
            self._link = await self._client.connect(answer=BLOCK + _GRACE)
            self._link_id = await _id_of(self._link)
        return self._link

    async def _ensure_groups(self, link: Link, streams: Sequence[str]) -> None:
        """A read of a stream without a group is an error, even while the stream does not exist yet."""
        keys = self._client.keys
        missing = [stream for stream in (TICK, *streams) if stream not in self._known]
        for stream in missing:
            key = keys.tick if stream == TICK else keys.stream(stream)
            try:
                await link.ask(pack(("XGROUP", "CREATE", key, "g", "0", "MKSTREAM")))
                await link.ask(pack(("EXPIRE", key, 86400)))
            except FAILURES as error:
                if faults.code_of(error) != "BUSYGROUP":
                    raise
            self._known.add(stream)
        if len(missing) > 1:
            await link.ask(pack(("SADD", keys.streams, *(stream for stream in missing if stream != TICK))))
            await link.ask(pack(("EXPIRE", keys.streams, 7 * 86400)))

    async def _failed(self, error: Exception) -> None:
        self.forget_groups()
        code = faults.code_of(error)
        if code not in ("NOGROUP", "UNBLOCKED"):
            self.unsure = True
            self._drop_link()
            if self._closed:
                return
            pause = _PAUSES[min(self._failures, len(_PAUSES) - 1)]
            self._failures += 1
            _log.warning("the wait for work broke off (%s); trying again in %g s", error, pause)
            await asyncio.sleep(pause)


async def _id_of(link: Link) -> int:
    """What the server calls the connection, by which a read on it can be ended; 0 for a user who may not ask."""
    try:
        return int(await link.ask(pack(("CLIENT", "ID"))))
    except ResponseError as error:
        _log.info("reads end by themselves only, after up to %g s: %s", BLOCK, error)
        return 0


def _entries(reply: Any, prefix: str) -> Entries:
    found: Entries = []
    for name, entries in reply or ():
        stream = name.decode()[len(prefix) :]
        stream = TICK if stream == "tick" else stream[2:]
        for id, fields in entries:
            if fields:
                found.append((stream, id.decode(), fields[0], fields[1]))
    return found


def less(free: Sequence[tuple[str, int]], entries: Entries) -> list[tuple[str, int]]:
    """Room for more, beside what a read has brought already."""
    brought: dict[str, int] = {}
    for stream, _, _, _ in entries:
        if stream != TICK:
            handler = parse_stream(stream)[1]
            brought[handler] = brought.get(handler, 0) + 1
    return [(handler, room - brought.get(handler, 0)) for handler, room in free]
