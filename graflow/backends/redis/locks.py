"""Locks between the tasks of a run, wherever they run: fair, bounded in time by the server's clock, and silent while they are waited for.

Whoever finds a lock taken stands in line, on the server, by the time at which it came. A lock that is freed is offered to the first in line,
which has three seconds to say that it is there; then its own time begins. Whoever does not is passed over, together with everyone who waits in the
same process, so that the dead do not hold the living up one after the other. Every message says for how long the lock is whose: so each who waits
knows when to look even if a holder, or the next one, has died, and sends nothing until then.
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Final

from graflow.backends.redis.asking import check_wait, key_bytes, milliseconds, operation
from graflow.backends.redis.looking import Look
from graflow.backends.redis.scripts import locks
from graflow.backends.redis.watch import lost, unknown
from graflow.errors import BackendUnavailableError, GraflowError

if TYPE_CHECKING:
    from types import TracebackType

    from graflow.backends.redis.client import RedisClient
    from graflow.backends.redis.scripts.locks import Answer
    from graflow.backends.redis.waiting import Waiting

_log = logging.getLogger("graflow.channel")

LEAVING: Final = 2.0
"""Seconds for which a wait that was broken off gives up its place. If that fails, the place lapses when its turn comes."""

_LATER: Final = 0.02
"""Seconds by which each in line looks later than the one before: the first finds out what there is, and the others hear of it."""

_LATEST: Final = 1.0

_program: Final = secrets.token_urlsafe(6)


def hold(
    client: RedisClient, waiting: Waiting, run_id: str, key: str, *, wait: float | None, ttl: float
) -> AbstractAsyncContextManager[None]:
    """A context manager that holds a run's lock; see :meth:`graflow.Channel.lock`."""
    check_wait("wait", wait)
    return _Hold(_Lock(client, waiting, run_id, key, ttl), wait)


class _Lock:
    """A lock as one holder knows it."""

    __slots__ = ("_client", "_name", "_run_id", "_span", "_ttl", "_waiting", "key")

    def __init__(self, client: RedisClient, waiting: Waiting, run_id: str, key: str, ttl: float) -> None:
        self.key = key
        self._client = client
        self._waiting = waiting
        self._run_id = run_id
        self._name = key_bytes(key)
        self._ttl = ttl
        self._span = milliseconds(ttl)

    async def acquire(self, wait: float | None) -> str:
        """Wait for the lock. The token is what releases it."""
        # The process is asked for each time: after a fork it is another.
        token = f"{_program}.{os.getpid():x}/{operation()}"
        try:
            held = await self._wait_for_it(token, wait)
        except BaseException:
            # Also if the lock may have become ours in the very moment in which we were cancelled: nobody would free it.
            await self._leave(token)
            raise
        if not held:
            times = (
                "is held by another task"
                if not wait or wait < 0
                else f"was held by other tasks for all of the {wait} s that were to be waited"
            )
            raise TimeoutError(f"the lock {self.key!r} {times}")
        return token

    async def _wait_for_it(self, token: str, wait: float | None) -> bool:
        if wait is not None and wait <= 0:
            return (await self._take(token, locks.ONLY_NOW)).held
        try:
            async with asyncio.timeout(wait):
                answer = await self._take(token, b"")
                if not answer.held:
                    await self._stand_in_line(token, answer.ticket)
        except TimeoutError:
            await self._leave(token)
            return False
        return True

    async def _stand_in_line(self, token: str, ticket: bytes) -> None:
        async with _LockLook(self._client, self._waiting, self._run_id, self._name, token) as look:
            while True:
                answer = await locks.take(self._client, self._run_id, self._name, token, self._span, ticket)
                if answer is None:  # it was there before
                    raise lost(self._run_id, self._client.where)
                if answer.held:
                    return
                if answer.over:
                    raise GraflowError(f"the lock {self.key!r} cannot be waited for: the run has ended")
                look.expect(answer)
                await look.sleep()

    async def _take(self, token: str, ticket: bytes) -> Answer:
        answer = await locks.take(self._client, self._run_id, self._name, token, self._span, ticket)
        if answer is None:
            raise unknown(self._run_id)
        return answer

    async def _leave(self, token: str) -> None:
        try:
            async with asyncio.timeout(LEAVING):
                await locks.leave(self._client, self._run_id, self._name, token)
        except (TimeoutError, BackendUnavailableError) as error:
            _log.warning("a place in line for the lock %r could not be given up, and will lapse: %s", self.key, error)

    async def release(self, token: str) -> None:
        """Free the lock if it is still the token's; what was held for too long frees nobody else's lock, and leaves a warning."""
        try:
            held = await locks.leave(self._client, self._run_id, self._name, token)
        except BackendUnavailableError as error:
            _log.warning("the lock %r could not be freed, and will be when its ttl of %s s is up: %s", self.key, self._ttl, error)
            return
        if not held:
            _log.warning(
                "the lock %r was held for longer than its ttl of %s s, and another task may have held it at the same time: give it a larger ttl",
                self.key,
                self._ttl,
            )


class _LockLook(Look):
    """Waits for a lock: woken when it is the token's turn, when the one who has it should have lost it, and when the run ends."""

    __slots__ = ("_due", "_head", "_later", "_timer", "_token")

    def __init__(self, client: RedisClient, waiting: Waiting, run_id: str, name: bytes, token: str) -> None:
        super().__init__(client, waiting, client.keys.changed(run_id))
        self._head = b"\0" + name
        self._token = token.encode()
        self._later = 0.0
        self._due = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def expect(self, answer: Answer) -> None:
        """Look when the one who has the lock now should have lost it."""
        self._later = min(_LATER * answer.place, _LATEST)
        self._put_off(answer.wait)

    def told(self, message: bytes) -> bool:
        if not message:
            return True
        head, *words = message.rsplit(b"\0", 2)
        if head != self._head or len(words) != 2:
            return False
        whose, milliseconds = words
        if whose and whose != self._token:
            self._put_off(int(milliseconds))
            return False
        return True

    def _put_off(self, milliseconds: int) -> None:
        loop = asyncio.get_running_loop()
        self._due = loop.time() + milliseconds / 1000 + self._later
        # A timer that is set too early looks at what is due now: with many in line, setting each anew for every message would cost more than that.
        if self._timer is None or self._timer.when() > self._due:
            self._stop()
            self._timer = loop.call_at(self._due, self._ring)

    def _ring(self) -> None:
        self._timer = None
        loop = asyncio.get_running_loop()
        if self._due <= loop.time():
            self.wake()
        else:
            self._timer = loop.call_at(self._due, self._ring)

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    async def __aexit__(self, *error: object) -> None:
        self._stop()
        await super().__aexit__(*error)


class _Hold(AbstractAsyncContextManager[None]):
    __slots__ = ("_lock", "_token", "_wait")

    def __init__(self, lock: _Lock, wait: float | None) -> None:
        self._lock = lock
        self._wait = wait
        self._token: str | None = None

    async def __aenter__(self) -> None:
        if self._token is not None:
            raise RuntimeError(f"this lock({self._lock.key!r}) is being held: call lock(...) anew for each `async with`")
        self._token = await self._lock.acquire(self._wait)

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None, /) -> None:
        token, self._token = self._token, None
        if token is not None:
            await self._lock.release(token)
