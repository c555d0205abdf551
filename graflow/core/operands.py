"""What to tell somebody who drew an arrow to something that is no node."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from graflow.errors import GraphError

if TYPE_CHECKING:
    from collections.abc import Collection


def operand_error(operator: str, node: str, other: Any, *, reflected: bool = False) -> GraphError:
    """The error for ``node <operator> other`` where ``other`` is no node. Its text says what to write instead.

    Args:
        operator: the operator, or the function that was called.
        node: the id of the other operand, empty where there is none.
        other: what is no node.
        reflected: it stood to the left of the operator.
    """
    return GraphError(f"{operator} takes tasks, chains and groups, not {_advice(operator, node, other, reflected)}")


def _advice(operator: str, node: str, other: Any, reflected: bool) -> str:
    if inspect.iscoroutine(other):
        other.close()  # it will never be awaited, and the warning about that would hide the real mistake
        name = other.__name__
        return f"the coroutine {name}(...); write {name} without parentheses, the run calls it"
    if isinstance(other, list | tuple | set | frozenset):
        return _about_collection(operator, node, other, reflected)  # pyright: ignore[reportUnknownArgumentType]
    if isinstance(other, str):
        return f"the id {other!r}; name the task itself, or use add_edge, which takes ids"
    if isinstance(other, type) or not callable(other):
        return f"{other!r} of type {type(other).__name__}"
    name = getattr(other, "__name__", repr(other))
    return f"the plain function {name}; decorate it with @task"


def _about_collection(operator: str, node: str, other: Collection[Any], reflected: bool) -> str:
    kind = type(other).__name__
    names = [str(getattr(item, "id", item)) for item in other]
    if not names:
        return f"an empty {kind}"
    if not node:
        return f"a {kind}; unpack it: {operator.rstrip('()')}(*nodes)"
    group = " | ".join(names[:3]) + (" | ..." if len(names) > 3 else "")
    if len(names) > 1:
        group = f"({group})"
    drawn = f"{group} {operator} {node}" if reflected else f"{node} {operator} {group}"
    return f"a {kind}; for tasks side by side use {drawn}" + (", or parallel(*tasks)" if len(names) > 1 else "")
