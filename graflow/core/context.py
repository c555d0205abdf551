"""What a task is told about its run, and how it says where the run goes next."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, TypeVar, overload

import msgspec

from graflow.core.channel import Channel, SyncChannel
from graflow.core.injection import Injected
from graflow.core.naming import check_id
from graflow.core.node import Node
from graflow.core.outcome import Directives, Iteration, NewTask
from graflow.core.staying import StaysHere
from graflow.core.task import Task
from graflow.errors import GraphError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, MutableMapping

T = TypeVar("T")

_task_log = logging.getLogger("graflow.task")


class ContextServices(Protocol):
    """What a context needs of the world outside; given to it by whoever runs the task."""

    @property
    def channel(self) -> Channel: ...
    async def result_of(self, node_id: str) -> Any: ...
    def publish(self, type: str, data: Mapping[str, Any]) -> None: ...
    def is_cancelled(self) -> bool: ...
    def now(self) -> float: ...
    def call(self, function: Callable[..., Awaitable[T]], /, *args: Any) -> T:
        """Run a coroutine function on the event loop, from a thread that waits for the result."""
        ...


class TaskLogger(logging.LoggerAdapter[logging.Logger]):
    """Adds run, task, attempt and cycle to every record, next to what the caller adds."""

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        kwargs["extra"] = {**(self.extra or {}), **(kwargs.get("extra") or {})}
        return msg, kwargs


class BaseContext(Injected, StaysHere):
    """What both contexts share: who and where the task is, and the directives that it may give.

    Directives count only if the attempt succeeds; those of one that raises or times out are discarded (rule 17).

    Attributes:
        run_id: the run.
        task_id: the task.
        attempt: the try at this visit, from 1.
        cycle: the visit of this task in the run, from 1.
        max_cycles: how many visits are allowed, or None.
        workflow: the name of the graph.
        resources: what ``lifespan`` of the engine or worker yielded.
        requested: the directives given so far, or None.
    """

    instead = "give the function a parameter for its own context"

    __slots__ = (
        "_logger",
        "_services",
        "_started",
        "attempt",
        "cycle",
        "max_cycles",
        "requested",
        "resources",
        "run_id",
        "task_id",
        "workflow",
    )

    def __init__(
        self,
        services: ContextServices,
        *,
        run_id: str,
        task_id: str,
        attempt: int,
        cycle: int,
        max_cycles: int | None,
        workflow: str,
        resources: Mapping[str, Any],
    ) -> None:
        self.run_id: str = run_id
        self.task_id: str = task_id
        self.attempt: int = attempt
        self.cycle: int = cycle
        self.max_cycles: int | None = max_cycles
        self.workflow: str = workflow
        self.resources: Mapping[str, Any] = resources
        self.requested: Directives | None = None
        self._services = services
        self._started = services.now()
        self._logger: TaskLogger | None = None

    @property
    def idempotency_key(self) -> str:
        """The same for every attempt at this visit, and for no other: for services that forget a request sent twice."""
        return f"{self.run_id}:{self.task_id}:{self.cycle}"

    @property
    def is_cancelled(self) -> bool:
        """Whether the task has been told to stop.

        A ``def`` task cannot be interrupted; one that runs long asks this now and then.
        """
        return self._services.is_cancelled()

    @property
    def logger(self) -> TaskLogger:
        """The logger ``graflow.task``, whose records carry ``run_id``, ``task_id``, ``attempt`` and ``cycle``."""
        if self._logger is None:
            who = {"run_id": self.run_id, "task_id": self.task_id, "attempt": self.attempt, "cycle": self.cycle}
            self._logger = TaskLogger(_task_log, who)
        return self._logger

    def can_iterate(self) -> bool:
        """Whether one more visit of this task is allowed."""
        return self.max_cycles is None or self.cycle < self.max_cycles

    def elapsed(self) -> float:
        """Seconds since the attempt began."""
        return self._services.now() - self._started

    def progress(self, done: float, total: float | None = None, message: str = "") -> None:
        """Tell those who watch the run how far this task is: ``done`` of ``total``."""
        self._services.publish("progress", {"done": done, "total": total, "message": message})

    def emit(self, data: Any, name: str = "message") -> None:
        """Send an event of the task's own to those who watch the run, such as a token of a stream."""
        self._services.publish("message", {"name": name, "data": data})

    # ---- directives ----

    def next_task(self, task: Task[..., Any] | str, /, *, goto: bool = False, if_exists: Literal["error", "ignore"] = "error") -> None:
        """Run ``task`` next.

        A task of the graph, or its id, is gone to, and the static successors are skipped. Any other task is added to
        the run; the static successors follow all the same unless ``goto`` is given.

        Args:
            task: a task, or the id of one in the graph.
            goto: skip the static successors also for a task that is new.
            if_exists: what happens when another task has added a task of this id: fail, or nothing.

        Raises:
            GraphError: it is no task and no id.
        """
        if if_exists not in ("error", "ignore"):
            raise GraphError(f'if_exists={if_exists!r}: use "error" or "ignore"')
        if isinstance(task, str):
            self.goto(task)
        elif isinstance(task, Task):  # pyright: ignore[reportUnnecessaryIsInstance]
            self._directives().new.append(NewTask(task, ignore_existing=if_exists == "ignore", goto=goto))
        else:
            raise GraphError(f"next_task() takes a task or the id of one, not {task!r}; use goto() for a group of the graph")

    def goto(self, target: Node[Any] | str, /) -> None:
        """Go to a node of the graph and skip the static successors. Several add up.

        Raises:
            GraphError: it is no node and no id. (An id that the graph does not have fails the step with
                UnknownTaskError.)
        """
        node_id: Any = target.id if isinstance(target, Node) else target
        checked = check_id(node_id, "the id of the node to go to")
        self._directives().goto.append(checked)

    def next_iteration(self, data: Any = msgspec.UNSET, /, **arguments: Any) -> None:
        """Visit this task again; its successors follow after the last iteration.

        Args:
            data: fills the task's first open parameter.
            arguments: fill parameters by name.
        """
        self._directives().iteration = Iteration(data, arguments)

    def end_loop(self) -> None:
        """End the innermost loop around this task, once the round has drained."""
        self._directives().end_loop = True

    def terminate_workflow(self, reason: str = "", /) -> None:
        """End the run here, with success; what still runs or waits is cancelled."""
        self._directives().terminate = reason

    def cancel_workflow(self, reason: str = "", /) -> None:
        """Cancel the run: it ends with WorkflowCancelledError."""
        self._directives().cancel = reason

    def _directives(self) -> Directives:
        if self.requested is None:
            self.requested = Directives()
        return self.requested


