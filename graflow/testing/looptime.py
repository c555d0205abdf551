"""An event loop's time in the hands of a test. All that Graflow assumes about the inside of asyncio is in this module.

It holds for the event loops of the standard library, which ask ``loop.time()`` for the time whenever they need it, put every timer on their
list through ``loop.call_at()``, start threads through ``loop.run_in_executor()``, and do all their waiting in
``loop._selector.select(timeout)``, with the seconds to the next timer as the timeout. The first three are public; that there is a
``_selector`` is not. While the loop is steered an attribute of the object itself hides each of the four, and nothing is changed for any
other loop.
"""

from __future__ import annotations

import asyncio
import itertools
import threading
import time
from typing import TYPE_CHECKING, Any, Final, cast

from graflow.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable

    AtWork = Callable[[], bool]
    """whether something outside of the event loop is at work for it"""

GRACE: Final = 0.005
"""real seconds that the loop listens, before time jumps, for what might be at work without having been announced"""
TICK: Final = 0.5
"""real seconds of announced work that count as time; shorter work takes none, so that a test's times do not depend on the machine"""

_ABSENT: Final[Any] = object()


class LoopTime:
    """The time of one event loop: a number, which moves on to the next timer when nothing else is left to do.

    Whoever steers a loop shares one of these with all others who do; the loop has its own time back when the last of them lets go.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._selector = _selector_of(loop)
        self._holders = 0
        self._replaced: list[tuple[object, str, Any]] = []
        self._order = itertools.count()
        self._at_work: list[AtWork] = []
        self._worked = 0.0
        """real seconds of announced work that have not counted as time yet"""
        self._owed = 0.0
        """seconds that have counted, and are still to be added to the time"""
        # Whole seconds, for a test's sums to come out even. Rounded down, which gives timers that are set already more time and not less.
        self._now = float(int(loop.time()))
        self._epoch = float(int(time.time())) - self._now
        self._select: Any = self._selector.select
        self._call_at: Any = loop.call_at
        self._run_in_executor: Any = loop.run_in_executor

    @classmethod
    def of(cls, loop: asyncio.AbstractEventLoop) -> LoopTime:
        """What steers the loop already, or else something that will. Raises ConfigurationError for a loop that cannot be steered."""
        steering = getattr(loop.time, "__self__", None)
        return steering if isinstance(steering, cls) else cls(loop)

    def hold(self) -> None:
        """Steer the loop, until :meth:`let_go` has been called as often as this."""
        self._holders += 1
        if self._holders == 1:
            self._replace(self._loop, "time", self.time)
            self._replace(self._loop, "call_at", self._call_at_in_turn)
            self._replace(self._loop, "run_in_executor", self._run_announced)
            self._replace(self._selector, "select", self._select_in_virtual_time)

    def let_go(self) -> None:
        """One of those who steer the loop is done."""
        self._holders -= 1
        if self._holders:
            return
        while self._replaced:
            owner, name, value = self._replaced.pop()
            if value is _ABSENT:
                delattr(owner, name)
            else:
                setattr(owner, name, value)

    def _replace(self, owner: object, name: str, value: Any) -> None:
        self._replaced.append((owner, name, vars(owner).get(name, _ABSENT)))
        setattr(owner, name, value)

    def time(self) -> float:
        """What ``loop.time()`` answers."""
        return self._now

    def wall(self) -> float:
        """The same as seconds since the epoch."""
        return self._epoch + self._now

    def announce(self, at_work: AtWork) -> None:
        """Ask ``at_work`` from now on before time jumps: while it says yes, the loop waits as it would without being steered."""
        self._at_work.append(at_work)

    def withdraw(self, at_work: AtWork) -> None:
        """Do not ask any more."""
        self._at_work.remove(at_work)

    # ---- in the place of the loop's own ----

    def _call_at_in_turn(self, when: float, *args: Any, **kwargs: Any) -> asyncio.TimerHandle:
        timer: asyncio.TimerHandle = self._call_at(_Due(when, next(self._order)), *args, **kwargs)
        return timer

    def _run_announced(self, *args: Any) -> asyncio.Future[Any]:
        """``run_in_executor``, and so ``asyncio.to_thread``: time waits for the thread until nobody awaits it any more."""
        future: asyncio.Future[Any] = self._run_in_executor(*args)

        def at_work() -> bool:
            return not future.done()

        self.announce(at_work)
        future.add_done_callback(lambda _: self.withdraw(at_work))
        return future

    def _select_in_virtual_time(self, timeout: float | None = None) -> Any:
        if timeout is not None and timeout <= 0:
            return self._select(timeout)
        if any(at_work() for at_work in self._at_work):
            return self._wait_for_work(timeout)
        self._worked = self._owed = 0.0
        if timeout is None:
            return self._select(None)
        found = self._select(min(GRACE, timeout) if self._is_in_company() else 0)
        if not found:
            self._now += timeout
        return found

    def _wait_for_work(self, timeout: float | None) -> Any:
        """Really wait. Time stands still meanwhile, unless the work goes on for so long that it may itself be waiting for time to pass."""
        if self._owed:
            found = self._select(0)
            if not found:
                step = self._owed if timeout is None else min(self._owed, timeout)
                self._now += step
                self._owed -= step
            return found
        began = time.monotonic()
        found = self._select(max(0.0, TICK - self._worked))
        self._worked += time.monotonic() - began
        if self._worked >= TICK:
            self._owed = self._worked // TICK * TICK
            self._worked -= self._owed
        return found

    def _is_in_company(self) -> bool:
        """Whether there is anything but this thread and this loop that could be at work: a file that the loop reads, another thread."""
        files = getattr(self._selector, "get_map", None)
        if files is None or threading.active_count() > 1:
            return True
        return len(files() or ()) > 1  # one is there always: the loop's own, by which threads wake it


class _Due(float):
    """When a timer is due. Of two that are due at the same time the one set first comes first, as in reality, where moments differ."""

    __slots__ = ("_turn",)

    _turn: int

    def __new__(cls, when: float, turn: int) -> _Due:
        due = super().__new__(cls, when)
        due._turn = turn
        return due

    def __lt__(self, other: float) -> bool:
        if isinstance(other, _Due) and self == other:
            return self._turn < other._turn
        return super().__lt__(other)


def _selector_of(loop: asyncio.AbstractEventLoop) -> Any:
    selector = cast("Any", getattr(loop, "_selector", None))
    if isinstance(loop, asyncio.BaseEventLoop) and callable(getattr(selector, "select", None)) and hasattr(selector, "__dict__"):
        return selector
    kind = type(loop)
    raise ConfigurationError(
        f"virtual time works on asyncio's own event loops, and {kind.__module__}.{kind.__qualname__} is not one; "
        "run these tests without uvloop (asyncio.run(...), or pytest-asyncio's default loop)",
        setting="loop",
    )
