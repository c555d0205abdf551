"""Runs in the memory of this process: what :class:`~graflow.core.run.RunState` decides, carried out.

No method awaits between reading a run and writing it, so each is one atomic step (law 3).
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

from graflow.backends.barriers import run_is_over
from graflow.backends.limits import first_queue
from graflow.backends.memory.barrier import MemoryBarriers
from graflow.backends.memory.channel import MemoryChannel
from graflow.backends.memory.run import MemoryDelivery, MemoryRun, RunRecord
from graflow.backends.memory.view import MemoryStepView
from graflow.core.naming import close_matches, listed
from graflow.core.result import RunStatus
from graflow.core.sameness import same_values
from graflow.errors import GraflowError, MissingArgumentError, RunConflictError, UnknownRunError, UnknownTaskError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping, Sequence

    from graflow.backends.base import Delivery, RunOptions, Slots, Snapshot
    from graflow.backends.memory.queue import MemoryTaskQueue
    from graflow.core.calls import StepView
    from graflow.core.clock import Clock
    from graflow.core.outcome import Outcome
    from graflow.core.plan import Plan
    from graflow.wire.messages import RunEvent

logger: logging.Logger = logging.getLogger("graflow.backends.memory")

UNWINDING = 5.0
"""seconds that an ended run waits for its cancelled tasks to leave their ``finally`` blocks before its result is handed out all the same"""


class MemoryCoordinator(MemoryBarriers):
    """The coordinator protocol over objects of this process.

    Args:
        queue: where attempts wait.
        clock: the time of events, delays and timeouts.
        retention: seconds that a finished run with a ``run_id`` of the user's choice is remembered.
        seal: passes a value on as the next task will see it; its ``name=`` is what errors call the value.
    """

    def __init__(self, queue: MemoryTaskQueue, clock: Clock, *, retention: float, seal: Callable[..., Any] | None) -> None:
        super().__init__(self._check_running)
        self._queue = queue
        self._clock = clock
        self._retention = retention
        self._seal = seal
        self._runs: dict[str, MemoryRun] = {}
        self._records: WeakValueDictionary[str, RunRecord] = WeakValueDictionary()
        self._remembered: dict[str, tuple[float, RunRecord]] = {}
        self._fetchers: set[asyncio.Future[None]] = set()
        self._times_closed = 0
        queue.on_ready = self._wake_fetchers
        queue.count_in_flight = self._count_in_flight

    # ---- beginning a run ----

    async def submit(self, plan: Plan, options: RunOptions) -> bool:
        """Begin a run; False if the same one is known already."""
        self._forget_expired()
        while (known := self._records.get(options.run_id)) is not None:
            if not self._may_replace(known, plan, options):
                return False
            unwinding = self._runs.get(options.run_id)
            if unwinding is None:
                self._queue.purge(options.run_id)
                break
            times_closed = self._times_closed
            await unwinding.settled()  # two runs of one id at the same time would use one channel
            if times_closed != self._times_closed:
                raise GraflowError(f"run {options.run_id!r} was not begun: the engine was closed while the run before it unwound")
        self._queue.check_room(lambda: first_queue(plan, options.start if options.start is not None else plan.start))
        inputs = {key: self._sealed(value, f'inputs["{key}"]') for key, value in options.inputs.items()}
        self._check_bound(plan)
        record = RunRecord(plan, options)
        run = MemoryRun(record, MemoryChannel(seal=self._seal, values=inputs), self._clock)
        self._runs[options.run_id] = run
        self._records[options.run_id] = record
        run.tell("run_started", data={"workflow": plan.name})
        if options.timeout is not None:
            run.timer = asyncio.get_running_loop().call_later(options.timeout, self._time_out, run)
        self._carry_out(run)
        # A run may have ended by now, and nobody holds its record yet: whoever submitted it has one turn of the loop to do so.
        asyncio.get_running_loop().call_soon(_let_go_of, record)
        return True

    def _sealed(self, value: Any, name: str) -> Any:
        return value if self._seal is None else self._seal(value, name=name)

    def _check_bound(self, plan: Plan) -> None:
        """An argument that cannot travel is found before anything runs."""
        if self._seal is None:
            return
        mapped = [group.mapping.task for group in plan.groups if group is not None and group.mapping is not None]
        for task in filter(None, (*plan.tasks, *mapped)):
            for name, value in task.bound.items():
                self._seal(value, name=f"bound argument {task.id}.{name}")

    def _may_replace(self, known: RunRecord, plan: Plan, options: RunOptions) -> bool:
        """Whether a run of a known id is to be run again; a RunConflictError where it is neither the same nor may be replaced."""
        run_id = options.run_id
        if known.plan is not plan and known.plan.digest != plan.digest:
            raise RunConflictError(
                f"run {run_id!r} exists with another plan (workflow {known.plan.name!r}); choose another run_id", run_id=run_id
            )
        if not same_values(known.options.inputs, options.inputs):
            raise RunConflictError(f"run {run_id!r} exists with other inputs; choose another run_id", run_id=run_id)
        if options.if_exists == "error":
            raise RunConflictError(f'run {run_id!r} exists; choose another run_id, or submit with if_exists="attach"', run_id=run_id)
        snapshot = known.snapshot
        return options.if_exists == "rerun_failed" and snapshot is not None and snapshot.status in (RunStatus.FAILED, RunStatus.CANCELLED)

    # ---- handing out and taking back ----

    async def fetch(self, slots: Slots) -> list[Delivery]:
        """Attempts for the free slots; waits until there is at least one."""
        while not (found := self._collect(slots)):
            fetcher: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._fetchers.add(fetcher)
            try:
                await fetcher
            finally:
                self._fetchers.discard(fetcher)
        return found

    async def settle(self, settled: Sequence[tuple[Delivery, Outcome | None]], slots: Slots) -> list[Delivery]:
        """Write outcomes, move their runs on, and hand out what the freed slots can take."""
        for delivery, outcome in settled:
            run = _run_of(delivery)
            if run is None or not run.forget(delivery):
                continue
            spec = delivery.spec
            if outcome is not None and run.state.settle(spec.node, spec.cycle, spec.attempt, outcome):
                self._carry_out(run)
            elif run.is_over:
                self._let_go(run)
        return self._collect(slots)

    async def release(self, deliveries: Sequence[Delivery]) -> None:
        """Hand attempts back unrun, without counting them as tries."""
        for delivery in deliveries:
            run, spec = _run_of(delivery), delivery.spec
            if run is None or not run.forget(delivery):
                continue
            if run.state.is_running(spec.node, spec.cycle, spec.attempt):
                self._queue.put(spec)
                self._wake_fetchers()
            elif run.is_over:
                self._let_go(run)

    def _collect(self, slots: Slots) -> list[Delivery]:
        found: list[Delivery] = []
        queue, runs = self._queue, self._runs
        if not queue.has_work():
            return found
        for handler in slots.handlers:
            free = slots.free(handler)
            while free > 0 and queue.ready and (spec := queue.take(handler, slots.queues)) is not None:
                run = runs.get(spec.run_id)
                delivery = run.deliver(spec) if run is not None else None
                if delivery is not None:  # else it was withdrawn while it stood in line
                    slots.take(handler)
                    found.append(delivery)
                    free -= 1
        return found

    def _wake_fetchers(self) -> None:
        for fetcher in self._fetchers:
            if not fetcher.done():
                fetcher.set_result(None)
        self._fetchers.clear()

    # ---- carrying out what the run decided ----

    def _carry_out(self, run: MemoryRun) -> None:
        state = run.state
        if state.notes:
            now, append = self._clock.now(), run.log.append
            for kind, node, _, attempt, data in state.notes:
                append((kind, state.ids[node], now, attempt, data))
            state.notes.clear()
        if state.stops:
            self._stop(run)
        if state.starts:
            for start in state.starts:
                self._queue.put(run.spec(start.node, start.cycle, start.attempt), start.delay)
            state.starts.clear()
            if self._fetchers:
                self._wake_fetchers()
        if state.end is not None:
            self._conclude(run)
        elif state.suspended:
            run.wake()

    def _stop(self, run: MemoryRun) -> None:
        stops, run.state.stops = run.state.stops, []
        for stop in stops:
            delivery = run.live.get((stop.node, stop.cycle, stop.attempt))
            if delivery is not None:
                delivery.stopped = True
                if delivery.interrupt is not None:
                    delivery.interrupt()

    def _conclude(self, run: MemoryRun) -> None:
        if run.ended_at is not None:
            return
        run.close()
        self._queue.withdraw(run.options.run_id)
        self.forget_barriers_of(run.options.run_id)
        if run.options.remembered:
            self._remembered.pop(run.options.run_id, None)  # lest an earlier run of that id decide the place in the order of ending
            self._remembered[run.options.run_id] = (self._clock.monotonic() + self._retention, run.record)
        if run.live:
            run.timer = asyncio.get_running_loop().call_later(UNWINDING, self._give_up_unwinding, run)
        self._let_go(run)

    def _let_go(self, run: MemoryRun) -> None:
        """Nothing of an ended run is left running: forget all but its record."""
        if run.live:
            return
        if run.timer is not None:
            run.timer.cancel()
            run.timer = None
        if self._runs.get(run.options.run_id) is run:
            del self._runs[run.options.run_id]
        run.wake()

    def _give_up_unwinding(self, run: MemoryRun) -> None:
        """A task does not heed its cancellation; whoever waits for the run shall not wait for ever."""
        run.timer = None
        for delivery in run.live.values():
            delivery.run = None
        names = ", ".join(sorted({delivery.spec.task_id for delivery in run.live.values()}))
        run_id = run.options.run_id
        logger.warning("run %s is over, but some of its tasks do not heed their cancellation: %s", run_id, names, extra={"run_id": run_id})
        run.live.clear()
        self._let_go(run)

    def _time_out(self, run: MemoryRun) -> None:
        run.timer = None
        if run.state.time_out(f"the run did not end within {run.options.timeout} s"):
            self._carry_out(run)

    def _forget_expired(self) -> None:
        now = self._clock.monotonic()
        while self._remembered:  # in order of ending, and all are kept equally long
            run_id, (expires, _) = next(iter(self._remembered.items()))
            if expires > now:
                return
            del self._remembered[run_id]

    # ---- what a running task asks for ----

    async def view(self, delivery: Delivery, names: Sequence[str]) -> StepView:
        """What the attempt's arguments are found in."""
        return MemoryStepView(_running(delivery), delivery.spec.node)

    async def result_of(self, delivery: Delivery, node_id: str) -> Any:
        """The result of any completed node of the delivery's run."""
        state = _running(delivery).state
        node = state.find(node_id)
        if node is None:
            guess = close_matches(node_id, state.ids)
            what = f"result_of({node_id!r}): the run has no such task; {guess}it has {listed(state.ids)}"
            raise UnknownTaskError(what, ids=(node_id,), known=state.ids[:5])
        if node not in state.results:
            raise MissingArgumentError(
                f"result_of({node_id!r}): that task has not completed; draw an edge from it, or catch this",
                task_id=delivery.spec.task_id, parameter=node_id, available=[state.ids[other] for other in state.results],
            )  # fmt: skip
        return self._sealed(state.results[node], f"result of {node_id}")

    def publish(self, delivery: Delivery, type: str, data: Mapping[str, Any]) -> None:
        """Tell the run's observers something."""
        run, spec = _run_of(delivery), delivery.spec
        if run is not None and run.ended_at is None and not delivery.stopped:
            run.log.append((type, spec.task_id, self._clock.now(), spec.attempt, data))

    def channel(self, run_id: str) -> MemoryChannel:
        """The run's channel."""
        return self._run(run_id).channel

    # ---- what an application asks for ----

    async def cancel(self, run_id: str, reason: str) -> bool:
        """End a run from outside; False if it is over already."""
        run = self._runs.get(run_id)
        if run is None:
            self._record(run_id)
            return False
        done = run.state.cancel(reason)
        if done:
            self._carry_out(run)
        return done

    async def resume(self, run_id: str, task_id: str) -> bool:
        """Let a suspended step go on; False if it is not suspended any more."""
        run = self._runs.get(run_id)
        if run is None:
            self._record(run_id)
            return False
        node = run.state.find(task_id)
        done = node is not None and run.state.resume(node, run.state.cycle[node])
        self._carry_out(run)
        return done

    async def wait(self, run_id: str) -> None:
        """Until the run has ended, its attempts included, or is suspended."""
        run = self._runs.get(run_id)
        if run is None:
            self._record(run_id)
        else:
            await run.settled()

    async def snapshot(self, run_id: str) -> Snapshot:
        """What there is of a run."""
        run = self._runs.get(run_id)
        if run is not None:
            return run.snapshot()
        snapshot = self._record(run_id).snapshot
        assert snapshot is not None
        return snapshot

    def events(self, run_id: str, after: str | None = None) -> AsyncIterator[RunEvent]:
        """The run's events from its start, or after one of them."""
        return self._record(run_id).log.follow(after)

    def pin(self, run_id: str) -> object:
        """The run's record, which is gone when nobody holds it any more."""
        return self._record(run_id)

    def _run(self, run_id: str) -> MemoryRun:
        run = self._runs.get(run_id)
        if run is None:
            self._record(run_id)
            raise run_is_over(run_id)
        return run

    def _check_running(self, run_id: str) -> None:
        if self._run(run_id).is_over:
            raise run_is_over(run_id)

    def _record(self, run_id: str) -> RunRecord:
        self._forget_expired()
        record = self._records.get(run_id)
        if record is None:
            raise UnknownRunError(
                f"no run {run_id!r} here: it was never submitted to this engine, or it ended and is no longer remembered "
                f"(a run with an id of its own is kept for {self._retention:.0f} s after its end)",
                run_id=run_id,
            )
        return record

    async def close(self) -> None:
        """Cancel what still runs and wait until it has unwound."""
        self._times_closed += 1
        running = list(self._runs.values())
        for run in running:
            if run.state.cancel("the engine was closed"):
                self._carry_out(run)
        for run in running:
            await run.settled()
        self._remembered.clear()
        self._queue.close()
        self.forget_all_barriers()

    def _count_in_flight(self, queue: str | None) -> int:
        if queue is None:
            return sum(len(run.live) for run in self._runs.values())
        return sum(each.spec.queue == queue for run in self._runs.values() for each in run.live.values())


def _let_go_of(record: RunRecord) -> None:
    """Does nothing; being on its way to this keeps a record alive."""


def _run_of(delivery: Delivery) -> MemoryRun | None:
    """The run that an attempt belongs to; None when the attempt is over."""
    if not isinstance(delivery, MemoryDelivery):
        raise GraflowError(f"the delivery of task {delivery.spec.task_id!r} was not made by this coordinator")
    return delivery.run


def _running(delivery: Delivery) -> MemoryRun:
    run = _run_of(delivery)
    if run is None:
        spec = delivery.spec
        raise GraflowError(f"attempt {spec.attempt} at task {spec.task_id!r} is over, and so is what its context could ask for")
    return run
