"""One attempt: find its arguments, run it, and make an outcome of what comes back."""

from __future__ import annotations

import asyncio
import logging
from types import CoroutineType
from typing import TYPE_CHECKING, Any, ClassVar

from graflow.core.boundary import UserCode
from graflow.core.calls import check_iteration, find_arguments
from graflow.core.context import SyncTaskContext, TaskContext
from graflow.core.groups import item_count
from graflow.core.outcome import Failure, Iteration, Outcome, Retry, Success, Suspend, describe
from graflow.core.retry import RetryLater, seconds_to_wait
from graflow.core.suspension import SuspendStep
from graflow.errors import ConfigurationError, GraflowError, GraphError, TaskTimeoutError
from graflow.handlers import Handler, TaskCall, ThreadHandler
from graflow.wire.functions import code_for_child
from graflow.wire.signing import signing_for
from graflow.worker.services import TaskServices

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
    from random import Random
    from types import TracebackType

    from graflow.backends.base import Backend, Delivery
    from graflow.core.context import BaseContext
    from graflow.core.outcome import Directives, NewTask
    from graflow.worker.metrics import Counter

logger: logging.Logger = logging.getLogger("graflow.worker")


class AwaitedHook(UserCode):
    """User code on the event loop, awaited in the asyncio task ``runner``.

    A coroutine that is dropped half-way is closed with ``GeneratorExit``, which must go on. It is not the loop that does that, and so the asyncio
    task is not the current one then; where it is, the code has raised it itself.
    """

    __slots__ = ("_runner",)

    def __init__(self, runner: asyncio.Task[Any]) -> None:
        super().__init__()
        self._runner = runner

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> bool:
        if kind is GeneratorExit and asyncio.current_task(self._runner.get_loop()) is not self._runner:
            return False
        return super().__exit__(kind, error, trace)


class AwaitedCode(AwaitedHook):
    """The same, where a cancellation is nobody's error."""

    __slots__ = ()

    passing: ClassVar[tuple[type[BaseException], ...]] = (*UserCode.passing, asyncio.CancelledError)


