"""The worker side of a process: its name on the server, what it holds, and how attempts come in and outcomes go out."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4
from weakref import WeakKeyDictionary

from redis.exceptions import ResponseError

from graflow.backends.redis import chores
from graflow.backends.redis.background import BackgroundJobs
from graflow.backends.redis.blobs import as_text, encode
from graflow.backends.redis.commands import ask_all
from graflow.backends.redis.deliveries import CANNOT_RUN, RedisDelivery, admit_policy, make_delivery
from graflow.backends.redis.desk import TICK, Desk, Entries, less
from graflow.backends.redis.entries import UNKNOWN, Brought, Entry, Reply, Token, read_entry, read_reply
from graflow.backends.redis.faults import code_of
from graflow.backends.redis.hands import Hands
from graflow.backends.redis.keys import parse_stream
from graflow.backends.redis.leases import reap
from graflow.backends.redis.outcomes import handed_back, packed, ready_to_send
from graflow.backends.redis.roster import introduction
from graflow.backends.redis.scripts.runs import BUDGET, CLAIM, SETTLE
from graflow.backends.redis.telling import Teller
from graflow.errors import BackendUnavailableError
from graflow.wire.signing import signing_for

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from graflow.backends.base import Delivery, Slots
    from graflow.backends.redis.client import RedisClient
    from graflow.backends.redis.leases import Heart
    from graflow.backends.redis.planstore import PlanStore
    from graflow.backends.redis.waiting import Subscription, Waiting
    from graflow.core.outcome import Outcome
    from graflow.core.plan import Plan
    from graflow.wire.local import LocalCode

_log = logging.getLogger("graflow.redis")

ASK_AGAIN: Final = 30.0
"""seconds after which a worker that knows of nothing that is put off asks all the same: who was told of it may be gone, and one alone is told"""
_PARTING: Final = 2.0


class Crew:
    """Everything of this process that runs attempts, under one name and one lease.

    Args:
        client: the server.
        waiting: the connection of all waits.
        plans: plans by key.
        local_code: names functions that only this process has.
        graces: for how long an attempt that cannot be run here is left to other workers.
    """

    def __init__(
        self, client: RedisClient, waiting: Waiting, plans: PlanStore, local_code: LocalCode | None, *, graces: chores.Graces
    ) -> None:
        self._client = client
        self._waiting = waiting
        self._plans = plans
        self._local = local_code
        self._graces = graces
        self.name: str = ""
        self.consumer: str = ""
        self.heart: Heart | None = None
        self._hands = Hands()
        self._flights: set[asyncio.Future[None]] = set()  # calls on their way that may bring attempts
        self._leaving: set[Token] = set()  # what is about to be settled, and in our hands no more
        self._desks: WeakKeyDictionary[Slots, Desk] = WeakKeyDictionary()
        self._workers: WeakKeyDictionary[Slots, str] = WeakKeyDictionary()
        self._told = b""
        self._queues: list[str] = []
        self._subscriptions: list[Subscription] = []
        self._joining = asyncio.Lock()
        self._jobs = BackgroundJobs("graflow-crew", lambda: self.name)
        self._spawn = self._jobs.begin
        self._teller = Teller(client, self._spawn)
        self._due = 0.0
        """when to ask for what is put off"""
        self._closed = False

    # ---- joining and leaving ----

    async def introduce(self, worker_id: str, slots: Slots) -> None:
        """Take a worker in, and a lease. What the first is called, the crew is called."""
        self.name = self.name or worker_id
        self._workers[slots] = worker_id
        self.desk(slots)
        await self.join()
        async with self._joining:
            info = self._info()
            if self.consumer and self.heart is not None and info != self._told:  # it came when the lease had been taken
                await self.heart.say(info)
                self._told = info

    async def join(self) -> None:
        """Take a name and a lease, from the first fetch on."""
        if self.consumer or self._closed:
            return
        async with self._joining:
            if self.consumer:
                return
            if not self._subscriptions:
                keys = self._client.keys
                self._subscriptions.append(await self._waiting.listen(keys.stops, self._hear_stops))
                self._subscriptions.append(await self._waiting.listen(keys.queues, self._hear_of_queue))
            self.name = self.name or f"{socket.gethostname()}-{os.getpid()}-{uuid4().hex[:8]}"
            consumer = f"{self.name}.{uuid4().hex[:4]}"
            if self.heart is not None:
                info = self._told = self._info()
                await self.heart.start(consumer, info)
            await self._look_for_queues()
            self.consumer = consumer
            self._due = 0.0  # those who knew when the next work is due may have taken that with them: ask

    def _info(self) -> bytes:
        return introduction(self.name, self._workers.values(), list(self._desks))

    def lose(self) -> None:
        """The lease has lapsed: drop everything, and begin again under another name."""
        dropped = self._hands.drop_all()
        self.consumer = ""
        text = "worker %s was taken for dead; %d of its tasks are stopped, and it goes on under another name"
        _log.warning(text, self.name, len(dropped), extra={"worker_id": self.name})
        for desk in list(self._desks.values()):
            self._spawn(desk.unblock())

    async def close(self) -> None:
        """Give the lease up and stop."""
        self._closed = True
        await self._jobs.close(_PARTING)  # among them may be one that puts back what a read has brought
        for desk in list(self._desks.values()):
            await desk.close()
            if self.consumer:
                await self._return_pending(desk)
        if self.heart is not None:  # under a name or, since a lease has lapsed, under none
            await self.heart.stop()
        for subscription in self._subscriptions:
            await subscription.close()
        self._subscriptions.clear()

    # ---- what is heard ----

    def _hear_stops(self, payload: bytes | None) -> None:
        if payload is not None:
            self._hands.stop(payload)
        elif len(self._hands):  # messages may have been missed: ask after everything that is held
            self._spawn(self._look_after_hands())

    async def _look_after_hands(self) -> None:
        gone = await chores.unwanted(self._client, list(self._hands))
        self._hands.interrupt(each for each in gone if each.token in self._hands)

    def _hear_of_queue(self, payload: bytes | None) -> None:
        self._spawn(self._look_for_queues())

    async def _look_for_queues(self) -> None:
        streams = (await ask_all(self._client, [("SMEMBERS", self._client.keys.streams)]))[0]
        queues = sorted({parse_stream(name.decode())[0] for name in streams} | {"default"})
        if queues != self._queues:
            self._queues = queues
            for desk in list(self._desks.values()):
                await desk.rearm()

    # ---- attempts in ----

    def desk(self, slots: Slots) -> Desk:
        """The desk of a worker."""
        desk = self._desks.get(slots)
        if desk is None:
            desk = self._desks[slots] = Desk(self._client, slots, lambda: self._queues)
        return desk

    async def fetch(self, slots: Slots) -> list[Delivery]:
        """Attempts for the free slots; waits until there is at least one."""
        desk = self.desk(slots)
        async with desk.lock:
            while True:
                await self.join()
                if desk.unsure:
                    found = await self._recover(desk)
                elif not desk.streams():
                    found = await self._wait_for_room(desk)
                else:
                    found = await self._wait_for_work(desk)
                if found:
                    return found

    async def _wait_for_room(self, desk: Desk) -> list[Delivery]:
        """With all slots taken nothing is read. What becomes due meanwhile is put in line all the same: those with room may not know of it."""
        desk.freed.clear()
        try:
            async with asyncio.timeout_at(self._due):
                await desk.freed.wait()
        except TimeoutError:
            if self.consumer:  # else the lease has lapsed meanwhile, and what would be handed out would be nobody's
                return await self._claim(desk, [])
        return []

    async def _wait_for_work(self, desk: Desk) -> list[Delivery]:
        """A read that is not cancelled with its caller: what it brings then is put back."""
        consumer = self.consumer
        wait = max(0.0, self._due - asyncio.get_running_loop().time())
        reading = desk.begin_reading(consumer, wait)
        try:
            entries = await asyncio.shield(reading)
        except asyncio.CancelledError:
            self._spawn(self._put_back(desk, reading, consumer))
            raise
        if not entries and asyncio.get_running_loop().time() < self._due:
            return []
        if consumer != self.consumer:  # the lease has lapsed while it waited, and what it brought is nobody's, or somebody else's by now
            if entries:
                await reap(self._client)
            return []
        return await self._claim(desk, entries)

    async def _put_back(self, desk: Desk, reading: asyncio.Future[Entries], consumer: str) -> None:
        await desk.unblock()
        await chores.send_back(self._client, consumer, [entry for entry in await reading if entry[0] != TICK])

    async def _return_pending(self, desk: Desk) -> None:
        """Attempts that a call cut short has handed to this name are put back in line, lest they count as lost with their worker."""
        try:
            entries = await self._unknown_pending(desk.every_stream())
            await chores.send_back(self._client, self.consumer, entries)
        except BackendUnavailableError as error:
            _log.warning("worker %s cannot put back what it had been handed: %s", self.name, error, extra={"worker_id": self.name})

    async def _claim(self, desk: Desk, entries: Entries, *, again: bool = False) -> list[Delivery]:
        free = desk.free()
        wanted = b"" if again else desk.turns.wanted(less(free, entries), desk.queues())
        blob = encode([(stream, id, field.decode(), as_text(text)) for stream, id, field, text in entries])
        args = (self._client.shift, BUDGET, blob, self.consumer, wanted, b"1" if again else b"0")
        return await self._ask(CLAIM, args, desk, free)

    async def _recover(self, desk: Desk) -> list[Delivery]:
        """A reply was lost, and with it perhaps attempts: what is pending under our name and not in our hands is taken again."""
        desk.unsure = False
        try:
            entries = await self._still_unknown(await self._unknown_pending(desk.every_stream()))
        except BaseException:
            desk.unsure = True
            raise
        return await self._claim(desk, entries, again=True) if entries else []

    async def _unknown_pending(self, streams: Sequence[str]) -> Entries:
        entries: Entries = []
        for stream in streams:
            reply = await self._pending(f"{self._client.keys.prefix}q:{stream}")
            for _, found in reply or ():
                entries += [
                    (stream, id.decode(), fields[0], fields[1])
                    for id, fields in found
                    if fields and Token(stream, id.decode()) not in self._hands
                ]
        return entries

    async def _still_unknown(self, entries: Entries) -> Entries:
        """Those that no call on its way has brought, or is about to settle."""
        unknown = [entry for entry in entries if Token(entry[0], entry[1]) not in self._leaving]
        if unknown and self._flights:
            await asyncio.wait(tuple(self._flights))
        return [entry for entry in unknown if (token := Token(entry[0], entry[1])) not in self._hands and token not in self._leaving]

    async def _pending(self, stream: str) -> Any:
        try:
            return (await ask_all(self._client, [("XREADGROUP", "GROUP", "g", self.consumer, "COUNT", 1000, "STREAMS", stream, "0")]))[0]
        except ResponseError as error:
            if code_of(error) == "NOGROUP":  # and so nothing of it is ours
                return None
            raise

    async def _ask(self, script: Any, args: Sequence[Any], desk: Desk, free: Sequence[tuple[str, int]]) -> list[Delivery]:
        """Call a script that hands attempts out. The slots that it may fill are spoken for meanwhile."""
        flight: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._flights.add(flight)
        reserved, before = desk.reserved, self._client.repeats
        for handler, room in free:
            reserved[handler] = reserved.get(handler, 0) + max(0, room)
        try:
            reply = read_reply(await self._client.call(script, args))
            if self._client.repeats != before:
                desk.unsure = True
            return await self._take(reply, desk)
        except BaseException:
            desk.unsure = True
            raise
        finally:
            for handler, room in free:
                reserved[handler] -= max(0, room)
            self._flights.discard(flight)
            flight.set_result(None)

    async def _take(self, reply: Reply, desk: Desk) -> list[Delivery]:
        if reply.due != UNKNOWN:
            self._due = asyncio.get_running_loop().time() + (min(reply.due / 1000, ASK_AGAIN) if reply.due >= 0 else ASK_AGAIN)
        found: list[Delivery] = []
        for told in reply.stops:  # the others hear of it a moment later
            self._hands.stop(told)
        for brought in reply.deliveries:
            entry = read_entry(brought.text)
            if entry is None:
                await chores.bury(self._client, brought.token, b"m", brought.text)
                continue
            plan = self._plans.at_hand(entry.plan, entry.run_id)
            delivery = await self._deliver(brought, entry, plan)
            if delivery is not None:
                desk.slots.take(delivery.spec.handler)
                desk.turns.took(delivery.spec.handler)
                found.append(delivery)
        if reply.continuations:
            self._spawn(chores.go_on(self._client, self.consumer, reply.continuations))
        for token, field, text in reply.odd:
            await chores.bury(self._client, token, field, text)
        return found

    async def _deliver(self, brought: Brought, entry: Entry, plan: Plan | None) -> RedisDelivery | None:
        try:
            if plan is None:
                plan = await self._plans.load(entry.plan, entry.run_id)
            if entry.node < len(plan.ids) and plan.groups[entry.node] is not None:
                admit_policy(plan, entry.node, entry.run_id)
                self._spawn(chores.ask_policy(self._client, self.consumer, self._plans, brought.token, entry, plan))
                return None
            with signing_for(self._plans.signer, entry.run_id):
                delivery = make_delivery(brought, entry, plan, self._local, self._plans.signer)
        except CANNOT_RUN as error:
            await chores.give_up(self._client, self.name, self.consumer, brought, entry, error, self._graces, plan)
            return None
        self._hands.take(delivery)
        if brought.refused:
            self._teller.tell(entry, "task_started", {})
        return delivery

    # ---- outcomes out ----

    async def settle(self, done: Sequence[tuple[Delivery, Outcome | None]], slots: Slots) -> list[Delivery]:
        """Write outcomes, and take what the freed slots can."""
        ours = [(each, outcome) for each, outcome in done if isinstance(each, RedisDelivery) and self._hands.let_go(each)]
        leaving = [each.token for each, _ in ours]
        self._leaving.update(leaving)
        desk, consumer = self.desk(slots), self.consumer
        try:
            return await self._settle(ours, desk)
        except BaseException as error:
            if not isinstance(error, Exception) or isinstance(error, BackendUnavailableError):
                desk.unsure = True  # nobody settles them again: they are found among what is pending
            elif consumer == self.consumer:  # they are settled again, one by one; under another name they would be nobody's
                self._hands.take_back(each for each, _ in ours)
            raise
        finally:
            self._leaving.difference_update(leaving)

    async def _settle(self, done: Sequence[tuple[RedisDelivery, Outcome | None]], desk: Desk) -> list[Delivery]:
        fields: list[tuple[Any, ...]] = []
        for delivery, outcome in done:
            ready = ready_to_send(delivery, outcome, self._client.keys.prefix, self._local, self._plans.signer)
            if ready.values or ready.items:
                await chores.write_values(self._client, ready.values, ready.items)
            fields.append(ready.fields)
        if not self.consumer:
            desk.freed.set()
            return []
        await self._teller.sent()
        free = desk.free()
        wanted = desk.turns.wanted(free, desk.queues())
        args = (self._client.shift, BUDGET, packed([each for each, _ in done], fields), self.consumer, wanted, self._teller.take())
        found = await self._ask(SETTLE, args, desk, free)
        desk.freed.set()
        if desk.unsure:  # or what the lost reply had brought would lie about for as long as the read waits
            await desk.unblock()
        elif not found:
            await desk.rearm()
        return found

    async def release(self, deliveries: Sequence[Delivery]) -> None:
        """Hand attempts back unrun."""
        back = [handed_back(each) for each in deliveries if isinstance(each, RedisDelivery) and self._hands.let_go(each)]
        if back:
            await chores.send(self._client, self.consumer, back)
        for desk in list(self._desks.values()):
            desk.freed.set()

    def publish(self, delivery: Delivery, type: str, data: Mapping[str, Any]) -> None:
        """Tell the run's observers something, with the next outcome or in a moment."""
        if isinstance(delivery, RedisDelivery) and not delivery.stopped and delivery.token in self._hands:
            self._teller.tell(delivery.entry, type, data)
