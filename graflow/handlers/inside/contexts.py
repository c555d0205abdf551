"""The context of a task whose child has no Graflow: the same names, over requests to the worker."""

from __future__ import annotations

import logging
import time
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Generator

    from graflow.handlers.inside.calls import Requests

_METHODS = ("set", "delete", "exists", "keys", "clear", "append", "prepend", "atomic_add", "wait")


class _Channel:
    def __init__(self, requests: Requests) -> None:
        self._requests = requests


class AsyncChannel(_Channel):
    """The run's channel, for ``async def`` tasks."""

    async def get(self, key: str, default: Any = None, /) -> Any:
        """The value under a key, or the default, which stays here."""
        found, value = await self._requests.ask("channel.find", key)
        return value if found else default

    @asynccontextmanager
    async def lock(self, key: str, /, *, wait: float | None = None, ttl: float = 30.0) -> AsyncGenerator[None]:
        """Hold a lock for the length of an ``async with``."""
        held = await self._requests.ask("lock", key, wait=wait, ttl=ttl)
        try:
            yield
        finally:
            await self._requests.ask("unlock", held)


class BlockingChannel(_Channel):
    """The run's channel, for ``def`` tasks."""

    def get(self, key: str, default: Any = None, /) -> Any:
        """The value under a key, or the default, which stays here."""
        found, value = self._requests.ask_blocking("channel.find", key)
        return value if found else default

    @contextmanager
    def lock(self, key: str, /, *, wait: float | None = None, ttl: float = 30.0) -> Generator[None]:
        """Hold a lock for the length of a ``with``."""
        held = self._requests.ask_blocking("lock", key, wait=wait, ttl=ttl)
        try:
            yield
        finally:
            self._requests.ask_blocking("unlock", held)


def _add(name: str) -> None:
    async def waiting(self: AsyncChannel, *args: Any, **kwargs: Any) -> Any:
        return await self._requests.ask(f"channel.{name}", *args, **kwargs)  # pyright: ignore[reportPrivateUsage]

    def blocking(self: BlockingChannel, *args: Any, **kwargs: Any) -> Any:
        return self._requests.ask_blocking(f"channel.{name}", *args, **kwargs)  # pyright: ignore[reportPrivateUsage]

    setattr(AsyncChannel, name, waiting)
    setattr(BlockingChannel, name, blocking)


for _name in _METHODS:
    _add(_name)


class _Context:
    """Who and where the task is, and what it asks of its run. See :class:`graflow.core.context.BaseContext`."""

    def __init__(self, requests: Requests, who: dict[str, Any]) -> None:
        self.run_id: str = who["run_id"]
        self.task_id: str = who["task_id"]
        self.attempt: int = who["attempt"]
        self.cycle: int = who["cycle"]
        self.max_cycles: int | None = who["max_cycles"]
        self.workflow: str = who["workflow"]
        self.resources: dict[str, Any] = {}
        self.asked: dict[str, Any] = {}
        """the directives, as they go to the worker"""
        self._requests = requests
        self._started = time.monotonic()
        self.logger: logging.Logger = logging.getLogger("graflow.task")

    @property
    def idempotency_key(self) -> str:
        return f"{self.run_id}:{self.task_id}:{self.cycle}"

    @property
    def is_cancelled(self) -> bool:
        return self._requests.cancelled

    def can_iterate(self) -> bool:
        return self.max_cycles is None or self.cycle < self.max_cycles

    def elapsed(self) -> float:
        return time.monotonic() - self._started

    def progress(self, done: float, total: float | None = None, message: str = "") -> None:
        self._requests.tell("progress", {"done": done, "total": total, "message": message})

    def emit(self, data: Any, name: str = "message") -> None:
        self._requests.tell("message", {"name": name, "data": data})

    def next_task(self, task: Any, /, *, goto: bool = False, if_exists: str = "error") -> None:
        self.goto(task)

    def goto(self, target: Any, /) -> None:
        id = target if isinstance(target, str) else getattr(target, "id", None)
        if not isinstance(id, str):
            raise TypeError(f"{target!r} is no task of the graph: where Graflow is not installed, a task can only go to tasks by their ids")
        self.asked.setdefault("goto", []).append(id)

    def next_iteration(self, *data: Any, **arguments: Any) -> None:
        self.asked["iteration"] = [list(data), arguments]

    def end_loop(self) -> None:
        self.asked["end_loop"] = True

    def terminate_workflow(self, reason: str = "", /) -> None:
        self.asked["terminate"] = reason

    def cancel_workflow(self, reason: str = "", /) -> None:
        self.asked["cancel"] = reason


class Context(_Context):
    """The context of an ``async def`` task."""

    @property
    def channel(self) -> AsyncChannel:
        return AsyncChannel(self._requests)

    async def result_of(self, node: Any, /) -> Any:
        return await self._requests.ask("result_of", node if isinstance(node, str) else node.id)


class SyncContext(_Context):
    """The context of a ``def`` task."""

    @property
    def channel(self) -> BlockingChannel:
        return BlockingChannel(self._requests)

    def result_of(self, node: Any, /) -> Any:
        return self._requests.ask_blocking("result_of", node if isinstance(node, str) else node.id)
