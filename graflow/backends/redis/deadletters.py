"""Dead letters: messages that no worker could run, kept for a week with what is known of them."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

import msgspec

from graflow.backends.redis.blobs import from_text
from graflow.backends.redis.commands import ask_all
from graflow.backends.redis.entries import Entry, decode_entry
from graflow.backends.redis.follow import Names
from graflow.backends.redis.keys import parse_stream
from graflow.backends.redis.planstore import PlanGoneError
from graflow.backends.redis.scripts import deadletters as scripts
from graflow.errors import ConfigurationError, FunctionNotFoundError, RunConflictError, SerializationError, UnknownRunError
from graflow.wire.failures import decode_failure

if TYPE_CHECKING:
    from collections.abc import Sequence

    from graflow.backends.redis.client import RedisClient
    from graflow.backends.redis.planstore import PlanStore

WEEK: Final = 7 * 86_400_000
"""milliseconds for which a letter is kept"""

_ABOUT: Final = re.compile(rb"(\d+)(?::\d+:(\d+))? (\d+) (.+)", re.DOTALL)
"""node, attempt, generation and run, as the scripts put them beside a message"""

_parts: Final = msgspec.msgpack.Decoder(list[msgspec.Raw]).decode
_text: Final = msgspec.msgpack.Decoder(str).decode


class DeadLetter(msgspec.Struct, frozen=True, kw_only=True):
    """A message that could not be run.

    Attributes:
        id: names the letter.
        reason: ``lost_workers`` (it cost too many workers their life), ``unknown_function`` (nobody knew its function or plan in time),
            ``undecodable`` (it is no message of ours), or ``newer_protocol`` (it is one of a later version).
        time: when it died.
        queue, handler, priority: the stream that it stood on.
        raw: the message as it was.
        size: its bytes.
        detail: what is known besides of why.
        run_id, task, attempt: what it was an attempt of; None where it cannot be read. ``task`` is ``#`` and the number of the node where
            the message cannot be read, or the run or its plan is gone.
    """

    id: str
    reason: str
    time: datetime
    queue: str
    handler: str
    priority: str
    raw: bytes
    size: int
    detail: str
    run_id: str | None = None
    task: str | None = None
    attempt: int | None = None


class DeadLetterCounters(msgspec.Struct, frozen=True):
    """What became of messages, since the counters were last forgotten (a week without any worker).

    Attributes:
        dequeued: handed to workers.
        decoded: of those, the ones that could be read.
        dropped: taken off the line unrun, because their run had gone on without them.
        dlq_sent: dead letters, ever.
        dlq_lost: dead letters that were dropped before their time, because there were too many.
    """

    dequeued: int = 0
    decoded: int = 0
    dropped: int = 0
    dlq_sent: int = 0
    dlq_lost: int = 0


Letters: TypeAlias = "list[DeadLetter]"
"""(inside the class, ``list`` is the method)"""


class _Stored(NamedTuple):
    id: str
    reason: str
    stream: str
    fields: list[bytes]
    detail: bytes

    @property
    def raw(self) -> bytes:
        """The message; its name in the entry comes before it."""
        return self.fields[1] if len(self.fields) > 1 else b""

    @property
    def about(self) -> bytes:
        """What stands beside the message about it; empty if nothing does."""
        return self.fields[3] if len(self.fields) > 3 and self.fields[2] == b"w" else b""

    @property
    def entry(self) -> Entry | None:
        """The message as one of ours, if it is one."""
        if self.reason in ("undecodable", "newer_protocol"):
            return None
        try:
            return decode_entry(self.raw)
        except msgspec.DecodeError:
            return None


class DeadLetters:
    """The dead letters of a namespace: :attr:`RedisBackend.dead_letters`. The backend must be open."""

    def __init__(self, client: RedisClient, plans: PlanStore) -> None:
        self._client = client
        self._plans = plans

    async def list(self, limit: int = 100, offset: int = 0) -> Letters:
        """The newest first."""
        if limit < 1 or offset < 0:
            raise ConfigurationError(
                f"list(limit={limit}, offset={offset}): give a limit of 1 or more and an offset of 0 or more", setting="limit"
            )
        keys = self._client.keys
        since = await self._now() - WEEK
        (ids,) = await ask_all(self._client, [("ZREVRANGEBYSCORE", keys.dead_letters, "+inf", since, "LIMIT", offset, limit)])
        return await self._read(ids)

    async def show(self, id: str) -> DeadLetter | None:
        """One letter; None if there is none of that id, or none any more."""
        return next(iter(await self._read([id.encode()])), None)

    async def count(self) -> int:
        """How many there are."""
        (number,) = await ask_all(self._client, [("ZCOUNT", self._client.keys.dead_letters, await self._now() - WEEK, "+inf")])
        return int(number)

    async def counters(self) -> DeadLetterCounters:
        """What became of messages."""
        names = ("fetched", "unreadable", "dropped", "dead", "dead lost")
        (values,) = await ask_all(self._client, [("HMGET", self._client.keys.counts, *names)])
        fetched, unreadable, dropped, dead, lost = (int(value or 0) for value in values)
        return DeadLetterCounters(fetched, max(0, fetched - unreadable), dropped, dead, lost)

    async def redrive(self, id: str) -> bool:
        """Put a letter's message back in line: as it was if it could not be read, else as a new attempt of its step, which has not failed then.

        Returns:
            False if there is no such letter.

        Raises:
            RunConflictError: the run has ended, was begun again, or has gone on without the step; nothing was put in line, and the letter stays.
            UnknownRunError: the run is no longer remembered; likewise.
        """
        letter = await self.show(id)
        answer, state = await scripts.redrive(self._client, id)
        if answer in ("done", "unknown"):
            return answer == "done"
        run_id = (letter.run_id if letter is not None else None) or ""
        task = letter.task if letter is not None else None
        raise _refused(answer, state, run_id, task or "")

    async def purge(self, id: str | None = None, *, older_than: float | None = None, all: bool = False) -> int:
        """Drop letters for good: one, those that came more than ``older_than`` seconds ago, or all. Returns how many it were."""
        if (id is not None) + (older_than is not None) + all != 1:
            raise ConfigurationError("purge(): give one of id, older_than= and all=True", setting="purge")
        if id is not None:
            return await scripts.purge(self._client, id)
        until = await self._now() - round((older_than or 0.0) * 1000)
        total = number = await scripts.purge_until(self._client, until)
        while number == scripts.PURGED_AT_ONCE:
            number = await scripts.purge_until(self._client, until)
            total += number
        return total

    # ---- inside ----

    async def _now(self) -> int:
        ((seconds, micros),) = await ask_all(self._client, [("TIME",)])
        return int(seconds) * 1000 + int(micros) // 1000 + self._client.shift

    async def _read(self, ids: Sequence[bytes]) -> Letters:
        if not ids:
            return []
        (items,) = await ask_all(self._client, [("HMGET", self._client.keys.dead_items, *ids)])
        stored = [_stored(id.decode(), item) for id, item in zip(ids, items, strict=True) if item is not None]
        names: dict[tuple[str, str], Names | None] = {}
        return [await self._letter(each, names) for each in stored]

    async def _letter(self, stored: _Stored, names: dict[tuple[str, str], Names | None]) -> DeadLetter:
        queue, handler, priority = parse_stream(stored.stream)
        entry = stored.entry
        known: dict[str, Any] = {}
        if entry is not None:
            run = (entry.run_id, entry.plan)
            if run not in names:
                names[run] = await self._names(entry)
            task = await _task_of(entry, names[run])
            known = {"run_id": entry.run_id, "task": task, "attempt": entry.attempt}
        elif (about := _ABOUT.fullmatch(stored.about)) is not None:
            known = {"run_id": about[4].decode("utf-8", "replace"), "task": f"#{about[1].decode()}", "attempt": int(about[2] or 1)}
        time = datetime.fromtimestamp(int(stored.id.partition("-")[0]) / 1000, UTC)
        return DeadLetter(
            id=stored.id, reason=stored.reason, time=time, queue=queue, handler=handler, priority=priority, raw=stored.raw,
            size=len(stored.raw), detail=_detail(stored, entry), **known,
        )  # fmt: skip

    async def _names(self, entry: Entry) -> Names | None:
        try:
            return Names(self._client, entry.run_id, await self._plans.describe(entry.plan))
        except (PlanGoneError, SerializationError, FunctionNotFoundError):
            return None


async def _task_of(entry: Entry, names: Names | None) -> str:
    if names is None:
        return f"#{entry.node}"
    await names.look_up(entry.node)
    return names.name_of(entry.node)


def _stored(id: str, item: bytes) -> _Stored:
    reason, stream, fields, detail = _parts(item)
    return _Stored(id, _text(reason), _text(stream), [from_text(field) for field in _parts(fields)], from_text(detail))


def _detail(stored: _Stored, entry: Entry | None) -> str:
    if stored.reason == "lost_workers" and entry is not None:
        return f"{entry.lost + 1} workers ended while they ran it"
    if stored.reason == "unknown_function" and stored.detail:
        return decode_failure(stored.detail).error.message
    if stored.reason == "newer_protocol":
        return "it was sent by a later version of Graflow than that of the worker which took it; update the workers"
    return "it is no message of Graflow's"


def _refused(answer: str, state: str, run_id: str, task: str) -> RunConflictError | UnknownRunError:
    again = 'submit it again with if_exists="rerun_failed"'
    if answer == "gone":
        what = f"run {run_id!r} is no longer remembered, so there is nothing to put in line; submit it again, and purge the letter"
        return UnknownRunError(what, run_id=run_id)
    if answer == "again":
        why = "was begun again since; purge the letter"
    elif answer == "over" and state == "succeeded":
        why = f"has succeeded without {task!r}; purge the letter"
    elif answer == "over":
        why = f"has ended ({state}), so {task!r} is not put in line; {again}"
    else:
        why = f"has gone on without {task!r}; when it has ended, {again}"
    return RunConflictError(f"run {run_id!r} {why}", run_id=run_id)
