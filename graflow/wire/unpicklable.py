"""Where inside a function or value it is that something cannot be pickled: ``cannot pickle '_thread.lock' object`` alone helps nobody."""

from __future__ import annotations

import dis
from functools import partial
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast

from graflow.core.boundary import UserCode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

DEEPEST: Final = 24
"""steps from the outermost value to the culprit, at most"""
MOST_TRIALS: Final = 5000
"""values that are tried in all: a graph of objects may be as large as it may be"""


class Culprit(NamedTuple):
    """``path`` leads from the value that was given to the one at fault, ``value``, whose class ``type_name`` is."""

    path: str
    type_name: str
    value: Any


def culprit(value: Any, passes: Callable[[Any], bool], is_refused: Callable[[Any], bool] = lambda _: False) -> Culprit | None:
    """The innermost part of a value that does not pass, where none of its own parts is to blame; None if the value passes.

    Args:
        value: a function, a class or any object.
        passes: whether something can be pickled.
        is_refused: whether something is refused as a whole, so that none of its parts is to blame.
    """
    if passes(value):
        return None
    return _Search(passes, is_refused).within(value, "", frozenset(), 0)


class _Search:
    def __init__(self, passes: Callable[[Any], bool], is_refused: Callable[[Any], bool]) -> None:
        self._passes = passes
        self._is_refused = is_refused
        self._left = MOST_TRIALS
        self._fine: dict[int, Any] = {}  # the values too, lest their ids be given to others

    def within(self, value: Any, path: str, above: frozenset[int], depth: int) -> Culprit:
        here = above | {id(value)}
        if depth < DEEPEST and not self._is_refused(value):
            for segment, part in _parts(value):
                if id(part) not in here and not self._is_fine(part):
                    return self.within(part, f"{path}{segment}", here, depth + 1)
        return Culprit(path, _type_name(value), value)

    def _is_fine(self, part: Any) -> bool:
        if id(part) in self._fine or self._left <= 0:
            return True
        self._left -= 1
        if not self._passes(part):
            return False
        self._fine[id(part)] = part
        return True


def _parts(value: Any) -> Iterator[tuple[str, Any]]:
    """What a pickler takes along with a value, and how to say so."""
    if isinstance(value, FunctionType):
        yield from _of_function(value)
    elif isinstance(value, MethodType):
        yield ".__self__", value.__self__
        yield ".__func__", value.__func__
    elif isinstance(value, partial):
        yield from _of_partial(value)
    elif isinstance(value, type):
        yield from ((f".{name}", each) for name, each in vars(value).items() if name not in ("__dict__", "__weakref__"))
    elif isinstance(value, staticmethod | classmethod):
        yield "", cast("Any", value).__func__
    elif isinstance(value, property):
        yield from ((f".{name}", getattr(value, name)) for name in ("fget", "fset", "fdel"))
    else:
        yield from _of_object(value, type(cast("object", value)))


def _of_partial(value: Any) -> Iterator[tuple[str, Any]]:
    yield ".func", value.func
    yield from ((f".args[{place}]", each) for place, each in enumerate(value.args))
    yield from ((f".keywords[{name!r}]", each) for name, each in value.keywords.items())


def _of_function(function: FunctionType) -> Iterator[tuple[str, Any]]:
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            yield f": closure variable {name!r}", cell.cell_contents
        except ValueError:  # not filled yet
            continue
    names = function.__code__.co_varnames[: function.__code__.co_argcount]
    defaults = function.__defaults__ or ()
    yield from ((f": default of {name!r}", each) for name, each in zip(names[len(names) - len(defaults) :], defaults, strict=True))
    yield from ((f": default of {name!r}", each) for name, each in (function.__kwdefaults__ or {}).items())
    for name in dict.fromkeys(_globals_of(function.__code__)):
        if name in function.__globals__:
            yield f": global {name!r}", function.__globals__[name]
    yield from ((f".{name}", each) for name, each in vars(function).items())
    yield from ((f": annotation of {name!r}", each) for name, each in function.__annotations__.items())


def _globals_of(code: CodeType) -> Iterator[str]:
    for instruction in dis.get_instructions(code):
        if instruction.opname in ("LOAD_GLOBAL", "STORE_GLOBAL", "LOAD_NAME"):
            yield str(instruction.argval)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _globals_of(constant)


def _of_object(value: Any, kind: Any) -> Iterator[tuple[str, Any]]:
    if kind in (list, tuple):
        yield from ((f"[{place}]", each) for place, each in enumerate(value))
    elif kind in (set, frozenset):
        yield from (("{...}", each) for each in value)
    elif kind is dict:
        yield from _of_mapping(value)
    elif not isinstance(value, ModuleType):
        yield from _of_reduced(value)


def _of_mapping(value: dict[Any, Any]) -> Iterator[tuple[str, Any]]:
    for key, each in value.items():
        yield (f"[{key!r}]" if type(key) in (str, int) else "[...]"), each
    yield from ((".keys()[...]", key) for key in value)


def _of_reduced(value: Any) -> Iterator[tuple[str, Any]]:
    """As pickle takes an object apart. What refuses that, refuses for itself."""
    reduced: Any = None
    with UserCode():
        reduced = value.__reduce_ex__(4)
    if isinstance(reduced, tuple):
        yield from _of_state((*reduced, None, None, None)[:5])
        yield ".__class__", type(value)


def _of_state(reduced: Any) -> Iterator[tuple[str, Any]]:
    _, arguments, state, items, pairs = reduced
    for each in _states(state):
        if isinstance(each, dict):
            yield from ((f".{name}", part) for name, part in cast("dict[str, Any]", each).items())
        elif each is not None:
            yield ".__getstate__()", each
    yield from ((f".__reduce__()[1][{place}]", each) for place, each in enumerate(arguments or ()))
    yield from ((f"[{place}]", each) for place, each in enumerate(items or ()))
    for key, each in pairs or ():
        yield (f"[{key!r}]" if type(key) in (str, int) else "[...]"), each


def _states(state: Any) -> Any:
    """Of an object with slots there are two: its dict and its slots."""
    kind: Any = tuple
    return state if isinstance(state, kind) and len(state) == 2 else (state,)


def _type_name(value: object) -> str:
    kind = type(value)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
