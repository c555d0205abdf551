"""Any value as what JSON knows. Results of tasks may be anything; what JSON has no form for is shown by its repr."""

from __future__ import annotations

import base64
import dataclasses
import enum
import math
from collections.abc import Mapping
from typing import Any, Final, cast

import msgspec

from graflow.core.boundary import UserCode

DEEPEST: Final = 100
"""levels; what is deeper, or contains itself, is shown by an ellipsis"""


def to_plain(value: Any, depth: int = 0) -> Any:
    """``value`` made of dicts with text keys, lists, texts, finite numbers, booleans and None.

    Dates and times become ISO 8601, bytes Base64, dataclasses and structs objects, sets sorted lists.
    """
    if value is None or isinstance(value, bool | str):
        return _text(value) if isinstance(value, str) else value
    if isinstance(value, enum.Enum):
        return to_plain(value.value, depth + 1)
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else repr(value)
    if depth > DEEPEST:
        return "..."
    if isinstance(value, bytes | bytearray):
        return base64.b64encode(value).decode()
    return _composed(value, depth + 1)


def _composed(value: Any, depth: int) -> Any:
    if isinstance(value, Mapping):
        items = cast("Mapping[object, Any]", value)
        return {_key(key): to_plain(each, depth) for key, each in items.items()}
    if isinstance(value, list | tuple):
        return [to_plain(each, depth) for each in cast("list[Any]", value)]
    if isinstance(value, set | frozenset):
        return sorted((to_plain(each, depth) for each in cast("set[Any]", value)), key=repr)
    if isinstance(value, msgspec.Struct):
        return {name: to_plain(getattr(value, name), depth) for name in value.__struct_fields__}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: to_plain(getattr(value, field.name), depth) for field in dataclasses.fields(value)}
    return _by_msgspec(value)


def _by_msgspec(value: Any) -> Any:
    """Dates, times, UUIDs, decimals and the like."""
    try:
        return msgspec.to_builtins(value, builtin_types=())
    except TypeError:
        return _text(shown(value))


def shown(value: Any) -> str:
    """The repr of a value of any class; where that fails, what every object has."""
    with UserCode() as code:
        return repr(value)
    return f"{object.__repr__(value)} (its repr raised {type(code.error).__name__})"


def _key(key: Any) -> str:
    plain = to_plain(key, DEEPEST)
    return plain if isinstance(plain, str) else repr(key)


def _text(text: str) -> str:
    """Lone surrogates cannot be encoded; they are written out."""
    return text.encode("utf-8", "backslashreplace").decode()
