"""A contender's side of a measurement: its client, driven by one JSON request a line, each answered by one JSON line.

The harness says what to do and the client does it in its own words. The clock and the processor time are read here, next to the work, so
that no contender pays for the conversation.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, Protocol

from processes import cpu_seconds

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

URL = os.environ.get("BENCHMARK_REDIS_URL", "redis://127.0.0.1:6379")
SOONEST, SHARE = 0.002, 0.01
"""How often to look at what is left of a queue: after so many seconds at the soonest, and after so much of the time that has passed."""


class Meter:
    """Wall time and processor time, from its making to ``read``. ``pids`` are the processes to look at, by the part that they play."""

    def __init__(self, pids: dict[str, int]) -> None:
        self.pids = {**pids, "engine": os.getpid()}
        self.restart()

    def restart(self) -> None:
        self.used = self._used()
        self.began = time.perf_counter()

    def read(self) -> dict[str, Any]:
        seconds = time.perf_counter() - self.began
        return {"seconds": seconds, "cpu": {part: now - self.used[part] for part, now in self._used().items()}}

    def _used(self) -> dict[str, float]:
        return {part: cpu_seconds(pid) for part, pid in self.pids.items()}


class Wake(Protocol):
    """Something to wait at."""

    async def prepare(self) -> None:
        """Before each wait."""
        ...

    async def wait(self) -> None: ...

    async def release(self) -> None: ...


class Client(ABC):
    """How an application would use one contender, at its best. Tasks do nothing and return None, and their results are kept."""

    @abstractmethod
    async def open(self) -> None:
        """Connect, and make what must be there before the first task is enqueued."""

    @abstractmethod
    async def close(self) -> None:
        """Disconnect."""

    @abstractmethod
    async def enqueue(self, count: int) -> None:
        """Put so many tasks on the queue, in the fastest way that the documentation shows."""

    @abstractmethod
    async def left(self) -> int:
        """How many tasks are not finished."""

    @abstractmethod
    async def gather(self, count: int) -> None:
        """Put so many tasks on the queue and have all their results."""

    @abstractmethod
    async def one(self) -> None:
        """Put one task on the queue and have its result."""

    @abstractmethod
    async def chain(self, length: int) -> None:
        """Run so many tasks one after the other and have the result of the last."""

    async def fan(self, count: int) -> None:
        """Run so many tasks side by side and one more when all their results are there."""
        await self.gather(count)
        await self.one()

    async def drain(self, meter: Meter) -> int:
        """Wait until nothing is left of what was enqueued. The meter starts when work is seen to go on; tells how much was left then."""
        total = await self.left()
        left = total
        while left == total:
            await asyncio.sleep(SOONEST)
            left = await self.left()
        meter.restart()
        measured = left
        while left:
            await asyncio.sleep(max(SOONEST, SHARE * (time.perf_counter() - meter.began)))
            left = await self.left()
        return measured

    async def wakes(self) -> dict[str, Wake]:
        """What somebody can wait at and somebody else can release, by what it is called."""
        return {}


async def bounded(work: Iterable[Callable[[], Awaitable[object]]], at_once: int) -> None:
    """Await each piece of work, so many at once and begun in order."""
    pieces = iter(work)

    async def take() -> None:
        for piece in pieces:
            await piece()

    await asyncio.gather(*(take() for _ in range(at_once)))


async def serve(client: Client) -> None:
    """Answer requests until there are no more. Whatever goes wrong in the contender is an answer too."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what a library prints must not get between the answers
    await client.open()
    while line := await asyncio.to_thread(sys.stdin.readline):
        request = json.loads(line)
        try:
            answer = await _answer(client, **request)
        except BaseException as error:
            print(json.dumps({"error": f"{type(error).__name__}: {error}"}), file=answers)
            raise
        print(json.dumps(answer), file=answers)
    await client.close()


async def _answer(client: Client, *, do: str, count: int, pids: dict[str, int], pause: float = 0.0) -> dict[str, Any]:
    meter = Meter(pids)
    match do:
        case "drain":
            measured = await client.drain(meter)
            return {**meter.read(), "tasks": measured}
        case "one":
            return {"each": [await _one(client, pause) for _ in range(count)]}
        case "wakes":
            wakes = await client.wakes()
            each: dict[str, list[float]] = {name: [] for name in wakes}
            for _ in range(count):  # in turn, so that a busy moment strikes all kinds
                for name, wake in wakes.items():
                    each[name].append(await _wake(wake, pause))
            return {"each": each}
        case _:
            await getattr(client, do)(count)
            return {**meter.read(), "tasks": count}


async def _wake(wake: Wake, pause: float) -> float:
    """Seconds from the moment of the release to the moment when who waited goes on."""

    async def wait() -> float:
        await wake.wait()
        return time.perf_counter()

    await wake.prepare()
    waiting = asyncio.create_task(wait())
    await asyncio.sleep(pause)
    released = time.perf_counter()
    await wake.release()
    return await waiting - released


async def _one(client: Client, pause: float) -> float:
    await asyncio.sleep(pause)  # an idle system, not one that is still warm from the task before
    began = time.perf_counter()
    await client.one()
    return time.perf_counter() - began
