"""Plans by the key that they are stored under: put on the server once, and fetched once by each process that runs them."""

from __future__ import annotations

import asyncio
from collections import deque
from itertools import islice
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from graflow.backends.redis.commands import ask_all
from graflow.backends.redis.kept import KEPT, NODES, Kept
from graflow.backends.redis.plans import plan_records
from graflow.errors import GraflowError
from graflow.wire.envelopes import reading
from graflow.wire.local import this_process
from graflow.wire.plans import decode_plan, encode_plan, plan_key
from graflow.wire.signing import may_hold_values

if TYPE_CHECKING:
    from collections.abc import Mapping

    from graflow.backends.redis.client import RedisClient
    from graflow.core.plan import Plan
    from graflow.wire.keys import Signer
    from graflow.wire.local import LocalCode
    from graflow.wire.signing import RunSigner

MOST_NODES: Final = 100_000
"""nodes of the plans that are remembered to be run, where more than ``NODES`` are in use at a time: to fetch them in turns, with every step that is
handed out, would take all the time"""
SLICE: Final = 512
"""records in one command"""
UNFINISHED: Final = 3600
"""seconds after which the beginnings of a plan are gone whose sender died midway"""


class PlanGoneError(GraflowError):
    """A run's plan is not on the server any more."""


class _Shipped(NamedTuple):
    plan: Plan
    key: str
    needs: dict[tuple[str, str], str]
    signed_for: str | None
    """the run that something in it was signed for"""


class PlanStore:
    """The plans that this process has submitted, and those that it has fetched.

    Args:
        client: the server.
        local_code: names functions that only this process has; None refuses to send them.
        signer: signs and verifies code that has no importable name; None without a key.
    """

    def __init__(self, client: RedisClient, local_code: LocalCode | None, signer: Signer | None = None) -> None:
        self.signer: Signer | None = signer
        self._client = client
        self._local = local_code
        self._shipped: Kept[int, _Shipped] = Kept()
        self._submitted: Kept[str, Plan] = Kept()
        self._loaded: Kept[str, Plan] = Kept()
        self._loading: dict[str, asyncio.Future[Plan]] = {}
        self._room = NODES
        self._dropped: deque[str] = deque(maxlen=KEPT)
        self.uploads: int = 0
        """how often a plan was put on the server"""

    def key_of(self, plan: Plan, signing: RunSigner | None = None) -> str:
        """The key of a plan: another one for whatever differs in any way, code included. With something signed in it the plan is that of one run.

        Args:
            plan: the plan.
            signing: signs what has no importable name; the same is given to :meth:`upload`.

        Raises:
            FunctionNotFoundError: code of its tasks has no importable name.
            SerializationError: a bound argument cannot travel.
        """
        known = self._shipped.get(id(plan))
        if known is None or known.plan is not plan or known.signed_for is not None:
            key = plan_key(encode_plan(plan, local_code=self._local, signing=signing))[:32]
            known = _Shipped(plan, key, {}, signing.run_id if signing is not None and signing.used else None)
            self._shipped.put(id(plan), known, len(plan.ids))
            self._submitted.put(known.key, plan, len(plan.ids))
        return known.key

    def needs_of(self, plan: Plan) -> Mapping[tuple[str, str], str]:
        """The queues and handlers that a plan needs, each with a task that does."""
        known = self._shipped.get(id(plan))
        if known is None or known.plan is not plan:
            return {}
        if not known.needs:
            mapped = (group.mapping.task for group in plan.groups if group is not None and group.mapping is not None)
            for task in (*plan.tasks, *mapped):
                if task is not None:
                    known.needs.setdefault((task.options.queue, task.handler_kind), task.id)
        return known.needs

    async def upload(self, plan: Plan, key: str, signing: RunSigner | None = None) -> None:
        """Put a plan on the server, under the key that :meth:`key_of` gave. Its head comes last: a plan without one is not complete, and will be
        gone in an hour."""
        self.uploads += 1
        key = self._client.keys.plan(key)
        records = plan_records(plan, local_code=self._local, signing=signing)
        head = records.pop("head")
        fields = iter(records.items())
        while part := list(islice(fields, SLICE)):
            await ask_all(self._client, [("HSET", key, *(word for field in part for word in field))])
        await ask_all(self._client, [("EXPIRE", key, UNFINISHED), ("HSET", key, "head", head)])

    def at_hand(self, key: str, run_id: str) -> Plan | None:
        """A plan to be run, if it has been fetched before. One with signed values in it is fetched for each run that names it."""
        return self._loaded.get(key) or self._loaded.get(_private(key, run_id))

    async def load(self, key: str, run_id: str = "") -> Plan:
        """A plan to be run, as it was sent. Without a run, to be read about.

        Raises:
            PlanGoneError: it is not there.
            SerializationError: it cannot be read.
        """
        while (plan := self.at_hand(key, run_id)) is None:
            loading = self._loading.get(key)
            if loading is None:
                loading = self._loading[key] = asyncio.ensure_future(self._fetch(key, run_id))
                loading.add_done_callback(lambda _: self._loading.pop(key, None))
                return await asyncio.shield(loading)
            await asyncio.shield(loading)  # for another run, whose plan alone it may turn out to be
        return plan

    async def describe(self, key: str) -> Plan:
        """A plan to be read about: the very one that was submitted, where that was here."""
        return self._submitted.get(key) or await self.load(key)

    async def _fetch(self, key: str, run_id: str) -> Plan:
        (found,) = await ask_all(self._client, [("HMGET", self._client.keys.plan(key), "head", "blob")])
        head, data = found
        if head is None or data is None:
            raise PlanGoneError(f"the plan {key} is not on the server at {self._client.where} any more")
        with reading(head, "plan"):
            nodes = _size(head)
        name = _private(key, run_id) if may_hold_values(data) else key
        if name in self._dropped:  # it had to go for another, and both are in use
            self._room = min(self._room + nodes, MOST_NODES)
        # Before it is decoded: what was taken for two large plans at once is not given back to the system.
        self._dropped += self._loaded.make_room(nodes, self._room)
        plan = decode_plan(data, local_code=this_process, signer=self.signer)
        self._loaded.put(name, plan, nodes, self._room)
        return plan


def _private(key: str, run_id: str) -> str:
    return f"{key} {run_id}"


def _size(head: bytes) -> int:
    """How many nodes a plan has, by the first of its records."""
    return int(msgspec.msgpack.decode(msgspec.msgpack.decode(head, type=list[msgspec.Raw])[0], type=int))
