"""One connection to the server with as little as possible in the way: packed commands out, replies in.

redis-py spends more than 100 us on a call. What happens for every task, and the one connection that all waits share, go through this instead.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections import deque
from typing import TYPE_CHECKING, Any, Final, cast

import hiredis
from redis.exceptions import ConnectionError as LinkLostError
from redis.exceptions import InvalidResponse, ResponseError
from redis.exceptions import TimeoutError as LinkTimeoutError

if TYPE_CHECKING:
    from collections.abc import Callable

    from graflow.backends.redis.settings import RedisSettings

Word = bytes | str | int | float

_untyped: Any = hiredis  # what it says of its types is wrong: it packs tuples of any length
pack: Callable[[tuple[Word, ...]], bytes] = _untyped.pack_command
"""The bytes of a command."""

_KEEPALIVE: Final = (("TCP_KEEPIDLE", 30), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 3))
_NOTHING: Final = object()

DEPTH: Final = 16
"""Commands on their way at once. The server sends the replies to what it has read together when it has carried out the last of it, so more of them
would make it look dead when it is only slow."""


class Link(asyncio.Protocol):
    """A connection. Up to ``DEPTH`` commands are on their way at once; the server answers in order.

    ``where`` is the server's name for errors, ``answer`` the seconds for which a server that owes a reply may be silent before the link is given up.
    ``lost`` is called once when the connection is gone, however that came about.
    """

    def __init__(self, where: str, answer: float, lost: Callable[[Link], object] | None = None) -> None:
        self.where = where
        self.hear: Callable[[Any], object] | None = None
        """is given every reply instead of those who asked, once the server pushes: see :mod:`graflow.backends.redis.waiting`"""
        self.heard: float = 0.0
        """when something came in last, on the loop's clock"""
        self._answer = answer
        self._lost = lost
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._reader = _reader()
        self._asked: deque[tuple[asyncio.Future[Any], float]] = deque()
        self._room = asyncio.Semaphore(DEPTH)
        self._timer: asyncio.TimerHandle | None = None
        self.reason: Exception | None = None
        """why it was lost, where that is known"""

    @property
    def alive(self) -> bool:
        """Whether it can be used, as far as is known here."""
        return self._transport is not None

    def send(self, packed: bytes) -> None:
        """Write, without waiting for a reply."""
        if self._transport is None:
            raise self._gone()
        self._transport.write(packed)

    async def ask(self, packed: bytes) -> Any:
        """Write one command and wait for its reply.

        A wait that is cancelled leaves its place in the row, so that the reply, when it comes, is not taken for somebody else's.

        Raises:
            redis.ResponseError: the server's own error, its code in front.
            redis.ConnectionError: the link was lost. Whether the command was carried out is not known.
            redis.TimeoutError: no reply in time; the link is given up.
        """
        await self._room.acquire()
        transport = self._transport
        if transport is None:
            self._room.release()
            raise self._gone()
        loop = self._loop
        reply: asyncio.Future[Any] = loop.create_future()
        deadline = loop.time() + self._answer
        self._asked.append((reply, deadline))
        if self._timer is None:
            self._timer = loop.call_at(deadline, self._look_at_the_clock)
        transport.write(packed)
        return await reply

    def abort(self, reason: Exception | None = None) -> None:
        """Give up the connection, now. Whoever waits for a reply gets ``reason``."""
        transport, self._transport = self._transport, None
        if transport is None:
            return
        self.reason = reason
        transport.abort()
        self._end()

    # ---- called by the loop ----

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is not one by class
        _keep_alive(transport.get_extra_info("socket"))

    def data_received(self, data: bytes) -> None:
        reader, asked = self._reader, self._asked
        self.heard = self._loop.time()
        reader.feed(data)
        try:
            while (reply := reader.gets()) is not _NOTHING:
                if self.hear is not None:
                    self.hear(reply)
                elif asked:
                    waiting = asked.popleft()[0]
                    self._room.release()
                    if waiting.done():
                        continue
                    if isinstance(reply, ResponseError):
                        waiting.set_exception(reply)
                    else:
                        waiting.set_result(reply)
        except InvalidResponse as error:
            self.abort(error)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._transport is not None:
            self._transport = None
            self.reason = LinkLostError(
                f"{self.where} closed the connection" if exc is None else f"the connection to {self.where} broke: {exc}"
            )
            self._end()

    def _look_at_the_clock(self) -> None:
        """One timer for all commands, set for the oldest: most are answered long before, and a timer each would cost more than the rest."""
        self._timer = None
        if self._transport is None or not self._asked:
            return
        # Those in front may have taken their time. Were the link given up for that, all would be sent again, to a server that is busy as it is.
        deadline = max(self._asked[0][1], self.heard + self._answer)
        if deadline <= self._loop.time():
            self.abort(LinkTimeoutError(f"no reply from {self.where} for {self._answer:g} s"))
        else:
            self._timer = self._loop.call_at(deadline, self._look_at_the_clock)

    def _end(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._asked:
            waiting = self._asked.popleft()[0]
            self._room.release()
            if not waiting.done():
                waiting.set_exception(self._gone())
        if self._lost is not None:
            lost, self._lost = self._lost, None
            lost(self)

    def _gone(self) -> Exception:
        # A new one for each: an exception that is raised in several tasks collects the tracebacks of all of them.
        reason = self.reason
        return LinkLostError(f"the connection to {self.where} is closed") if reason is None else type(reason)(*reason.args)


async def connect(settings: RedisSettings, *, lost: Callable[[Link], object] | None = None, answer: float | None = None) -> Link:
    """A link to the server, with the credentials given and the database chosen.

    Raises:
        redis.RedisError, OSError: it did not come about.
    """
    loop = asyncio.get_running_loop()

    def make() -> Link:
        return Link(settings.where, settings.socket_timeout if answer is None else answer, lost)

    link: Link | None = None
    try:
        async with asyncio.timeout(settings.connect_timeout):
            if settings.port:
                tls = await asyncio.to_thread(settings.tls) if settings.encrypted else None
                name = settings.host if settings.encrypted else None
                _, link = await loop.create_connection(make, settings.host, settings.port, ssl=tls, server_hostname=name)
            else:
                _, link = await loop.create_unix_connection(make, settings.host)
            await _introduce(link, settings)
    except TimeoutError:
        if link is not None:
            link.abort()
        raise LinkTimeoutError(f"{settings.where} did not let us in for {settings.connect_timeout:g} s") from None
    except BaseException:
        if link is not None:
            link.abort()
        raise
    return link


async def _introduce(link: Link, settings: RedisSettings) -> None:
    if settings.credentials:
        await link.ask(pack(("AUTH", *settings.credentials)))
    if settings.db:
        await link.ask(pack(("SELECT", settings.db)))


def _reader() -> hiredis.Reader:
    return hiredis.Reader(protocolError=InvalidResponse, replyError=ResponseError, notEnoughData=_NOTHING)


def _keep_alive(connection: socket.socket | None) -> None:
    if connection is None or connection.family not in (socket.AF_INET, socket.AF_INET6):
        return
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _KEEPALIVE:
        if (option := getattr(socket, name, None)) is not None:
            with contextlib.suppress(OSError):
                connection.setsockopt(socket.IPPROTO_TCP, option, value)
