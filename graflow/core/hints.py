"""Annotations of a task's function: which of them ask for the context or an error, and what they resolve to."""

from __future__ import annotations

import functools
import inspect
import types
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin, get_type_hints

from graflow.core.injection import Injected

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

_UNIONS = (Union, types.UnionType)
_CONTEXT_NAMES = {"TaskContext": False, "SyncTaskContext": True, "BaseContext": None}
_ERROR_NAME = "TaskError"
_ERROR_MODULE = "graflow.core."
"""The module of outcomes stands above this one, so that the class is known here by its name."""


class Found(NamedTuple):
    """A parameter that the run fills in. ``blocking`` says which context: True for threads, False for the loop, None
    for either."""

    role: Literal["context", "error"]
    blocking: bool | None = None


def find_injected(function: Callable[..., Any], parameters: Sequence[inspect.Parameter]) -> dict[str, Found]:
    """The parameters annotated as a context or as TaskError.

    This is asked when a task is declared, when forward references may not resolve yet and imports under ``if
    TYPE_CHECKING:`` never will; such names are compared as text.
    """
    namespace = namespace_of(function)
    found: dict[str, Found] = {}
    for parameter in parameters:
        for member in _members(parameter.annotation):
            what = _recognise(member, namespace)
            if what is not None:
                found[parameter.name] = what
    return found


def resolve_hints(function: Callable[..., Any], parameters: Sequence[inspect.Parameter]) -> dict[str, Any]:
    """The annotations by parameter name. One that cannot be resolved counts as Any and takes no other with it."""
    namespace = namespace_of(function)
    hints: dict[str, Any] = {}
    for parameter in parameters:
        if parameter.annotation is inspect.Parameter.empty:
            continue
        holder = types.SimpleNamespace(__annotations__={parameter.name: parameter.annotation})
        try:
            hints.update(get_type_hints(holder, globalns=dict(namespace), include_extras=True))
        except (NameError, TypeError, AttributeError, SyntaxError):
            hints[parameter.name] = Any
    return hints


def namespace_of(function: Callable[..., Any]) -> Mapping[str, Any]:
    """The globals of the function that was written, beneath wrappers, partials, methods and callable objects."""
    target: Any = function
    while True:
        target = inspect.unwrap(target)
        if isinstance(target, functools.partial):
            target = target.func
        elif isinstance(target, types.MethodType):
            target = target.__func__
        elif hasattr(target, "__globals__"):
            break
        elif inspect.isclass(target):
            target = vars(target).get("__init__", None)
        elif isinstance(getattr(_class_of(target), "__call__", None), types.FunctionType):  # noqa: B004
            target = _class_of(target).__call__
        else:
            return {}
    found: Mapping[str, Any] = target.__globals__
    return found


def _class_of(value: object) -> Any:
    return type(value)


def union_members(annotation: Any) -> tuple[Any, ...]:
    """``X`` and ``Y`` for ``X | Y``, ``X`` for anything else, without the extras of Annotated."""
    if get_origin(annotation) is Annotated:
        return union_members(get_args(annotation)[0])
    if get_origin(annotation) in _UNIONS:
        return tuple(member for argument in get_args(annotation) for member in union_members(argument))
    return (annotation,)


def mentions_none(annotation: Any) -> bool:
    """Whether an annotation that is still text allows None."""
    return isinstance(annotation, str) and (
        annotation.strip().startswith(("Optional[", "typing.Optional[")) or "None" in _members(annotation)
    )


def _members(annotation: Any) -> tuple[Any, ...]:
    if not isinstance(annotation, str):
        return union_members(annotation)
    text = annotation.strip().strip("\"'")
    for prefix in ("Optional[", "typing.Optional[", "Annotated[", "typing.Annotated["):
        if text.startswith(prefix) and text.endswith("]"):
            text = text[len(prefix) : -1].split(",")[0]
    return tuple(part.strip() for part in text.split("|"))


def _recognise(annotation: Any, namespace: Mapping[str, Any]) -> Found | None:
    if isinstance(annotation, str):
        resolved = _look_up(annotation, namespace)
        if resolved is None:
            return _by_name(annotation.rpartition(".")[2])
        annotation = resolved
    if isinstance(annotation, type):
        if issubclass(annotation, Injected):
            return Found("context", annotation.blocking)
        if annotation.__name__ == _ERROR_NAME and annotation.__module__.startswith(_ERROR_MODULE):
            return Found("error")
    return None


def _look_up(dotted: str, namespace: Mapping[str, Any]) -> Any:
    head, *rest = dotted.split(".")
    found: Any = namespace.get(head)
    for name in rest:
        found = getattr(found, name, None)
    return found


def _by_name(name: str) -> Found | None:
    if name in _CONTEXT_NAMES:
        return Found("context", _CONTEXT_NAMES[name])
    return Found("error") if name == _ERROR_NAME else None
