"""Whoever waits for runs: one inbox for each process, in which the scripts put a word when a run has ended or is suspended."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4
from weakref import WeakValueDictionary

import msgspec

from graflow.backends.redis.blobs import from_text
from graflow.backends.redis.image import RunImage
from graflow.backends.redis.presence import Presence
from graflow.backends.redis.scripts.runs import BUDGET, CONTROL
from graflow.errors import BackendUnavailableError, RunLostError, UnknownRunError

if TYPE_CHECKING:
    from graflow.backends.redis.client import RedisClient
    from graflow.backends.redis.waiting import Subscription, Waiting

_log = logging.getLogger("graflow.redis")

UNWINDING: Final = 5.0
"""seconds that an ended run waits for its cancelled tasks to leave their ``finally`` blocks before its result is handed out all the same"""
RECENT: Final = 256
"""runs that were begun here and are remembered until their handle is made"""

_pulse: Final = msgspec.msgpack.Decoder(tuple[msgspec.Raw, msgspec.Raw, msgspec.Raw]).decode
_word: Final = msgspec.msgpack.Decoder(tuple[str, int, str, int, msgspec.Raw]).decode
_whole: Final = msgspec.msgpack.Decoder(tuple[list[msgspec.Raw], list[msgspec.Raw]]).decode
_NOTHING: Final = b"\xc2"


class Watched:
    """What this process knows of a run without asking: ``state`` is "r", "suspended" or how it ended, None when nothing is known yet.

    ``live`` is how many of its attempts were in somebody's hands when that was said.
    """

    __slots__ = ("__weakref__", "asked", "live", "lost", "run_id", "state", "waiters", "whole", "words")

    def __init__(self, run_id: str) -> None:
        self.run_id: str = run_id
        self.state: str | None = None
        self.live: int = 0
        self.lost: bool = False
        self.asked: bool = False
        """whether the scripts know that this process wants to be told"""
        self.words: int = 0
        """how often something was said of it"""
        self.waiters: set[asyncio.Future[None]] = set()
        self.whole: bytes | None = None
        """all there is of a small run that is over, as it came"""

    @property
    def is_over(self) -> bool:
        """Whether the run has ended; attempts may still be unwinding."""
        return self.state not in (None, "r", "suspended")

    def take(self, state: str, live: int) -> None:
        """The scripts say where the run stands."""
        self.state, self.live = state, live
        self.words += 1
        self.wake()

    def wake(self) -> None:
        """Let those who wait look again."""
        for waiter in self.waiters:
            if not waiter.done():
                waiter.set_result(None)


class RunWatch:
    """The runs that this process waits for.

    Waiting sends nothing: a run that was begun here knows of the inbox from the start, any other is asked once, and told of it in the same step.
    """

    def __init__(self, client: RedisClient, waiting: Waiting) -> None:
        self._client = client
        self._waiting = waiting
        self.inbox: str = client.keys.inbox(uuid4().hex)
        self._watched: WeakValueDictionary[str, Watched] = WeakValueDictionary()
        self._recent: deque[Watched] = deque(maxlen=RECENT)
        self._subscriptions: list[Subscription] = []
        self._beginning = asyncio.Lock()
        self._looking: asyncio.Task[None] | None = None
        self.presence: Presence = Presence(client)
        self._epoch = b""
        """which life of the server this is; empty until a worker has been there"""

    async def begin(self) -> None:
        """Listen, from the first time on."""
        if self._subscriptions:
            return
        async with self._beginning:
            if not self._subscriptions:
                # Before anything is submitted: the next pulse may be that of a server which was emptied in between.
                self._epoch = await self._client.insist(self._ask_epoch)
                inbox = await self._waiting.listen(self.inbox, self._hear)
                pulse = await self._waiting.listen(self._client.keys.pulse, self._feel)
                self._subscriptions += (inbox, pulse)

    async def _ask_epoch(self) -> bytes:
        epoch: Any = await self._client.commands.get(f"{self._client.keys.prefix}epoch")
        return bytes(epoch or b"")

    async def close(self) -> None:
        """Stop listening; whoever still waits is told that the connection is closed."""
        for subscription in self._subscriptions:
            await subscription.close()
        self._subscriptions.clear()
        await self.presence.close()
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.wait((self._looking,))
        for watched in list(self._watched.values()):
            watched.asked = False
            watched.wake()

    def watched(self, run_id: str) -> Watched:
        """What is known of a run."""
        found = self._watched.get(run_id)
        if found is None:
            found = self._watched[run_id] = Watched(run_id)
        return found

    def begun(self, run_id: str) -> None:
        """A run was submitted here, with the inbox among those to be told."""
        watched = self.watched(run_id)
        watched.asked, watched.lost, watched.state, watched.whole = True, False, None, None
        self._recent.append(watched)  # until somebody holds it

    def image_of(self, run_id: str) -> RunImage | None:
        """A run as it ended, if that was small enough to come with the word of its end."""
        watched = self._watched.get(run_id)
        if watched is None or watched.whole is None:
            return None
        fields, results = ([from_text(part) for part in flat] for flat in _whole(watched.whole))
        return RunImage(dict(zip(fields[::2], fields[1::2], strict=True)), dict(zip(results[::2], results[1::2], strict=True)))

    async def wait(self, run_id: str) -> None:
        """Until a run has ended and its attempts have unwound, or it is suspended.

        Raises:
            UnknownRunError: there is none of that id.
            RunLostError: there was one, and the server has it no more.
        """
        await self.begin()
        watched = self.watched(run_id)
        if watched.state == "suspended" or not watched.asked:
            await self._ask(watched)
        while not self._is_settled(watched):
            if watched.is_over:
                await self._unwind(watched)
                return
            await self._next_word(watched)
            if not self._subscriptions:
                raise BackendUnavailableError(f"the connection to Redis at {self._client.where} is closed")

    def _is_settled(self, watched: Watched) -> bool:
        if watched.lost:
            raise lost(watched.run_id, self._client.where)
        return watched.state == "suspended" or (watched.is_over and watched.live <= 0)

    async def _unwind(self, watched: Watched) -> None:
        """A task may not heed its cancellation; whoever waits for the run shall not wait for ever."""
        try:
            async with asyncio.timeout(UNWINDING):
                while watched.live > 0:
                    await self._next_word(watched)
        except TimeoutError:
            run_id = watched.run_id
            _log.warning("run %s is over, but some of its tasks do not heed their cancellation", run_id, extra={"run_id": run_id})

    async def _next_word(self, watched: Watched) -> None:
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        watched.waiters.add(waiter)
        try:
            await waiter
        finally:
            watched.waiters.discard(waiter)

    async def _ask(self, watched: Watched) -> None:
        """Where a run stands, with the inbox told in the same step, so that nothing falls in between.

        The answer and the words come over two connections, in any order: a run may be resumed, asked after, and over, and the word of its end be
        here before the answer that it goes on. The last word is always true in the end, the answer only if none came while it was under way. It was
        taken all the same once, over the word of the end, and whoever waited for the run did so for ever.
        """
        while True:
            words = watched.words
            reply = await self._client.call(CONTROL, (self._client.shift, BUDGET, watched.run_id, "watch", self.inbox))
            if reply[0] == b"unknown":
                if watched.asked:
                    watched.lost = True
                    watched.wake()
                    return
                raise unknown(watched.run_id)
            watched.asked = True
            if watched.words == words:
                return watched.take(reply[1].decode(), reply[2])
            if watched.is_over:
                return None

    # ---- what is heard ----

    def _hear(self, payload: bytes | None) -> None:
        if payload is None:
            self._look_again()
            return
        run_id, _, state, live, whole = _word(payload)
        if state not in ("r", "suspended"):
            self.presence.forget(run_id)
        watched = self._watched.get(run_id)
        if watched is not None:
            watched.whole = None if bytes(whole) == _NOTHING else bytes(whole)
            watched.take(state, live)

    def _feel(self, payload: bytes | None) -> None:
        """The pulse of the workers tells which server this is: another epoch means that it was emptied."""
        if payload is None:
            return
        epoch, consumer, info = map(from_text, _pulse(payload))
        self.presence.hear(consumer.decode(), info)
        if epoch != self._epoch:
            self._epoch = epoch
            self._look_again()

    def _look_again(self) -> None:
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._look(), name="graflow-look-again")

    async def _look(self) -> None:
        """Messages may have been missed: ask for every run that somebody waits for."""
        for watched in [each for each in self._watched.values() if each.waiters and not each.is_over]:
            try:
                await self._ask(watched)
            except BackendUnavailableError as error:
                _log.warning("cannot look after run %s: %s", watched.run_id, error, extra={"run_id": watched.run_id})


def unknown(run_id: str) -> UnknownRunError:
    """The error for a run that there is none of."""
    return UnknownRunError(
        f"no run {run_id!r} on this server: it was never submitted, or it ended and is no longer remembered (24 h after its end unless set)",
        run_id=run_id,
    )


def lost(run_id: str, where: str) -> RunLostError:
    """The error for a run that vanished while it was waited for."""
    return RunLostError(
        f"run {run_id!r} is gone from Redis at {where}: the server was emptied, or restarted without what it had. "
        f"Turn persistence on (appendonly yes), and submit the run again",
        run_id=run_id,
    )
