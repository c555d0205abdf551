"""Other functions in the place of tasks: ``execute(..., stubs={fetch: lambda: [1, 2]})`` for tests."""

from __future__ import annotations

import asyncio
import functools
import inspect
import sys
from typing import TYPE_CHECKING, Any

import msgspec

from graflow.core.function import FunctionSpec
from graflow.core.sameness import same_values
from graflow.core.task import AsyncTask, SyncTask, Task
from graflow.errors import GraphError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from graflow.core.launch import Stubs
    from graflow.core.plan import Plan

# Tells that calling a mock gives a coroutine: asyncio's function, until it is deprecated for inspect's, which knows all mocks by then.
_gives_coroutine: Callable[[object], bool] = inspect.iscoroutinefunction if sys.version_info >= (3, 14) else asyncio.iscoroutinefunction


def with_stubs(plan: Plan, stubs: Stubs | None) -> Plan:
    """The plan with some functions replaced.

    A stub stands for its task, for clones of it that have no stub of their own, and for the members of a map over it, in the graph and
    among the tasks made at run time. It takes arguments like a task: by the names of its own parameters. One of ``**kwargs`` alone, such as
    a ``Mock``, is given what the task would be given, without the context.

    Raises:
        GraphError: a stub is no function, or is for something that is no task.
    """
    if not stubs:
        return plan
    known = [_Stub(node, function) for node, function in stubs.items()]
    by_id = {stub.task.id: stub for stub in known}
    by_function: dict[FunctionSpec, list[_Stub]] = {}
    for stub in sorted(known, key=lambda stub: -len(stub.task.bound)):  # what was bound most is the closest relative
        by_function.setdefault(stub.task.spec, []).append(stub)

    def substitute(task: Task[..., Any], item: str | None = None) -> Task[..., Any]:
        stub = by_id.get(task.id)
        if stub is None:
            stub = next((other for other in by_function.get(task.spec, ()) if other.has_clone(task)), None)
        return task if stub is None else stub.stand_in(task, item)

    return plan.substituted(substitute)


class _Stub:
    """A function that stands for a task."""

    def __init__(self, task: Any, function: Any) -> None:
        if not isinstance(task, Task):
            raise GraphError(
                f"stubs={{{task!r}: ...}}: the keys are tasks, as returned by @task or clone()", ids=(str(getattr(task, "id", task)),)
            )
        self.task: Task[..., Any] = task
        if isinstance(function, Task):
            function = functools.partial(function.function, **function.bound) if function.bound else function.function
        if not callable(function):
            raise GraphError(
                f"stubs={{{task.id}: {function!r}}}: give a function to run instead of the task, such as lambda: {function!r}",
                ids=(task.id,),
            )
        self._spec = FunctionSpec(function)
        self._specs: dict[tuple[FunctionSpec, tuple[str, ...]], FunctionSpec] = {}

    def has_clone(self, task: Task[..., Any]) -> bool:
        """Whether a task of the same function is bound to all that this stub's task is bound to, as clones of it are."""
        mine = self.task.bound
        return same_values(mine, {name: value for name, value in task.bound.items() if name in mine})

    def stand_in(self, task: Task[..., Any], item: str | None) -> Task[..., Any]:
        """The task with the stub's function. ``item`` is the parameter that takes the item of a map, which is not bound yet."""
        given = (*task.bound,) if item is None else (*task.bound, item)
        key = (task.spec, given)
        spec = self._specs.get(key)
        if spec is None:
            spec = self._specs[key] = _adapted(self._spec, task.spec, given)
        taken = spec.signature
        bound = {name: value for name, value in task.bound.items() if name in taken.open_names or taken.accepts_any}
        kind: type[AsyncTask[..., Any]] | type[SyncTask[..., Any]] = AsyncTask if spec.is_async else SyncTask
        return kind(task.id, spec, msgspec.structs.replace(task.options, handler=None), bound)


def _adapted(stub: FunctionSpec, original: FunctionSpec, given: Sequence[str]) -> FunctionSpec:
    """The stub, with parameters that fit the task it stands for.

    What the task is ``given`` (bound arguments, the item of a map) goes to the stub's parameter of that name, or else to one of its others
    in turn, so that ``lambda x: -x`` can stand for ``square(n)``.
    """
    mine, theirs = stub.signature, original.signature
    if mine.accepts_any and not mine.names:
        parameters = _parameters(original, {name: name for name in theirs.open_names})
        return FunctionSpec(_adapter(stub, parameters, {}, hints_of=original.function))
    free = [
        parameter.name
        for parameter in mine.parameters
        if parameter.required and parameter.role == "value" and parameter.name not in theirs.names
    ]
    homeless = [] if mine.accepts_any else [name for name in given if name not in mine.names]
    renamed = dict(zip(free, homeless, strict=False))
    if not renamed and stub.is_async == _gives_coroutine(stub.function):
        return stub
    parameters = _parameters(stub, {name: renamed.get(name, name) for name in mine.names})
    return FunctionSpec(_adapter(stub, parameters, {new: old for old, new in renamed.items()}, hints_of=stub.function))


def _parameters(spec: FunctionSpec, names: Mapping[str, str]) -> list[inspect.Parameter]:
    """The named parameters of a function under other names."""
    raw = inspect.signature(spec.function).parameters.values()
    return [each.replace(name=names[each.name], kind=inspect.Parameter.KEYWORD_ONLY) for each in raw if each.name in names]


def _adapter(
    stub: FunctionSpec, parameters: Sequence[inspect.Parameter], old_names: Mapping[str, str], *, hints_of: Callable[..., Any]
) -> Callable[..., Any]:
    """A function with these parameters that calls the stub."""

    def call(values: Mapping[str, Any]) -> Any:
        return stub.signature.call(stub.function, {old_names.get(name, name): value for name, value in values.items()})

    async def call_async(**values: Any) -> Any:
        return await call(values)

    def call_sync(**values: Any) -> Any:
        return call(values)

    adapter: Callable[..., Any] = call_async if _gives_coroutine(stub.function) or stub.is_async else call_sync
    functools.update_wrapper(adapter, hints_of, assigned=("__name__", "__qualname__", "__module__"), updated=())
    vars(adapter)["__signature__"] = inspect.Signature(parameters)  # counts for more than that of what is wrapped
    return adapter
