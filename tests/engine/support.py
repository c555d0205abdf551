"""What the tests of engine and worker share: meters, gates, and a look at what a loop still holds."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from graflow import RunEvent, RunHandle
from graflow.handlers import Handler, TaskCall

_listdir = os.listdir  # as it is before anybody watches for blocking calls


async def turns(count: int = 20) -> None:
    """Let the loop go round so often: whatever can happen without time passing has happened then."""
    for _ in range(count):
        await asyncio.sleep(0)


async def until(condition: Callable[[], object]) -> None:
    """Let the loop go round until something that happens in another thread has happened."""
    while not condition():  # noqa: ASYNC110 - nobody in that thread would set an event
        await asyncio.sleep(0)


class Meter:
    """How many are inside at once, and the most that ever were. For coroutines and threads."""

    def __init__(self) -> None:
        self.now = 0
        self.most = 0
        self.entered = 0
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        with self._lock:
            self.now += 1
            self.entered += 1
            self.most = max(self.most, self.now)

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self.now -= 1


class Gate:
    """A door that tasks wait at. ``arrived(n)`` waits until n of them do; ``open()`` lets all pass, now and later."""

    def __init__(self) -> None:
        self.waiting = 0
        self.unwound = 0
        """how many were cancelled while they waited"""
        self._open = asyncio.Event()
        self._arrival = asyncio.Event()

    async def wait(self) -> None:
        self.waiting += 1
        self._arrival.set()
        try:
            await self._open.wait()
        except asyncio.CancelledError:
            self.unwound += 1
            raise
        finally:
            self.waiting -= 1

    async def arrived(self, count: int = 1) -> None:
        while self.waiting < count:
            self._arrival.clear()
            await self._arrival.wait()

    def open(self) -> None:
        self._open.set()


def timers() -> list[asyncio.TimerHandle]:
    """The timers of the running loop that are still to go off, those of the tests' own limits left out."""
    scheduled: list[asyncio.TimerHandle] = asyncio.get_running_loop()._scheduled  # type: ignore[attr-defined]
    return [timer for timer in scheduled if not timer.cancelled()]


def open_files() -> set[str]:
    """The descriptors that the process has open."""
    return set(_listdir("/proc/self/fd"))


async def collected(handle: RunHandle[Any], after: str | None = None) -> list[RunEvent]:
    """All events of a run, to its end."""
    return [event async for event in handle.events(after)]


def told(events: list[RunEvent]) -> list[str]:
    """Events in short: ``type`` or ``type:task``, with ``#2`` for a second attempt."""
    return [
        event.type + (f":{event.task_id}" if event.task_id else "") + (f"#{event.attempt}" if (event.attempt or 1) > 1 else "")
        for event in events
    ]


@asynccontextmanager
async def nothing_left() -> AsyncIterator[None]:
    """Fail if the block leaves more asyncio tasks, timers or open files than there were."""
    tasks, clocks, files = asyncio.all_tasks(), timers(), open_files()
    yield
    await turns()
    assert asyncio.all_tasks() - tasks == set()
    assert [timer for timer in timers() if timer not in clocks] == []
    assert open_files() - files == set()


class Recording(Handler):
    """Runs what it is given, and notes what it was told."""

    def __init__(self) -> None:
        self.calls: list[TaskCall] = []
        self.told: list[tuple[Any, ...]] = []

    async def run(self, call: TaskCall) -> Any:
        self.calls.append(call)
        return await call.invoke()

    async def start(self) -> None:
        self.told.append(("start",))

    async def stop(self) -> None:
        self.told.append(("stop",))

    async def on_task_success(self, call: TaskCall, duration: float) -> None:
        self.told.append(("success", call.task_id, call.attempt, duration))

    async def on_task_failure(self, call: TaskCall, error: BaseException, duration: float) -> None:
        self.told.append(("failure", call.task_id, call.attempt, error, duration))

    async def on_task_timeout(self, call: TaskCall, duration: float) -> None:
        self.told.append(("timeout", call.task_id, call.attempt, duration))
