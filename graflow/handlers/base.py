"""The contract between the worker and whatever runs a function."""

from __future__ import annotations

from abc import ABC, abstractmethod
from types import CoroutineType
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from graflow.core.staying import StaysHere
from graflow.errors import GraflowError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from graflow.backends.base import Delivery
    from graflow.core.context import BaseContext, ContextServices
    from graflow.core.task import Task
    from graflow.wire.keys import Signer


class WorkerInfo(Protocol):
    """What a handler may know of the worker that it belongs to."""

    @property
    def worker_id(self) -> str:
        """What the worker is called."""
        ...

    @property
    def place(self) -> str:
        """Where its runs live; the same for all workers of one backend and namespace, and for no other."""
        ...

    @property
    def signer(self) -> Signer | None:
        """The keys that code which cannot be imported is signed and verified with; None without one."""
        ...

    async def living(self) -> frozenset[str] | None:
        """The workers of this place that hold a lease now, by id; None where there are no leases, as in memory."""
        ...


class CallHost(Protocol):
    """What a call needs of the worker that makes it."""

    def context_of(self, call: TaskCall) -> BaseContext:
        """The context to hand to the task."""
        ...

    def services_of(self, call: TaskCall) -> ContextServices:
        """What a context of this attempt is made over: for handlers that have theirs in another process."""
        ...

    def offload(self, call: TaskCall, function: Callable[[], Any]) -> Awaitable[Any]:
        """Call a function in a thread."""
        ...


class TaskCall:
    """One attempt, ready to be run.

    Attributes:
        task: the task, with its options.
        arguments: what the function is called with, by name; the context is among them where the function takes one.
    """

    __slots__ = ("_context", "_delivery", "_host", "arguments", "task")

    def __init__(self, delivery: Delivery, arguments: Mapping[str, Any], host: CallHost) -> None:
        self.task: Task[..., Any] = delivery.task
        self.arguments: Mapping[str, Any] = arguments
        self._context: BaseContext | None = None
        self._delivery = delivery
        self._host = host

    @property
    def run_id(self) -> str:
        """The run."""
        return self._delivery.spec.run_id

    @property
    def task_id(self) -> str:
        """The task's id in the run."""
        return self._delivery.spec.task_id

    @property
    def attempt(self) -> int:
        """Which attempt of this visit, from 1."""
        return self._delivery.spec.attempt

    @property
    def cycle(self) -> int:
        """Which visit of this task in the run, from 1."""
        return self._delivery.spec.cycle

    @property
    def cancelled(self) -> bool:
        """Whether the attempt has been told to stop; read by ``ctx.is_cancelled`` from other threads."""
        return self._delivery.cancelled

    @cancelled.setter
    def cancelled(self, value: bool) -> None:
        self._delivery.cancelled = value

    @property
    def waiting(self) -> int:
        """How many calls into the event loop the task waits for; changed on the loop only."""
        return self._delivery.waiting

    @waiting.setter
    def waiting(self, value: int) -> None:
        self._delivery.waiting = value

    @property
    def delivery(self) -> Delivery:
        """The attempt as the backend handed it out."""
        return self._delivery

    @property
    def context(self) -> BaseContext:
        """The context of the attempt, made when first asked for."""
        if self._context is None:
            self._context = self._host.context_of(self)
        return self._context

    @property
    def given_context(self) -> BaseContext | None:
        """The context, if anybody has asked for it."""
        return self._context

    @property
    def services(self) -> ContextServices:
        """The run's channel, results and observers, for a handler whose tasks have their context elsewhere."""
        return self._host.services_of(self)

    def invoke(self) -> Awaitable[Any]:
        """Call the function the ordinary way: an ``async def`` is awaited here, a ``def`` runs in a thread of the worker.

        Returns:
            What to await: the function's own coroutine, where it has one. What the function raises is raised there.
        """
        spec = self.task.spec
        if spec.is_async:
            started: Awaitable[Any] = spec.signature.call(spec.function, self.arguments)
            return started
        return self._host.offload(self, self.call_blocking)

    def call_blocking(self) -> Any:
        """Call a ``def`` on the spot. A coroutine among what comes back means that it should have been an ``async def``."""
        spec = self.task.spec
        value = spec.signature.call(spec.function, self.arguments)
        if type(value) is CoroutineType:
            value.close()
            raise GraflowError(f"task {self.task_id!r} is a def that returned a coroutine, which nobody awaits; declare it async def")
        return value


class Handler(StaysHere, ABC):
    """Runs functions in some way. Subclass it and register an instance: ``WorkflowEngine(handlers={"mine": MyHandler()})``.

    Attributes:
        concurrency: how many attempts this handler takes at once; None for the worker's own ``concurrency``.
        timeout: seconds for tasks that set no timeout of their own, before the worker's own; None for any.
        sends_code: whether functions must get to another process, so that those which cannot are refused when they are submitted.

    Example:
        >>> class Logged(Handler):
        ...     async def run(self, call: TaskCall) -> Any:
        ...         print("calling", call.task_id)
        ...         return await call.invoke()
    """

    instead = "name it in `@task(handler=...)`, and give the object to the engine or worker"

    concurrency: int | None = None
    timeout: float | None = None
    sends_code: ClassVar[bool] = False

    @property
    def at_work(self) -> int:
        """How many attempts something other than the event loop is at work on, such as a thread or a process.

        While there are any, an idle event loop does not mean that nothing goes on: the virtual time of tests waits for them.
        """
        return 0

    @abstractmethod
    def run(self, call: TaskCall) -> Awaitable[Any]:
        """Run the attempt and return what the task returned; write it as ``async def run``.

        What this raises is the failure of the attempt. On a timeout, or when the attempt is stopped, it is cancelled.
        """

    def introduce(self, worker: WorkerInfo) -> None:
        """Called once before :meth:`start`: whose handler this is."""

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
