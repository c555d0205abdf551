"""Running a graph on the machine and on the reference side by side, outcome by outcome, and comparing all there is to see."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import Any

from graflow.core.board import CANCELLED, STATUS_NAMES
from graflow.core.outcome import Failure, GroupFailure, Success, Suspend, TaskError
from graflow.core.run import OnFailure, RunState
from tests.model.check import check, demand
from tests.model.generate import Habits, Script
from tests.model.plans import GraphSpec, make_plan
from tests.model.reference import Reference

Attempt = tuple[int, int, int]
MOST_OUTCOMES = 40_000


@dataclass(frozen=True)
class Case:
    """One graph and how its tasks behave."""

    graph: GraphSpec
    seed: str
    habits: Habits
    on_failure: OnFailure = "fail"
    max_steps: int | None = None
    start: str | None = None


@dataclass(frozen=True)
class Ran:
    """How a run came out, and whether anything was cancelled on the way."""

    state: RunState
    cancelled: bool

    def summary(self) -> Any:
        """What must not depend on the order in which things happen: of all nodes, or of the top level if some were cancelled."""
        state = self.state
        nodes = [node for scope in state.scopes.values() for node in scope.members]
        if self.cancelled:
            nodes = state.run_scope.members
        told = {state.ids[node]: (STATUS_NAMES[state.status[node]], state.cycle[node], state.results.get(node)) for node in nodes}
        return (state.end.status if state.end is not None else "", *sorted(told.items()))


def drive(case: Case, order: int, machine: type[RunState] = RunState, *, twin: bool = True) -> Ran:
    """Run a case to its end, with what is out settling in an order of that number. Raises ViolationError."""
    run = _Drive(case, order, machine, twin=twin)
    run.run()
    members = (member for scope in run.state.scopes.values() for member in scope.members)
    return Ran(run.state, run.cancelled or any(run.state.status[member] == CANCELLED for member in members))


class _Drive:
    def __init__(self, case: Case, order: int, machine: type[RunState], *, twin: bool) -> None:
        plan = make_plan(case.graph)
        self.case, self.random = case, Random(f"{case.seed}/order/{order}")
        self.script = Script(case.graph, case.seed, case.habits)
        start = None if case.start is None else plan.index[case.start]
        self.state = machine(plan, start=start, on_failure=case.on_failure, max_steps=case.max_steps)
        self.twin: Reference | None = None
        if twin:
            self.twin = Reference(case.graph, start=case.start, on_failure=case.on_failure, max_steps=case.max_steps)
        self.out: list[Attempt] = []
        self.gone: list[Attempt] = []
        self.seen: set[Attempt] = set()
        self.cancelled = False

    def run(self) -> None:
        state = self.state
        self.take_effects()
        for _ in range(MOST_OUTCOMES):
            if state.end is not None:
                self.try_what_is_gone()
                demand(not state.cancel("too late") and not state.time_out("too late"), "an ended run ended again")
                return
            if self.random.random() < self.case.habits.outside:
                self.end_from_outside()
            elif self.out and (not state.suspended or self.random.random() < 0.8):
                self.settle_one()
            else:
                self.resume_one()
            while self.out and state.end is None and self.random.random() < 0.15:
                self.settle_one()  # several outcomes may settle before anybody looks at what is to start and stop
            self.take_effects()
        demand(False, "the run never ends")

    def settle_one(self) -> None:
        if self.random.random() < 0.1:
            self.try_what_is_gone()
        attempt = self.random.choice(self.out)
        node, cycle, number = attempt
        name = self.state.ids[node]
        outcome = self.script.outcome(name, cycle, number)
        if any((stop.node, stop.cycle, stop.attempt) == attempt for stop in self.state.stops):
            self.refused(attempt, outcome)  # an outcome before it in the same batch has stopped it
            return
        self.out.remove(attempt)
        self.gone.append(attempt)
        demand(self.state.settle(node, cycle, number, outcome), f"the outcome of {name} {cycle}.{number} was refused")
        demand(self.twin is None or self.twin.settle(name, cycle, number, outcome), f"the reference refuses {name}")
        if isinstance(outcome, Success | Failure | Suspend):
            self.refused(attempt, outcome)

    def resume_one(self) -> None:
        node = self.random.choice(list(self.state.suspended))
        cycle = self.state.cycle[node]
        demand(not self.state.resume(node, cycle + 1), "an answer to another visit was taken")
        demand(self.state.resume(node, cycle), f"{self.state.ids[node]} could not be resumed")
        demand(self.twin is None or self.twin.resume(self.state.ids[node], cycle), "the reference does not resume")
        demand(not self.state.resume(node, cycle), "a second answer was taken")

    def end_from_outside(self) -> None:
        if self.random.random() < 0.5:
            demand(self.state.cancel("enough"), "the run could not be cancelled")
        else:
            demand(self.state.time_out("late"), "the run could not time out")
        if self.twin is not None:
            end = self.state.end
            self.twin.finish(end.status if end else "", end.cause if end else "")

    def try_what_is_gone(self) -> None:
        """Late outcomes, and one with a number that was never given out, are refused and change nothing."""
        gone = [attempt for attempt in self.gone if attempt not in self.out]
        if gone:
            self.refused(self.random.choice(gone), Success("late"))
        if self.out:
            node, cycle, attempt = self.random.choice(self.out)
            self.refused((node, cycle, attempt + 1), Failure(TaskError("?", 1, "Late", "")))

    def refused(self, attempt: Attempt, outcome: Any) -> None:
        before = self.everything()
        demand(not self.state.settle(*attempt, outcome), f"{attempt} settled a second time, or too late")
        demand(self.everything() == before, "a refused outcome changed the run")

    def everything(self) -> tuple[Any, ...]:
        state = self.state
        lists = (state.status, state.edge, state.want, state.cycle, state.attempt, state.starts, state.stops, state.undecided)
        others = (state.results, state.errors, state.suspended, state.retries, state.items, state.went)
        return (state.steps, state.outstanding, state.end, len(state.notes), *map(list, lists), *map(dict, others))

    def take_effects(self) -> None:
        """As a backend would: queue what is to start, drop what is to stop."""
        state = self.state
        for start in state.starts:
            attempt = (start.node, start.cycle, start.attempt)
            demand(attempt not in self.seen, f"{state.ids[start.node]} {attempt} started twice")
            self.seen.add(attempt)
            self.out.append(attempt)
        for stop in state.stops:
            attempt = (stop.node, stop.cycle, stop.attempt)
            demand(attempt in self.out, f"{state.ids[stop.node]} {attempt} stopped, but it is not out")
            self.out.remove(attempt)
            self.gone.append(attempt)
        self.cancelled |= any(note[0] == "task_cancelled" for note in state.notes)
        if self.twin is not None:
            compare(state, self.twin)
        state.starts.clear()
        state.stops.clear()
        state.notes.clear()
        check(state, set(self.out))


def compare(state: RunState, twin: Reference) -> None:
    """The machine and the reference agree in all that can be seen."""
    ids = state.ids
    present = {ids[node]: node for scope in state.scopes.values() for node in scope.members}
    _same("nodes", set(present), set(twin.nodes))
    _same("statuses", {name: STATUS_NAMES[state.status[node]] for name, node in present.items()}, _only(twin.status, present))
    _same("cycles", {name: state.cycle[node] for name, node in present.items()}, _only(twin.cycle, present))
    _same("attempts", {name: state.attempt[node] for name, node in present.items()}, _only(twin.attempt, present))
    _same("retries", {ids[node]: count for node, count in state.retries.items()}, twin.retries)
    _same("results", {ids[node]: value for node, value in state.results.items()}, twin.results)
    _same("errors", [(ids[node], *_told(error)) for node, error in state.errors.items()], [(n, *e) for n, e in twin.errors.items()])
    groups = {ids[group]: [ids[node] for node in nodes] for group, nodes in state.result_keys.items()}
    _same("result keys", groups, twin.result_keys)
    _same("gotos", {(ids[source], ids[target]) for source, target in state.jumps}, twin.jumps)
    _same("suspended", {ids[node] for node in state.suspended}, twin.suspended)
    _same("without a place", {ids[node] for node in state.without_place}, set(twin.queue))
    _same("starts", [(ids[start.node], start.cycle, start.attempt) for start in state.starts], twin.starts)
    _same("stops", [(ids[stop.node], stop.cycle, stop.attempt) for stop in state.stops], twin.stops)
    _same("notes", [(kind, ids[node], cycle) for kind, node, cycle, _, _ in state.notes], twin.told)
    _same("steps", (state.steps, state.step_limit), (twin.steps, twin.limit))
    end = state.end
    node = None if end is None or end.node is None else ids[end.node]
    _same("end", None if end is None else (end.status, end.cause, node), twin.end)
    for start in state.starts:
        before = state.predecessor(start.node)
        _same(f"the predecessor of {ids[start.node]}", None if before is None else ids[before], twin.predecessor(ids[start.node]))
    for effects in (twin.starts, twin.stops, twin.told):
        effects.clear()


def _told(error: Failure | GroupFailure) -> tuple[Any, ...]:
    if isinstance(error, GroupFailure):
        return (error.error.error_type, tuple(error.failed), error.succeeded, error.cancelled)
    return (error.error.error_type,)


def _only(values: dict[str, Any], names: dict[str, int]) -> dict[str, Any]:
    return {name: values[name] for name in names}


def _same(what: str, found: Any, expected: Any) -> None:
    if found != expected:
        demand(False, f"{what}: the machine has {_differing(found, expected)}, the reference {_differing(expected, found)}")


def _differing(these: Any, those: Any) -> Any:
    if isinstance(these, dict):
        return {key: value for key, value in these.items() if key not in those or those[key] != value}
    return these - those if isinstance(these, set) else these
