"""Time as a dependency: what needs the time is given a clock, so that a test can own it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Protocol


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
