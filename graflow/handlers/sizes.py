"""Settings of handlers that are numbers: read, and refused where they make no sense."""

from __future__ import annotations

import math
import re
from typing import Any, Final

from graflow.errors import ConfigurationError

CONTAINERS: Final = 4
"""containers at once unless told otherwise: each may take half a gigabyte of the host"""
CONTAINER_TIMEOUT: Final = 300.0
"""seconds for tasks in containers that set no timeout of their own, unless told otherwise"""

_UNITS: Final = {"": 1, "b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
_SIZE: Final = re.compile(r"(\d+(?:\.\d+)?)\s*([bkmgt]?)i?b?", re.IGNORECASE)


def bytes_in(value: Any, setting: str) -> int:
    """A size in bytes: a number, or a text such as ``"64m"`` (k, m, g and t are powers of 1024).

    Raises:
        ConfigurationError: it is none, or 0.
    """
    size = value
    if isinstance(value, str):
        match = _SIZE.fullmatch(value.strip())
        size = None if match is None else int(float(match[1]) * _UNITS[match[2].lower()])
    if not isinstance(size, int) or isinstance(size, bool) or size < 1:
        raise ConfigurationError(f'{setting}={value!r}: give a size in bytes, or a text such as "512m"', setting=setting)
    return size


def check_count(value: Any, setting: str, *, least: int) -> int:
    """A whole number of at least so much.

    Raises:
        ConfigurationError: it is none.
    """
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ConfigurationError(f"{setting}={value!r}: give a whole number, {least} or more", setting=setting)
    return value


def check_seconds(value: Any, setting: str) -> float:
    """A time in seconds, more than 0.

    Raises:
        ConfigurationError: it is none.
    """
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value < math.inf:
        raise ConfigurationError(f"{setting}={value!r}: give seconds, more than 0", setting=setting)
    return float(value)
