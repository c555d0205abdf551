"""Plain functions, in threads of the worker."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, Any

import anyio
import anyio.to_thread

from graflow.core.boundary import raised_by_task
from graflow.errors import ConfigurationError
from graflow.handlers.base import Handler

if TYPE_CHECKING:
    from collections.abc import Callable

    from graflow.handlers.base import TaskCall

logger: logging.Logger = logging.getLogger("graflow.handlers.thread")

THREADS = 32
"""threads of one worker unless it is told otherwise: enough for blocking I/O, few enough for their stacks"""


class ThreadHandler(Handler):
    """Runs ``def`` tasks in threads, with the context variables of the attempt.

    A thread cannot be killed. On a timeout or a stop its task is *abandoned*: ``ctx.is_cancelled`` turns true, what it returns is dropped, and
    another thread takes its place, so that the worker's capacity stays what it was.

    Args:
        threads: how many run at once.

    Attributes:
        abandoned: threads that still run a task which nobody waits for any more.
    """

    def __init__(self, threads: int = THREADS) -> None:
        if not isinstance(threads, int) or isinstance(threads, bool) or threads < 1:  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ConfigurationError(f"ThreadHandler(threads={threads!r}): give the number of threads, 1 or more", setting="threads")
        self.concurrency: int | None = threads
        self.abandoned = 0
        self._limiter: anyio.CapacityLimiter | None = None
        self._calls: set[TaskCall] = set()

    @property
    def at_work(self) -> int:
        """How many threads run a task, those left out that wait for the event loop."""
        return sum(not call.delivery.waiting for call in self._calls)

    async def run(self, call: TaskCall) -> Any:
        """Run the task in a thread; an ``async def`` given to this handler is awaited on the loop."""
        if call.task.is_async:
            return await call.invoke()
        return await self.offload(call, call.call_blocking)

    async def offload(self, call: TaskCall, function: Callable[[], Any]) -> Any:
        """Call a function in one of the threads. Cancelling the wait abandons it."""
        if self._limiter is None:
            self._limiter = anyio.CapacityLimiter(self.concurrency or THREADS)
        outcome = _Watched(self, call, function)
        self._calls.add(call)
        try:
            value = await anyio.to_thread.run_sync(outcome, abandon_on_cancel=True, limiter=self._limiter)
            if type(value) is _Exit:
                raise value.error
            return value
        finally:
            self._calls.discard(call)
            outcome.leave()


class _Exit:
    """What a function raised that means something else to whom it is thrown into: a coroutine is closed by ``GeneratorExit``."""

    __slots__ = ("error",)

    def __init__(self, error: BaseException) -> None:
        self.error = error


class _Watched:
    """A function in a thread, and whether anybody still waits for it."""

    __slots__ = ("_call", "_ended", "_function", "_handler", "_left", "_lock", "_running")

    def __init__(self, handler: ThreadHandler, call: TaskCall, function: Callable[[], Any]) -> None:
        self._handler = handler
        self._call = call
        self._function = function
        self._lock = threading.Lock()  # the thread may begin or end at the very moment in which the loop gives it up
        self._running = False
        self._left = False
        self._ended = False

    def __call__(self) -> Any:
        with self._lock:
            if self._left:
                return None  # given up before it began
            self._running = True
        try:
            return self._function()
        except (KeyboardInterrupt, GeneratorExit) as error:
            raised_by_task(error)
            return _Exit(error)
        finally:
            with self._lock:
                self._running, self._ended = False, True
                if self._left:
                    self._handler.abandoned -= 1
            if self._left:
                logger.info("an abandoned thread has ended", extra={"run_id": self._call.run_id, "task_id": self._call.task_id})

    def leave(self) -> None:
        """Nobody waits any more; if the function still runs, it is abandoned."""
        if self._ended:
            return
        self._call.cancelled = True
        with self._lock:
            self._left = True
            if not self._running:
                return
            self._handler.abandoned += 1
        run_id, task_id = self._call.run_id, self._call.task_id
        logger.warning("task %s does not stop; its thread is abandoned", task_id, extra={"run_id": run_id, "task_id": task_id})
