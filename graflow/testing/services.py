"""The outside world of a task that is called without a run."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, TypeVar

from graflow.backends.memory.channel import MemoryChannel
from graflow.core.node import Node
from graflow.errors import GraflowError, MissingArgumentError
from graflow.testing.clock import VirtualClock

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from graflow.core.channel import Channel

T = TypeVar("T")

FOR_EVER = 3600.0 * 24
"""virtual seconds after which a call that has no timeout will not be answered any more"""


class FakeServices:
    """A channel, some results, and a list of what was published.

    Attributes:
        published: events in order, as pairs of their type and their data.
        stopped: whether the task has been told to stop.
    """

    def __init__(self, task_id: str, channel: Mapping[str, Any] | None, results: Mapping[Any, Any] | None) -> None:
        self.published: list[tuple[str, dict[str, Any]]] = []
        self.stopped = False
        self._task_id = task_id
        self._channel = MemoryChannel(values=channel)
        self._results = {node.id if isinstance(node, Node) else node: value for node, value in (results or {}).items()}

    @property
    def channel(self) -> Channel:
        """A channel in memory."""
        return self._channel

    async def result_of(self, node_id: str) -> Any:
        """One of the results that were given."""
        if node_id not in self._results:
            raise MissingArgumentError(
                f"result_of({node_id!r}): the context of this test was made without it; give it results={{{node_id!r}: ...}}",
                task_id=self._task_id, parameter=node_id, available=list(self._results),
            )  # fmt: skip
        return self._results[node_id]

    def publish(self, type: str, data: Mapping[str, Any]) -> None:
        """Keep an event."""
        self.published.append((type, dict(data)))

    def is_cancelled(self) -> bool:
        """Whether the task has been told to stop."""
        return self.stopped

    def now(self) -> float:
        """Seconds by the clock of the event loop, where there is one."""
        try:
            return asyncio.get_running_loop().time()
        except RuntimeError:
            return time.monotonic()

    def call(self, function: Callable[..., Awaitable[T]], /, *args: Any) -> T:
        """Run a coroutine function to its end, in this thread.

        Nobody else is there to put into the channel what the call might wait for, so a timeout runs out at once, and a wait without one is
        an error.
        """
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return asyncio.run(_within_virtual_time(function, args))
        return _without_waiting(function, args)


async def _within_virtual_time(function: Callable[..., Awaitable[T]], args: tuple[Any, ...]) -> T:
    with VirtualClock():
        patience = asyncio.timeout(FOR_EVER)
        try:
            async with patience:
                return await function(*args)
        except TimeoutError:
            if not patience.expired():
                raise  # the call's own
        raise _would_wait()


def _without_waiting(function: Callable[..., Awaitable[T]], args: tuple[Any, ...]) -> T:
    """The same on the thread of a running event loop, which cannot be run once more to wait for something."""
    steps = function(*args).__await__()
    try:
        next(steps)
    except StopIteration as end:
        value: T = end.value
        return value
    steps.close()
    raise _would_wait()


def _would_wait() -> GraflowError:
    return GraflowError(
        "the task waits for a channel key or a lock that nobody will give it: it is called alone here; "
        "give the context channel={...}, or run the task in a graph on testing.engine()"
    )
