"""The machine with one rule broken, many times over. A campaign that does not notice one of these would not notice that mistake.

``python -m tests.model.mutants`` says after how many cases each is caught, with the reference and without it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet

from graflow.core.board import ACTIVE, BREAK, DONE, FAILED, FIRE, SKIP, WAITING, Goto, LoopState, ScopeState
from graflow.core.ending import End
from graflow.core.outcome import Failure, GroupFailure, Iteration, Retry, Success, Suspend
from graflow.core.run import RunState
from tests.model.campaign import run_case


class BackEdgeFiresAtOnce(RunState):
    """A back edge begins the next round when its source completes (6)."""

    def release(self, node: int) -> None:
        super().release(node)
        for edge in self.plan.outs[node] if self.status[node] == DONE and node < len(self.plan.outs) else ():
            if self.plan.is_back[edge] and self.want[edge] == FIRE and self.end is None:
                loop = next(loop for loop in self.loops if edge in loop.plan.back)
                self.reset(loop.plan.body)
                self.visit(loop.plan.header)
                return


class ExitsFireEachRound(RunState):
    """Edges that leave a loop do not wait for its end (8)."""

    def release(self, node: int) -> None:
        super().release(node)
        if self.status[node] > ACTIVE and node < len(self.plan.outs):
            self.edge_agenda.extend(edge for edge in self.plan.outs[node] if not self.plan.is_back[edge])


class EndLoopIsIgnored(RunState):
    """A loop goes on although somebody left it (9)."""

    def turn(self, loop: LoopState) -> None:
        loop.left = set()
        super().turn(loop)


class BodyIsNotLookedAtAgain(RunState):
    """Body nodes with edges from outside only run in the first round (7)."""

    def turn(self, loop: LoopState) -> None:
        super().turn(loop)
        if not loop.ended:
            self.look_agenda.clear()


class ExitsAreNotHeldAgain(RunState):
    """A loop that is entered again in its midst has decided its exits already (13)."""

    def _reopen(self, loop: LoopState, region: AbstractSet[int]) -> None:
        if loop.plan.body <= region:
            super()._reopen(loop, region)


class GotoDoesNotWait(RunState):
    """A goto to a node that waits for others starts it (11)."""

    def jump(self, gotos: Sequence[Goto]) -> None:
        super().jump(gotos)
        for target, source, _ in gotos:
            if self.status[target] == WAITING:
                self.visit(target, [source])


class GotoIsNotLifted(RunState):
    """A member's goto out of its group is performed at once (14)."""

    def _put_off(self, goto: Goto) -> None:
        if self.scope_of[goto[0]] == self.scope_of[goto[2]]:
            super()._put_off(goto)
        else:
            self.jump([goto])


class FailingGroupGoes(RunState):
    """A group that fails performs the gotos of its members nevertheless (14)."""

    def fail_group(self, scope: ScopeState) -> None:
        gotos = list(scope.gotos)
        super().fail_group(scope)
        for target, source, _ in gotos:
            if self.scope_of[target] == self.scope_of[scope.node]:
                self.jump([(target, source, scope.node)])


class GroupGoesAndFires(RunState):
    """A group that performs a goto fires its own edges too (14)."""

    def go(self, node: int, gotos: Sequence[tuple[int, int]]) -> None:
        super().go(node, gotos)
        if node in self.scopes and self.status[node] == DONE:
            self.want_on_success(node)


class RewindResetsTheTargetOnly(RunState):
    """What was reached from the target keeps its old outcome (13)."""

    def _rewind(self, targets: Sequence[int], gotos: Sequence[Goto]) -> None:
        self.reset(frozenset(targets))
        for target in targets:
            self.visit(target)


class GotosOutliveTheirVisit(RunState):
    """What a visit asked for and did not get stays, even if the visit is undone (13)."""

    def _withdraw_gotos(self, region: AbstractSet[int]) -> None:
        pass


class FailedEdgeIsSkipped(RunState):
    """What follows a failure is merely skipped (1)."""

    def want_all(self, node: int, decision: int) -> None:
        super().want_all(node, SKIP if decision == BREAK else decision)


class FailureEdgeFiresOnSuccess(RunState):
    """Edges have no conditions (2)."""

    def want_on_success(self, node: int) -> None:
        self.want_all(node, FIRE)


class HandledFailureBreaksTheRun(RunState):
    """A failure counts as one although an edge takes it (2)."""

    def _hand_failure_on(self, node: int) -> None:
        super()._hand_failure_on(node)
        self.mark(node, FAILED)


class NothingIsFenced(RunState):
    """An outcome counts whichever visit and attempt it comes from."""

    def settle(self, node: int, cycle: int, attempt: int, outcome: Success | Failure | Retry | Suspend) -> bool:
        return super().settle(node, self.cycle[node], self.attempt[node], outcome)


class NothingIsStopped(RunState):
    """What is taken back goes on running."""

    def stop(self, node: int) -> None:
        super().stop(node)
        self.stops.clear()


class DynamicTasksAreNotCounted(RunState):
    """A scope does not wait for tasks made at run time (19)."""

    def _count_open(self, scope: ScopeState, node: int, change: int) -> None:
        if node not in self.dynamic or node in self.item_of:
            super()._count_open(scope, node, change)


class DynamicTasksAreNotForgotten(RunState):
    """A group visited again still has the tasks made in its last visit (25)."""

    def _forget_dynamic(self, scope: ScopeState) -> None:
        pass


