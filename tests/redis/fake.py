"""A server that says what it is told to say, for errors that a real one gives only in trouble."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Self

from tests.redis.proxy import Command, Frames, decode

NOTHING = b"nothing"
"""No answer at all, for now."""

Answer = Callable[[Command], bytes | None]

INFO = "redis_version:7.0.15\r\nrun_id:{run_id}\r\nmaxmemory:0\r\nmaxmemory_policy:noeviction\r\naof_enabled:1\r\n"
HELLO = b"*4\r\n$6\r\nserver\r\n$5\r\nredis\r\n$7\r\nversion\r\n$6\r\n7.0.15\r\n"


class FakeServer:
    """``script`` holds the raw answers to commands other than those that begin a connection, to be given one after the other; the last is given again
    and again. An empty answer closes the connection. ``answers`` may override what it says to any command.
    """

    def __init__(self, *script: bytes, answers: Answer | None = None) -> None:
        self.script = list(script) or [b"+OK\r\n"]
        self.answers = answers
        self.run_id = "one"
        self.port = 0
        self.commands: list[Command] = []
        self.connections: list[_Client] = []
        self.accepted = 0
        self._server: asyncio.Server | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def answer(self, command: Command) -> bytes:
        if self.answers is not None and (answer := self.answers(command)) is not None:
            return answer
        match command[0].upper():
            case b"INFO":
                return bulk(INFO.format(run_id=self.run_id).encode())
            case b"HELLO":
                return HELLO
            case b"CONFIG":
                return b"*2\r\n" + bulk(command[2]) + bulk(b"noeviction" if command[2] == b"maxmemory-policy" else b"")
            case b"AUTH" | b"SELECT":
                return b"+OK\r\n"
            case _:
                self.commands.append(command)
                return self.script.pop(0) if len(self.script) > 1 else self.script[0]

    def say(self, raw: bytes) -> None:
        """Something that nobody asked for, or that was asked for earlier, on every connection."""
        for connection in self.connections:
            connection.transport.write(raw)

    async def __aenter__(self) -> Self:
        self._server = await asyncio.get_running_loop().create_server(lambda: _Client(self), "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        if self._server is not None:
            self._server.close()
        for connection in tuple(self.connections):
            connection.transport.abort()


class _Client(asyncio.Protocol):
    transport: asyncio.Transport

    def __init__(self, server: FakeServer) -> None:
        self.server = server
        self.frames = Frames()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.server.accepted += 1
        self.server.connections.append(self)

    def data_received(self, data: bytes) -> None:
        for frame in self.frames.feed(data):
            answer = self.server.answer(decode(frame))
            if not answer:
                self.transport.abort()
                return
            if answer is not NOTHING:
                self.transport.write(answer)

    def connection_lost(self, exc: Exception | None) -> None:
        self.server.connections.remove(self)


def bulk(text: bytes) -> bytes:
    """A string as the server sends it."""
    return b"$%d\r\n%s\r\n" % (len(text), text)
