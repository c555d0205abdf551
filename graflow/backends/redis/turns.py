"""In which order streams are read: by priority, with a share for the lower ones, and queues in turn."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from graflow.backends.redis.blobs import encode
from graflow.backends.redis.keys import stream_name
from graflow.core.options import PRIORITIES

if TYPE_CHECKING:
    from collections.abc import Sequence

SHARE: Final = 8
"""every so many-th attempt is taken from one of the lower priorities first, so that a flood of urgent work starves nobody"""


class Turns:
    """What a worker asks for next.

    The lists of streams are made once and kept as bytes: they are sent with every outcome.
    """

    def __init__(self) -> None:
        self._taken: dict[str, int] = {}
        self._turn = 0
        self._lists: dict[tuple[Any, ...], msgspec.Raw] = {}

    def wanted(self, free: Sequence[tuple[str, int]], queues: Sequence[str]) -> bytes:
        """The request for so many attempts of each handler; empty when there is room for none."""
        self._turn += 1
        asked: list[tuple[int, msgspec.Raw, msgspec.Raw | bool, int]] = []
        for handler, room in free:
            if room <= 0 or not queues:
                continue
            place = self._turn % len(queues)
            order = (*queues[place:], *queues[:place])
            taken = self._taken.get(handler, 0)
            shared: msgspec.Raw | bool = False
            before = SHARE - 1 - taken % SHARE
            if before < room:  # the next share falls among these
                shared = self._list(handler, order, taken // SHARE % (len(PRIORITIES) - 1))
            asked.append((room, self._list(handler, order, None), shared, before))
        return encode(asked) if asked else b""

    def took(self, handler: str, count: int = 1) -> None:
        """So many were handed out."""
        self._taken[handler] = self._taken.get(handler, 0) + count

    def _list(self, handler: str, queues: tuple[str, ...], turn: int | None) -> msgspec.Raw:
        key = (handler, queues, turn)
        found = self._lists.get(key)
        if found is None:
            ranks = PRIORITIES
            if turn is not None:  # the lower priorities in turn, or those in the middle would starve between a flood above and one below
                lower = PRIORITIES[:0:-1]
                ranks = (*lower[turn:], *lower[:turn], PRIORITIES[0])
            names = [stream_name(queue, handler, rank) for queue in queues for rank in ranks]
            found = self._lists[key] = msgspec.Raw(encode(names))
        return found