class VisitsOfOneTaskOverlap(RunState):
    """A task asked for again while it is visited is visited at once (18)."""

    def release(self, node: int) -> None:
        self.again.clear()
        super().release(node)


class IterationsFire(RunState):
    """Every iteration stores its result (20)."""

    def _iterate(self, node: int, iteration: Iteration) -> None:
        self.results[node] = self.cycle[node]
        super()._iterate(node, iteration)


class SkipLeaks(RunState):
    """The members of a skipped group stay as they were (25)."""

    def pass_over_members(self, scope: ScopeState, status: int) -> None:
        pass


class LimitIsIgnored(RunState):
    """All members of a group run at once (27)."""

    def take_place(self, node: int) -> None:
        self._set_out(node)


class SuspendedKeepsItsPlace(RunState):
    """A step that waits for an answer takes up a place (27)."""

    def _suspend(self, node: int, outcome: Suspend) -> None:
        scope = self.scopes[self.scope_of[node]]
        running = set(scope.running)
        super()._suspend(node, outcome)
        scope.running = running


class EarlySuccessIsIgnored(RunState):
    """``at_least_n(early=True)`` waits for all (24)."""

    def _close_early(self, scope: ScopeState) -> None:
        pass


class FailureWaitsForAll(RunState):
    """A group that cannot succeed any more is not decided before it has drained (24)."""

    def is_hopeless(self, scope: ScopeState) -> bool:
        return not scope.open and super().is_hopeless(scope)


class FailedBranchHasAResult(RunState):
    """The last task of a branch stands for it although another one in it failed (23)."""

    def _with_results(self, scope: ScopeState, lasts: list[int]) -> tuple[int, ...]:
        return tuple(last for last in lasts if self.status[last] == DONE)


class SurplusMembersStay(RunState):
    """A mapped group that is expanded to fewer members than last time keeps the others (27)."""

    def _use_members(self, scope: ScopeState, count: int) -> None:
        super()._use_members(scope, len(scope.pool) if count else 0)


class ErrorsOutliveSuccess(RunState):
    """A task that failed once and completes now still has its error (31)."""

    def complete(self, node: int, outcome: Success) -> None:
        error = self.errors.get(node)
        super().complete(node, outcome)
        if error is not None:
            self.errors[node] = error


class ALoopWithAFailureGoesRound(RunState):
    """A failed task does not end its loop (28)."""

    def turn(self, loop: LoopState) -> None:
        bad, loop.bad = loop.bad, 0
        super().turn(loop)
        loop.bad += bad


class LaterFailuresHideTheFirst(RunState):
    """Under ``continue`` the run fails with the last error (28)."""

    def finish(self, end: End) -> None:
        failed = [node for node in self.errors if self.status[node] == FAILED and self.scope_of[node] == -1]
        last = failed and end.cause == "failed" and self.on_failure == "continue"
        super().finish(End(end.status, end.cause, failed[-1], end.reason) if last else end)


class MaxStepsAllowsOneMore(RunState):
    """The step after the last one allowed is made as well (10)."""

    def visit(self, node: int, came_from: list[int] | None = None, iteration: Iteration | None = None) -> None:
        self.step_limit += 1
        super().visit(node, came_from, iteration)
        self.step_limit -= 1


class RetriesAreVisits(RunState):
    """Another attempt counts as another cycle (10)."""

    def _retry(self, node: int, outcome: Retry) -> None:
        self.cycle[node] += 1
        super()._retry(node, outcome)


class StartSkipsNothing(RunState):
    """``start=`` leaves what it does not reach undecided (3)."""

    def _begin_at(self, start: int) -> None:
        self.visit(start)


class ThePredecessorIsAnyone(RunState):
    """One of several that led here counts as the only one (30)."""

    def predecessor(self, node: int) -> int | None:
        came_from = self.came_from.get(node)
        return came_from[0] if came_from else super().predecessor(node)


class CancelledMembersFail(RunState):
    """What was stopped when its group was decided counts among the failed (23)."""

    def fail(self, node: int, failure: Failure | GroupFailure) -> None:
        if isinstance(failure, GroupFailure):
            failure = GroupFailure(failure.error, failure.failed, failure.succeeded + failure.cancelled, ())
        super().fail(node, failure)


class EndLoopStopsAtTheGroup(RunState):
    """A member's ``end_loop`` does not reach the loop around its group (9)."""

    def go_on(self, node: int, *, end_loop: bool) -> None:
        super().go_on(node, end_loop=end_loop and node in self.plan.around)


MUTANTS: tuple[type[RunState], ...] = tuple(
    found for found in list(globals().values()) if isinstance(found, type) and issubclass(found, RunState) and found is not RunState
)


def cases_until_caught(mutant: type[RunState], most: int, *, twin: bool = True) -> tuple[int, str] | None:
    """After how many cases a mutant is caught, and by what; None if it survives ``most`` of them."""
    for number in range(most):
        try:
            run_case(number, mutant, twin=twin)
        except Exception as error:
            return number + 1, f"{type(error).__name__}: {error}"
    return None


def main(print_line: Callable[[str], None] = print) -> None:
    """Tell how soon each is caught."""
    for mutant in MUTANTS:
        for twin in (True, False):
            caught = cases_until_caught(mutant, 2000, twin=twin)
            told = "SURVIVED" if caught is None else f"caught after {caught[0]:4} cases: {caught[1][:110]}"
            print_line(f"{mutant.__name__ if twin else '  without the reference':28} {told}")


if __name__ == "__main__":
    main()
