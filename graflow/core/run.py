"""One run of a plan: outcomes in, effects out.

:class:`RunState` is a pure state machine. It holds no task, timer or connection; it is told what came of an attempt and says which
attempts to start and which to stop. Every backend gives the same answers because this is the only place, in Python, where they are
given. Numbers in comments are the rules of ``docs/semantics.md``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from graflow.core.board import ACTIVE, BREAK, BROKEN, FAILED, FIRE, HANDLED, SKIP, SKIPPED, WAITING
from graflow.core.directives import DirectiveRules
from graflow.core.ending import End
from graflow.core.outcome import Failure, GroupFailure, Retry, Success, Suspend
from graflow.core.plan import RUN, Plan

if TYPE_CHECKING:
    from graflow.core.outcome import Iteration, Outcome

OnFailure = Literal["fail", "continue"]
SPARE_STEPS = 10_000
"""how many more visits than nodes a run may make unless ``max_steps`` says otherwise (10)"""


class RunState(DirectiveRules):
    """A run in progress.

    Args:
        plan: the compiled graph.
        start: number of the top-level node to begin with (3); None for all roots.
        on_failure: ``"fail"`` ends the run at the first failure, ``"continue"`` lets it drain first (28).
        max_steps: how many visits the run may make (10); None for 10 000 more than it has nodes.

    After construction and after each call of :meth:`settle`, :meth:`resume`, :meth:`cancel` or :meth:`time_out`, ``starts``, ``stops`` and
    ``notes`` hold what is to be done; the caller empties them.
    """

    outstanding: int

    def __init__(self, plan: Plan, *, start: int | None = None, on_failure: OnFailure = "fail", max_steps: int | None = None) -> None:
        super().__init__(plan)
        self.on_failure: OnFailure = on_failure
        self.step_limit: int = len(plan.ids) + SPARE_STEPS if max_steps is None else max_steps
        self.limit_given: bool = max_steps is not None
        self.steps: int = 0
        if start is None:
            self.enter_scope(self.run_scope)
        else:
            self._begin_at(start)
        self._settle_down()

    # ---- outcomes in ------------------------------------------------------------------------------------------------

    def settle(self, node: int, cycle: int, attempt: int, outcome: Outcome) -> bool:
        """Write the outcome of an attempt and move the run on. False if the attempt no longer counts: nothing has changed then."""
        if not self.is_running(node, cycle, attempt):
            return False
        self.outstanding -= 1
        if type(outcome) is Success:
            if outcome.directives is None:
                self.complete(node, outcome)
            else:
                self.obey(node, outcome, outcome.directives)
        elif type(outcome) is Retry:
            self._retry(node, outcome)
        elif type(outcome) is Suspend:
            self._suspend(node, outcome)
        elif type(outcome) is Failure:
            self.fail(node, outcome)
        self._settle_down()
        return True

    def is_running(self, node: int, cycle: int, attempt: int) -> bool:
        """Whether this attempt is the one that counts."""
        return (
            self.end is None
            and node < len(self.status)
            and self.status[node] == ACTIVE
            and self.cycle[node] == cycle
            and self.attempt[node] == attempt
            and node not in self.suspended
            and node not in self.without_place
        )

    def resume(self, node: int, cycle: int) -> bool:
        """Start a suspended step again; costs no retry and no step (29). False if it is not suspended any more."""
        if self.end is not None or node not in self.suspended or self.cycle[node] != cycle:
            return False
        del self.suspended[node]
        self.attempt[node] += 1
        self.take_place(node)
        self._settle_down()
        return True

    def cancel(self, reason: str) -> bool:
        """End the run from outside. False if it is over already."""
        if self.end is None:
            self.finish(End("cancelled", "cancelled", None, reason))
            return True
        return False

    def time_out(self, reason: str) -> bool:
        """End the run because ``execute(timeout=)`` ran out (33). False if it is over already."""
        if self.end is None:
            self.finish(End("failed", "timeout", None, reason))
            return True
        return False

    @property
    def status_name(self) -> Literal["running", "suspended", "succeeded", "failed", "cancelled"]:
        """``suspended`` when nothing but suspended steps is left (29)."""
        if self.end is not None:
            return self.end.status
        return "suspended" if self.suspended and not self.outstanding else "running"

    # ---- an attempt has ended ---------------------------------------------------------------------------------------

    def _retry(self, node: int, outcome: Retry) -> None:
        told = {"delay": outcome.delay, "error_type": outcome.error.error_type, "message": outcome.error.message}
        self.note("task_retrying", node, told)
        self.attempt[node] += 1
        if outcome.counted:
            self.retries[node] = self.retries.get(node, 0) + 1
        self.start(node, outcome.delay)

    def _suspend(self, node: int, outcome: Suspend) -> None:
        self.suspended[node] = outcome.reason
        self.note("task_suspended", node, {"reason": outcome.reason})
        scope = self.scopes[self.scope_of[node]]
        if node in scope.running:  # whoever waits for an answer must not keep others from running
            self.give_place_back(scope, node)

    # ---- a node is decided ------------------------------------------------------------------------------------------

    def fail(self, node: int, failure: Failure | GroupFailure) -> None:
        """A task or group has failed for good."""
        self.errors.pop(node, None)  # so that errors keep the order in which they happened
        self.errors[node] = failure
        self.results.pop(node, None)
        told = {"error_type": failure.error.error_type, "message": failure.error.message}
        self.note("group_failed" if node in self.scopes else "task_failed", node, told)
        if node in self.plan.forks:
            self._hand_failure_on(node)
            return
        self.mark(node, FAILED)
        scope = self.scopes[self.scope_of[node]]
        if scope.node == RUN and self.on_failure == "fail":
            self.finish(End("failed", "failed", node))
        elif scope.node != RUN and self.is_hopeless(scope):
            self.fail_group(scope)
        else:
            self.want_all(node, BREAK)
            self.release(node)

    def _hand_failure_on(self, node: int) -> None:
        """A failure or always edge takes the failure: the run goes on there (2)."""
        self.mark(node, HANDLED)
        for edge in self.plan.outs[node]:
            self.want[edge] = SKIP if self.plan.edges[edge].on == "success" else FIRE
        self.release(node)

    def _pass_on(self, node: int, status: int) -> None:
        """A dead path: the node does not run, and what follows it learns why (1)."""
        self.mark(node, status)
        self.went.pop(node, None)
        self.results.pop(node, None)
        self.errors.pop(node, None)
        self.note("task_skipped", node, {"because": "an earlier task failed"} if status == BROKEN else None)
        if node in self.scopes:
            self.pass_over_members(self.scopes[node], status)
        self.want_all(node, BREAK if status == BROKEN else SKIP)
        self.release(node)

    def release(self, node: int) -> None:
        """Have the edges of a decided node decided; those that leave a loop wait for its end (8)."""
        if self.again and node in self.again and self.status[node] > ACTIVE and self.is_live(self.scope_of[node]):
            waiting = self.again[node]
            task = waiting.pop(0)
            if not waiting:
                del self.again[node]
            self.visit_again(node, task)
        elif self.status[node] > ACTIVE and node < len(self.plan.released):
            self.edge_agenda.extend(self.plan.released[node])

    # ---- moving on --------------------------------------------------------------------------------------------------

    def _settle_down(self) -> None:
        """Work the agenda off; close what has drained; until there is nothing left that only the run itself can do."""
        while self.end is None:
            if self.edge_agenda:
                ready = self.decide(self.edge_agenda.popleft())
                if ready >= 0:
                    self._look(ready)
            elif self.look_agenda:
                self._look(self.look_agenda.popleft())
            elif self.visit_agenda:
                node = self.visit_agenda.popleft()
                if self.status[node] == WAITING:
                    self.visit(node)
            elif self.admissions:
                self.admit(self.admissions.popleft())
            elif not self.drained or not self._close_innermost():
                break
        if self.end is not None:
            self._drop_agenda()
        if self.stops:
            self.drop_short_lived()

    def _drop_agenda(self) -> None:
        for agenda in (self.edge_agenda, self.look_agenda, self.visit_agenda, self.admissions):
            agenda.clear()

    def _close_innermost(self) -> bool:
        loop, scope = self.pop_drained()
        if loop is not None:
            self.turn(loop)
        elif scope is None:
            return False
        elif scope.node == RUN:
            self._conclude()
        else:
            self.close_group(scope)
        return True

    def _look(self, node: int) -> None:
        """All forward edges into a node may be decided: broken is stronger than fired, fired than skipped (1)."""
        if self.status[node] != WAITING or self.undecided[node]:
            return
        if self.broken and self.broken.get(node):
            self._pass_on(node, BROKEN)
        elif self.fired[node] or node in self.went:
            self.visit(node)
        elif self.plan.indegree[node]:
            self._pass_on(node, SKIPPED)

    def visit(self, node: int, came_from: list[int] | None = None, iteration: Iteration | None = None) -> None:
        """Visit a node: start its first attempt, or enter it when it is a group."""
        if self.end is not None:
            return
        if came_from is not None or self.came_from or self.went:
            self._note_origin(node, came_from)
        if self.steps >= self.step_limit:
            self.finish(End("failed", "steps", node))
            return
        if self.plan.max_cycles or self.dynamic_tasks:
            limit = self._cycle_limit(node)
            if limit is not None and self.cycle[node] >= limit:
                self.finish(End("failed", "cycles", node))
                return
        self.steps += 1
        self.cycle[node] += 1
        self.begin_visit(node, iteration)

    def _cycle_limit(self, node: int) -> int | None:
        """How often a node may be visited (10)."""
        if node in self.dynamic_tasks:
            return self.dynamic_tasks[node].options.max_cycles
        return self.plan.max_cycles.get(node)

    def _note_origin(self, node: int, came_from: list[int] | None) -> None:
        """Remember who led here where the edges do not tell: a goto, a back edge, a maker (30)."""
        if self.went and node in self.went:
            edges = self.plan.edges
            came_from = [source for _, source, _ in self.went.pop(node)]
            came_from += [edges[edge].source for edge in self.plan.ins[node] if self.edge[edge] == FIRE]
        if came_from is not None:
            self.came_from[node] = came_from
        elif self.came_from and node not in self.dynamic:
            self.came_from.pop(node, None)

    def _begin_at(self, start: int) -> None:
        """``start=``: what its forward edges do not reach begins as skipped (3)."""
        reach = self.plan.downstream(start)
        for node in self.plan.top:
            if node in reach:
                continue
            self.mark(node, SKIPPED)
            if node in self.scopes:
                self.pass_over_members(self.scopes[node], SKIPPED)
            for edge in self.plan.outs[node]:
                left = self.plan.left_by(node, self.plan.edges[edge].target)
                if not self.plan.is_back[edge] and not any(self.loops[loop].plan.body & reach for loop in left):
                    self.rule_out(edge)
        self.consider_loops()
        self.visit(start)

    def _conclude(self) -> None:
        failed = [node for node in self.errors if self.status[node] == FAILED and self.scope_of[node] == RUN]
        self.finish(End("failed", "failed", failed[0]) if failed else End("succeeded", "completed"))

    def finish(self, end: End) -> None:
        """End the run: nothing goes on, and what is out is taken back."""
        self.end: End | None = end
        node = self.status.find(ACTIVE)
        while node >= 0:
            self.stop(node)
            node = self.status.find(ACTIVE, node)
        self.drop_short_lived()
