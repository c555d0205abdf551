"""Boxes ahead of their use: some that wait for a task, and some that are being made."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from graflow.errors import GraflowError, HandlerError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from graflow.handlers.docker.bin import ContainerBin
    from graflow.handlers.docker.box import Box
    from graflow.handlers.docker.labels import Purpose

logger: logging.Logger = logging.getLogger("graflow.handlers.docker")

AT_ONCE: Final = 8
"""containers that are made at the same time: more would only make the engine slow for all"""
FIRST_PAUSE: Final = 1.0
LAST_PAUSE: Final = 30.0
"""seconds until boxes are made ahead again after that has failed, doubled from the first to the last"""
STOP_PATIENCE: Final = 15.0
"""seconds that boxes which are being made are given when the pool is closed"""


@dataclass(eq=False, slots=True)
class _Waiter:
    """A call that waits for a box."""

    mounts: Mapping[str, str]
    purpose: Purpose
    promised: bool = False
    """whether a box is being made for it, which another call may still get if it fits that one, too"""
    box: asyncio.Future[Box] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class Pool:
    """Gives out boxes: a waiting one where there is one, else the first that gets ready.

    Code is mounted when a container is made, so it must be known by then. The pool learns what tasks need, and makes boxes with all of that;
    one that was made before, and lacks what a task needs, is replaced. Where tasks need different things under one name, a box that is made
    while calls wait has what one of them needs, so that each box that is made for a call brings one to its end, or comes too late for it.

    Args:
        make: makes a box with this code, for a purpose if that is known.
        bin: where boxes go in the end.
        prewarm: boxes that wait, if nothing is asked of them.
        reuse: whether a box can be given back.
        mounts: code that is known to be needed.
    """

    def __init__(
        self,
        make: Callable[[Mapping[str, str], Purpose | None], Awaitable[Box]],
        bin: ContainerBin,
        *,
        prewarm: int,
        reuse: bool,
        mounts: Mapping[str, str],
    ) -> None:
        self._make = make
        self._bin = bin
        self._prewarm = prewarm
        self._reuse = reuse
        self._mounts = dict(mounts)
        self._idle: dict[Box, None] = {}
        self._busy: set[Box] = set()
        self._waiting: deque[_Waiter] = deque()
        self._makers: set[asyncio.Task[None]] = set()
        self._closing: set[asyncio.Task[None]] = set()
        self._gate = asyncio.Semaphore(AT_ONCE)
        self._pause = 0.0
        self._paused: asyncio.TimerHandle | None = None
        self._warm = False
        self._closed = False

    @property
    def idle(self) -> int:
        """How many boxes wait for a task."""
        return len(self._idle)

    def open(self) -> None:
        """Begin to make boxes ahead."""
        self._warm = True
        self._balance()

    # ---- for calls ----

    async def take(self, mounts: Mapping[str, str], purpose: Purpose) -> Box:
        """A box for one attempt, to be given back or dropped.

        Raises:
            GraflowError: there is none to be had.
        """
        if self._closed:
            raise HandlerError("the DockerHandler was stopped", task_id=purpose.task_id)
        self._mounts.update(mounts)
        while (box := self._fitting(mounts)) is not None:
            self._busy.add(box)
            try:
                alive = await box.wake()
            except BaseException:
                self.drop(box)
                raise
            if alive:
                self._balance()
                return box
            self.drop(box)
        waiter = _Waiter(mounts, purpose)
        self._waiting.append(waiter)
        self._balance()
        try:
            return await waiter.box
        except asyncio.CancelledError:
            if waiter.box.done() and not waiter.box.cancelled() and waiter.box.exception() is None:
                self.give(waiter.box.result())  # it came at the very moment in which the call was given up
            raise
        finally:
            if waiter in self._waiting:
                self._waiting.remove(waiter)

    def give(self, box: Box) -> None:
        """Put back a box that has run nothing yet, or that may be used again."""
        self._busy.discard(box)
        self._deliver(box, None)

    def drop(self, box: Box) -> asyncio.Task[None]:
        """Part with a box; what is returned ends when its container is gone."""
        self._busy.discard(box)
        self._idle.pop(box, None)
        closing = asyncio.create_task(box.close(), name=f"graflow-docker-close-{box.container[:12]}")
        self._closing.add(closing)
        closing.add_done_callback(self._closing.discard)
        removal = self._bin.discard(box.container)
        self._balance()
        return removal

    async def close(self) -> None:
        """Part with all boxes, those included that are still being made."""
        self._closed = True
        if self._paused is not None:
            self._paused.cancel()
        if self._makers:
            await asyncio.wait(self._makers, timeout=STOP_PATIENCE)
        for maker in self._makers:
            maker.cancel()
        if self._makers:
            await asyncio.wait(self._makers)
        for box in [*self._idle, *self._busy]:
            self.drop(box)
        if self._closing:
            await asyncio.wait(self._closing)

    # ---- boxes ----

    def _fitting(self, mounts: Mapping[str, str]) -> Box | None:
        """A waiting box that has this code; those that lack what is needed by now make room for others."""
        found: Box | None = None
        for box in list(self._idle):
            if found is None and box.fits(mounts):
                del self._idle[box]
                found = box
            elif not box.fits(self._mounts):
                self.drop(box)
        return found

    def _deliver(self, box: Box, wanted: _Waiter | None) -> None:
        """Hand a box to whom it was made for, or who has waited longest; without either it waits itself."""
        candidates = self._waiting if wanted is None or wanted not in self._waiting else (wanted,)
        for waiter in candidates:
            if not waiter.box.done() and box.fits(waiter.mounts):
                self._waiting.remove(waiter)
                self._busy.add(box)
                waiter.box.set_result(box)
                return
        most = self._prewarm if not self._reuse else self._prewarm + len(self._idle) + 1
        if self._closed or len(self._idle) >= most or not box.fits(self._mounts):
            self.drop(box)
            return
        self._idle[box] = None
        box.doze(self._died)

    def _died(self, box: Box) -> None:
        if box in self._idle:
            logger.warning("container %s ended while it waited for a task", box.container[:12], extra={"container": box.container})
            self.drop(box)

    # ---- makers ----

    def _balance(self) -> None:
        """Have as many boxes made as are waited for, and wanted ahead."""
        if self._closed:
            return
        there = len(self._idle) + (len(self._busy) if self._reuse else 0)
        ahead = max(0, self._prewarm - there) if self._warm and self._paused is None else 0
        missing = len(self._waiting) + ahead - len(self._makers)
        # Made for a certain call where none are made ahead, so that the container can say from the beginning what it is for.
        for _ in range(missing):
            named = self._promise() if not self._prewarm and not self._reuse else None
            maker = asyncio.create_task(self._work(named), name="graflow-docker-make")
            self._makers.add(maker)
            maker.add_done_callback(self._made)

    async def _work(self, wanted: _Waiter | None) -> None:
        waiter = wanted
        try:
            async with self._gate:
                if self._closed or (wanted is not None and wanted not in self._waiting):
                    return
                waiter = wanted or self._promise()
                mounts = {**self._mounts, **waiter.mounts} if waiter is not None else dict(self._mounts)
                box = await self._make(mounts, wanted.purpose if wanted is not None else None)
        except GraflowError as error:
            self._failed(waiter, error)
            return
        except BaseException as error:
            self._failed(waiter, error)
            raise
        self._pause = 0.0
        self._makers.discard(asyncio.current_task())  # before the balance is struck again
        if waiter is not None:
            waiter.promised = False
        self._deliver(box, wanted)

    def _promise(self) -> _Waiter | None:
        """Whom the next box is made for: who has waited longest, and was promised none yet."""
        waiter = next((waiter for waiter in self._waiting if not waiter.promised), None)
        if waiter is not None:
            waiter.promised = True
        return waiter

    def _made(self, maker: asyncio.Task[None]) -> None:
        self._makers.discard(maker)
        error = None if maker.cancelled() else maker.exception()
        if error is not None:
            logger.error("making a container failed", exc_info=error)
        self._balance()

    def _failed(self, wanted: _Waiter | None, error: BaseException) -> None:
        """Tell the call that waits for it; or, if none does, wait a while before the next box is made ahead."""
        waiter = wanted if wanted is not None and wanted in self._waiting else next(iter(self._waiting), None)
        if waiter is not None:
            self._waiting.remove(waiter)
            if not waiter.box.done():
                waiter.box.set_exception(error if isinstance(error, Exception) else HandlerError(f"no container could be made: {error!r}"))
            return
        if self._closed:
            return
        self._pause = min(LAST_PAUSE, self._pause * 2 or FIRST_PAUSE)
        logger.warning("no container could be made ahead: %s; next try in %g s", error, self._pause, extra={"retry_in": self._pause})
        if self._paused is None:
            self._paused = asyncio.get_running_loop().call_later(self._pause, self._go_on)

    def _go_on(self) -> None:
        self._paused = None
        self._balance()