class AttemptRunner:
    """Runs deliveries to their outcomes.

    Args:
        backend: where arguments are found.
        handlers: by name; ``thread`` among them.
        resources: what ``lifespan`` yielded, seen as ``ctx.resources``.
        random: draws the jitter of retries.
        counter: where attempts are counted.
        timeout: of tasks that have none of their own.
    """

    def __init__(
        self,
        backend: Backend,
        handlers: Mapping[str, Handler],
        resources: Mapping[str, Any],
        random: Random,
        counter: Counter,
        *,
        timeout: float | None = None,
    ) -> None:
        self._backend = backend
        self._handlers = handlers
        self._resources = resources
        self._random = random
        self._monotonic = backend.clock.monotonic
        self._seals = backend.seals
        self._signer = backend.signer
        threads = handlers["thread"]
        self._threads = threads if isinstance(threads, ThreadHandler) else ThreadHandler()
        self._hooked = {name for name, handler in handlers.items() if _has_hooks(handler)}
        self._counter = counter
        self._timeout = timeout
        self.heeds_keyboard = True
        """whether an interrupt may come from the keyboard; a process that has its own way with signals is not interrupted by them"""
        self.closing = False
        """the worker cancels the attempts that have not ended, in order to hand them back"""

    def run(self, delivery: Delivery, runner: asyncio.Task[Any]) -> Coroutine[Any, Any, Outcome | None]:
        """The outcome of an attempt, run in the asyncio task ``runner``, which is the one that calls this; None if the attempt was stopped."""
        return self._run(delivery, runner) if self._signer is None else self._run_signing(delivery, runner)

    async def _run_signing(self, delivery: Delivery, runner: asyncio.Task[Any]) -> Outcome | None:
        with signing_for(self._signer, delivery.spec.run_id):
            return await self._run(delivery, runner)

    async def _run(self, delivery: Delivery, runner: asyncio.Task[Any]) -> Outcome | None:
        began = self._monotonic()
        call: TaskCall | None = None
        value: Any = None
        try:
            with AwaitedCode(runner) as code:
                plan = delivery.call
                arguments = plan.fixed if plan.needs_nothing and not delivery.iterated else await self._arguments(delivery)
                if self._seals:  # nobody else may see what the task does to its arguments
                    who, seal = delivery.spec.task_id, self._backend.seal
                    arguments = {name: seal(given, name=f"argument {who}.{name}") for name, given in arguments.items()}
                call = TaskCall(delivery, arguments, self)
                if plan.context is not None:
                    call.arguments = {plan.context: call.context, **arguments}
                handler = self._handlers[delivery.spec.handler]
                delivery.interrupt = runner.cancel
                timeout = delivery.task.options.timeout or handler.timeout or self._timeout
                if not delivery.stopped:  # while there was nothing to interrupt yet
                    value = await handler.run(call) if timeout is None else await _within(timeout, handler, call)
            error: BaseException | None = code.error
        except asyncio.CancelledError as cancelled:
            error = cancelled
        except KeyboardInterrupt as interrupt:
            if self.heeds_keyboard:
                raise
            error = interrupt
        finally:
            delivery.interrupt = None
            if delivery.stopped:
                delivery.cancelled = True
        if runner.cancelling():
            if self.closing and error is not None and not delivery.stopped:
                raise asyncio.CancelledError  # to be handed back, whatever the task made of its being cancelled
            await _absorb_cancellation()
        if delivery.stopped:
            return None
        # A cancellation is a failure by now: the task cancelled itself, or awaited something that somebody else cancelled.
        outcome = self._judge(delivery, call, value, error)
        seconds = self._monotonic() - began
        self._count(outcome, seconds)
        if self._hooked and call is not None and delivery.spec.handler in self._hooked:
            error = outcome.exception if error is None and type(outcome) is Failure else error
            await self._call_hooks(self._handlers[delivery.spec.handler], call, error, seconds, runner)
        return outcome

    async def _arguments(self, delivery: Delivery) -> dict[str, Any]:
        view = await self._backend.coordinator.view(delivery, delivery.call.names)
        return find_arguments(delivery.call, view, delivery.spec.task_id)

    # ---- what a call asks of its host ----

    def services_of(self, call: TaskCall) -> TaskServices:
        """What a context is made over."""
        return TaskServices(self._backend, call.delivery)

    def context_of(self, call: TaskCall) -> BaseContext:
        """The context to hand to the task."""
        kind = TaskContext if call.task.is_async else SyncTaskContext
        return kind(
            self.services_of(call),
            run_id=call.run_id,
            task_id=call.task_id,
            attempt=call.attempt,
            cycle=call.cycle,
            max_cycles=call.task.options.max_cycles,
            workflow=call.delivery.workflow,
            resources=self._resources,
        )

    def offload(self, call: TaskCall, function: Callable[[], Any]) -> Awaitable[Any]:
        """Call a function in one of the worker's threads."""
        return self._threads.offload(call, function)

    # ---- outcomes ----

    def _judge(self, delivery: Delivery, call: TaskCall | None, value: Any, error: BaseException | None) -> Outcome:
        if error is not None:
            return self._failed(delivery, error)
        if type(value) is CoroutineType:
            value.close()
            text = f"task {delivery.spec.task_id!r} returned a coroutine, which nobody awaits; write: return await ..."
            return self._failed(delivery, GraflowError(text))
        context = call.given_context if call is not None else None
        directives = context.requested if context is not None else None
        if directives is None and not self._seals and not delivery.feeds_map:
            return Success(value)
        return self._sealed(delivery, value, directives)

    def _count(self, outcome: Outcome, seconds: float) -> None:
        if type(outcome) is Success:
            self._counter.succeeded += 1
        elif type(outcome) is Suspend:
            return
        else:
            self._counter.failed += 1
        self._counter.seconds += seconds

    def _sealed(self, delivery: Delivery, value: Any, directives: Directives | None) -> Success | Failure:
        """Success, unless something cannot travel or cannot be run: that fails the task."""
        items: int | None = None
        with UserCode() as code:
            items = item_count(value) if delivery.feeds_map else None
            value = self._backend.seal(value, name=f"result of {delivery.spec.task_id}")
            if directives is not None:
                self._check_new_tasks(directives.new)
                if directives.iteration is not None:
                    check_iteration(delivery.call, directives.iteration, delivery.spec.task_id)
                    directives.iteration = self._seal_iteration(directives.iteration)
        if code.error is not None:
            return describe(code.error, delivery.spec.task_id, delivery.spec.attempt)
        return Success(value, directives, items)

    def _seal_iteration(self, iteration: Iteration) -> Iteration:
        data, seal = iteration.data, self._backend.seal
        arguments = {name: seal(value, name=f"next_iteration({name}=...)") for name, value in iteration.arguments.items()}
        return Iteration(seal(data, name="next_iteration(data)") if iteration.has_data else data, arguments)

    def _check_new_tasks(self, requests: Iterable[NewTask]) -> None:
        """A task for a handler that nobody has would wait for ever, and one with arguments that cannot travel would get nowhere."""
        for request in requests:
            for name, value in request.task.bound.items():
                self._backend.seal(value, name=f"bound argument {request.task.id}.{name}")
            handler = self._handlers.get(request.task.handler_kind)
            if handler is None and self._backend.local:
                raise unknown_handler(request.task.id, request.task.handler_kind, self._handlers)
            if handler is not None and handler.sends_code:
                code_for_child(request.task.spec, self._backend.signer, task_id=request.task.id, again=True)

    def _failed(self, delivery: Delivery, error: BaseException) -> Outcome:
        """What follows from an error. It is the user's too, and can be made so that it cannot even be read."""
        with UserCode() as code:
            return self._failure(delivery, error)
        return describe(code.error or error, delivery.spec.task_id, delivery.spec.attempt)

    def _failure(self, delivery: Delivery, error: BaseException) -> Outcome:
        spec = delivery.spec
        if isinstance(error, SuspendStep):
            return Suspend(_checked_reason(error, spec.task_id))
        failure = describe(error, spec.task_id, spec.attempt)
        if isinstance(error, RetryLater):
            return Retry(_checked_wait(error.after, "RetryLater(after=...)", error, spec.task_id), failure.error, counted=False)
        policy = delivery.task.options.retry
        if policy is not None and spec.retries < policy.max_retries and policy.retries(error):
            wait = policy.delay(spec.retries + 1, self._random.random)
            return Retry(_checked_wait(wait, f"delay() of its {type(policy).__name__}", error, spec.task_id), failure.error)
        return failure

    async def _call_hooks(
        self, handler: Handler, call: TaskCall, error: BaseException | None, seconds: float, runner: asyncio.Task[Any]
    ) -> None:
        with AwaitedHook(runner) as code:
            if error is None:
                await handler.on_task_success(call, seconds)
            elif isinstance(error, TaskTimeoutError):
                await handler.on_task_timeout(call, seconds)
            else:
                await handler.on_task_failure(call, error, seconds)
        if code.error is not None:  # the outcome stands; the hook's own failure is told where operators look
            logger.error(
                "a hook of %s raised", type(handler).__name__, exc_info=code.error, extra={"run_id": call.run_id, "task_id": call.task_id}
            )

    @property
    def abandoned_threads(self) -> int:
        """Threads that still run a task nobody waits for."""
        return self._threads.abandoned


