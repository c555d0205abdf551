"""What stands on a stream: the message that names an attempt, and what comes with it when it is handed out."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import msgspec

CONTINUATION: Final = -2
"""the node of a message that is no attempt, but says: go on with this run"""


class Entry(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """The message on a stream.

    Attributes:
        version: of the form of this message.
        run_id: the run.
        plan: the digest of its plan.
        generation: which run of that id: it may be run again.
        node, cycle, attempt, retries: which attempt.
        lost: how many workers the task has cost.
    """

    version: int
    run_id: str
    plan: str
    generation: int
    node: int
    cycle: int
    attempt: int
    retries: int
    lost: int


decode_entry: Final = msgspec.msgpack.Decoder(Entry).decode


def read_entry(text: bytes) -> Entry | None:
    """The same of what may be anything; None if it is no message of ours."""
    try:
        return decode_entry(text)
    except msgspec.MsgspecError:
        return None


class Token(NamedTuple):
    """What proves that an attempt was handed out. Ids are unique within one stream only."""

    stream: str
    id: str


class Brought(NamedTuple):
    """An attempt as the scripts hand it out; see scripts/delivering.lua."""

    token: Token
    text: bytes
    iteration: bytes | None
    made: bytes | None
    inputs: list[Any] | None
    refused: bool
    """whether workers have had it that could not run it: that it starts is then told by who can"""


UNKNOWN: Final = -2


class Reply(NamedTuple):
    """What a call of ``settle`` or ``claim`` gives back."""

    answers: list[int]
    deliveries: list[Brought]
    continuations: list[tuple[Token, bytes]]
    odd: list[tuple[Token, bytes, bytes]]
    due: int
    """milliseconds until delayed work is due, -1 for never, UNKNOWN where nobody has looked"""
    stops: list[bytes]
    """what all workers are told about attempts that no longer count"""


def read_reply(reply: list[Any]) -> Reply:
    """The reply of a script by name."""
    answers, deliveries, continuations, odd, due, stops = reply
    return Reply(
        answers,
        [Brought(Token(d[0].decode(), d[1].decode()), d[2], d[3], d[4], d[5], d[6] == 1) for d in deliveries],
        [(Token(c[0].decode(), c[1].decode()), c[2]) for c in continuations],
        [(Token(o[0].decode(), o[1].decode()), o[2], o[3]) for o in odd],
        due,
        stops,
    )
