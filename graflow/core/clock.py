"""Time as a dependency: what needs the time is given a clock, so that a test can own it."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Any, Protocol


class Clock(Protocol):
    """Two readings of time, both in seconds.

    ``now`` is for showing and storing: it is what the wall says, and may jump. ``monotonic`` is for durations: it only
    ever grows, and means nothing outside this process.
    """

    def now(self) -> float:
        """Seconds since the epoch."""
        ...

    def monotonic(self) -> float:
        """Seconds from an arbitrary point."""
        ...


class SystemClock:
    """The machine's own clocks."""

    __slots__ = ()

    def now(self) -> float:
        """Seconds since the epoch."""
        return time.time()

    def monotonic(self) -> float:
        """Seconds from an arbitrary point."""
        return time.monotonic()

    if not TYPE_CHECKING:  # read several times for every step: the built-in functions themselves, without a call around them
        now = staticmethod(time.time)
        monotonic = staticmethod(time.monotonic)


def is_number(value: Any) -> bool:
    """Whether it is a number; True and False are none, nor is what is not a number by its own account."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    try:
        return not math.isnan(value)
    except OverflowError:  # an int that no float comes near to
        return False


def is_wait(value: Any) -> bool:
    """Whether it says how long to wait: so many seconds, none if there are no more than 0, or for ever."""
    return value is None or is_number(value)


def is_span(value: Any) -> bool:
    """Whether it says how long something is to last: some seconds, and not for ever."""
    return is_number(value) and 0 < value < math.inf
