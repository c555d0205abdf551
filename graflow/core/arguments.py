"""What a task's function takes: its parameters, what each is for, and how values are made to fit."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, get_origin

import msgspec

from graflow.core.conversion import describe, is_typed_dict, make_converter
from graflow.core.hints import Found, find_injected, mentions_none, resolve_hints, union_members
from graflow.errors import ArgumentTypeError, GraphError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

Role = Literal["context", "error", "value"]
Kind = Literal["positional_only", "positional_or_keyword", "keyword_only"]

_KINDS: dict[Any, Kind] = {
    inspect.Parameter.POSITIONAL_ONLY: "positional_only",
    inspect.Parameter.POSITIONAL_OR_KEYWORD: "positional_or_keyword",
    inspect.Parameter.KEYWORD_ONLY: "keyword_only",
}


class Parameter(msgspec.Struct, frozen=True):
    """One parameter of a task's function.

    Attributes:
        name: as it is written.
        kind: how it may be passed.
        required: whether there is no default.
        default: the default, or ``msgspec.UNSET``.
        annotation: the resolved annotation; Any where there is none or it cannot be resolved.
        role: ``context`` and ``error`` are filled in by the run, ``value`` from bound arguments, results and channel.
        wants_mapping: annotated as a dict, so that a group's result is handed on as ``{id: value}``.
        accepts_none: None is among what the annotation allows.
        converter: makes a value fit the annotation; None passes every value on.
    """

    name: str
    kind: Kind
    required: bool
    default: Any
    annotation: Any
    role: Role
    wants_mapping: bool = False
    accepts_none: bool = False
    converter: Callable[[Any], Any] | None = None


class FunctionSignature:
    """The parameters of one function, shared by all tasks made from it.

    Annotations are resolved at first use, not when the task is declared: by then the names they refer to exist.

    Attributes:
        names: all parameter names.
        open_names: those that a value may be bound to.
        accepts_any: whether there are ``**kwargs``, which take any bound name and nothing of themselves.
        injected: the parameters that the run fills in, with what was found out about them.
    """

    __slots__ = (
        "_by_name",
        "_function",
        "_parameters",
        "_positional",
        "_raw",
        "accepts_any",
        "injected",
        "names",
        "open_names",
    )

    def __init__(self, function: Callable[..., Any], *, inject_context: bool = False) -> None:
        try:
            raw = inspect.signature(function).parameters
        except (TypeError, ValueError) as error:
            raise GraphError(f"the parameters of {function!r} cannot be found out; wrap it in a function of your own") from error
        self._function = function
        self._raw = [parameter for parameter in raw.values() if parameter.kind in _KINDS]
        self._parameters: tuple[Parameter, ...] | None = None
        self._by_name: dict[str, Parameter] | None = None
        self._positional = tuple(parameter.name for parameter in self._raw if parameter.kind is inspect.Parameter.POSITIONAL_ONLY)
        self.accepts_any: bool = any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in raw.values())
        self.injected: dict[str, Found] = find_injected(function, self._raw)
        if inject_context:
            self._inject_first()
        self.names: frozenset[str] = frozenset(parameter.name for parameter in self._raw)
        self.open_names: frozenset[str] = self.names - {name for name, found in self.injected.items() if found.role == "context"}

    def _inject_first(self) -> None:
        if not self._raw:
            raise GraphError("inject_context=True gives the context to the first parameter, and the function has none")
        first = self._raw[0].name
        found = self.injected.get(first)
        if found is None or found.role != "context":
            self.injected[first] = Found("context", None)

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        """All parameters in order, without ``*args`` and ``**kwargs``."""
        if self._parameters is None:
            hints = resolve_hints(self._function, self._raw)
            self._parameters = tuple(self._describe(parameter, hints.get(parameter.name, Any)) for parameter in self._raw)
        return self._parameters

    def _describe(self, raw: inspect.Parameter, annotation: Any) -> Parameter:
        found = self.injected.get(raw.name)
        required = raw.default is inspect.Parameter.empty
        members = union_members(annotation)
        return Parameter(
            name=raw.name,
            kind=_KINDS[raw.kind],
            required=required,
            default=msgspec.UNSET if required else raw.default,
            annotation=annotation,
            role="value" if found is None else found.role,
            wants_mapping=any(_is_mapping(member) for member in members),
            accepts_none=type(None) in members or mentions_none(raw.annotation),
            converter=make_converter(annotation) if found is None else None,
        )

    def get(self, name: str) -> Parameter | None:
        """The parameter of that name, or None."""
        if self._by_name is None:
            self._by_name = {parameter.name: parameter for parameter in self.parameters}
        return self._by_name.get(name)

    def first_open(self, taken: Iterable[str] = ()) -> str | None:
        """The name of the first parameter that takes a value and is not among ``taken``, or None."""
        taken = frozenset(taken)
        return next((raw.name for raw in self._raw if raw.name not in self.injected and raw.name not in taken), None)

    def check_names(self, names: Iterable[str], task_id: str) -> None:
        """Raise GraphError when one of ``names`` is no parameter that a value can be bound to."""
        unknown = [name for name in names if name not in self.open_names and not (self.accepts_any and name not in self.names)]
        if not unknown:
            return
        name = unknown[0]
        if name in self.names:
            raise GraphError(
                f"{name!r} of task {task_id!r} is its context, which the run fills in; it cannot be bound",
                ids=(task_id,),
            )
        taken = ", ".join(repr(raw.name) for raw in self._raw if raw.name in self.open_names) or "none"
        raise GraphError(f"task {task_id!r} has no parameter {name!r} to bind; it takes {taken}", ids=(task_id,))

    def convert(self, value: Any, parameter: Parameter, task_id: str = "") -> Any:
        """``value`` as the parameter's annotation asks for it.

        Raises:
            ArgumentTypeError: it does not fit.
        """
        if parameter.converter is None:
            return value
        try:
            return parameter.converter(value)
        except msgspec.ValidationError as error:
            expected, got = describe(parameter.annotation), type(value).__qualname__
            raise ArgumentTypeError(
                f"parameter {parameter.name!r} of task {task_id!r} is annotated {expected} and was given the {got} "
                f"{_brief(value)}: {error}",
                task_id=task_id,
                parameter=parameter.name,
                expected=expected,
                got=got,
            ) from error

    def call(self, function: Callable[..., Any], values: Mapping[str, Any]) -> Any:
        """Call ``function`` with values by name, also where parameters can be passed by position only."""
        if not self._positional:
            return function(**values)
        given = dict(values)
        positional: list[Any] = []
        for raw in self._raw[: len(self._positional)]:
            if raw.name in given:
                positional.append(given.pop(raw.name))
            elif raw.default is not inspect.Parameter.empty:
                positional.append(raw.default)
            else:
                break  # the call itself says best what is missing
        return function(*positional, **given)


def _is_mapping(annotation: Any) -> bool:
    kind: Any = get_origin(annotation) or annotation
    return isinstance(kind, type) and issubclass(kind, Mapping) and not is_typed_dict(kind)


def _brief(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
