"""What a process remembers of plans: so many of them, and so many nodes in all."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final, Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")

KEPT: Final = 128
"""plans of each kind that a process remembers, at most"""
NODES: Final = 20_000
"""nodes of all of them together, but for the last: 20 000 take 3 MB"""


class Kept(Generic[K, V]):
    """Values by key, each with the number of nodes in its plan. The oldest goes when there is no room for another.

    The nodes are summed up as they come and go: each submission asks, and to count those of all plans anew took more than 100 us of it.
    """

    __slots__ = ("_entries", "_nodes")

    def __init__(self) -> None:
        self._entries: OrderedDict[K, tuple[V, int]] = OrderedDict()
        self._nodes = 0

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: K) -> V | None:
        """The value, None where there is none."""
        entry = self._entries.get(key)
        return None if entry is None else entry[0]

    def put(self, key: K, value: V, nodes: int, room: int = NODES) -> None:
        """Remember a value as the newest, in the place of what went by its key."""
        self.drop(key)
        self.make_room(nodes, room)
        self._entries[key] = (value, nodes)
        self._nodes += nodes

    def drop(self, key: K) -> None:
        """Forget a value, if there is one."""
        entry = self._entries.pop(key, None)
        if entry is not None:
            self._nodes -= entry[1]

    def make_room(self, nodes: int, room: int = NODES) -> list[K]:
        """Drop the oldest until one of so many nodes fits in. Returns the keys of what was dropped."""
        dropped: list[K] = []
        while self._entries and (self._nodes + nodes > room or len(self._entries) >= KEPT):
            key, (_, size) = self._entries.popitem(last=False)
            self._nodes -= size
            dropped.append(key)
        return dropped
