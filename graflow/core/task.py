"""Tasks: functions with options, and the decorator that makes them."""

from __future__ import annotations

from types import MappingProxyType
from typing import (
    TYPE_CHECKING,
    Any,
    Concatenate,
    Final,
    Generic,
    NoReturn,
    ParamSpec,
    Protocol,
    TypeVar,
    cast,
    final,
    overload,
)

from graflow.core.fanout import map_task
from graflow.core.function import FunctionSpec
from graflow.core.injection import Injected
from graflow.core.naming import check_id
from graflow.core.node import Node
from graflow.core.options import Priority, TaskOptions
from graflow.core.retry import RetryPolicy, coerce_retry
from graflow.core.sameness import same_function, same_values
from graflow.errors import GraphError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable, Mapping

    from graflow.core.arguments import FunctionSignature
    from graflow.core.node import ParallelGroup

__all__ = ["AsyncTask", "Priority", "SyncTask", "Task", "TaskDecorator", "TaskOptions", "task"]

P = ParamSpec("P")
Q = ParamSpec("Q")
R = TypeVar("R")
A = TypeVar("A")
X = TypeVar("X", bound=Injected)
R_co = TypeVar("R_co", covariant=True)

_NOTHING_BOUND: Final[Mapping[str, Any]] = MappingProxyType({})
_set = object.__setattr__


