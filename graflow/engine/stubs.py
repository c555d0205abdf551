"""Other functions in the place of tasks: ``execute(..., stubs={fetch: lambda: [1, 2]})`` for tests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from graflow.core.function import FunctionSpec
from graflow.core.task import AsyncTask, SyncTask, Task
from graflow.errors import GraphError

if TYPE_CHECKING:
    from graflow.core.launch import Stubs
    from graflow.core.plan import Plan


def with_stubs(plan: Plan, stubs: Stubs | None) -> Plan:
    """The plan with some functions replaced. A stub stands for its task, for clones of it, and for the members of a map over it.

    Raises:
        GraphError: a stub is no function, or is for something that is no task.
    """
    if not stubs:
        return plan
    by_id: dict[str, FunctionSpec] = {}
    by_function: dict[FunctionSpec, FunctionSpec] = {}
    for node, function in stubs.items():
        if not isinstance(node, Task) or not callable(function):
            raise GraphError(f"stubs={{{node!r}: {function!r}}}: give a mapping of tasks to the functions to run instead", ids=(node.id,))
        by_id[node.id] = by_function[node.spec] = FunctionSpec(function)

    def substitute(task: Task[..., Any]) -> Task[..., Any]:
        spec = by_id.get(task.id) or by_function.get(task.spec)
        return task if spec is None else _stand_in(task, spec)

    return plan.substituted(substitute)


def _stand_in(task: Task[..., Any], spec: FunctionSpec) -> Task[..., Any]:
    options = msgspec.structs.replace(task.options, handler=None)
    bound = {name: value for name, value in task.bound.items() if name in spec.signature.open_names or spec.signature.accepts_any}
    kind: type[AsyncTask[..., Any]] | type[SyncTask[..., Any]] = AsyncTask if spec.is_async else SyncTask
    return kind(task.id, spec, options, bound)
