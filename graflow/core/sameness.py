"""Whether two tasks were made from the same function and bound to the same values."""

from __future__ import annotations

from types import MethodType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


def same_function(a: Any, b: Any) -> bool:
    """Functions are the same by identity; a method, which is made anew whenever it is looked up, by what it binds."""
    return a is b or (isinstance(a, MethodType) and isinstance(b, MethodType) and a == b)


def same_values(a: Mapping[str, Any], b: Mapping[str, Any]) -> bool:
    """Whether both have the same names with the same values."""
    return a is b or (a.keys() == b.keys() and all(_same_value(value, b[name]) for name, value in a.items()))


def _same_value(a: Any, b: Any) -> bool:
    if a is b:
        return True
    if type(a) is not type(b):
        return False  # 1 == True, and yet a task bound to the one is not a task bound to the other
    try:
        return (a == b) is True
    except (TypeError, ValueError):
        return False  # arrays and tables refuse to be compared as a whole
