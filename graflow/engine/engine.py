"""The engine: graphs in, results out."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any, Self, TypeVar, overload
from uuid import uuid4

from graflow.backends import open_backend
from graflow.backends.base import RunOptions
from graflow.core.naming import is_text
from graflow.core.staying import StaysHere
from graflow.engine.handle import RunHandle, shielded
from graflow.engine.planning import plan_of
from graflow.engine.stubs import with_stubs
from graflow.errors import ConfigurationError
from graflow.wire.functions import code_for_child
from graflow.wire.signing import signing_for
from graflow.worker import TaskWorker
from graflow.worker.attempt import unknown_handler

if TYPE_CHECKING:
    from types import TracebackType

    from graflow.backends.base import Backend, IfExists
    from graflow.core.graph import TaskGraph
    from graflow.core.launch import OnFailure, Stubs
    from graflow.core.node import Node
    from graflow.core.plan import Plan
    from graflow.core.result import RunResult
    from graflow.core.workflow import Workflow
    from graflow.handlers import Handler
    from graflow.worker.lifespan import Lifespan

R = TypeVar("R")


class WorkflowEngine(StaysHere):
    """Runs graphs inside an asyncio application.

    Args:
        url_or_backend: where runs live: ``"memory://"`` (this process), or a backend object.
        handlers: handlers by name, added to the built-in ones.
        concurrency: tasks at once, for each handler that has no limit of its own.
        namespace: keeps applications that share a server apart.
        embedded_worker: also run tasks in this process when runs live elsewhere; in memory that is always so.
        lifespan: an async context manager that yields a mapping, seen by tasks as ``ctx.resources``.
        seed: of the jitter of retries, None for a random one.
        secret_key: signs functions that cannot be imported, and values that opt in, so that they may travel; workers need the same.
            ``GRAFLOW_SECRET_KEY`` by default.

    Leaving ``async with engine`` cancels runs that live in this process, and leaves others alone.

    Example:
        >>> async with WorkflowEngine() as engine:
        ...     result = await engine.execute(fetch >> clean >> report, inputs={"limit": 10})
        ...     print(result.output)
    """

    instead = "hand on the URL of its server, and make an engine inside the function"

    def __init__(
        self,
        url_or_backend: str | Backend = "memory://",
        *,
        handlers: Mapping[str, Handler] | None = None,
        concurrency: int = 100,
        namespace: str = "graflow",
        embedded_worker: bool = False,
        lifespan: Lifespan | None = None,
        seed: int | None = None,
        secret_key: str | None = None,
    ) -> None:
        self.backend: Backend = open_backend(url_or_backend, namespace=namespace, local_code=embedded_worker, secret_key=secret_key)
        self.namespace = namespace
        self._worker: TaskWorker | None = None
        if self.backend.local or embedded_worker:
            self._worker = TaskWorker(
                self.backend, handlers=handlers, concurrency=concurrency, queues=None, lifespan=lifespan, grace=0.0, seed=seed
            )
        self._stack: AsyncExitStack | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def worker(self) -> TaskWorker | None:
        """The worker in this process, if there is one."""
        return self._worker

    async def __aenter__(self) -> Self:
        if self._stack is not None:
            raise ConfigurationError("this engine is in use already; make another WorkflowEngine()", setting="engine")
        async with AsyncExitStack() as stack:
            await self.backend.open()
            if self._worker is not None:
                try:
                    await stack.enter_async_context(self._worker)
                except BaseException:
                    await self.backend.close()
                    raise
            stack.push_async_callback(self.backend.close)  # closed first: the runs' tasks unwind while their worker still works
            self._stack = stack.pop_all()
        self._loop = asyncio.get_running_loop()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        stack, self._stack = self._stack, None
        if stack is not None:
            await shielded(stack.aclose())

    # ---- running ----

    @overload
    async def execute(
        self, graph: Node[R], *, inputs: Mapping[str, Any] | None = None, start: Node[Any] | str | None = None, run_id: str | None = None,
        timeout: float | None = None, max_steps: int | None = None, on_failure: OnFailure = "fail", stubs: Stubs | None = None,
    ) -> RunResult[R]: ...  # fmt: skip
    @overload
    async def execute(
        self, graph: Workflow[R], *, inputs: Mapping[str, Any] | None = None, start: Node[Any] | str | None = None, run_id: str | None = None,
        timeout: float | None = None, max_steps: int | None = None, on_failure: OnFailure = "fail", stubs: Stubs | None = None,
    ) -> RunResult[R]: ...  # fmt: skip
    @overload
    async def execute(
        self, graph: TaskGraph, *, inputs: Mapping[str, Any] | None = None, start: Node[Any] | str | None = None, run_id: str | None = None,
        timeout: float | None = None, max_steps: int | None = None, on_failure: OnFailure = "fail", stubs: Stubs | None = None,
    ) -> RunResult[Any]: ...  # fmt: skip
    async def execute(
        self, graph: Node[Any] | Workflow[Any] | TaskGraph, *, inputs: Mapping[str, Any] | None = None, start: Node[Any] | str | None = None,
        run_id: str | None = None, timeout: float | None = None, max_steps: int | None = None, on_failure: OnFailure = "fail",
        stubs: Stubs | None = None,
    ) -> RunResult[Any]:  # fmt: skip
        """Run a graph and wait for its result. Cancelling the wait cancels the run.

        Args:
            graph: a workflow, a ``TaskGraph``, a task, a chain or a group.
            inputs: the first values of the channel, which fill parameters of their names.
            start: the top-level node to begin with, instead of all that nothing leads to.
            run_id: what the run is called. The same id with the same graph and inputs is the same run.
            timeout: seconds until the run is ended with RunTimeoutError, None for never.
            max_steps: visits of tasks and groups that the run may make; 10 000 more than it has nodes by default.
            on_failure: ``"fail"`` ends the run at the first failure, ``"continue"`` lets independent branches finish first.
            stubs: functions to run instead of some tasks, for tests.

        Returns:
            The result of the run, which succeeded or is suspended.

        Raises:
            GraphError: the graph cannot run as it is written.
            RunError: the run did not succeed; the subclass says why, and its ``result`` holds what was completed.
        """
        handle = await self.submit(
            graph, inputs=inputs, start=start, run_id=run_id, timeout=timeout, max_steps=max_steps, on_failure=on_failure, stubs=stubs
        )
        try:
            return await handle.result()
        except asyncio.CancelledError:
            await shielded(handle.cancel("the wait for its result was cancelled"))
            raise

    @overload
    async def submit(
        self, graph: Node[R], *, inputs: Mapping[str, Any] | None = None, start: Node[Any] | str | None = None, run_id: str | None = None,
        timeout: float | None = None, max_steps: int | None = None, on_failure: OnFailure = "fail", stubs: Stubs | None = None,
        if_exists: IfExists = "attach",
    ) -> RunHandle[R]: ...  # fmt: skip
    @overload
    async def submit(
        self, graph: Workflow[R], *, inputs: Mapping[str, Any] | None = None, start: Node[Any] | str | None = None, run_id: str | None = None,
        timeout: float | None = None, max_steps: int | None = None, on_failure: OnFailure = "fail", stubs: Stubs | None = None,
        if_exists: IfExists = "attach",
    ) -> RunHandle[R]: ...  # fmt: skip
    @overload
    async def submit(
        self, graph: TaskGraph, *, inputs: Mapping[str, Any] | None = None, start: Node[Any] | str | None = None, run_id: str | None = None,
        timeout: float | None = None, max_steps: int | None = None, on_failure: OnFailure = "fail", stubs: Stubs | None = None,
        if_exists: IfExists = "attach",
    ) -> RunHandle[Any]: ...  # fmt: skip
    async def submit(
        self, graph: Node[Any] | Workflow[Any] | TaskGraph, *, inputs: Mapping[str, Any] | None = None, start: Node[Any] | str | None = None,
        run_id: str | None = None, timeout: float | None = None, max_steps: int | None = None, on_failure: OnFailure = "fail",
        stubs: Stubs | None = None, if_exists: IfExists = "attach",
    ) -> RunHandle[Any]:  # fmt: skip
        """Begin a run and return at once. Takes what :meth:`execute` takes.

        Args:
            if_exists: what to do when a run of that id exists: ``"attach"`` to it, raise an ``"error"``, or run it again if it failed
                (``"rerun_failed"``).

        Raises:
            RunConflictError: a run of that id exists with another graph or other inputs, or at all with ``if_exists="error"``.
        """
        self._check_open()
        if stubs is not None and not isinstance(stubs, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ConfigurationError(f"stubs={stubs!r}: give a mapping of tasks to the functions to run instead", setting="stubs")
        plan = with_stubs(plan_of(graph, start), stubs)
        self._check_handlers(plan)
        options = _options(inputs, run_id, timeout, max_steps, on_failure, if_exists)
        with signing_for(self.backend.signer, options.run_id):
            created = await self.backend.coordinator.submit(plan, options)
        return RunHandle(self.backend.coordinator, options.run_id, created=created)

    async def attach(self, run_id: str, /) -> RunHandle[Any]:
        """A handle on a run that was submitted earlier, by anyone.

        Raises:
            UnknownRunError: there is none of that id, or none any more.
        """
        self._check_open()
        await self.backend.coordinator.snapshot(_checked_run_id(run_id))
        return RunHandle(self.backend.coordinator, run_id, created=False)

    # ---- inside ----

    def _check_open(self) -> None:
        if self._stack is None:
            raise ConfigurationError("the engine is not running; use it inside: async with WorkflowEngine() as engine", setting="engine")
        if self._loop is not asyncio.get_running_loop():
            raise ConfigurationError(
                "the engine was entered on another event loop than this one; use asyncio.run_coroutine_threadsafe(...) with that loop, "
                "or an engine of its own for this one",
                setting="engine",
            )

    def _check_handlers(self, plan: Plan) -> None:
        """A task for a handler that nobody has would wait for ever; where all workers are known, say so at once. So would one be in vain whose
        function cannot get to the process that is to run it."""
        if self._worker is None:
            return
        handlers = self._worker.handlers
        for kind, task_id in plan.handler_kinds.items():
            if kind in handlers:
                if handlers[kind].sends_code:
                    self._check_code(plan, kind)
            elif self.backend.local:
                raise unknown_handler(task_id, kind, handlers)

    def _check_code(self, plan: Plan, kind: str) -> None:
        seen: set[int] = set()
        for task in plan.every_task():
            if task.handler_kind == kind and id(task.spec) not in seen:
                seen.add(id(task.spec))
                code_for_child(task.spec, self.backend.signer, task_id=task.id, again=True)


def _options(
    inputs: Mapping[str, Any] | None,
    run_id: str | None,
    timeout: float | None,
    max_steps: int | None,
    on_failure: OnFailure,
    if_exists: IfExists,
) -> RunOptions:
    if inputs is not None and not (isinstance(inputs, Mapping) and all(isinstance(key, str) for key in inputs)):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ConfigurationError(f"inputs={inputs!r}: give a mapping of names to values", setting="inputs")
    if timeout is not None and not (_is_number(timeout) and 0 < timeout < math.inf):
        raise ConfigurationError(f"timeout={timeout!r}: give the seconds that the run may take, more than 0, or None", setting="timeout")
    if max_steps is not None and not (_is_number(max_steps) and isinstance(max_steps, int) and max_steps >= 1):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ConfigurationError(
            f"max_steps={max_steps!r}: give the number of visits that are allowed, 1 or more, or None", setting="max_steps"
        )
    if on_failure not in ("fail", "continue"):
        raise ConfigurationError(f'on_failure={on_failure!r}: use "fail" or "continue"', setting="on_failure")
    if if_exists not in ("attach", "error", "rerun_failed"):
        raise ConfigurationError(f'if_exists={if_exists!r}: use "attach", "error" or "rerun_failed"', setting="if_exists")
    return RunOptions(
        run_id=_checked_run_id(run_id) if run_id is not None else uuid4().hex,
        inputs=dict(inputs) if inputs else {},
        timeout=timeout,
        max_steps=max_steps,
        on_failure=on_failure,
        remembered=run_id is not None,
        if_exists=if_exists,
    )


def _checked_run_id(run_id: Any) -> str:
    if not isinstance(run_id, str) or not run_id:
        raise ConfigurationError(f"run_id={run_id!r}: give a text that is not empty", setting="run_id")
    if not is_text(run_id):
        raise ConfigurationError(f"run_id={run_id!r}: give a text in valid Unicode", setting="run_id")
    return run_id


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