class Task(Node[R_co], Generic[P, R_co]):
    """A function and how to run it. Never changes; two tasks are equal when function, id, options and bound arguments
    are.

    Made by :func:`task`, :meth:`clone` and :meth:`bind`. Calling it calls the function, so that it is tested like one.
    ``P`` are the function's parameters, ``R_co`` is its result (for an ``async def``, what awaiting it gives).
    """

    __slots__ = ("_alone", "_bound", "_id", "_options", "_spec")

    _alone: Any
    _bound: Mapping[str, Any]
    _id: str
    _options: TaskOptions
    _spec: FunctionSpec

    def __init__(self, id: str, spec: FunctionSpec, options: TaskOptions, bound: Mapping[str, Any] = _NOTHING_BOUND) -> None:
        _set(self, "_id", id)
        _set(self, "_spec", spec)
        _set(self, "_options", options)
        _set(self, "_bound", bound)
        _set(self, "_alone", None)

    if not TYPE_CHECKING:  # a type checker already refuses to set these

        def __setattr__(self, name: str, value: object) -> NoReturn:
            raise AttributeError(f"task {self._id!r} cannot be changed; t.bind(...) and t.clone(...) make another")

        def __delattr__(self, name: str) -> NoReturn:
            raise AttributeError(f"task {self._id!r} cannot be changed")

    @property
    def id(self) -> str:
        return self._id

    @property
    def function(self) -> Callable[..., Any]:
        """The plain function."""
        return self._spec.function

    __wrapped__ = function

    @property
    def is_async(self) -> bool:
        """Whether the function is an ``async def``."""
        return self._spec.is_async

    @property
    def options(self) -> TaskOptions:
        """How the task is run."""
        return self._options

    @property
    def bound(self) -> Mapping[str, Any]:
        """Arguments that were fixed by :meth:`clone` or :meth:`bind`, by name. Read-only."""
        return self._bound

    @property
    def spec(self) -> FunctionSpec:
        """What is known of the function; shared by all tasks made from it."""
        return self._spec

    @property
    def alone(self) -> Any:
        """Where the ``TaskGraph`` of this task and nothing else is kept, once it was executed by itself; for the engine."""
        return self._alone

    def keep_alone(self, graph: Any) -> None:
        """Keep the ``TaskGraph`` of this task and nothing else; for the engine."""
        _set(self, "_alone", graph)

    @property
    def signature(self) -> FunctionSignature:
        """The function's parameters."""
        return self._spec.signature

    @property
    def handler_kind(self) -> str:
        """The name of the handler that runs it: as given, else ``coroutine`` for an ``async def`` and ``thread`` for a
        ``def``."""
        return self._options.handler or ("coroutine" if self._spec.is_async else "thread")

    def clone(self, id: str, /, **bound: Any) -> Task[..., R_co]:
        """Another instance of this task, with its own id and some arguments fixed.

        Args:
            id: the id of the new task.
            bound: arguments by name, on top of those bound already.

        Raises:
            GraphError: the id is empty, or the function has no such parameter.

        Example::

            pages = [fetch.clone(f"fetch-{n}", page=n) for n in range(10)]
        """
        if type(id) is not str or not id:
            check_id(id, "the id of a task")
        return self._with(id, bound)

    def bind(self, **bound: Any) -> Task[..., R_co]:
        """This task, under the same id, with some arguments fixed.

        Raises:
            GraphError: the function has no such parameter.
        """
        return self._with(self._id, bound)

    def _with(self, id: str, bound: Mapping[str, Any]) -> Task[..., R_co]:
        spec = self._spec
        if bound:
            if not bound.keys() <= spec.signature.open_names:
                spec.signature.check_names(bound, id)
            bound = MappingProxyType({**self._bound, **bound} if self._bound else bound)
        return type(self)(id, spec, self._options, bound or self._bound)

    @overload
    def map(
        self: Task[Concatenate[X, A, Q], R],
        values: Iterable[A],
        *,
        parameter: None = None,
        name: str | None = None,
        limit: int | None = None,
    ) -> ParallelGroup[R]: ...
    @overload
    def map(
        self: Task[Concatenate[X, A, Q], R],
        values: Node[Iterable[A]],
        *,
        parameter: None = None,
        name: str | None = None,
        limit: int | None = None,
    ) -> ParallelGroup[R]: ...
    @overload
    def map(
        self: Task[Concatenate[A, Q], R],
        values: Iterable[A],
        *,
        parameter: None = None,
        name: str | None = None,
        limit: int | None = None,
    ) -> ParallelGroup[R]: ...
    @overload
    def map(
        self: Task[Concatenate[A, Q], R],
        values: Node[Iterable[A]],
        *,
        parameter: None = None,
        name: str | None = None,
        limit: int | None = None,
    ) -> ParallelGroup[R]: ...
    @overload
    def map(
        self,
        values: Iterable[Any] | Node[Iterable[Any]],
        *,
        parameter: str,
        name: str | None = None,
        limit: int | None = None,
    ) -> ParallelGroup[R_co]: ...
    @overload
    def map(
        self, values: str, *, parameter: str | None = None, name: str | None = None, limit: int | None = None
    ) -> ParallelGroup[R_co]: ...
    def map(
        self,
        values: Iterable[Any] | Node[Iterable[Any]],
        *,
        parameter: str | None = None,
        name: str | None = None,
        limit: int | None = None,
    ) -> ParallelGroup[Any]:
        """Run this task once for each item, side by side.

        Args:
            values: the items; or a node (or its id) whose result will be the list of items.
            parameter: the parameter that takes the item, by default the first that is still open.
            name: the id of the group, by default that of the task.
            limit: how many may run at once.

        Returns:
            A group whose members are called ``t[0]``, ``t[1]``, ... and whose result is the list of theirs, in order.

        Raises:
            GraphError: there is no open parameter, or ``values`` are neither items nor a node.

        Example::

            fetch_urls >> download.map(fetch_urls, limit=20) >> summarise
        """
        return map_task(self, values, parameter=parameter, name=name, limit=limit)

    def _call(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if not self._bound:
            return self._spec.function(*args, **kwargs)
        if args:
            return self._spec.function(*args, **{**self._bound, **kwargs})
        return self._spec.signature.call(self._spec.function, {**self._bound, **kwargs})

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        if not isinstance(other, Task):
            return NotImplemented
        return (
            self._id == other._id
            and same_function(self.function, other.function)
            and self._options == other._options
            and same_values(self._bound, other._bound)
        )

    def __hash__(self) -> int:
        return hash((self._id, self._spec.function))

    def __copy__(self) -> Task[P, R_co]:
        return self

    def __deepcopy__(self, memo: object) -> Task[P, R_co]:
        return self

    def __repr__(self) -> str:
        bound = ", ".join(f"{name}={value!r}" for name, value in self._bound.items())
        return f"<{type(self).__name__} {self._id}{f' ({bound})' if bound else ''}>"


@final
class AsyncTask(Task[P, R_co]):
    """A task made from an ``async def``. Annotate with :class:`Task` unless it is to be called."""

    __slots__ = ()

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, R_co]:
        result: Coroutine[Any, Any, R_co] = self._call(args, kwargs)
        return result


