"""Directives: what a task asked of its run, obeyed when it settles with success (rules 9, 11 to 20)."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any

from graflow.core.board import ACTIVE, CANCELLED, DONE, FIRE, SKIP, WAITING
from graflow.core.ending import End
from graflow.core.groups import GroupRules
from graflow.core.outcome import describe
from graflow.core.wishes import GraphProblem, clash, read_wishes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from graflow.core.board import Goto
    from graflow.core.outcome import Directives, Iteration, NewTask, Success
    from graflow.core.task import Task


class DirectiveRules(GroupRules):
    """Where a run goes when a task says so."""

    @abstractmethod
    def finish(self, end: End) -> None:
        """End the run."""

    def obey(self, node: int, outcome: Success, directives: Directives) -> None:
        """Directives by their strength (16): cancel, terminate, goto, then the rest."""
        if directives.cancel is not None:
            self.mark(node, CANCELLED)
            self.note("task_cancelled", node)
            self.finish(End("cancelled", "cancelled", node, directives.cancel))
            return
        if directives.terminate is not None:
            self._record(node, outcome)
            self.finish(End("succeeded", "terminated", node, directives.terminate))
            return
        targets, new, problem = self._read_targets(node, directives)
        if problem is not None:
            self.fail(node, describe(problem, self.ids[node], self.attempt[node]))
            return
        for request in new:
            self._spawn(node, request.task)
        if targets:
            self._record(node, outcome)
            self.go(node, [(target, node) for target in targets])
        elif any(request.goto for request in new):
            self._record(node, outcome)
            self.want_all(node, SKIP)
            self.release(node)
        elif directives.iteration is not None:
            self._iterate(node, directives.iteration)
        else:
            self._record(node, outcome)
            self.go_on(node, end_loop=directives.end_loop)

    def _read_targets(self, node: int, directives: Directives) -> tuple[list[int], list[NewTask], GraphProblem | None]:
        """Where to go and what to add; or what is wrong with it (15, 18)."""
        wanted = read_wishes(self.plan, self._planned(node), self.ids[node], directives)
        new: list[NewTask] = []
        for request in wanted.new:
            if self._may_make(node, request.task.id):
                new.append(request)
            elif not request.ignore_existing:
                return [], [], clash(self.ids[node], request.task.id)
        return wanted.targets, new, wanted.problem

    def _may_make(self, node: int, name: str) -> bool:
        number = self.index_of_dynamic.get(name)
        return number is None or self.dynamic.get(number, node) == node

    def _spawn(self, maker: int, task: Task[..., Any]) -> None:
        """A task made at run time belongs to the scope and the branch of its maker and has no edges (19)."""
        node = self.index_of_dynamic.get(task.id)
        if node is not None and node in self.dynamic and self.status[node] <= ACTIVE:
            self.again.setdefault(node, []).append(task)  # visits of one task never overlap (18)
            return
        if node is None or node not in self.dynamic:
            node = self._adopt(node, maker, task)
        self.visit_again(node, task)

    def _adopt(self, node: int | None, maker: int, task: Task[..., Any]) -> int:
        """Give a new task a place beside its maker; it may have had another one before, in a visit that is forgotten."""
        scope, branch = self.scopes[self.scope_of[maker]], self.branch_of[maker]
        if node is None:
            node = self.add_node(task.id, scope, branch, maker, task)
        self.dynamic[node] = maker
        self.scope_of[node], self.branch_of[node] = scope.node, branch
        scope.dynamic.append(node)
        scope.members.append(node)
        return node

    def visit_again(self, node: int, task: Task[..., Any]) -> None:
        """Visit a task made at run time, for the first time or once more."""
        self.dynamic_tasks[node] = task
        self.came_from[node] = [self.dynamic[node]]
        self.mark(node, WAITING)
        self.visit_agenda.append(node)

    def _iterate(self, node: int, iteration: Iteration) -> None:
        """Visit the task once more; this visit stores nothing and fires nothing (20)."""
        self.note("iteration", node)
        self.mark(node, WAITING)  # its attempt is settled: should a limit end the run now, there is none to take back
        self.visit(node, came_from=self.came_from.get(node), iteration=iteration)

    def complete(self, node: int, outcome: Success) -> None:
        """A task has succeeded and asked for nothing: its edges fire."""
        self._record(node, outcome)
        self.want_on_success(node)
        self.release(node)

    def _record(self, node: int, outcome: Success) -> None:
        self.results[node] = outcome.value
        if outcome.items is not None:
            self.items[node] = outcome.items
        if self.errors:
            self.errors.pop(node, None)  # of an earlier visit
        self.mark(node, DONE)
        self.note("task_succeeded", node)

    def go_on(self, node: int, *, end_loop: bool) -> None:
        """Go along the edges. ``end_loop`` skips the successors inside the innermost loop and fires those outside, once the round has
        drained; where that loop is around the group, the group does so when it settles (9)."""
        self.want_on_success(node)
        if end_loop and node in self.plan.around:
            innermost = self.loops[self.plan.around[node][0]]
            innermost.left.add(node)
            for edge in self.plan.outs[node]:
                if self.plan.edges[edge].target in innermost.plan.body:
                    self.want[edge] = SKIP
        elif end_loop:
            self.scopes[self.scope_of[node]].leavers.add(node)
        self.release(node)

    # ---- gotos ----

    def go(self, node: int, gotos: Sequence[tuple[int, int]]) -> None:
        """Go from a decided node to others, instead of along its edges (11 to 14): pairs of the target and which task went.

        Some are performed at once. They may lead back to before the node itself: what else it asked for stays all the same, but its
        edges will then be decided by its next visit.
        """
        visit = self.cycle[node]
        outs = self.plan.outs[node] if node < len(self.plan.outs) else ()
        along = {self.plan.edges[edge].target for edge in outs}
        at_once: list[Goto] = []
        later: list[Goto] = []
        for target, source in gotos:
            self.jumps.add((source, target))
            plain = target not in along and self._is_plain(node, target)
            (at_once if plain else later).append((target, source, node))
        self.jump(at_once)
        undone = self.cycle[node] != visit or self.status[node] <= ACTIVE
        chosen = set[int]()
        for goto in later:
            if goto[0] in along and not undone:
                self._leave_loops(node, goto[0])
                chosen.add(goto[0])
            else:
                self._put_off(goto)
        if not undone:
            for edge in outs:
                self.want[edge] = FIRE if self.plan.edges[edge].target in chosen else SKIP
            self.release(node)

    def _is_plain(self, node: int, target: int) -> bool:
        """Whether a goto crosses no border: neither that of a group nor that of a loop, nor into the next round of one."""
        around = self.plan.around.get(node)
        if self.scope_of[target] != self.scope_of[node]:
            return False
        return around is None or all(
            target in self.loops[number].plan.body and target != self.loops[number].plan.header for number in around
        )

    def _put_off(self, goto: Goto) -> None:
        """A goto that the loop or group around the task performs when it settles (9, 12, 14)."""
        target, _, node = goto
        if self.scope_of[target] != self.scope_of[node]:
            self.scopes[self.scope_of[node]].gotos.append(goto)
            for number in self.plan.around.get(node, ()):  # leaving the group is leaving its loops
                self.loops[number].left.add(node)
            return
        left = self._leave_loops(node, target)
        header_of = [number for number in self.plan.around.get(node, ()) if self.loops[number].plan.header == target]
        if header_of:
            self.loops[header_of[0]].turns.append(goto)
        elif left:
            self.loops[left[0]].leaps.append(goto)
        else:
            self.jump([goto])

    def _leave_loops(self, node: int, target: int) -> list[int]:
        """A goto to a node outside ends all loops that it leaves, when their rounds have drained (9). Returns them, outermost first."""
        left = self.plan.left_by(node, target)
        for number in left:
            self.loops[number].left.add(node)
        return left

    def _planned(self, node: int) -> int:
        """The node of the plan that a task stems from: one made at run time sees what its maker sees."""
        while node in self.dynamic:
            node = self.dynamic[node]
        return node
