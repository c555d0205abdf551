"""Time that a test owns."""

from __future__ import annotations

import asyncio
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Self

from graflow.errors import ConfigurationError
from graflow.testing.looptime import LoopTime

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from types import TracebackType


class VirtualClock:
    """A :class:`~graflow.core.clock.Clock` that is also the clock of the event loop, for the length of a ``with`` block in a coroutine.

    In the block, waiting takes no time: when nothing is ready to run, time jumps to the next timer. ``asyncio.sleep``, ``asyncio.timeout``,
    ``loop.call_later`` and all that is built on them follow, in Graflow, in tasks and in the test itself. Order stays what it is.

    Time does not jump while a thread is at work for the loop (of a ``def`` task, of ``asyncio.to_thread``), or while a block of
    :meth:`standing_still` runs: what comes next is then not a timer. It stands still meanwhile, except that every full half second which
    the work really takes counts. Of work that the clock is not told of (a socket, a subprocess, a thread of one's own) it waits for what
    takes a few milliseconds; put longer work into :meth:`standing_still`.

    Several clocks on one loop are one clock. The loop has its own time back when the last block is left; a timer that was set inside and is
    still pending then keeps its place in virtual time, which may be far away.

    Example:
        >>> with VirtualClock() as clock:
        ...     began = clock.monotonic()
        ...     await asyncio.sleep(3600)
        ...     clock.monotonic() - began
        3600.0
    """

    def __init__(self) -> None:
        self._steering: list[LoopTime] = []
        self._monotonic = float(int(time.monotonic()))
        self._now = float(int(time.time()))

    def __enter__(self) -> Self:
        steering = LoopTime.of(asyncio.get_running_loop())
        if self._steering and self._steering[0] is not steering:
            raise ConfigurationError("this clock is the clock of another event loop; make a VirtualClock() for each", setting="clock")
        steering.hold()
        self._steering.append(steering)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._monotonic, self._now = self.monotonic(), self.now()
        self._steering.pop().let_go()

    def now(self) -> float:
        """Seconds since the epoch. Starts at the real time, in whole seconds; outside of the block it is the last reading."""
        return self._steering[0].wall() if self._steering else self._now

    def monotonic(self) -> float:
        """The same number as ``loop.time()``. Outside of the block it is the last reading, so that durations can still be told."""
        return self._steering[0].time() if self._steering else self._monotonic

    @contextmanager
    def standing_still(self, at_work: Callable[[], bool] = lambda: True) -> Generator[None, None, None]:
        """Let no time pass while something outside of the event loop is at work.

        Args:
            at_work: asked whenever the loop has nothing to do; whether there is something to wait for, at this moment.

        Example:
            >>> with clock.standing_still():
            ...     await process.wait()
        """
        steering = self._steering[0] if self._steering else None
        if steering is None:
            raise ConfigurationError("this clock steers no event loop now; use it inside its with block", setting="clock")
        steering.announce(at_work)
        try:
            yield
        finally:
            steering.withdraw(at_work)