class TaskContext(BaseContext):
    """The context of an ``async def`` task. Asked for by annotation: ``async def page(ctx: TaskContext, url: str)``."""

    __slots__ = ()

    blocking: ClassVar[bool | None] = False

    @property
    def channel(self) -> Channel:
        """The run's shared key-value space."""
        return self._services.channel

    @overload
    async def result_of(self, node: Node[T], /) -> T: ...
    @overload
    async def result_of(self, node: str, /) -> Any: ...
    async def result_of(self, node: Node[Any] | str, /) -> Any:
        """The result that a node of the graph has now.

        Raises:
            UnknownTaskError: the run has no such node.
            MissingArgumentError: it has no result, as it has not completed.
        """
        return await self._services.result_of(node.id if isinstance(node, Node) else node)


class SyncTaskContext(BaseContext):
    """The context of a ``def`` task. The same as :class:`TaskContext`, with methods that block the task's thread."""

    __slots__ = ()

    blocking: ClassVar[bool | None] = True

    @property
    def channel(self) -> SyncChannel:
        """The run's shared key-value space."""
        return SyncChannel(self._services.channel, self._services.call)

    @overload
    def result_of(self, node: Node[T], /) -> T: ...
    @overload
    def result_of(self, node: str, /) -> Any: ...
    def result_of(self, node: Node[Any] | str, /) -> Any:
        """The result that a node of the graph has now. Raises like :meth:`TaskContext.result_of`."""
        return self._services.call(self._services.result_of, node.id if isinstance(node, Node) else node)
