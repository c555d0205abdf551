"""Locks between the tasks of one event loop: fair, bounded in time, and without a timer while nobody waits."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING

from graflow.errors import GraflowError

if TYPE_CHECKING:
    from types import TracebackType

_log = logging.getLogger("graflow.channel")


class Claim:
    """One holding of a lock, or the wait for it. Being an object of its own it is the token: only it releases what it
    holds."""

    __slots__ = ("deadline", "ttl", "turn")

    def __init__(self, ttl: float) -> None:
        self.ttl: float = ttl
        self.deadline: float = 0.0
        self.turn: asyncio.Future[bool] | None = None
        """resolved with True when the lock is the claim's, with False when the wait is over without it"""


class _Lock:
    __slots__ = ("holder", "queue", "timer")

    def __init__(self) -> None:
        self.holder: Claim | None = None
        self.queue: deque[Claim] = deque()
        self.timer: asyncio.TimerHandle | None = None


class MemoryLocks:
    """The locks of one channel, by name. Those that nobody holds or waits for take no memory."""

    __slots__ = ("_closed", "_locks")

    def __init__(self) -> None:
        self._locks: dict[str, _Lock] = {}
        self._closed = False

    def hold(self, key: str, *, wait: float | None, ttl: float) -> AbstractAsyncContextManager[None]:
        """A context manager that holds the lock ``key``; see :meth:`graflow.Channel.lock`."""
        return _Hold(self, key, wait, ttl)

    async def acquire(self, key: str, *, wait: float | None, ttl: float) -> Claim:
        """Wait for the lock; the claim is what releases it. Raises TimeoutError when ``wait`` seconds were not
        enough."""
        claim = Claim(ttl)
        lock = self._locks.setdefault(key, _Lock())
        if not lock.queue and (lock.holder is None or lock.holder.deadline <= _now()):
            self._give(lock, claim)
            return claim
        if wait is not None and wait <= 0:
            raise TimeoutError(f"the lock {key!r} is held by another task")
        if self._closed:
            raise _over(key)
        if not await self._queue_for(key, lock, claim, wait):
            if self._closed:
                raise _over(key)
            raise TimeoutError(f"the lock {key!r} was held by other tasks for all of the {wait} s that were to be waited")
        return claim

    async def _queue_for(self, key: str, lock: _Lock, claim: Claim, wait: float | None) -> bool:
        loop = asyncio.get_running_loop()
        claim.turn = turn = loop.create_future()
        lock.queue.append(claim)
        self._watch(key, lock)
        # A timer of our own and not asyncio.timeout, whose cancellation could hit a claim that was just given the lock.
        timer = None if wait is None else loop.call_later(wait, _give_up, turn)
        granted: bool = False
        try:
            granted = bool(await turn)
        except asyncio.CancelledError:
            # The lock can have been given in the same turn of the loop in which the task was cancelled; it would stay
            # locked.
            if lock.holder is claim:
                self._pass_on(key, lock)
            raise
        finally:
            if timer is not None:
                timer.cancel()
            if not granted and claim in lock.queue:
                lock.queue.remove(claim)
                self._watch(key, lock)
        return granted

    def release(self, key: str, claim: Claim) -> None:
        """Free the lock if it is still the claim's; a claim whose time ran out frees nobody else's lock, and leaves a
        warning."""
        lock = self._locks.get(key)
        holds = lock is not None and lock.holder is claim
        if not holds or claim.deadline <= _now():
            _log.warning(
                "the lock %r was held for longer than its ttl of %s s, and another task may have held it at the same "
                "time: give it a larger ttl",
                key,
                claim.ttl,
            )
        if holds and lock is not None:
            self._pass_on(key, lock)

    def close(self) -> None:
        """Turn away who waits, and cancel every timer. What is held may still be released."""
        self._closed = True
        for lock in self._locks.values():
            if lock.timer is not None:
                lock.timer.cancel()
                lock.timer = None
            for claim in lock.queue:
                if claim.turn is not None and not claim.turn.done():
                    claim.turn.set_result(False)

    def _give(self, lock: _Lock, claim: Claim) -> None:
        lock.holder = claim
        claim.deadline = _now() + claim.ttl

    def _pass_on(self, key: str, lock: _Lock) -> None:
        """The holder is done, or its time is up: the next in line has it."""
        lock.holder = None
        while lock.queue:
            claim = lock.queue.popleft()
            if claim.turn is not None and not claim.turn.done():
                self._give(lock, claim)
                claim.turn.set_result(True)
                break
        self._watch(key, lock)

    def _watch(self, key: str, lock: _Lock) -> None:
        """Have the loop look when the holder's time is up: only needed while somebody waits."""
        if lock.timer is not None:
            lock.timer.cancel()
            lock.timer = None
        if lock.holder is None and not lock.queue:
            self._locks.pop(key, None)
        elif lock.holder is not None and lock.queue and not self._closed:
            lock.timer = asyncio.get_running_loop().call_at(lock.holder.deadline, self._pass_on, key, lock)


class _Hold(AbstractAsyncContextManager[None]):
    __slots__ = ("_claim", "_key", "_locks", "_ttl", "_wait")

    def __init__(self, locks: MemoryLocks, key: str, wait: float | None, ttl: float) -> None:
        self._locks = locks
        self._key = key
        self._wait = wait
        self._ttl = ttl
        self._claim: Claim | None = None

    async def __aenter__(self) -> None:
        if self._claim is not None:
            raise RuntimeError(f"this lock({self._key!r}) is being held: call lock(...) anew for each `async with`")
        self._claim = await self._locks.acquire(self._key, wait=self._wait, ttl=self._ttl)

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None, /) -> None:
        claim, self._claim = self._claim, None
        if claim is not None:
            self._locks.release(self._key, claim)


def _now() -> float:
    return asyncio.get_running_loop().time()


def _give_up(turn: asyncio.Future[bool]) -> None:
    if not turn.done():
        turn.set_result(False)


def _over(key: str) -> GraflowError:
    return GraflowError(f"the lock {key!r} cannot be waited for: the run has ended")
