"""The events of a run, read from its stream: one entry for all that a call of a script told."""

from __future__ import annotations

from typing import Final, NamedTuple, cast, get_args

import msgspec

from graflow.backends.redis.blobs import from_text
from graflow.backends.redis.image import spread
from graflow.wire.messages import EventType

MANY: Final = "tasks_cancelled"
"""one event for many that were cancelled at once, as ranges of nodes: to whoever reads it, it is as many events"""
_TYPES: Final[tuple[str, ...]] = get_args(EventType)
_BEFORE: Final = _TYPES.index("run_finished") + 1
EVENTS: Final[tuple[str, ...]] = (*_TYPES[:_BEFORE], MANY, *_TYPES[_BEFORE:])
"""by number, as scripts/attempts.lua writes them: a new type goes to the end, since stored events keep their numbers"""
NUMBERS: Final = {name: number for number, name in enumerate(EVENTS)}

_parts: Final = msgspec.msgpack.Decoder(list[msgspec.Raw]).decode
_number: Final = msgspec.msgpack.Decoder(int).decode
_ranges: Final = msgspec.msgpack.Decoder(list[int]).decode
_FALSE: Final = b"\xc2"


class Told(NamedTuple):
    """An event as it is stored: ``node`` is -1 for the run itself."""

    type: str
    node: int
    attempt: int | None
    data: bytes | None


def read_events(data: bytes) -> list[Told]:
    """The events of one entry."""
    parts = _parts(data)
    found: list[Told] = []
    for place in range(0, len(parts), 4):
        number, node, attempt = (_number(part) for part in parts[place : place + 3])
        raw = bytes(parts[place + 3])
        if EVENTS[number] == MANY:
            nodes = spread(_ranges(from_text(cast("msgspec.Raw", raw))))
            found += [Told("task_cancelled", each, attempt or None, None) for each in nodes]
            continue
        found.append(Told(EVENTS[number], node, attempt or None, None if raw == _FALSE else from_text(cast("msgspec.Raw", raw))))
    return found
