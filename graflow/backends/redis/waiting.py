"""All the waits of a process on one pub/sub connection, which notices when it has died.

Pub/sub keeps nothing for who is not there, so a message is only a hint to look: whoever listens looks once when the subscription is confirmed, and
again whenever the connection was made anew, for what happened in between. A link that is half open brings neither messages nor an error; so a server
that has been silent is asked for a sign of life, and without one the connection is given up.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from typing import TYPE_CHECKING, Any, Final

from redis.exceptions import ConnectionError as LinkLostError
from redis.exceptions import ResponseError
from redis.exceptions import TimeoutError as LinkTimeoutError

from graflow.backends.redis import faults
from graflow.backends.redis.client import FAILURES
from graflow.backends.redis.epochs import Epochs
from graflow.backends.redis.faults import Remedy
from graflow.backends.redis.link import Link, pack
from graflow.errors import BackendUnavailableError, GraflowError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from graflow.backends.redis.client import RedisClient

_log = logging.getLogger("graflow.redis")

PING_EVERY: Final = 15.0
"""Seconds of silence after which the server is asked whether it is there."""

PONG_WITHIN: Final = 2.0
"""Seconds of silence while it owes an answer, after which it is taken for gone."""

PATIENCE: Final = 30.0
"""Seconds for which a new subscription is tried."""

_AT_ONCE: Final = 1000
"""Channels in one SUBSCRIBE."""

_STEADY: Final = 2.0
"""Seconds that a connection must have lasted for its loss to be no sign that the next is lost at once too."""

_MODEST: Final = 3
"""What a connection counts for that did not last, but worked: the next is not waited for for long, nor made in a tight loop."""


class Subscription:
    """One listener of a channel. Ends with :meth:`close`, or with the ``async with`` that it is used in."""

    __slots__ = ("_waiting", "callback", "topic")

    def __init__(self, waiting: Waiting, topic: _Topic, callback: Callable[[bytes | None], object]) -> None:
        self.callback: Callable[[bytes | None], object] = callback
        self.topic: _Topic | None = topic
        """None when it is over"""
        self._waiting = waiting

    def cancel(self) -> None:
        """Stop listening, without waiting for anything; the callback is not called any more."""
        topic, self.topic = self.topic, None
        if topic is not None:
            self._waiting.leave(topic, self)

    async def close(self) -> None:
        """Stop listening. The server is told when nobody else listens to the channel."""
        self.cancel()

    async def __aenter__(self) -> Subscription:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.cancel()


class _Topic:
    """A channel that somebody listens to, from the first listener to the last. When it is listened to again, that is another topic."""

    __slots__ = ("confirmed", "known", "listeners", "name", "refused")

    def __init__(self, name: bytes) -> None:
        self.name: bytes = name
        self.listeners: dict[Subscription, None] = {}
        self.confirmed: asyncio.Event = asyncio.Event()
        """set while the server is known to send what is published; or when it never will"""
        self.known: bool = False
        """whether it was confirmed before"""
        self.refused: GraflowError | None = None

    def refuse(self, error: GraflowError) -> None:
        """Those who wait for the confirmation are not to wait any longer."""
        self.refused = error
        self.confirmed.set()


class _Asked:
    """A command on its way and the topics that it is about. The server answers in order: once per topic, or once with an error."""

    __slots__ = ("deadline", "kind", "left")

    def __init__(self, kind: bytes, topics: Sequence[_Topic | None], deadline: float) -> None:
        self.kind = kind
        self.left = deque(topics)
        self.deadline = deadline


class Waiting:
    """The pub/sub hub of a backend. It connects when it is first needed, and all of it happens on one event loop."""

    def __init__(
        self, client: RedisClient, *, ping_every: float = PING_EVERY, pong_within: float = PONG_WITHIN, patience: float = PATIENCE
    ) -> None:
        self._client = client
        self.epochs: Epochs = Epochs(client, self)
        self._ping_every = ping_every
        self._pong_within = pong_within
        self._patience = patience
        self._topics: dict[bytes, _Topic] = {}
        self._link: Link | None = None
        self._asked: deque[_Asked] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._wanted: list[_Topic] = []
        self._unwanted: list[_Topic] = []
        self._flushing = False
        self._keeper: asyncio.Task[None] | None = None
        self._needed = asyncio.Event()
        self._lost = asyncio.Event()
        self._trouble: Exception | None = None
        """why there is no connection"""
        self._worked = False
        """whether the connection has been of use"""
        self._closed = False

    @property
    def listeners(self) -> int:
        """How many subscriptions there are."""
        return sum(len(topic.listeners) for topic in self._topics.values())

    async def listen(self, channel: str, callback: Callable[[bytes | None], object]) -> Subscription:
        """Listen to a channel. Returns when the server has confirmed: what is published from then on is heard, so now is the time to look.

        ``callback`` is called with the payload of each message, and with None whenever messages may have been missed: look again. It must not block,
        and what it raises goes to the loop's exception handler.

        Raises:
            BackendUnavailableError: the server did not confirm in time, or the hub is closed.
            BackendUnsuitableError: the server refuses.
        """
        if self._closed:
            raise self._over()
        topic = self._topics.get(name := channel.encode())
        if topic is None:
            topic = self._topics[name] = _Topic(name)
            self._wanted.append(topic)
            self._flush_soon()
            self._needed.set()
        subscription = Subscription(self, topic, callback)
        topic.listeners[subscription] = None
        if self._keeper is None:
            self._keeper = asyncio.create_task(self._keep(), name="graflow.redis.waiting")
        if not topic.confirmed.is_set() or topic.refused is not None:
            try:
                await self._until_confirmed(topic)
            except BaseException:
                subscription.cancel()
                raise
        return subscription

    def look_again(self) -> None:
        """Tell every listener that messages may have been missed, and that things are not as they were: each looks again."""
        for topic in self._topics.values():
            self._tell_soon(topic, None)

    async def close(self) -> None:
        """Disconnect. Subscriptions that are being made fail, the others hear nothing more."""
        self._closed = True
        await self.epochs.close()
        keeper, self._keeper = self._keeper, None
        if keeper is not None:
            keeper.cancel()
            await asyncio.wait([keeper])
        if self._link is not None:
            self._link.abort()
        self._end()

    def _end(self) -> None:
        self._closed = True
        topics = list(self._topics.values())
        self._topics.clear()
        for topic in topics:
            topic.refuse(self._over())
            for subscription in topic.listeners:
                subscription.topic = None

    def leave(self, topic: _Topic, subscription: Subscription) -> None:
        """A listener goes; with the last one the channel does."""
        topic.listeners.pop(subscription, None)
        if not topic.listeners and self._topics.get(topic.name) is topic:
            del self._topics[topic.name]
            self._unwanted.append(topic)
            self._flush_soon()

    async def _until_confirmed(self, topic: _Topic) -> None:
        try:
            async with asyncio.timeout(self._patience):
                await topic.confirmed.wait()
        except TimeoutError:
            cause = self._trouble or LinkTimeoutError(f"a subscription was not confirmed for {self._patience:g} s")
            raise faults.as_graflow(cause, self._client.where) from cause
        if topic.refused is not None:
            raise topic.refused

    # ---- what goes out ----

    def _flush_soon(self) -> None:
        # Ten thousand subscriptions that are made in one turn of the loop go out together.
        if self._link is not None and not self._flushing:
            self._flushing = True
            asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        self._flushing = False
        link = self._link
        if link is None:
            return  # the next one begins with everything that there is
        # Leaving goes first: what is wanted under the same name came after it, or it would not be another topic.
        unwanted, self._unwanted = self._unwanted, []
        wanted, self._wanted = [topic for topic in self._wanted if topic.listeners], []
        self._send(link, b"unsubscribe", unwanted)
        self._send(link, b"subscribe", wanted)

    def _send(self, link: Link, kind: bytes, topics: Sequence[_Topic]) -> None:
        for first in range(0, len(topics), _AT_ONCE):
            some = topics[first : first + _AT_ONCE]
            self._ask(link, kind, some, *(topic.name for topic in some))

    def _ask(self, link: Link, kind: bytes, topics: Sequence[_Topic | None], *words: bytes) -> None:
        loop = asyncio.get_running_loop()
        self._asked.append(_Asked(kind, topics, loop.time() + self._pong_within))
        if self._timer is None:
            self._timer = loop.call_later(self._pong_within, self._look_at_the_clock)
        link.send(pack((kind, *words)))

    def _look_at_the_clock(self) -> None:
        """The watchdog: silence from a server that owes an answer."""
        self._timer = None
        link = self._link
        if link is None or not self._asked:
            return
        loop = asyncio.get_running_loop()
        deadline = max(self._asked[0].deadline, link.heard + self._pong_within)
        if deadline <= loop.time():
            link.abort(LinkTimeoutError(f"{self._client.where} has been silent for {self._pong_within:g} s"))
        else:
            self._timer = loop.call_at(deadline, self._look_at_the_clock)

    # ---- what comes in ----

    def _hear(self, reply: Any) -> None:
        if isinstance(reply, ResponseError):
            self._hear_error(reply)
        elif reply[0] == b"message":
            if topic := self._topics.get(reply[1]):
                self._tell_soon(topic, reply[2])
        elif self._asked:  # a confirmation, or a pong, which has another form while there is no subscription
            asked = self._asked[0]
            topic = asked.left.popleft()
            if not asked.left:
                self._asked.popleft()
            if topic is not None and asked.kind == b"subscribe":
                self._confirm(topic)

    def _confirm(self, topic: _Topic) -> None:
        self._worked = True
        topic.confirmed.set()
        if topic.known:
            self._tell_soon(topic, None)
        topic.known = True

    def _hear_error(self, error: ResponseError) -> None:
        asked = self._asked.popleft() if self._asked else None
        if asked is not None and faults.classify(error) is Remedy.FATAL:
            self._refuse([topic for topic in asked.left if topic is not None], error)
        elif self._link is not None:
            self._link.abort(error)

    def _refuse(self, topics: Iterable[_Topic], error: Exception) -> None:
        """Who is about to wait is told. Who waits already cannot be: for those the connection is tried again, for as long as it takes."""
        refused = faults.as_graflow(error, self._client.where)
        for topic in topics:
            if not topic.known:
                topic.refuse(refused)
            elif self._link is not None:
                self._link.abort(error)

    def _tell_soon(self, topic: _Topic, payload: bytes | None) -> None:
        # Not from here: what a callback raises would be taken for an error of the connection.
        asyncio.get_running_loop().call_soon(_tell, deque(topic.listeners), payload)

    # ---- the connection ----

    async def _keep(self) -> None:
        tries = 0
        while True:
            while not self._topics:
                self._needed.clear()
                await self._needed.wait()
            began = asyncio.get_running_loop().time()
            self._worked = False
            try:
                link = await self._client.connect(lost=self._on_lost)
            except FAILURES as error:
                self._note(error)
                if faults.classify(error) is Remedy.FATAL:
                    self._refuse(list(self._topics.values()), error)
            except BackendUnavailableError:  # the client was closed before us
                return self._end()
            else:
                await self._use(link)
            lasted = asyncio.get_running_loop().time() - began
            tries = 0 if lasted > _STEADY else min(tries + 1, _MODEST if self._worked else tries + 1)
            await asyncio.sleep(faults.pause(self._trouble or LinkLostError(), tries))

    async def _use(self, link: Link) -> None:
        if not link.alive:
            return
        if self._trouble is not None:
            _log.info("waits are connected to Redis at %s again", self._client.where)
            self._trouble = None
        self._lost.clear()
        self._asked.clear()
        self._link, link.hear = link, self._hear
        self._wanted, self._unwanted = list(self._topics.values()), []
        self._flush()
        loop = asyncio.get_running_loop()
        last = link.heard
        while link.alive:
            try:
                async with asyncio.timeout_at(last + self._ping_every):
                    await self._lost.wait()
            except TimeoutError:
                if self._topics and link.heard <= last and link.alive:
                    self._ask(link, b"PING", [None])
                    self.epochs.doubt()
                    last = loop.time()
                else:
                    last = max(link.heard, last + self._ping_every)

    def _on_lost(self, link: Link) -> None:
        if link is not self._link:
            return
        self._link = None
        self._note(link.reason or LinkLostError(f"the connection to {self._client.where} is closed"))
        for topic in self._topics.values():  # at once: who comes now must not take the old confirmation for a new one
            if topic.refused is None:
                topic.confirmed.clear()
        self._lost.set()

    def _note(self, error: Exception) -> None:
        if self._trouble is None and not self._closed:
            _log.warning("waits have lost Redis at %s, and will look again when it is back: %s", self._client.where, error)
        self._trouble = error

    def _over(self) -> BackendUnavailableError:
        return BackendUnavailableError(f"the connection to Redis at {self._client.where} is closed")


def _tell(listeners: deque[Subscription], payload: bytes | None) -> None:
    while listeners:
        subscription = listeners.popleft()
        if subscription.topic is None:
            continue
        try:
            subscription.callback(payload)
        except BaseException:
            # The loop reports this one; the others are told all the same.
            asyncio.get_running_loop().call_soon(_tell, listeners, payload)
            raise
