"""Following what happens in a run: subscribe, read what there is, sleep until there is more."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import msgspec

from graflow.backends.redis.commands import ask_all
from graflow.backends.redis.events import Told, read_events
from graflow.backends.redis.failures import read_error
from graflow.backends.redis.image import read_made
from graflow.backends.redis.watch import lost
from graflow.errors import ConfigurationError
from graflow.wire import codec
from graflow.wire.messages import RunEvent
from graflow.wire.signing import signing_for

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from graflow.backends.redis.client import RedisClient
    from graflow.backends.redis.planstore import PlanStore
    from graflow.backends.redis.waiting import Waiting
    from graflow.core.plan import Plan
    from graflow.errors import RunError

_parts: Final = msgspec.msgpack.Decoder(list[msgspec.Raw]).decode
_any: Final = msgspec.msgpack.Decoder().decode
AT_ONCE: Final = 256
"""entries that are read in one command"""


async def follow(
    client: RedisClient, waiting: Waiting, plans: PlanStore, run_id: str, after: str | None, missing: Callable[[], RunError]
) -> AsyncIterator[RunEvent]:
    """The events of a run from its start, or after one of them, until it has ended. ``missing`` says what it means that it was not there.

    Raises:
        UnknownRunError: there is no such run.
        RunLostError: it vanished while it was followed.
        ConfigurationError: ``after`` is no id of an event.
    """
    place, skip = _place(after)
    names: Names | None = None
    more = asyncio.Event()
    await waiting.epochs.begin()
    async with await waiting.listen(client.keys.told(run_id), lambda _: more.set()):
        while True:
            more.clear()
            begin = place if skip or place == "-" else f"({place}"
            ((plan, state), entries) = await ask_all(
                client,
                [("HMGET", client.keys.run(run_id), "plan", "st"), ("XRANGE", client.keys.events(run_id), begin, "+", "COUNT", AT_ONCE)],
            )
            if plan is None:
                raise missing() if names is None else lost(run_id, client.where)
            if names is None:
                names = Names(client, run_id, await plans.describe(plan.decode()))
            for id, fields in entries:
                place = id.decode()
                events = read_events(fields[1])
                for number, told in enumerate(events):
                    if number >= skip:
                        with signing_for(plans.signer, run_id):  # around the reading only: what a generator sets, its reader has
                            event = await names.event(place, number, told)
                        yield event
                        if told.type == "run_finished":
                            return
                skip = 0
            if not entries:
                if state != b"r":
                    return
                await more.wait()


def _place(after: str | None) -> tuple[str, int]:
    """The entry to begin with, and how many of its events are known."""
    if after is None:
        return "-", 0
    entry, dot, number = after.partition(".")
    parts = entry.split("-")
    if not (dot and number.isdecimal() and len(parts) == 2 and all(part.isdecimal() for part in parts)):
        raise ConfigurationError(f"after={after!r}: that is no id of an event of this run", setting="after")
    return entry, int(number) + 1


class Names:
    """Events in words, and nodes by their ids."""

    def __init__(self, client: RedisClient, run_id: str, plan: Plan) -> None:
        self.plan = plan
        self._client = client
        self._run_id = run_id
        self._made: dict[int, str] = {}

    def name_of(self, node: int) -> str:
        """The id of a node that has been looked up."""
        return self.plan.ids[node] if node < len(self.plan.ids) else self._made.get(node, f"#{node}")

    async def event(self, entry: str, number: int, told: Told) -> RunEvent:
        """An event as its readers get it."""
        await self.look_up(told.node)
        time = datetime.fromtimestamp(int(entry.partition("-")[0]) / 1000, UTC)
        name = None if told.node < 0 else self.name_of(told.node)
        return RunEvent(f"{entry}.{number}", told.type, name, time, told.attempt, self._data(told))

    def _data(self, told: Told) -> dict[str, Any]:
        data = told.data
        if told.type == "run_started":
            return {"workflow": self.plan.name}
        if data is None:
            return {}
        if told.type in ("task_failed", "group_failed"):
            error = read_error(_parts(data), told.node, self).error
            return {"error_type": error.error_type, "message": error.message}
        if told.type == "task_retrying":
            return _retrying(data)
        if told.type == "task_skipped":
            return {"because": "an earlier task failed"}
        if told.type == "task_suspended":
            return {"reason": data.decode("utf-8", "surrogateescape")}
        if told.type == "run_finished":
            status, cause, reason = _any(data)
            return {"status": status, "cause": cause, "reason": reason}
        found: dict[str, Any] = codec.decode(data)
        return found

    async def look_up(self, node: int) -> None:
        """Have the name of a node, made at run time or not."""
        if node < len(self.plan.ids) or node in self._made:
            return
        made, ranges = (await ask_all(self._client, [("HMGET", self._client.keys.run(self._run_id), f"D{node}", "R")]))[0]
        if made is not None:
            self._made[node] = read_made(made).id
        members: list[list[int]] = _any(ranges) if ranges is not None else []
        for low, high, group, place in members:
            known = self.plan.groups[group]
            if low <= node <= high and known is not None and known.mapping is not None:
                for member in range(low, high + 1):
                    self._made[member] = f"{known.mapping.task.id}[{place + member - low}]"


def _retrying(data: bytes) -> dict[str, Any]:
    told = codec.decode(data)
    if told[1] == "lost":
        return {"delay": 0.0, "error_type": "graflow.errors.WorkerLostError", "message": "its worker is gone"}
    return {"delay": told[0], "error_type": told[1], "message": told[2]}
