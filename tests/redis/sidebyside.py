"""The scripts and the state machine side by side: the same outcomes for both, and the same to be seen of both after each of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

import redis

from graflow.core.board import ACTIVE, STATUS_NAMES
from graflow.core.outcome import Failure, GroupFailure, Outcome, Success, TaskError
from graflow.core.run import RunState
from graflow.wire import codec
from tests.model.check import demand
from tests.model.drive import Case
from tests.model.generate import Script as Behaviour
from tests.model.plans import make_plan
from tests.redis.scripted import Attempt, ScriptedRun

MOST = 2000


@dataclass
class Options:
    """How the scripts are driven."""

    budget: int = 512
    scripts: Any = None


def drive_both(server: redis.Redis, case: Case, order: int, options: Options | None = None) -> RunState:
    """Drive a case to its end. Raises ViolationError where the two differ."""
    return _Both(server, case, order, options or Options()).run()


class _Both:
    def __init__(self, server: redis.Redis, case: Case, order: int, options: Options) -> None:
        plan = make_plan(case.graph)
        plan.recipes = [None] * len(plan.ids)
        self.case, self.random = case, Random(f"{case.seed}/order/{order}")
        self.behaviour = Behaviour(case.graph, case.seed, case.habits)
        start = None if case.start is None else plan.index[case.start]
        self.state = RunState(plan, start=start, on_failure=case.on_failure, max_steps=case.max_steps)
        self.scripted = ScriptedRun(
            server, plan, start=start, on_failure=case.on_failure, max_steps=case.max_steps, budget=options.budget, scripts=options.scripts
        )
        self.asks = any(group is not None and group.policy.kind == "custom" for group in plan.groups)
        self.out: list[Attempt] = []
        self.gone: list[Attempt] = []

    def run(self) -> RunState:
        state = self.state
        self.look()
        for _ in range(MOST):
            if state.end is not None:
                demand(not self.scripted.cancel("too late"), "an ended run ended again")
                return state
            if self.random.random() < self.case.habits.outside:
                self.end_from_outside()
            elif self.out and (not state.suspended or self.random.random() < 0.8):
                self.settle_one()
            elif state.suspended:
                self.resume_one()
            else:
                demand(False, "nothing is out, and the run has not ended")
            self.look()
        return state

    def settle_one(self) -> None:
        if self.gone and self.random.random() < 0.1:
            demand(not self.scripted.settle(*self.random.choice(self.gone), Success("late")), "a late outcome was taken")
        attempt = self.random.choice(self.out)
        node, cycle, number = attempt
        outcome = self.behaviour.outcome(self.state.ids[node], cycle, number)
        outcome = _with_list(outcome)
        self.out.remove(attempt)
        self.gone.append(attempt)
        demand(self.state.settle(node, cycle, number, outcome), "the machine refuses an outcome")
        demand(self.scripted.settle(node, cycle, number, outcome), f"the scripts refuse the outcome of {self.state.ids[node]} {attempt}")

    def resume_one(self) -> None:
        node = self.random.choice(list(self.state.suspended))
        cycle = self.state.cycle[node]
        demand(self.state.resume(node, cycle), "the machine does not resume")
        demand(self.scripted.resume(node, cycle), "the scripts do not resume")
        demand(not self.scripted.resume(node, cycle), "a second answer was taken")

    def end_from_outside(self) -> None:
        if self.random.random() < 0.5:
            demand(self.state.cancel("enough") and self.scripted.cancel("enough"), "the run could not be cancelled")
        else:
            demand(self.state.time_out("late") and self.scripted.time_out("late"), "the run could not time out")

    def look(self) -> None:
        """Compare all there is to see."""
        state, scripted = self.state, self.scripted
        self.out += [(start.node, start.cycle, start.attempt) for start in state.starts]
        for stop in state.stops:
            self.out.remove((stop.node, stop.cycle, stop.attempt))
            self.gone.append((stop.node, stop.cycle, stop.attempt))
        image = scripted.image()
        ids = [scripted.name_of(node, image) for node in range(image.count)]
        same("nodes", ids, state.ids)
        visits = [image.visit(node) for node in range(image.count)]
        present = [node for scope in state.scopes.values() for node in scope.members]
        names = {node: state.ids[node] for node in range(len(ids))}
        same("statuses", [(names[n], STATUS_NAMES[image.status[n]]) for n in present], [(names[n], STATUS_NAMES[state.status[n]]) for n in present])
        same("cycles", [(names[n], visits[n].cycle) for n in present], [(names[n], state.cycle[n]) for n in present])
        same("attempts", [(names[n], visits[n].attempt) for n in present], [(names[n], state.attempt[n]) for n in present])
        same("retries", {n: v.retries for n, v in enumerate(visits) if v.retries}, {n: c for n, c in state.retries.items() if c})
        same("came from", {n: v.came_from for n, v in enumerate(visits) if v.came_from and n in names}, {n: c for n, c in state.came_from.items() if c})
        same("results", results_of(scripted, image), {n: codec.roundtrip(v) for n, v in state.results.items()})
        same("errors", [(n, told(e)) for n, e in scripted.errors(image).items()], [(n, told(e)) for n, e in state.errors.items()])
        same("suspended", set(image.suspended), set(state.suspended))
        same("steps", image.numbers[:2], [state.steps, state.step_limit])
        same("jumps", jumps_of(image), state.jumps)
        end = state.end
        same("end", image.end and image.end[:3], end and (end.status, end.cause, end.node))
        if end is None:
            same("outstanding", image.numbers[3], state.outstanding)
        same("out", scripted.out(), set(self.out) if end is None else set())
        events = [event for event in scripted.told() if event[0] not in ("run_started", "run_finished", "task_started")]
        notes = [(kind, node, attempt or None) for kind, node, _, attempt, _ in state.notes]
        # A policy of the user's own is asked outside of the scripts, and what is told meanwhile comes before its verdict.
        same("told", sorted(events, key=str) if self.asks else events, sorted(notes, key=str) if self.asks else notes)
        if end is None:
            self.look_at_inputs()
        state.starts.clear()
        state.stops.clear()
        state.notes.clear()

    def look_at_inputs(self) -> None:
        for start in self.state.starts:
            attempt = (start.node, start.cycle, start.attempt)
            if attempt in self.out:
                demand(attempt in self.scripted.deliveries, f"{attempt} was not handed out")


def results_of(scripted: ScriptedRun, image: Any) -> dict[int, Any]:
    """Results by node, those of groups put together."""
    found = {node: codec.decode(value) for node, value in image.results.items()}

    def of(node: int) -> Any:
        if node not in image.keys:
            return found[node]
        kept = image.kept.get(node)
        return [codec.decode(value) for value in kept] if kept is not None else [of(key) for key in image.keys[node]]

    return {**found, **{group: of(group) for group in image.keys}}


def jumps_of(image: Any) -> set[tuple[int, int]]:
    import msgspec

    flat: Sequence[int] = msgspec.msgpack.decode(image.fields[b"G"]) if b"G" in image.fields else ()
    return set(zip(flat[::2], flat[1::2], strict=True))


def told(error: Failure | GroupFailure) -> Any:
    if isinstance(error, GroupFailure):
        return (error.error.task_id, error.error.attempt, error.error.error_type, error.error.message, tuple(error.failed), error.succeeded, error.cancelled)
    known: TaskError = error.error
    return (known.task_id, known.attempt, known.error_type, known.message)


def same(what: str, found: Any, expected: Any) -> None:
    if found != expected:
        if isinstance(found, list) and isinstance(expected, list):
            differing = [pair for pair in zip(found, expected, strict=False) if pair[0] != pair[1]][:6]
            demand(False, f"{what}: {len(found)} and {len(expected)}; the scripts have and the machine has: {differing} {found[len(expected):]} {expected[len(found):]}")
        demand(False, f"{what}: the scripts have {found}, the machine has {expected}")


def _with_list(outcome: Outcome) -> Outcome:
    """What a mapped group is expanded from is a list, where the model says only how long."""
    if isinstance(outcome, Success) and outcome.items is not None and outcome.items >= 0:
        return Success(list(range(outcome.items)), outcome.directives, outcome.items)
    return outcome
