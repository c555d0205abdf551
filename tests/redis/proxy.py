"""A TCP proxy between client and server that breaks what it is told to break, at the command that it is told.

It reads both directions as whole commands and replies, so a fault can be put exactly between the moment in which the server has carried something out
and the moment in which the client learns of it. It speaks RESP2 and lives on the event loop of the test.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from types import TracebackType
from typing import Any, Self

import hiredis

Command = list[bytes]


class Fault(Enum):
    """What happens to a command, to a reply, or to the connection that it is on."""

    DROP_REPLY = "the server carries the command out, and the connection is reset in place of the reply"
    RESET = "the connection is reset, and the frame goes no further"
    SWALLOW = "the frame goes no further; everything else does"
    BLACK_HOLE = "the frame goes no further, and nothing else on this connection does, either way; it stays open"


@dataclass
class Rule:
    """A fault and what it befalls. ``times`` is how often it still will; ``hits`` how often it has, ``hit`` is set when it first does."""

    fault: Fault
    command: Callable[[Command], bool] | None = None
    reply: Callable[[Any], bool] | None = None
    times: int = 1
    hits: int = 0
    hit: asyncio.Event = field(default_factory=asyncio.Event)

    def befalls(self, *, command: Command | None = None, reply: Any = None) -> bool:
        chosen = (
            self.command(command) if command is not None and self.command else bool(command is None and self.reply and self.reply(reply))
        )
        if not chosen or self.times <= 0:
            return False
        self.times -= 1
        self.hits += 1
        self.hit.set()
        return True


def named(*names: str) -> Callable[[Command], bool]:
    """Commands of these names, such as EVALSHA."""
    wanted = {name.upper().encode() for name in names}
    return lambda command: command[0].upper() in wanted


def anything(_: Any) -> bool:
    """Whatever comes."""
    return True


def message(reply: Any) -> bool:
    """A pub/sub message."""
    return isinstance(reply, list) and bool(reply) and reply[0] == b"message"


class FaultProxy:
    """``async with FaultProxy(server.port) as proxy``: clients connect to ``proxy.url``.

    ``delay`` holds up everything, each way, by so many seconds. ``connections`` are those that are open, in the order in which they came.
    """

    def __init__(self, port: int) -> None:
        self.target = port
        self.port = 0
        self.delay = 0.0
        self.accepted = 0
        self.connections: list[Connection] = []
        self.rules: list[Rule] = []
        self.seen: list[Command] = []
        self.tasks: set[asyncio.Task[None]] = set()
        self.silent = False
        self.deserted = asyncio.Event()
        """set when there is no connection"""
        self._server: asyncio.Server | None = None

    @property
    def url(self) -> str:
        """Where clients connect to."""
        return f"redis://127.0.0.1:{self.port}/0"

    def when(
        self, fault: Fault, *, command: Callable[[Command], bool] | None = None, reply: Callable[[Any], bool] | None = None, times: int = 1
    ) -> Rule:
        """A fault for the next commands, or replies, that the function says yes to."""
        rule = Rule(fault, command, reply, times)
        self.rules.append(rule)
        return rule

    def reset(self) -> None:
        """Reset every connection."""
        for connection in tuple(self.connections):
            connection.reset()

    def black_hole(self) -> None:
        """Every connection stays open and nothing goes through; new ones are accepted, and it is the same with them."""
        self.silent = True
        for connection in self.connections:
            connection.silent = True

    def mend(self) -> None:
        """New connections work again. Those that fell silent stay so: what they lost is lost."""
        self.silent = False
        self.rules.clear()

    async def refuse(self) -> None:
        """Nobody is let in any more."""
        if self._server is not None:
            self._server.close()
            self._server = None

    async def accept(self) -> None:
        """Let clients in, always at the same port."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: Connection(self), "127.0.0.1", self.port, reuse_address=True)
        self.port = self._server.sockets[0].getsockname()[1]

    async def __aenter__(self) -> Self:
        await self.accept()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        await self.refuse()
        self.reset()
        for task in self.tasks:
            task.cancel()
        if self.tasks:
            await asyncio.wait(self.tasks)


