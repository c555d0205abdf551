"""A worker's life: begin, take what fits, run it, settle it, stop."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Mapping
from contextlib import AsyncExitStack
from contextvars import copy_context
from random import Random
from typing import TYPE_CHECKING, Any, Self
from uuid import uuid4

from graflow.backends import open_backend
from graflow.core.boundary import UserCode
from graflow.core.naming import fault_in_label
from graflow.core.staying import StaysHere
from graflow.errors import BackendUnavailableError, ConfigurationError, GraflowError
from graflow.handlers import CoroutineHandler, Handler, ProcessHandler, ThreadHandler
from graflow.handlers.standby import StandbyDocker
from graflow.worker.attempt import AttemptRunner
from graflow.worker.committer import Committer
from graflow.worker.lifespan import LifespanKeeper
from graflow.worker.metrics import Counter
from graflow.worker.slots import WorkerSlots

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextvars import Context
    from types import TracebackType

    from graflow.backends.base import Backend, Delivery
    from graflow.wire.keys import Signer
    from graflow.worker.lifespan import Lifespan
    from graflow.worker.metrics import WorkerMetrics

logger: logging.Logger = logging.getLogger("graflow.worker")

STUBBORN = 5.0
"""seconds that cancelled tasks are given to leave their ``finally`` blocks before the worker ends without them"""
SULK = 1.0
"""seconds until a worker whose backend did not answer asks it again"""
BREATH = 64
"""steps that one asyncio task may run in a row without letting others in: no-op steps never wait, and would keep the loop to themselves"""


class TaskWorker(StaysHere):
    """Runs the tasks of a backend, as many at once as it has slots.

    Args:
        backend_or_url: where work comes from.
        namespace: keeps applications that share a server apart; with a URL, and the same as that of the engines that it works for.
        handlers: handlers by name, added to ``coroutine``, ``thread`` and ``process``, and in memory ``docker``; one of these names replaces it.
        concurrency: attempts at once, for each handler that has no limit of its own.
        queues: the queues to serve, None for all.
        worker_id: what the worker is called in events and metrics; host, pid and a random part by default.
        serve: names of the handlers whose tasks it takes, None for all. ``docker`` among them is served without being set up.
        task_timeout: seconds an attempt may take whose task says nothing about it; None for any.
        grace: seconds that running tasks are given when the worker is stopped; what has not ended by then is cancelled and handed back.
        lifespan: an async context manager that yields a mapping, seen by tasks as ``ctx.resources``: pools, clients, models.
        seed: of the jitter of retries, None for a random one.
        secret_key: verifies signed code and values, and signs those that tasks make; the same as where runs are submitted.
            ``GRAFLOW_SECRET_KEY`` by default, or that of a backend object.

    Example:
        >>> async with TaskWorker(backend):
        ...     ...                        # works in the background
        >>> await TaskWorker(backend).run()   # works until stop() is called
    """

    instead = "make it where it is to run"

    def __init__(
        self,
        backend_or_url: str | Backend,
        *,
        handlers: Mapping[str, Handler] | None = None,
        concurrency: int = 100,
        queues: Sequence[str] | None = ("default",),
        worker_id: str | None = None,
        serve: Sequence[str] | None = None,
        task_timeout: float | None = None,
        grace: float = 25.0,
        lifespan: Lifespan | None = None,
        seed: int | None = None,
        secret_key: str | None = None,
        namespace: str = "graflow",
    ) -> None:
        self.backend: Backend = open_backend(backend_or_url, namespace=namespace, secret_key=secret_key)
        built_in: dict[str, Handler] = {"coroutine": CoroutineHandler(), "thread": ThreadHandler(), "process": ProcessHandler()}
        if self.backend.local or "docker" in (serve or ()):
            # On a server a worker says what it serves, and takes from others what it then cannot do: many hosts have no engine.
            built_in["docker"] = StandbyDocker()
        self.handlers: dict[str, Handler] = {**built_in, **_checked(handlers or {})}
        self.worker_id: str = _checked_id(worker_id) if worker_id is not None else f"{socket.gethostname()}-{os.getpid()}-{uuid4().hex[:8]}"
        served = {name: handler for name, handler in self.handlers.items() if serve is None or name in serve}
        self._slots = WorkerSlots(served, concurrency, queues)
        self._task_timeout = task_timeout
        self._grace = _checked_grace(grace)
        self._lifespan = lifespan
        self._random = Random(seed)
        self._attempts: AttemptRunner | None = None
        self._counter = Counter()
        self._context: Context = copy_context()
        self._committer = Committer(self.backend.coordinator, self._slots, self._begin_all)
        self._runners: set[asyncio.Task[None]] = set()
        self._held: dict[int, Delivery] = {}
        self._fetching: asyncio.Task[None] | None = None
        self._stack: AsyncExitStack | None = None
        self._comparing = UserCode()
        self.heeds_keyboard: bool = True
        """whether ``KeyboardInterrupt`` in a task is taken for one from the keyboard, and ends the program; otherwise it fails the task"""
        self.retell: Callable[[str, GraflowError], GraflowError] | None = None
        """makes of what a handler of a name says when it starts an error that tells where that was set up, too"""
        self._stopped = asyncio.Event()
        self._stopping: asyncio.Task[None] | None = None

    # ---- what its handlers may know ----

    @property
    def place(self) -> str:
        """Where its runs live; the same for all workers of one backend and namespace, and for no other."""
        return self.backend.place

    @property
    def signer(self) -> Signer | None:
        """The keys that code which cannot be imported is signed and verified with; None without one."""
        return self.backend.signer

    async def living(self) -> frozenset[str] | None:
        """The workers of this place that hold a lease now, by id; None where there are no leases, as in memory."""
        return await self.backend.living()

    # ---- life ----

    async def run(self) -> None:
        """Work until :meth:`stop` is called."""
        async with self:
            await self._stopped.wait()

    async def __aenter__(self) -> Self:
        if self._stack is not None:
            raise ConfigurationError(f"worker {self.worker_id} is running already; make another TaskWorker", setting="worker_id")
        async with AsyncExitStack() as stack:
            await self.backend.open()
            if not self.backend.local:  # in memory the runs belong to whoever made the backend, and end with it
                stack.push_async_callback(self.backend.close)
            used = {
                id(handler): handler for name, handler in self.handlers.items() if name in self._slots.handlers
            }  # one may have several names
            for handler in used.values():
                handler.introduce(self)
                await self._start(handler)
                stack.push_async_callback(handler.stop)
            resources: Mapping[str, Any] = {}
            if self._lifespan is not None:
                resources = await stack.enter_async_context(LifespanKeeper(self._lifespan))
            self._attempts = AttemptRunner(self.backend, self.handlers, resources, self._random, self._counter, timeout=self._task_timeout)
            self._attempts.heeds_keyboard = self.heeds_keyboard
            await self.backend.introduce(self.worker_id, self._slots)
            self._stack = stack.pop_all()
        self._context = copy_context()
        self._stopped.clear()
        self._stopping = None
        self._slots.closed = False
        self._fetching = asyncio.create_task(self._fetch(), name=f"graflow-fetch-{self.worker_id}")
        self._fetching.add_done_callback(self._ended)
        return self

    async def _start(self, handler: Handler) -> None:
        try:
            await handler.start()
        except GraflowError as error:
            name = next(name for name, each in self.handlers.items() if each is handler)
            told = error if self.retell is None else self.retell(name, error)
            if told is error:
                raise
            raise told from error

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.stop()

    async def stop(self) -> None:
        """Take nothing more, let running tasks end within ``grace``, hand the rest back, and end.

        Whoever calls it again waits for the same end. Cancelling the wait does not undo the stop.
        """
        self._slots.closed = True
        self._stopped.set()
        stack, self._stack = self._stack, None
        if stack is not None:
            self._stopping = asyncio.create_task(self._end(stack), name=f"graflow-stop-{self.worker_id}")
        if self._stopping is not None:
            await asyncio.shield(self._stopping)

    async def _end(self, stack: AsyncExitStack) -> None:
        async with stack:
            if self._fetching is not None:
                self._fetching.cancel()
                await asyncio.wait((self._fetching,))
            await self._drain()

    async def _drain(self) -> None:
        if self._runners:
            await asyncio.wait(self._runners, timeout=self._grace)
        if self._attempts is not None:
            self._attempts.closing = True
        for runner in self._runners:
            runner.cancel()
        if self._runners:
            await asyncio.wait(self._runners, timeout=STUBBORN)
        await self._committer.flush()
        left = list(self._held.values())
        self._held.clear()
        for delivery in left:
            self._slots.give_back(delivery.spec.handler)
        if self._runners:
            names, me = ", ".join(sorted({delivery.spec.task_id for delivery in left})), self.worker_id
            logger.error("worker %s ends while tasks do not heed their cancellation: %s", me, names, extra={"worker_id": me})
        if left:
            await self.backend.coordinator.release(left)

    # ---- work ----

    async def _fetch(self) -> None:
        """Wait for work whenever no running attempt will bring some along with its commit."""
        while True:
            try:
                self._begin_all(await self.backend.coordinator.fetch(self._slots))
            except BackendUnavailableError as error:  # it was tried for long, and may take longer: a worker does not end for that
                logger.error("worker %s cannot fetch work: %s", self.worker_id, error, extra={"worker_id": self.worker_id})
                await asyncio.sleep(SULK)
            await asyncio.sleep(0)

    def _begin_all(self, deliveries: Sequence[Delivery]) -> None:
        """In a function of its own: a name in the loop above would keep the last delivery, and its run, for as long as the worker is idle."""
        for delivery in deliveries:
            self._begin(delivery)

    def _begin(self, delivery: Delivery) -> None:
        self._held[id(delivery)] = delivery
        runner = asyncio.create_task(self._work(delivery), context=self._context.copy())
        self._runners.add(runner)
        runner.add_done_callback(self._ended)

    def _ended(self, runner: asyncio.Task[None]) -> None:
        self._runners.discard(runner)
        error = None if runner.cancelled() else runner.exception()
        if error is not None:  # not the task's: those are outcomes. Without a word here its run would wait for ever
            logger.critical("worker %s failed while running a task", self.worker_id, exc_info=error, extra={"worker_id": self.worker_id})

    async def _work(self, delivery: Delivery) -> None:
        """Run an attempt, and then whatever its commit brings back: under load there is no other way round."""
        attempts, runner, held = self._attempts, asyncio.current_task(), self._held
        assert attempts is not None
        assert runner is not None
        steps = 0
        while True:
            try:
                outcome = await attempts.run(delivery, runner)
            except KeyboardInterrupt:  # the program is being ended: nobody shall wait for this attempt
                if held.pop(id(delivery), None) is not None:
                    await self.backend.coordinator.release((delivery,))
                raise
            if held.pop(id(delivery), None) is None:
                return  # the worker has ended without it
            self._slots.give_back(delivery.spec.handler)
            try:
                following = await self._committer.commit(delivery, outcome)
            except BackendUnavailableError as error:  # tried for long: by now the attempt is somebody else's, or will be taken again
                who, me = f"task {delivery.spec.task_id} of run {delivery.spec.run_id}", self.worker_id
                logger.error("worker %s cannot write the outcome of %s: %s", me, who, error, extra={"worker_id": me})
                return
            if not following:
                return
            if runner.cancelling() or self._is_marked():
                self._begin_all(following)
                return
            delivery = following[0]
            held[id(delivery)] = delivery
            if len(following) > 1:
                self._begin_all(following[1:])
            steps += 1
            if not steps % BREATH:
                await asyncio.sleep(0)

    def _is_marked(self) -> bool:
        """Whether a task has set context variables in the asyncio task that ran it: the next one shall not see them."""
        with self._comparing:  # values that were replaced are compared, by code of their own
            return copy_context() != self._context
        return True

    def metrics(self) -> WorkerMetrics:
        """What the worker has done so far."""
        abandoned = self._attempts.abandoned_threads if self._attempts is not None else 0
        return self._counter.read(self.worker_id, running=len(self._held), abandoned=abandoned)


def _checked(handlers: Mapping[str, Handler]) -> Mapping[str, Handler]:
    if not isinstance(handlers, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ConfigurationError(f"handlers={handlers!r}: give a mapping of names to handlers", setting="handlers")
    for name, handler in handlers.items():
        if fault := fault_in_label(name):
            raise ConfigurationError(f"handlers={{{name!r}: ...}}: {fault}", setting="handlers")
        if isinstance(handler, type):
            text = f"handlers[{name!r}] is a class; give an instance of it: {handler.__name__}(...)"
            raise ConfigurationError(text, setting="handlers")
        if not isinstance(handler, Handler):  # pyright: ignore[reportUnnecessaryIsInstance]
            text = f"handlers[{name!r}] is of type {type(handler).__name__}; give an instance of a subclass of Handler"
            raise ConfigurationError(text, setting="handlers")
    return handlers


def _checked_id(worker_id: Any) -> str:
    if fault := fault_in_label(worker_id):
        raise ConfigurationError(f"worker_id={worker_id!r}: {fault}, or leave it out", setting="worker_id")
    return str(worker_id)


def _checked_grace(grace: Any) -> float:
    if isinstance(grace, bool) or not isinstance(grace, int | float) or not grace >= 0:
        raise ConfigurationError(f"grace={grace!r}: give the seconds that running tasks are given to end, 0 or more", setting="grace")
    return float(grace)
