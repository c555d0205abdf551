"""What comes along with attempts and is none: answered by the process that was handed it, without a task being run."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

from graflow.backends.redis.blobs import as_text, encode
from graflow.backends.redis.commands import ask_all
from graflow.backends.redis.entries import CONTINUATION, Token, decode_entry, read_entry
from graflow.backends.redis.outcomes import continued, judged, refused
from graflow.backends.redis.reading import read_run
from graflow.backends.redis.scripts.runs import BUDGET, BURY, SETTLE, WANTED
from graflow.backends.redis.verdicts import judge
from graflow.core.outcome import describe
from graflow.errors import UntrustedPayloadError
from graflow.wire import codec
from graflow.wire.failures import encode_failure
from graflow.wire.signing import signing_for

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from graflow.backends.redis.client import RedisClient
    from graflow.backends.redis.deliveries import RedisDelivery
    from graflow.backends.redis.desk import Entries
    from graflow.backends.redis.entries import Brought, Entry
    from graflow.backends.redis.planstore import PlanStore
    from graflow.core.plan import Plan
    from graflow.errors import GraflowError

_log = logging.getLogger("graflow.redis")

_KEY_IS_ELSEWHERE: Final = frozenset({"no_key", "unknown_key"})
"""why a payload is not trusted here, and perhaps by another worker: while keys are being changed, some have the new one"""
VALUES_LIVE: Final = 3600
"""seconds that a value which was written before its outcome outlives a worker that dies in between"""
MOST_TOLD: Final = 1000
"""characters of an error that are told of each attempt that a worker cannot run: there may be many of them"""
UNKNOWN_GRACE: Final = 600.0
"""seconds for which an attempt that nobody here can run is left to other workers: a new version may be on its way to all of them"""
REFUSED_GRACE: Final = 30.0
"""the same when every living worker that serves its queue has refused it: to wait longer is mostly in vain, and keeps its user waiting"""
SLICE: Final = 512
"""items in one command"""


async def send(client: RedisClient, consumer: str, outcomes: Sequence[tuple[Any, ...]]) -> None:
    """Outcomes of which nobody waits for what follows."""
    await client.call(SETTLE, (client.shift, BUDGET, encode(outcomes), consumer, b"", b""))


async def send_back(client: RedisClient, consumer: str, entries: Entries) -> None:
    """What a read has brought and nobody was there to take is put back in line. What cannot be read is no reason to keep the rest: it goes to the
    dead letters, as it would have gone if it had been taken."""
    back: list[tuple[Any, ...]] = []
    for stream, id, field, text in entries:
        entry = read_entry(text) if field == b"m" else None
        if entry is None:
            await bury(client, Token(stream, id), field, text)
        else:
            who = (stream, id, entry.run_id, entry.generation, entry.node, entry.cycle, entry.attempt)
            back.append((*who, "b", as_text(text), False, False, False))
    if back:
        await send(client, consumer, back)


class Graces(NamedTuple):
    """For how many seconds an attempt that a worker cannot run is left to others.

    Attributes:
        others: while there is a living worker that has not refused it, or may be soon.
        nobody: when all that serve its queue have refused it.
    """

    others: float
    nobody: float


async def give_up(
    client: RedisClient, worker: str, consumer: str, brought: Brought, entry: Entry, error: GraflowError, graces: Graces, plan: Plan | None
) -> None:
    """Nobody here can run it. Another worker may; when the grace is over it fails, and is among the dead letters. What was tampered with is no
    better anywhere else, and fails at once."""
    level = logging.DEBUG if brought.refused else logging.WARNING  # it comes back until somebody can run it
    _log.log(level, "run %s, node %d cannot be run here: %s", entry.run_id, entry.node, error, extra={"run_id": entry.run_id})
    name = plan.ids[entry.node] if plan is not None and entry.node < len(plan.ids) else f"#{entry.node}"
    letter = reason = "unknown_function"
    if isinstance(error, UntrustedPayloadError):
        letter, reason = "untrusted", error.reason
        if reason not in _KEY_IS_ELSEWHERE:
            graces = Graces(0.0, 0.0)
    failure = as_text(encode_failure(describe(error, name, entry.attempt)))
    told = as_text(codec.encode({"reason": reason, "worker": worker, "message": str(error)[:MOST_TOLD]}))
    because = (letter, round(graces.others * 1000), round(min(graces) * 1000), reason, told)
    await send(client, consumer, [refused(brought, entry, failure, because)])


async def ask_policy(client: RedisClient, consumer: str, plans: PlanStore, token: Token, entry: Entry, plan: Plan) -> None:
    """A group's policy of the user's own is asked for its verdict."""
    reader = await read_run(client, plans, entry.run_id)
    if reader is not None:
        with signing_for(plans.signer, entry.run_id):
            verdict = judge(plan, entry.node, reader.image, reader.name_of, entry.attempt)
        await send(client, consumer, [judged(token, entry, verdict)])


async def go_on(client: RedisClient, consumer: str, continuations: Sequence[tuple[Token, bytes]]) -> None:
    """Go on with what a call was not allowed to do any more."""
    outcomes: list[tuple[Any, ...]] = []
    for token, text in continuations:
        entry = decode_entry(text)
        outcomes.append(continued(token.stream, token.id, entry.run_id, entry.generation, CONTINUATION))
    await send(client, consumer, outcomes)


async def bury(client: RedisClient, token: Token, field: bytes, text: bytes) -> None:
    """What cannot be read goes to the dead letters."""
    reason = "newer_protocol" if field == b"m" and _version(text) > 1 else "undecodable"
    _log.error("a message on %s cannot be read and goes to the dead letters: %s", token.stream, reason)
    await client.call(BURY, (client.shift, BUDGET, token.stream, token.id, reason))


def _version(text: bytes) -> int:
    try:
        return int(msgspec.msgpack.decode(msgspec.msgpack.decode(text, type=list[msgspec.Raw])[0], type=int))
    except (ValueError, IndexError):
        return 0


async def unwanted(client: RedisClient, held: Sequence[RedisDelivery]) -> list[RedisDelivery]:
    """Those of the attempts in our hands that do not count any more: what was said about them may have been missed."""
    found: list[RedisDelivery] = []
    for begin in range(0, len(held), SLICE):
        part = held[begin : begin + SLICE]
        named = [(each.entry.run_id, each.entry.generation, each.entry.node, each.entry.cycle, each.entry.attempt) for each in part]
        found += [part[place - 1] for place in await client.call(WANTED, (client.shift, BUDGET, encode(named)))]
    return found


async def write_values(client: RedisClient, values: Mapping[str, bytes], items: tuple[str, list[bytes]] | None) -> None:
    """Large results, and the items of a list that a group is mapped over, under keys of the attempt's own, before the outcome names them."""
    commands: list[tuple[Any, ...]] = [("SET", key, value, "EX", VALUES_LIVE) for key, value in values.items()]
    if items is not None:
        key, each = items
        for begin in range(0, len(each), SLICE):
            part = enumerate(each[begin : begin + SLICE], begin)
            commands.append(("HSET", key, *(word for place, item in part for word in (str(place), item))))
        commands.append(("EXPIRE", key, VALUES_LIVE))
    await ask_all(client, commands)