@final
class SyncTask(Task[P, R_co]):
    """A task made from a ``def``; it runs in a thread. Annotate with :class:`Task` unless it is to be called."""

    __slots__ = ()

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co:
        result: R_co = self._call(args, kwargs)
        return result


class TaskDecorator(Protocol):
    """What ``task(...)`` with options gives: a decorator that keeps the function's types."""

    @overload
    def __call__(self, fn: Callable[P, Coroutine[Any, Any, R]], /) -> AsyncTask[P, R]: ...  # type: ignore[overload-overlap]  # pyright: ignore[reportOverlappingOverload]
    @overload
    def __call__(self, fn: Callable[P, R], /) -> SyncTask[P, R]: ...


@overload
def task(fn: Callable[P, Coroutine[Any, Any, R]], /) -> AsyncTask[P, R]: ...  # type: ignore[overload-overlap]  # pyright: ignore[reportOverlappingOverload]
@overload
def task(fn: Callable[P, R], /) -> SyncTask[P, R]: ...
@overload
def task(
    id: str | None = None,
    *,
    retry: int | RetryPolicy = 0,
    timeout: float | None = None,
    handler: str | None = None,
    queue: str = "default",
    priority: Priority = "normal",
    max_cycles: int | None = None,
    inject_context: bool = False,
) -> TaskDecorator: ...
def task(
    id: Any = None,
    *,
    retry: int | RetryPolicy | None = 0,
    timeout: float | None = None,
    handler: str | None = None,
    queue: str = "default",
    priority: Priority = "normal",
    max_cycles: int | None = None,
    inject_context: bool = False,
) -> Any:
    """Declare a function as a task: ``@task``, ``@task("id")`` or ``@task(retry=3, timeout=30)``.

    An ``async def`` runs on the event loop, a ``def`` in a thread. Declaring adds nothing to a graph; the operators and
    ``wf.add`` do.

    Args:
        id: what the task is called, by default the function's name.
        retry: how often a failed attempt is tried again, or a :class:`RetryPolicy`.
        timeout: seconds an attempt may take, from its start.
        handler: the name of the handler that runs it, such as ``process``.
        queue: the queue that its attempts wait in.
        priority: ``critical``, ``high``, ``normal`` or ``low``.
        max_cycles: how often it may be visited in one run; the next visit fails the run.
        inject_context: give the context to the first parameter, also where it has no annotation.

    Raises:
        GraphError: the function is a generator or takes the wrong kind of context, or an option is out of range.

    Example::

        @task(retry=2, timeout=5.0)
        async def fetch(url: str) -> bytes: ...
    """
    options = TaskOptions(coerce_retry(retry), timeout, handler, queue, priority, max_cycles)
    if id is None or isinstance(id, str):
        name = None if id is None else check_id(id, "the id of a task")

        def decorate(function: Any) -> Task[..., Any]:
            return _declare(function, name, options, inject_context=inject_context)

        return decorate
    return _declare(id, None, options, inject_context=inject_context)


def _declare(function: Any, id: str | None, options: TaskOptions, *, inject_context: bool) -> Task[..., Any]:
    if isinstance(function, Task):
        known = cast("Task[..., Any]", function)
        text = f"{known.id!r} is a task already; {known.id}.clone('other-id') makes another instance"
        raise GraphError(text, ids=(known.id,))
    if not callable(function):
        raise GraphError(f"@task takes a function or an id, not {function!r}; options go by name: @task(retry=2)")
    spec = FunctionSpec(function, inject_context=inject_context)
    if id is None and spec.name == "<lambda>":
        raise GraphError("a lambda has no name to be called by; give the task an id: task('double')(lambda n: 2 * n)")
    return (AsyncTask if spec.is_async else SyncTask)(id or spec.name, spec, options)
