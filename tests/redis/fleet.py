"""Worker processes for tests: started, watched, struck, and gone with the test."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import redis.asyncio

from tests.redis import jobs

READY = 20.0
"""seconds that a worker has to begin, on a machine that is busy"""


@dataclass
class Start:
    """A task as it was begun, or ended."""

    task: str
    attempt: int
    pid: int
    at: float


@dataclass
class Member:
    """A ``graflow-aworker``. ``said`` is its log so far."""

    process: asyncio.subprocess.Process
    said: list[str] = field(default_factory=list)
    heard: asyncio.Condition = field(default_factory=asyncio.Condition)
    listening: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int:
        return self.process.pid

    def heart(self) -> int:
        """The process that renews its lease."""
        return next(iter(children_of(self.pid)))

    def strike(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    async def says(self, text: str, within: float = READY) -> None:
        async with asyncio.timeout(within), self.heard:
            await self.heard.wait_for(lambda: any(text in line for line in self.said))

    async def ended(self, within: float = READY) -> int:
        async with asyncio.timeout(within):
            return await self.process.wait()

    async def listen(self) -> None:
        assert self.process.stderr is not None
        async for line in self.process.stderr:
            async with self.heard:
                self.said.append(line.decode().rstrip())
                self.heard.notify_all()


class Fleet:
    """Workers of one server."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.members: list[Member] = []
        self.eye = redis.asyncio.Redis.from_url(url, decode_responses=True, socket_timeout=None)

    async def start(self, *options: str, number: int = 1) -> list[Member]:
        """Workers that take work."""
        started = [await self._start(options) for _ in range(number)]
        for member in started:
            await member.says("is ready")
        return started

    async def _start(self, options: Iterable[str]) -> Member:
        command = [sys.executable, "-c", "from graflow.worker.main import main; main()", "--redis", self.url, "--app", "tests.redis.jobs"]
        process = await asyncio.create_subprocess_exec(
            *command, *options, env={**os.environ, jobs.ADDRESS: self.url}, cwd=Path(__file__).parents[2], stderr=asyncio.subprocess.PIPE
        )
        member = Member(process)
        member.listening = asyncio.create_task(member.listen())
        self.members.append(member)
        return member

    async def noted(self, name: str) -> list[Start]:
        """What tasks have written down."""
        found = [line.split() for line in await self.eye.lrange(name, 0, -1)]
        return [Start(task, int(attempt), int(pid), float(at)) for task, attempt, pid, at in found]

    async def until(self, name: str, enough: Callable[[list[Start]], bool], within: float) -> list[Start]:
        """What tasks have written down, once it is enough."""
        async with asyncio.timeout(within):
            while not enough(found := await self.noted(name)):  # noqa: ASYNC110 - it happens in other processes
                await asyncio.sleep(0.02)
            return found

    async def close(self) -> None:
        hearts = {child for member in self.members for child in children_of(member.pid)}
        for member in self.members:
            if member.process.returncode is None:
                member.process.kill()
            await member.process.wait()
            if member.listening is not None:
                await member.listening
        await self.eye.aclose()
        end = time.monotonic() + 10
        while hearts := {heart for heart in hearts if is_running(heart)}:
            assert time.monotonic() < end, f"processes outlive their workers: {hearts}"
            await asyncio.sleep(0.02)


@asynccontextmanager
async def fleet_of(url: str) -> AsyncIterator[Fleet]:
    fleet = Fleet(url)
    try:
        yield fleet
    finally:
        await fleet.close()


def children_of(pid: int) -> list[int]:
    """Its children; of a process that is gone, none."""
    everyone = [int(place.name) for place in Path("/proc").iterdir() if place.name.isdigit()]
    return [each for each in everyone if status(each)[1] == pid]


def is_running(pid: int) -> bool:
    return status(pid)[0] not in ("", "Z")


def status(pid: int) -> tuple[str, int]:
    """State and parent of a process; empty and 0 when there is none."""
    try:
        words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return "", 0
    return words[0], int(words[1])
