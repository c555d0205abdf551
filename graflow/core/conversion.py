"""Values into what an annotation asks for."""

from __future__ import annotations

import types
from collections.abc import Callable, Mapping, Sequence, Set
from pathlib import PurePath
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

import msgspec
import msgspec.inspect

Converter = Callable[[Any], Any]

_UNIONS = (Union, types.UnionType)


def make_converter(annotation: Any) -> Converter | None:
    """A function that turns a value into what ``annotation`` asks for, or None when any value is to be passed on as it
    is.

    That is so for Any, for missing annotations, and for those that msgspec has no rule for (protocols, unions of
    several classes of one's own). The converter raises :class:`msgspec.ValidationError` for a value that does not fit.
    A value that fits already is never rebuilt when the annotation is a plain class.
    """
    if annotation is Any or annotation is object or isinstance(annotation, TypeVar | str) or getattr(annotation, "_is_protocol", False):
        return None
    try:
        msgspec.inspect.type_info(annotation)
    except (TypeError, ValueError, NameError, AttributeError):
        return None
    plain: Any = annotation if isinstance(annotation, type) and get_origin(annotation) is None and not is_typed_dict(annotation) else None

    def convert(value: Any) -> Any:
        if plain is not None and _is(value, plain):
            return value
        try:
            converted = _by_msgspec(value, annotation)
        except TypeError:
            return value  # a part of the annotation is something that cannot be checked, such as a protocol
        except msgspec.ValidationError:
            if fits(value, annotation):
                return value
            raise
        return converted

    return convert


def _by_msgspec(value: Any, annotation: Any) -> Any:
    return msgspec.convert(value, annotation, dec_hook=_decode)


def fits(value: Any, annotation: Any) -> bool:
    """Whether a value is what the annotation says by Python's rules, where msgspec's are narrower.

    msgspec takes no bool for an int, no instance of a subclass for a dataclass, and no ``range`` for a sequence.
    """
    if annotation is Any or annotation is object or isinstance(annotation, TypeVar):
        return True
    if annotation is None or annotation is type(None):
        return value is None
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated or origin is Literal:
        return False  # they narrow further than isinstance sees, so msgspec's verdict stands
    if origin in _UNIONS:
        return any(fits(value, argument) for argument in arguments)
    if not isinstance(origin or annotation, type) or is_typed_dict(annotation):
        return False
    try:
        if not isinstance(value, origin or annotation):
            return False
    except TypeError:
        return True
    return _parts_fit(value, origin, arguments)


def _parts_fit(value: Any, origin: Any, arguments: tuple[Any, ...]) -> bool:
    if origin is None or not arguments:
        return True
    if _is(value, Mapping) and len(arguments) == 2:
        return all(fits(key, arguments[0]) and fits(item, arguments[1]) for key, item in value.items())
    if origin is tuple and not (len(arguments) == 2 and arguments[1] is Ellipsis):
        return len(value) == len(arguments) and all(map(fits, value, arguments))
    if _is(value, Sequence | Set) and not _is(value, str | bytes):
        return all(fits(item, arguments[0]) for item in value)
    return True


def _is(value: Any, kind: Any) -> bool:
    """``isinstance``, after which a type checker knows no less of the value than before."""
    return isinstance(value, kind)


def is_typed_dict(annotation: Any) -> bool:
    """Whether a class is a TypedDict, which is no class to ``isinstance``."""
    return isinstance(annotation, type) and hasattr(annotation, "__total__") and hasattr(annotation, "__required_keys__")


def _decode(wanted: Any, value: Any) -> Any:
    """What msgspec asks for a class that it has no rule for."""
    kind = get_origin(wanted) or wanted
    if isinstance(value, kind):
        return value
    if isinstance(kind, type) and issubclass(kind, PurePath) and isinstance(value, str):
        return kind(value)
    raise ValueError(f"Expected `{kind.__name__}`, got `{type(value).__name__}`")


def describe(annotation: Any) -> str:
    """An annotation as a user would write it."""
    if isinstance(annotation, type) and get_origin(annotation) is None:
        return annotation.__qualname__
    return str(annotation).replace("typing.", "")