def _checked_wait(seconds: Any, whose: str, error: BaseException, task_id: str) -> float:
    """Seconds that every backend can write; a GraphError for anything else, lest the outcome be found to be unwritable where nobody is to blame."""
    wait = seconds_to_wait(seconds)
    if wait is None:
        raise GraphError(f"task {task_id!r} is to be tried again after {seconds!r:.100} s, by {whose}: give a number, 0 or more") from error
    return wait


def _checked_reason(error: SuspendStep, task_id: str) -> str:
    """The same for what a suspended step waits for."""
    reason: Any = error.reason
    if not isinstance(reason, str):
        raise GraphError(f"task {task_id!r} suspends with the reason {reason!r:.100}, a {type(reason).__name__}: give a text") from error
    plain = str.__str__(reason)  # of an enum, its value
    try:
        plain.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        raise GraphError(f"task {task_id!r} suspends with the reason {plain!r:.100}, which cannot be written as UTF-8") from error
    return plain


def unknown_handler(task_id: str, kind: str, known: Mapping[str, Handler]) -> ConfigurationError:
    """The error for a task whose handler does not exist here."""
    return ConfigurationError(
        f"task {task_id!r} asks for the handler {kind!r}, but there are only {', '.join(map(repr, known))}; "
        f"register it with handlers={{{kind!r}: ...}}",
        setting="handlers",
    )


async def _within(timeout: float, handler: Handler, call: TaskCall) -> Any:
    """Run with a limit in seconds. A task that swallows its cancellation, or makes another error of it, has timed out all the same."""
    limit = asyncio.timeout(timeout)
    value: Any = None
    try:
        async with limit:
            value = await handler.run(call)
    except Exception as error:
        if limit.expired():
            raise _timed_out(timeout, call) from error  # by which the traceback shows where the time went
        raise
    if limit.expired():
        raise _timed_out(timeout, call)
    return value


def _timed_out(timeout: float, call: TaskCall) -> TaskTimeoutError:
    call.cancelled = True
    return TaskTimeoutError(
        f"task {call.task_id!r} (attempt {call.attempt}) ran longer than its timeout of {timeout:g} s; give it more time, or make it faster",
        task_id=call.task_id,
        timeout=timeout,
    )


async def _absorb_cancellation() -> None:
    """Take in a cancellation that came too late for the attempt, lest it strike what its outcome is written with."""
    try:
        await asyncio.sleep(0)
    except asyncio.CancelledError:
        return


def _has_hooks(handler: Handler) -> bool:
    names = ("on_task_success", "on_task_failure", "on_task_timeout")
    return any(getattr(type(handler), name) is not getattr(Handler, name) for name in names)