class Connection(asyncio.Protocol):
    """A client's connection and the one to the server that belongs to it."""

    def __init__(self, proxy: FaultProxy) -> None:
        self.proxy = proxy
        self.silent = proxy.silent
        self.client: asyncio.Transport | None = None
        self.server: asyncio.Transport | None = None
        self.early: list[bytes] = []
        self.commands = Frames()
        self.pending: deque[Rule | None] = deque()
        """one for each command that the server owes a reply; the rule is the fault that befalls this reply"""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.client = transport
        self.proxy.accepted += 1
        self.proxy.connections.append(self)
        self.proxy.deserted.clear()
        task = asyncio.get_running_loop().create_task(self._connect())
        self.proxy.tasks.add(task)
        task.add_done_callback(self.proxy.tasks.discard)

    async def _connect(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            transport, _ = await loop.create_connection(lambda: _Upstream(self), "127.0.0.1", self.proxy.target)
        except OSError:
            self.reset()
            return
        if self.client is None:
            transport.abort()
            return
        self.server = transport
        early, self.early = self.early, []
        for frame in early:
            self._to_server(frame)

    def data_received(self, data: bytes) -> None:
        for frame in self.commands.feed(data):
            command: Command = decode(frame)
            self.proxy.seen.append(command)
            rule = next((rule for rule in self.proxy.rules if rule.befalls(command=command)), None)
            if rule is not None and rule.fault is Fault.RESET:
                return self.reset()
            if rule is not None and rule.fault is Fault.BLACK_HOLE:
                self.silent = True
            if rule is None or rule.fault is Fault.DROP_REPLY:
                # To these the server answers once for each channel.
                answers = len(command) - 1 if command[0].upper() in (b"SUBSCRIBE", b"UNSUBSCRIBE") else 1
                self.pending.extend([rule, *[None] * (answers - 1)])
                self._to_server(frame)
        return None

    def replied(self, frame: bytes) -> None:
        """The server has answered, or pushes a message."""
        reply = decode(frame)
        dropped = None if message(reply) or not self.pending else self.pending.popleft()
        rule = dropped or next((rule for rule in self.proxy.rules if rule.befalls(reply=reply)), None)
        if rule is None:
            self._later(self._to_client, frame)
        elif rule.fault in (Fault.DROP_REPLY, Fault.RESET):
            self.reset()
        elif rule.fault is Fault.BLACK_HOLE:
            self.silent = True

    def _to_server(self, frame: bytes) -> None:
        if self.server is None:
            self.early.append(frame)
        else:
            self._later(self._write_to_server, frame)

    def _write_to_server(self, frame: bytes) -> None:
        if self.server is not None and not self.silent:
            self.server.write(frame)

    def _to_client(self, frame: bytes) -> None:
        if self.client is not None and not self.silent:
            self.client.write(frame)

    def _later(self, write: Callable[[bytes], None], frame: bytes) -> None:
        if self.proxy.delay:
            asyncio.get_running_loop().call_later(self.proxy.delay, write, frame)
        else:
            write(frame)

    def connection_lost(self, exc: Exception | None) -> None:
        self.reset()

    def reset(self) -> None:
        """Both ends, at once, as when a machine forgets its connections."""
        if self in self.proxy.connections:
            self.proxy.connections.remove(self)
        if not self.proxy.connections:
            self.proxy.deserted.set()
        for transport in (self.client, self.server):
            if transport is not None and not transport.is_closing():
                # Closed with time to linger of zero, it is reset and not ended.
                transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                transport.abort()
        self.client = self.server = None


class _Upstream(asyncio.Protocol):
    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.replies = Frames()

    def data_received(self, data: bytes) -> None:
        for frame in self.replies.feed(data):
            self.connection.replied(frame)

    def connection_lost(self, exc: Exception | None) -> None:
        self.connection.reset()


def decode(frame: bytes) -> Any:
    """A frame as a value; an error as an exception."""
    reader = hiredis.Reader()
    reader.feed(frame)
    return reader.gets()


class Frames:
    """Cuts a stream of bytes into whole commands or replies."""

    def __init__(self) -> None:
        self._buffer = b""

    def feed(self, data: bytes) -> list[bytes]:
        """The frames that are complete with this."""
        buffer = self._buffer + data
        frames: list[bytes] = []
        start = 0
        while (end := _end(buffer, start)) is not None:
            frames.append(buffer[start:end])
            start = end
        self._buffer = buffer[start:]
        return frames


def _end(buffer: bytes, start: int) -> int | None:
    """Where the value ends that begins at ``start``; None if it is not all there."""
    line = buffer.find(b"\r\n", start)
    if line < 0:
        return None
    end: int | None = line + 2
    kind = buffer[start : start + 1]
    if kind == b"$" and (size := int(buffer[start + 1 : line])) >= 0:
        end = line + 2 + size + 2
    elif kind == b"*":
        for _ in range(int(buffer[start + 1 : line])):
            end = None if end is None else _end(buffer, end)
    return end if end is not None and end <= len(buffer) else None
