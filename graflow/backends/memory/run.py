"""One run in memory: its state, its channel, its events, and whoever waits for it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from graflow.backends.base import Delivery, Ending, Snapshot
from graflow.backends.memory.events import EventLog
from graflow.core.board import ACTIVE, BROKEN, CANCELLED, DONE, SKIPPED, WAITING
from graflow.core.calls import Recipe, plan_call, recipe_of
from graflow.core.result import RunStatus
from graflow.core.run import RunState
from graflow.wire.messages import TaskSpec

if TYPE_CHECKING:
    from graflow.backends.base import RunOptions
    from graflow.backends.memory.channel import MemoryChannel
    from graflow.core.clock import Clock
    from graflow.core.plan import Plan
    from graflow.core.task import Task

WORDS: Final = {
    WAITING: "not reached",
    ACTIVE: "in progress",
    SKIPPED: "skipped",
    CANCELLED: "cancelled",
    BROKEN: "not run, because an earlier task failed",
}
Key = tuple[int, int, int]
"""(node, cycle, attempt)"""


class MemoryDelivery(Delivery):
    """An attempt in the hands of this process's worker, with the run it belongs to."""

    run: MemoryRun | None = None


class RunRecord:
    """What is left of a run when it is over, for as long as somebody may ask: what it was, what came of it, what happened."""

    __slots__ = ("__weakref__", "log", "options", "plan", "snapshot")

    def __init__(self, plan: Plan, options: RunOptions) -> None:
        self.plan: Plan = plan
        self.options: RunOptions = options
        self.log: EventLog = EventLog()
        self.snapshot: Snapshot | None = None


class _Made(NamedTuple):
    """A task made at run time: what was asked for, by whom, how that one was made, and the node of the plan that all of them stem from."""

    wanted: Task[..., Any]
    maker: int
    before: _Made | None
    stem: int
    recipe: Recipe


