"""What may be asked of a channel, checked before anything is sent; and the names of what is sent."""

from __future__ import annotations

import secrets
from typing import Any, Final

from graflow.core.clock import is_span, is_wait
from graflow.errors import ChannelTypeError

_LONGEST: Final = 10**13
"""milliseconds; a greater number could not be added to a time without losing its last digits"""


def key_bytes(key: str) -> bytes:
    """A key as it is sent. Text that is no valid Unicode, such as an undecodable file name, is a key like any other."""
    if isinstance(key, str):  # pyright: ignore[reportUnnecessaryIsInstance]
        return key.encode("utf-8", "surrogatepass")
    raise ChannelTypeError(f"channel keys are text, not {key!r}: use str(...)", key=repr(key), expected="str", got=type(key).__name__)


def key_text(key: bytes) -> str:
    """A key as it was given."""
    return key.decode("utf-8", "surrogatepass")


def milliseconds(ttl: float) -> int:
    """A time to live as the scripts take it.

    Raises:
        ValueError: it is not above 0.
    """
    if not is_span(ttl):
        raise ValueError(f"ttl={ttl!r}: give the seconds after which it ends, more than 0, or leave it out")
    return min(max(1, round(ttl * 1000)), _LONGEST)


def check_wait(name: str, value: float | None) -> None:
    """Raise a ValueError for what does not say how long to wait."""
    if not is_wait(value):
        raise ValueError(f"{name}={value!r}: give the seconds to wait, or None for as long as it takes")


def wrong_type(key: str, expected: str, got: type[Any]) -> ChannelTypeError:
    """The error for something that is not what an operation is for."""
    name = got.__qualname__
    return ChannelTypeError(
        f"the channel was to find {expected} under {key!r}, and met a value of type {name}", key=key, expected=expected, got=name
    )


def operation() -> str:
    """A name that no other operation has, by which a script knows one that it has seen before."""
    return secrets.token_urlsafe(12)
