"""Runs on Redis: submitted, handed out, settled and waited for, each by one script."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

from graflow.backends.limits import first_queue, queue_full
from graflow.backends.redis.barriers import RedisBarriers
from graflow.backends.redis.blobs import as_text, encode
from graflow.backends.redis.channel import RedisChannel, write_inputs
from graflow.backends.redis.commands import ask_all
from graflow.backends.redis.deliveries import RedisDelivery
from graflow.backends.redis.follow import follow
from graflow.backends.redis.looking import end_looks
from graflow.backends.redis.reading import read_run
from graflow.backends.redis.roster import unserved
from graflow.backends.redis.scripts.runs import BUDGET, CONTROL, SUBMIT
from graflow.backends.redis.snapshot import RunReader
from graflow.backends.redis.steps import find_result, view_of
from graflow.backends.redis.watch import RunWatch
from graflow.core.naming import close_matches, listed
from graflow.errors import GraflowError, MissingArgumentError, RunConflictError, UnknownTaskError
from graflow.wire import codec
from graflow.wire.signing import signing_for

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    from graflow.backends.base import Delivery, RunOptions, Slots, Snapshot
    from graflow.backends.redis.client import RedisClient
    from graflow.backends.redis.crew import Crew
    from graflow.backends.redis.link import Word
    from graflow.backends.redis.planstore import PlanStore
    from graflow.backends.redis.waiting import Waiting
    from graflow.core.calls import StepView
    from graflow.core.outcome import Outcome
    from graflow.core.plan import Plan
    from graflow.wire.messages import RunEvent
    from graflow.wire.signing import RunSigner

_log = logging.getLogger("graflow.redis")

LARGEST_INPUT: Final = 16 * 1024 * 1024
"""bytes of one input; larger things belong into a store of their own, with their name as the input"""


class RedisCoordinator(RedisBarriers):
    """The coordinator protocol over a Redis server.

    Args:
        client: the server.
        waiting: the connection of all waits.
        plans: plans by key.
        crew: the worker side of this process.
        retention: seconds that a run is kept after its end.
        queue_limit: how many attempts may wait at once, None for any number.
    """

    def __init__(
        self, client: RedisClient, waiting: Waiting, plans: PlanStore, crew: Crew, *, retention: float, queue_limit: int | None
    ) -> None:
        super().__init__(client, waiting)
        self._client = client
        self._waiting = waiting
        self._plans = plans
        self._crew = crew
        self._retention = retention
        self._limit = queue_limit
        self._watch = RunWatch(client, waiting)

    async def close(self) -> None:
        """Stop waiting for anything; whoever waits is told that the connection is closed."""
        end_looks(self._waiting)
        await self._watch.close()

    # ---- beginning a run ----

    async def submit(self, plan: Plan, options: RunOptions) -> bool:
        """Begin a run; False if one of that id exists and is the same.

        Raises:
            RunConflictError: one of that id exists and is not the same.
            SerializationError: an input or bound argument cannot travel.
            FunctionNotFoundError: a function of the plan has no name that a worker could import.
            QueueFullError: too much waits already, or the server's memory is full.
        """
        await self._watch.begin()
        with signing_for(self._plans.signer, options.run_id) as signing:
            return await self._submit(plan, options, signing)

    async def _submit(self, plan: Plan, options: RunOptions, signing: RunSigner | None) -> bool:
        key = self._plans.key_of(plan, signing)
        fields = write_inputs(options.run_id, options.inputs, limit=LARGEST_INPUT)
        inputs = codec.encode(dict(sorted(options.inputs.items())), name="inputs")
        start = options.start if options.start is not None else plan.start
        asked = encode(
            [
                options.run_id, key, uuid4().hex, -1 if start is None else start, int(options.on_failure == "continue"),
                options.max_steps or 0, 0 if options.timeout is None else max(1, round(options.timeout * 1000)), self._watch.inbox,
                round(self._retention), as_text(inputs), options.if_exists, self._limit or 0, f"{options.timeout}", plan.digest,
            ]
        )  # fmt: skip
        args: list[Word] = [self._client.shift, BUDGET, asked, *fields]
        watched = self._watch.watched(options.run_id)
        before = (watched.words, self._client.repeats)
        reply = await self._client.call(SUBMIT, args)
        while reply[0] == b"no plan":
            await self._plans.upload(plan, key, signing)
            reply = await self._client.call(SUBMIT, args)
        over = watched.words != before[0] and watched.is_over
        created = self._answer(reply, options, plan)
        if over:
            self._watch.deadlines.forget(options.run_id)
        if before != (watched.words, self._client.repeats):  # its end was perhaps told before we knew of its beginning
            watched.asked = False
        return created

    def _answer(self, reply: list[Any], options: RunOptions, plan: Plan) -> bool:
        run_id = options.run_id
        match reply[0]:
            case b"created":
                self._watch.begun(run_id)
                if reply[1] == b"r":
                    if options.timeout is not None:
                        self._watch.deadlines.set(run_id, reply[2], options.timeout)
                    self._watch.presence.expect(run_id, reply[2], self._plans.needs_of(plan))
                return True
            case b"attached":
                self._watch.begun(run_id)
                self._watch.watched(run_id).asked = False  # it may be over already: ask when somebody waits
                return False
            case b"other plan":
                raise RunConflictError(f"run {run_id!r} exists with another plan; choose another run_id", run_id=run_id)
            case b"other inputs":
                raise RunConflictError(f"run {run_id!r} exists with other inputs; choose another run_id", run_id=run_id)
            case b"exists":
                raise RunConflictError(f'run {run_id!r} exists; choose another run_id, or submit with if_exists="attach"', run_id=run_id)
            case b"full":
                start = options.start if options.start is not None else plan.start
                raise queue_full(first_queue(plan, start), self._limit or 0)
            case other:
                raise GraflowError(f"submit answered {other!r}")

    # ---- handing out and taking back ----

    async def fetch(self, slots: Slots) -> list[Delivery]:
        """Attempts for the free slots, which are taken; waits until there is at least one."""
        return await self._crew.fetch(slots)

    async def settle(self, settled: Sequence[tuple[Delivery, Outcome | None]], slots: Slots) -> list[Delivery]:
        """Write outcomes, move their runs on, and hand out what the freed slots can take."""
        return await self._crew.settle(settled, slots)

    async def release(self, deliveries: Sequence[Delivery]) -> None:
        """Hand attempts back unrun, without counting them as tries."""
        await self._crew.release(deliveries)

    def publish(self, delivery: Delivery, type: str, data: Mapping[str, Any]) -> None:
        """Tell the run's observers something; never waits."""
        self._crew.publish(delivery, type, data)

    # ---- what a running task asks for ----

    async def view(self, delivery: Delivery, names: Sequence[str]) -> StepView:
        """What the attempt's arguments are found in."""
        return await view_of(self._client, _ours(delivery), self.channel(delivery.spec.run_id))

    async def result_of(self, delivery: Delivery, node_id: str) -> Any:
        """The result of any completed node of the delivery's run."""
        mine = _ours(delivery)
        found, value, known, completed = await find_result(self._client, mine, node_id)
        if found == "unknown":
            guess = close_matches(node_id, known)
            what = f"result_of({node_id!r}): the run has no such task; {guess}it has {listed(known)}"
            raise UnknownTaskError(what, ids=(node_id,), known=known[:5])
        if found == "missing":
            raise MissingArgumentError(
                f"result_of({node_id!r}): that task has not completed; draw an edge from it, or catch this",
                task_id=mine.spec.task_id, parameter=node_id, available=completed,
            )  # fmt: skip
        return value

    def channel(self, run_id: str) -> RedisChannel:
        """The run's channel. That there is no such run shows when it is used."""
        return RedisChannel(self._client, self._waiting, run_id)

    # ---- what an application asks for ----

    async def cancel(self, run_id: str, reason: str) -> bool:
        """End a run from outside; False if it is over already."""
        done, attended = await self._control(run_id, "cancel", reason)
        if done and not attended:
            await self._withdraw(run_id)
        return done

    async def resume(self, run_id: str, task_id: str) -> bool:
        """Let a suspended step go on; False if it is not suspended any more."""
        reader = await read_run(self._client, self._plans, run_id)
        if reader is None:
            raise self._watch.missing(run_id)
        node = next((node for node in reader.image.suspended if reader.name_of(node) == task_id), None)
        return node is not None and (await self._control(run_id, "resume", str(node)))[0]

    async def _control(self, run_id: str, what: str, word: str) -> tuple[bool, bool]:
        """Whether it was done, and whether there are workers that will come across what it leaves behind."""
        reply = await self._client.call(CONTROL, (self._client.shift, BUDGET, run_id, what, word, uuid4().hex))
        if reply[0] == b"unknown":
            raise self._watch.missing(run_id)
        return bool(reply[1]), bool(reply[2])

    async def _withdraw(self, run_id: str) -> None:
        """Take what an ended run has in line off the streams: without workers nobody else does, and it would stay for ever."""
        (streams,) = await ask_all(self._client, [("SMEMBERS", self._client.keys.streams)])
        for stream in streams:
            place = b"-"
            while place:
                place = (await self._client.call(CONTROL, (self._client.shift, BUDGET, run_id, "withdraw", stream, place)))[1]

    async def wait(self, run_id: str) -> None:
        """Until the run has ended, its attempts included, or is suspended."""
        await self._watch.wait(run_id)

    def pin(self, run_id: str) -> object:
        """What this process knows of the run."""
        return self._watch.watched(run_id)

    async def snapshot(self, run_id: str) -> Snapshot:
        """What there is of a run."""
        image = self._watch.image_of(run_id)
        waiting: dict[str, str] = {}
        if image is not None:
            reader: RunReader | None = RunReader(image, await self._plans.describe(image.plan), 0.0)
        else:
            reader = await read_run(self._client, self._plans, run_id)
        if reader is None:
            raise self._watch.missing(run_id)
        if image is None:
            self._watch.seen(run_id, alive=reader.image.state == "r")
            if reader.state == "running":
                waiting = {**reader.refused(), **await unserved(self._client, reader)}
        with signing_for(self._plans.signer, run_id):
            return reader.snapshot(run_id, waiting)

    def events(self, run_id: str, after: str | None = None) -> AsyncIterator[RunEvent]:
        """The run's events from its start, or after one of them."""
        return follow(self._client, self._waiting, self._plans, run_id, after, lambda: self._watch.missing(run_id))


def _ours(delivery: Delivery) -> RedisDelivery:
    if not isinstance(delivery, RedisDelivery):
        raise GraflowError(f"the delivery of task {delivery.spec.task_id!r} was not made by this coordinator")
    return delivery
