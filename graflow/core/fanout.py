"""``task.map(...)``: one instance of a task for each item."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Protocol, TypeGuard

from graflow.core.naming import check_id
from graflow.core.node import MapSource, Node, ParallelGroup
from graflow.errors import GraphError

if TYPE_CHECKING:
    from graflow.core.arguments import FunctionSignature


class Template(Protocol):
    """What is needed of the task that is mapped."""

    @property
    def id(self) -> str: ...
    @property
    def bound(self) -> Mapping[str, Any]: ...
    @property
    def signature(self) -> FunctionSignature: ...
    def clone(self, id: str, /, **bound: Any) -> Any: ...


def map_task(template: Template, values: Any, *, parameter: str | None, name: str | None, limit: int | None) -> ParallelGroup[Any]:
    """The group of ``template.map(values)``; see :meth:`graflow.Task.map`."""
    if name is not None:
        check_id(name, "the name of a group")
    chosen = _choose_parameter(template, parameter)
    source = values.id if _is_node(values) else values
    if isinstance(source, str):
        mapped = MapSource(template, check_id(source, "the id of the node to map over"), chosen)
        return ParallelGroup((), name=name or template.id, limit=limit, mapped=mapped)
    members = tuple(template.clone(f"{template.id}[{place}]", **{chosen: item}) for place, item in enumerate(_items(template.id, values)))
    return ParallelGroup(members, name=name or template.id, limit=limit)


def _is_node(value: object) -> TypeGuard[Node[Any]]:
    return isinstance(value, Node)


def _is_items(values: object) -> TypeGuard[Iterable[Any]]:
    return isinstance(values, Iterable) and not isinstance(values, bytes | bytearray)


def _items(task_id: str, values: Any) -> Iterable[Any]:
    if _is_items(values):
        return values
    raise GraphError(
        f"{task_id}.map(...) takes a list of items, a task or the id of one, not {type(values).__name__}; "
        "a list that is only known later is made by a task: t.map(that_task)",
        ids=(task_id,),
    )


def _choose_parameter(template: Template, parameter: str | None) -> str:
    signature = template.signature
    if parameter is not None:
        signature.check_names((parameter,), template.id)
        if parameter in template.bound:
            raise GraphError(f"{template.id}.map(parameter={parameter!r}): that argument is bound already", ids=(template.id,))
        return parameter
    chosen = signature.first_open(template.bound)
    if chosen is None:
        raise GraphError(f"{template.id}.map(...): no parameter of {template.id!r} is left open to take an item", ids=(template.id,))
    return chosen
