"""The attempts that are in the hands of this process, and the ways in which they can be taken from it."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Final

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from graflow.backends.redis.deliveries import RedisDelivery
    from graflow.backends.redis.entries import Token

LATELY: Final = 1024
"""runs of which it is remembered what was stopped"""

Run = tuple[str, int]
"""(run id, generation)"""

_stop: Final = msgspec.msgpack.Decoder(list[msgspec.Raw]).decode
_run: Final = msgspec.msgpack.Decoder(str).decode
_number: Final = msgspec.msgpack.Decoder(int).decode
_stopped: Final = msgspec.msgpack.Decoder(list[tuple[int, int, list[int]]]).decode

Attempt = tuple[int, int, int]
"""(node, cycle, attempt)"""


class Stopped:
    """Attempts that no longer count. A few are known by their names; those of a whole fan-out, which are told as a range, stay one."""

    __slots__ = ("_names", "_ranges")

    def __init__(self) -> None:
        self._names: set[Attempt] = set()
        self._ranges: list[tuple[int, int, int, int]] = []

    def __contains__(self, name: Attempt) -> bool:
        node, *visit = name
        return name in self._names or any(low <= node <= high and visit == seen for low, high, *seen in self._ranges)

    def add(self, stopped: Iterable[tuple[int, int, list[int]]]) -> None:
        """Add attempts: cycle, attempt, ranges of nodes."""
        for cycle, attempt, ranges in stopped:
            for low, high in zip(ranges[::2], ranges[1::2], strict=True):
                if low == high:
                    self._names.add((low, cycle, attempt))
                else:
                    self._ranges.append((low, high, cycle, attempt))


class Hands:
    """Attempts by their token and by their run."""

    def __init__(self) -> None:
        self._held: dict[Token, RedisDelivery] = {}
        self._runs: dict[Run, dict[Token, RedisDelivery]] = {}
        self._stopped: OrderedDict[Run, Stopped | None] = OrderedDict()
        """what was stopped lately, None for a whole run: the word of it may come before the attempt itself, on another connection"""

    def __len__(self) -> int:
        return len(self._held)

    def __contains__(self, token: Token) -> bool:
        return token in self._held

    def __iter__(self) -> Iterator[RedisDelivery]:
        return iter(list(self._held.values()))

    def take(self, delivery: RedisDelivery) -> None:
        """An attempt was handed out to this process."""
        self._held[delivery.token] = delivery
        run = (delivery.entry.run_id, delivery.entry.generation)
        self._runs.setdefault(run, {})[delivery.token] = delivery
        if run in self._stopped:
            named = self._stopped[run]
            if named is None or _name(delivery) in named:
                delivery.stopped = True

    def take_back(self, deliveries: Iterable[RedisDelivery]) -> None:
        """They were let go in order to be settled, and could not be. What was stopped meanwhile is known from what was heard of it."""
        for delivery in deliveries:
            self.take(delivery)

    def let_go(self, delivery: RedisDelivery) -> bool:
        """It is over; False if it was not held, or not any more."""
        if self._held.pop(delivery.token, None) is None:
            return False
        run = (delivery.entry.run_id, delivery.entry.generation)
        of_run = self._runs[run]
        del of_run[delivery.token]
        if not of_run:
            del self._runs[run]
        return True

    def stop(self, payload: bytes) -> None:
        """The scripts say that attempts no longer count: some of a run, or all of them."""
        parts = _stop(payload)
        run = (_run(parts[0]), _number(parts[1]))
        named = self._remember(run, _stopped(parts[2]) if len(parts) > 2 else None)
        held = self._runs.get(run)
        if not held:
            return
        self.interrupt(each for each in list(held.values()) if named is None or _name(each) in named)

    def _remember(self, run: Run, stopped: list[tuple[int, int, list[int]]] | None) -> Stopped | None:
        known = self._stopped.pop(run, Stopped())
        if known is not None and stopped is not None:
            known.add(stopped)
        else:
            known = None
        self._stopped[run] = known
        if len(self._stopped) > LATELY:
            self._stopped.popitem(last=False)
        return known

    def drop_all(self) -> list[RedisDelivery]:
        """The lease has lapsed: none of them counts any more, and nothing is to be written of them."""
        dropped = list(self._held.values())
        self._held.clear()
        self._runs.clear()
        self.interrupt(dropped)
        return dropped

    def interrupt(self, deliveries: Iterable[RedisDelivery]) -> None:
        """Have attempts stop where they run."""
        for delivery in deliveries:
            delivery.stopped = True
            if delivery.interrupt is not None:
                delivery.interrupt()


def _name(delivery: RedisDelivery) -> Attempt:
    entry = delivery.entry
    return entry.node, entry.cycle, entry.attempt
