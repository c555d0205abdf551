"""What a task's context can ask of the worker that runs it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from graflow.backends.base import Backend, Delivery
    from graflow.core.channel import Channel

T = TypeVar("T")


class TaskServices:
    """The outside world of one attempt: its run's channel, results and observers."""

    __slots__ = ("_backend", "_delivery", "_loop")

    def __init__(self, backend: Backend, delivery: Delivery) -> None:
        self._backend = backend
        # And not the call: that leads to the context, and so back to here. The two would keep the plan of their run until garbage is collected.
        self._delivery = delivery
        self._loop = asyncio.get_running_loop()

    @property
    def channel(self) -> Channel:
        """The run's channel."""
        return self._backend.coordinator.channel(self._delivery.spec.run_id)

    async def result_of(self, node_id: str) -> Any:
        """The result of any completed node of the run."""
        return await self._backend.coordinator.result_of(self._delivery, node_id)

    def publish(self, type: str, data: Mapping[str, Any]) -> None:
        """Tell the run's observers something; from any thread."""
        sealed = {name: self._backend.seal(value, name=name) for name, value in data.items()}
        try:
            here = asyncio.get_running_loop() is self._loop
        except RuntimeError:
            here = False
        if here:
            self._backend.coordinator.publish(self._delivery, type, sealed)
        else:
            self._loop.call_soon_threadsafe(self._backend.coordinator.publish, self._delivery, type, sealed)

    def is_cancelled(self) -> bool:
        """Whether the attempt has been told to stop."""
        return self._delivery.cancelled or self._delivery.stopped

    def now(self) -> float:
        """Monotonic seconds."""
        return self._backend.clock.monotonic()

    def call(self, function: Callable[..., Awaitable[T]], /, *args: Any) -> T:
        """Run a coroutine function on the worker's loop and block this thread for its result."""
        if asyncio._get_running_loop() is self._loop:  # would wait for itself for ever
            raise RuntimeError("a SyncTaskContext was used on the event loop; it is for the thread of its own def task")
        return asyncio.run_coroutine_threadsafe(_awaited(self._delivery, function, args), self._loop).result()


async def _awaited(delivery: Delivery, function: Callable[..., Awaitable[T]], args: tuple[Any, ...]) -> T:
    delivery.waiting += 1
    try:
        return await function(*args)
    finally:
        delivery.waiting -= 1  # here and not in the thread, which may take its time to wake up: it is at work from now on
