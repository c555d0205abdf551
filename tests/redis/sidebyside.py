"""The scripts and the state machine side by side: the same outcomes for both, and the same to be seen of both after each of them."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from random import Random
from typing import Any

import msgspec

from graflow.backends.redis.image import RunImage
from graflow.backends.redis.scripts.runs import BUDGET
from graflow.core.board import ACTIVE, STATUS_NAMES, ScopeState
from graflow.core.outcome import Failure, GroupFailure, Outcome, Success
from graflow.core.plan import Plan
from graflow.core.run import OnFailure, RunState
from graflow.wire import codec
from tests.model.check import demand
from tests.model.drive import Case
from tests.model.generate import Script as Behaviour
from tests.model.plans import make_plan
from tests.redis.scripted import Attempt, Calls, ScriptedRun, goes_on_in_pieces

MOST = 20_000
"""outcomes and answers after which a run is taken for endless: more than the visits that it may make unless its case says so (15467)"""
NOT_NOTED = ("run_started", "run_finished", "task_started")
"""events that the scripts tell and the state machine leaves to whoever drives it"""


def drive_both(calls: Calls, case: Case, order: int) -> RunState:
    """Drive a case to its end. Raises ViolationError where the two differ."""
    return _Both(calls, case, order).run()


def drive_patiently(calls: Calls, case: Case, order: int) -> ScriptedRun:
    """Drive a case to its end on the scripts alone, with outcomes coming in while continuations wait. Raises ViolationError if it gets stuck."""
    return _Patient(calls, case, order).run()


class AskingState(RunState):
    """The state machine as the scripts are: a policy of the user's own is not asked in the step in which its group drains, but after it.

    A script cannot run such a policy, so a worker has to be asked, and what the step has begun besides comes first. That may be the end of the run
    (case 12392: an empty group, and beside it one that cannot be expanded), or of a group around it that was decided early. Then nobody wants the
    verdict any more, and the group is cancelled, where in memory it was judged before that.
    """

    def __init__(self, plan: Plan, *, start: int | None = None, on_failure: OnFailure = "fail", max_steps: int | None = None) -> None:
        self._asked: deque[tuple[int, int]] = deque()
        super().__init__(plan, start=start, on_failure=on_failure, max_steps=max_steps)

    def close_group(self, scope: ScopeState) -> None:
        """Ask, or let it succeed or fail."""
        if not scope.open and scope.group is not None and scope.group.policy.kind == "custom":
            self._asked.append((scope.node, self.cycle[scope.node]))
        else:
            super().close_group(scope)

    def judge_asked(self) -> None:
        """The verdicts come in, one after the other."""
        while self._asked:
            node, cycle = self._asked.popleft()
            if self.end is None and self.status[node] == ACTIVE and self.cycle[node] == cycle:
                super().close_group(self.scopes[node])
                self._settle_down()


class _Both:
    def __init__(self, calls: Calls, case: Case, order: int) -> None:
        plan = make_plan(case.graph)
        self.case, self.random = case, Random(f"{case.seed}/order/{order}")
        self.behaviour = Behaviour(case.graph, case.seed, case.habits)
        start = None if case.start is None else plan.index[case.start]
        self.state = AskingState(plan, start=start, on_failure=case.on_failure, max_steps=case.max_steps)
        self.scripted = ScriptedRun(calls, plan, start=start, on_failure=case.on_failure, max_steps=case.max_steps)
        self.in_pieces = calls.budget < BUDGET
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
        demand(False, "the run never ends")
        return state

    def settle_one(self) -> None:
        if self.gone and self.random.random() < 0.1:
            demand(not self.scripted.settle(*self.random.choice(self.gone), Success("late")), "a late outcome was taken")
        attempt = self.random.choice(self.out)
        outcome = with_list(self.behaviour.outcome(self.state.ids[attempt[0]], attempt[1], attempt[2]))
        self.out.remove(attempt)
        self.gone.append(attempt)
        demand(self.state.settle(*attempt, outcome), "the machine refuses an outcome")
        demand(self.scripted.settle(*attempt, outcome), f"the scripts refuse the outcome of {self.state.ids[attempt[0]]} {attempt}")

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

    # ---- comparing ----

    def look(self) -> None:
        """Compare all there is to see."""
        state = self.state
        state.judge_asked()
        self.out += [(start.node, start.cycle, start.attempt) for start in state.starts]
        for stop in state.stops:
            self.out.remove((stop.node, stop.cycle, stop.attempt))
            self.gone.append((stop.node, stop.cycle, stop.attempt))
        image = self.scripted.image()
        same("nodes", [self.scripted.name_of(node, image) for node in range(image.count)], state.ids)
        self.compare_nodes(image)
        self.compare_run(image)
        self.compare_events()
        state.starts.clear()
        state.stops.clear()
        state.notes.clear()

    def compare_nodes(self, image: RunImage) -> None:
        state, ids = self.state, self.state.ids
        visits = [image.visit(node) for node in range(image.count)]
        present = [node for scope in state.scopes.values() for node in scope.members]
        same(
            "statuses",
            [(ids[n], STATUS_NAMES[image.status[n]]) for n in present],
            [(ids[n], STATUS_NAMES[state.status[n]]) for n in present],
        )
        same("cycles", [(ids[n], visits[n].cycle) for n in present], [(ids[n], state.cycle[n]) for n in present])
        same("attempts", [(ids[n], visits[n].attempt) for n in present], [(ids[n], state.attempt[n]) for n in present])
        retries = {node: visit.retries for node, visit in enumerate(visits) if visit.retries}
        same("retries", retries, {node: count for node, count in state.retries.items() if count})
        came_from = {node: visit.came_from for node, visit in enumerate(visits) if visit.came_from}
        same("came from", came_from, {node: sources for node, sources in state.came_from.items() if sources})
        same("suspended", set(image.suspended), set(state.suspended))
        same("results", results_of(image), {node: codec.roundtrip(value) for node, value in state.results.items()})
        errors = self.scripted.errors(image)
        same("errors", [(node, _told(e)) for node, e in errors.items()], [(node, _told(e)) for node, e in state.errors.items()])

    def compare_run(self, image: RunImage) -> None:
        state, end = self.state, self.state.end
        same("steps", image.numbers[:2], [state.steps, state.step_limit])
        same("jumps", jumps_of(image), state.jumps)
        same("end", image.end and image.end[:3], end and (end.status, end.cause, end.node))
        same("out", self.scripted.out(), set(self.out) if end is None else set())
        if end is None:
            same("outstanding", image.numbers[3], state.outstanding)

    def compare_events(self) -> None:
        events = [event for event in self.scripted.told() if event[0] not in NOT_NOTED]
        notes = [(kind, node, attempt or None) for kind, node, _, attempt, _ in self.state.notes]
        if self.in_pieces and self.state.jumps:
            # Of a large region that a goto goes back to, the target is visited once all of it is undecided again, and if that visit decides it at
            # once, its edges come after others in line (case 7477). What comes of it is the same, and told in another order.
            events.sort(key=str)
            notes.sort(key=str)
        same("told", events, notes)


class _Patient:
    def __init__(self, calls: Calls, case: Case, order: int) -> None:
        plan = make_plan(case.graph)
        self.case, self.random = case, Random(f"{case.seed}/patient/{order}")
        self.behaviour = Behaviour(case.graph, case.seed, case.habits)
        start = None if case.start is None else plan.index[case.start]
        self.scripted = ScriptedRun(calls, plan, start=start, on_failure=case.on_failure, max_steps=case.max_steps, patient=True)
        self.settled: set[Attempt] = set()

    def run(self) -> ScriptedRun:
        scripted = self.scripted
        for _ in range(MOST):
            image, out = scripted.image(), sorted(scripted.out())
            suspended = sorted(scripted.suspended(image))
            if image.state != "r":
                demand(not out, f"the run is over, and {out} would still be taken")
                return scripted
            void = [each for each in scripted.void(image) if each not in self.settled]
            if void and self.random.random() < 0.5:
                self.settled.add(void[0])
                demand(not scripted.settle(*void[0], Success("void")), f"the outcome of {void[0]} was taken, and its visit is void")
            elif scripted.waiting and (not out or self.random.random() < 0.3):
                scripted.go_on()
                scripted.fetch()
            elif out and (not suspended or self.random.random() < 0.8):
                self.settle_one(self.random.choice(out), image)
            elif suspended:
                node = self.random.choice(suspended)
                demand(scripted.resume(node, image.visit(node).cycle), "the scripts do not resume")
            else:
                demand(False, f"nothing is out and nothing goes on, but {image.numbers[3]} are counted as outstanding")
        demand(False, "the run never ends")
        return scripted

    def settle_one(self, attempt: Attempt, image: RunImage) -> None:
        demand(attempt not in self.settled, f"{attempt} would be taken twice")
        self.settled.add(attempt)
        name = self.scripted.name_of(attempt[0], image)
        outcome = with_list(self.behaviour.outcome(name, attempt[1], attempt[2]))
        taken = self.scripted.settle(*attempt, outcome)
        # What waited for a region to be made undecided again comes before the outcome, and may be the end of whoever sent it.
        demand(taken or goes_on_in_pieces(image), f"the scripts refuse the outcome of {name} {attempt}")


def results_of(image: RunImage) -> dict[int, Any]:
    """Results by node, those of groups put together."""
    found = {node: codec.decode(value) for node, value in image.results.items()}

    def of(node: int) -> Any:
        if node not in image.keys:
            return found[node]
        kept = image.kept.get(node)
        return [codec.decode(value) for value in kept] if kept is not None else [of(key) for key in image.keys[node]]

    return {**found, **{group: of(group) for group in image.keys}}


def jumps_of(image: RunImage) -> set[tuple[int, int]]:
    """Every goto of the run: from where, to where."""
    flat: Sequence[int] = msgspec.msgpack.decode(image.fields[b"G"]) if b"G" in image.fields else ()
    return set(zip(flat[::2], flat[1::2], strict=True))


def same(what: str, found: Any, expected: Any) -> None:
    """Demand that the two agree."""
    if found == expected:
        return
    if isinstance(found, list) and isinstance(expected, list):
        pairs = [pair for pair in zip(found, expected, strict=False) if pair[0] != pair[1]][:6]
        more, less = found[len(expected) :], expected[len(found) :]
        demand(False, f"{what}: the scripts have and the machine has {pairs}; only the scripts {more}, only the machine {less}")
    demand(False, f"{what}: the scripts have {found}, the machine has {expected}")


def _told(error: Failure | GroupFailure) -> tuple[Any, ...]:
    known = (error.error.task_id, error.error.attempt, error.error.error_type, error.error.message)
    if isinstance(error, GroupFailure):
        return (*known, tuple(error.failed), error.succeeded, error.cancelled)
    return known


def with_list(outcome: Outcome) -> Outcome:
    """What a mapped group is expanded from is a list, where the model says only how long."""
    if isinstance(outcome, Success) and outcome.items is not None and outcome.items >= 0:
        return Success(list(range(outcome.items)), outcome.directives, outcome.items)
    return outcome
