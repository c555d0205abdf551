"""The contract between the worker and whatever runs a function."""

from __future__ import annotations

from abc import ABC, abstractmethod
from types import CoroutineType
from typing import TYPE_CHECKING, Any

from graflow.errors import GraflowError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from graflow.core.context import BaseContext
    from graflow.core.task import Task


class TaskCall:
    """One attempt, ready to be run.

    Attributes:
        run_id: the run.
        task_id: the task's id in the run.
        attempt: which attempt of this visit, from 1.
        cycle: which visit of this task, from 1.
        task: the task itself, with its options.
        arguments: what the function is called with, by name; the context is among them where the function takes one.
        context: the context of the attempt, made when first asked for.
        cancelled: whether the attempt has been told to stop; read by ``ctx.is_cancelled`` from other threads.
    """

    __slots__ = ("_make_context", "_offload", "arguments", "attempt", "cancelled", "cycle", "run_id", "task", "task_id", "_context")

    def __init__(
        self,
        task: Task[..., Any],
        arguments: Mapping[str, Any],
        *,
        run_id: str,
        task_id: str,
        attempt: int,
        cycle: int,
        make_context: Callable[[TaskCall], BaseContext],
        offload: Callable[[TaskCall, Callable[[], Any]], Awaitable[Any]],
    ) -> None:
        self.task = task
        self.arguments = arguments
        self.run_id = run_id
        self.task_id = task_id
        self.attempt = attempt
        self.cycle = cycle
        self.cancelled = False
        self._context: BaseContext | None = None
        self._make_context = make_context
        self._offload = offload

    @property
    def context(self) -> BaseContext:
        """The context of the attempt."""
        if self._context is None:
            self._context = self._make_context(self)
        return self._context

    @property
    def given_context(self) -> BaseContext | None:
        """The context, if anybody has asked for it."""
        return self._context

    async def invoke(self) -> Any:
        """Call the function the ordinary way: an ``async def`` is awaited here, a ``def`` runs in a thread of the worker.

        What the function raises is raised here.
        """
        if self.task.is_async:
            return await self.call()
        return await self._offload(self, self.call_blocking)

    def call(self) -> Any:
        """Call the function on the spot, and give what it gives: a coroutine, for an ``async def``."""
        return self.task.signature.call(self.task.function, self.arguments)

    def call_blocking(self) -> Any:
        """Call a ``def`` on the spot. A coroutine among what comes back means that it should have been an ``async def``."""
        value = self.call()
        if type(value) is CoroutineType:
            value.close()
            raise GraflowError(f"task {self.task_id!r} is a def that returned a coroutine, which nobody awaits; declare it async def")
        return value


class Handler(ABC):
    """Runs functions in some way. Subclass it and register an instance: ``WorkflowEngine(handlers={"mine": MyHandler()})``.

    Attributes:
        concurrency: how many attempts this handler takes at once; None for the worker's own ``concurrency``.

    Example:
        >>> class Logged(Handler):
        ...     async def run(self, call: TaskCall) -> Any:
        ...         print("calling", call.task_id)
        ...         return await call.invoke()
    """

    concurrency: int | None = None

    @abstractmethod
    async def run(self, call: TaskCall) -> Any:
        """Run the attempt and return what the task returned.

        What this raises is the failure of the attempt. On a timeout, or when the attempt is stopped, it is cancelled.
        """

    async def start(self) -> None:
        """Called once before the first attempt."""

    async def stop(self) -> None:
        """Called once after the last one, also when the worker fails."""

    async def on_task_success(self, call: TaskCall, duration: float) -> None:
        """An attempt has returned after ``duration`` seconds."""

    async def on_task_failure(self, call: TaskCall, error: BaseException, duration: float) -> None:
        """An attempt has raised ``error`` after ``duration`` seconds; it may be tried again."""

    async def on_task_timeout(self, call: TaskCall, duration: float) -> None:
        """An attempt has been stopped after ``duration`` seconds, as its timeout ran out."""