class MemoryRun:
    """A run in progress and all that belongs to it."""

    __slots__ = (
        "_made",
        "channel",
        "clock",
        "ended_at",
        "live",
        "log",
        "options",
        "plan",
        "record",
        "started_at",
        "state",
        "timer",
        "waiters",
    )

    def __init__(self, record: RunRecord, channel: MemoryChannel, clock: Clock) -> None:
        plan, options = record.plan, record.options
        self.record: RunRecord = record
        self.plan: Plan = plan
        self.options: RunOptions = options
        self.channel: MemoryChannel = channel
        self.clock: Clock = clock
        self.log: EventLog = record.log
        self.live: dict[Key, MemoryDelivery] = {}
        self.waiters: set[asyncio.Future[None]] = set()
        self.timer: asyncio.TimerHandle | None = None
        self.started_at: float = clock.monotonic()
        self.ended_at: float | None = None
        self._made: dict[int, _Made] = {}
        start = options.start if options.start is not None else plan.start
        self.state: RunState = RunState(plan, start=start, on_failure=options.on_failure, max_steps=options.max_steps)

    @property
    def is_over(self) -> bool:
        """Whether the run has ended; attempts may still be unwinding."""
        return self.state.end is not None

    def tell(self, kind: str, node: int | None = None, attempt: int | None = None, data: dict[str, Any] | None = None) -> None:
        """Add an event."""
        self.log.append((kind, None if node is None else self.state.ids[node], self.clock.now(), attempt, data))

    # ---- attempts ----

    def spec(self, node: int, cycle: int, attempt: int) -> TaskSpec:
        """The message that names an attempt."""
        recipe, state = self.recipe(node), self.state
        return TaskSpec(
            run_id=self.options.run_id,
            node=node,
            task_id=state.ids[node],
            cycle=cycle,
            attempt=attempt,
            retries=state.retries.get(node, 0),
            queue=recipe.queue,
            handler=recipe.handler,
            priority=recipe.priority,
        )

    def deliver(self, spec: TaskSpec) -> MemoryDelivery | None:
        """Hand an attempt out; None if it no longer counts."""
        node, state = spec.node, self.state
        if not state.is_running(node, spec.cycle, spec.attempt):
            return None
        recipe = self.recipe(node)
        delivery = MemoryDelivery(spec, recipe.task, recipe.call, self.plan.name, recipe.feeds_map, node in state.iterations, run=self)
        self.live[node, spec.cycle, spec.attempt] = delivery
        self.log.append(("task_started", spec.task_id, self.clock.now(), spec.attempt, None))
        return delivery

    def forget(self, delivery: Delivery) -> bool:
        """The attempt is in nobody's hands any more; False if it was not this delivery's."""
        spec = delivery.spec
        key = (spec.node, spec.cycle, spec.attempt)
        mine = self.live.get(key)
        if mine is None or mine is not delivery:
            return False
        mine.run = None  # what still knows the attempt (a thread, the traceback of an error) shall not keep the run
        del self.live[key]
        return True

    # ---- how nodes are run ----

    def task(self, node: int) -> Task[..., Any]:
        """What a task node runs."""
        return self.recipe(node).task

    def recipe(self, node: int) -> Recipe:
        """How a node is run. Kept with the plan, for all its runs; with this run, where the node was made in it."""
        if node >= len(self.plan.ids):
            return self._recipe_made_at_run_time(node)
        recipe: Recipe | None = self.plan.recipes[node]
        if recipe is None:
            task = self.plan.tasks[node]
            assert task is not None, "groups are not run"
            recipe = self.plan.recipes[node] = recipe_of(self.plan, node, task)
        return recipe

    def _recipe_made_at_run_time(self, node: int) -> Recipe:
        maker = self.state.dynamic[node]
        group = self.plan.groups[maker] if maker < len(self.plan.groups) else None
        if group is not None and group.mapping is not None:  # all members of a mapped group are run alike
            recipe: Recipe | None = self.plan.recipes[maker]
            if recipe is None:
                mapping = group.mapping
                call = plan_call(self.plan, maker, mapping.task, item=mapping.parameter)
                recipe = self.plan.recipes[maker] = Recipe.of(mapping.task, call)
            return recipe
        wanted, before = self.state.dynamic_tasks[node], self._made.get(maker)
        made = self._made.get(node)
        if made is None or made.wanted is not wanted or made.maker != maker or made.before is not before:
            made = self._made[node] = self._make(wanted, maker, before)
        return made.recipe

    def _make(self, wanted: Task[..., Any], maker: int, before: _Made | None) -> _Made:
        stem = before.stem if before is not None else self.state.dynamic.get(maker, maker)

        def made_by(name: str) -> int | None:
            number = self.state.find(name)
            made, by = before, maker
            while number is not None and made is not None and by != number:
                by, made = made.maker, made.before
            return number if by == number else None

        task = wanted if self.plan.substitute is None else self.plan.substitute(wanted)
        return _Made(wanted, maker, before, stem, Recipe.of(task, plan_call(self.plan, stem, task, made_by=made_by)))

    # ---- waiting ----

    def is_settled(self) -> bool:
        """Whether whoever waits has something to read: the run has ended and its attempts have unwound, or it is suspended."""
        return (self.record.snapshot is not None and not self.live) or self.state.status_name == "suspended"

    async def settled(self) -> None:
        """Wait until :meth:`is_settled`."""
        while not self.is_settled():
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self.waiters.add(waiter)
            try:
                await waiter
            finally:
                self.waiters.discard(waiter)

    def wake(self) -> None:
        """Let those who wait look again."""
        for waiter in self.waiters:
            if not waiter.done():
                waiter.set_result(None)

    # ---- the end ----

    def close(self) -> None:
        """The run has ended: keep what can be read of it and let go of the rest."""
        self.ended_at = self.clock.monotonic()
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
        self.record.snapshot = snapshot = self.snapshot()
        end = snapshot.ending
        data = {
            "status": snapshot.status.value,
            "cause": end.cause if end is not None else "",
            "reason": end.reason if end is not None else "",
        }
        self.tell("run_finished", data=data)
        self.log.close()
        self.channel.close()
        self._made.clear()

    def snapshot(self) -> Snapshot:
        """What there is of the run now."""
        if self.record.snapshot is not None:
            return self.record.snapshot
        state, ids = self.state, self.state.ids
        groups = state.scopes
        return Snapshot(
            run_id=self.options.run_id,
            workflow=self.plan.name,
            status=RunStatus(state.status_name),
            duration=(self.clock.monotonic() if self.ended_at is None else self.ended_at) - self.started_at,
            results={ids[node]: value for node, value in state.results.items() if node not in groups},
            groups={ids[node]: value for node, value in state.results.items() if node in groups},
            failures={ids[node]: failure for node, failure in state.errors.items()},
            output=self._output(),
            ending=self._ending(),
            waiting=self._without_result(),
        )

    def _without_result(self) -> dict[str, str]:
        """What became of the nodes that neither completed nor failed."""
        state, ids = self.state, self.state.ids
        if state.status.count(DONE) == len(state.status):
            return {}
        told = {
            ids[node]: WORDS[status]
            for node, status in enumerate(state.status)
            if status in WORDS and node not in state.results and node not in state.errors
        }
        told.update((ids[node], f"suspended: {reason}") for node, reason in state.suspended.items())
        return told

    def _output(self) -> Any:
        """The run's output (32)."""
        state, plan = self.state, self.plan
        if state.end is not None and state.end.cause == "terminated" and state.end.node is not None and not plan.output_given:
            return state.results.get(state.end.node)
        if len(plan.outputs) == 1:
            return state.results.get(plan.outputs[0])
        return {plan.ids[node]: state.results[node] for node in plan.outputs if node in state.results}

    def _ending(self) -> Ending | None:
        end = self.state.end
        if end is None:
            return None
        limit: float | None = None
        if end.cause == "steps":
            limit = self.state.step_limit
        elif end.cause == "cycles" and end.node is not None:
            limit = self.task(end.node).options.max_cycles
        elif end.cause == "timeout":
            limit = self.options.timeout
        return Ending(end.cause, None if end.node is None else self.state.ids[end.node], end.reason, limit)
