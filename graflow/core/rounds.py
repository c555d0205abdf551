"""Going round and going back: rounds of a loop, gotos to what has already run, and the resets both need (rules 6 to 13)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from graflow.core.attempts import Attempts
from graflow.core.board import ACTIVE, BREAK, FIRE, SKIP, WAITING, LoopState

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from collections.abc import Set as AbstractSet

    from graflow.core.board import Goto


class Rounds(Attempts):
    """What makes decided nodes undecided again."""

    def turn(self, loop: LoopState) -> None:
        """A round has drained: go round again if a back edge fired and nobody left, else end the loop and decide what leaves it (6, 8)."""
        back = [self.plan.edges[edge].source for edge in loop.plan.back if self.want[edge] == FIRE]
        if not loop.bad and not loop.left and (back or loop.turns):
            came_from = back + [source for _, source, _ in loop.turns]
            header = loop.plan.header
            self.reset(loop.plan.body)
            # Body nodes whose edges all come from outside start again with each round (7).
            self.look_agenda.extend(node for node in sorted(loop.plan.body) if node != header and not self.undecided[node])
            self.visit(header, came_from=came_from)
            return
        loop.ended = True
        leaps, loop.leaps = loop.leaps, []
        if leaps and not loop.bad:
            self.jump(leaps)
        if loop.ended:  # a leap may have gone back to before the loop
            self._decide_exits(loop)

    def _decide_exits(self, loop: LoopState) -> None:
        for edge in loop.plan.exits:
            if loop.bad:
                self.want[edge] = BREAK  # (28)
            elif not self.want[edge]:
                self.want[edge] = SKIP  # its source lies before start=
            if not self.edge[edge]:
                self.edge_agenda.append(edge)

    def jump(self, gotos: Sequence[Goto]) -> None:
        """Go to nodes beside the task: rewind to those that run or are decided, fire one more edge into those that wait (11, 13)."""
        decided = dict.fromkeys(target for target, _, _ in gotos if self.status[target] != WAITING)
        if decided:
            self._rewind(decided, gotos)
        for goto in gotos:
            if self.status[goto[0]] == WAITING and self.end is None:
                self.went.setdefault(goto[0], []).append(goto)
                self.look_agenda.append(goto[0])

    def _rewind(self, targets: Collection[int], gotos: Sequence[Goto]) -> None:
        """Visit nodes that run or are decided once more. One that another of them leads to waits for that one instead."""
        reach = {target: self.plan.downstream(target) for target in targets}
        first = [target for target in targets if not any(target in reach[other] for other in targets if other != target)]
        self.reset(frozenset[int]().union(*reach.values()))
        for target in first:
            if self.status[target] == WAITING:  # else an earlier visit failed at once, and its group with it
                self.visit(target, came_from=[source for node, source, _ in gotos if node == target])

    def reset(self, region: AbstractSet[int]) -> None:
        """Make nodes of one scope undecided again and stop what runs there; what they had asked for and not got is forgotten.

        Results stay readable, and edges from outside keep their state (7, 31). Nothing on the agenda can concern these nodes: outcomes
        arrive, and regions close, only when it has been worked off.
        """
        for node in sorted(region):
            if self.status[node] == ACTIVE:
                self.stop(node)
            self.mark(node, WAITING)
        for number in {number for node in region for number in self.plan.around.get(node, ())}:
            self._reopen(self.loops[number], region)
        self._withdraw_gotos(region)
        for node in region:
            for edge in self.plan.outs[node]:
                self.want[edge] = 0
                self.undo(edge)

    def _reopen(self, loop: LoopState, region: AbstractSet[int]) -> None:
        loop.ended = False
        if loop.left:
            loop.left = {node for node in loop.left if node not in region}
        if loop.turns:
            loop.turns = [goto for goto in loop.turns if goto[2] not in region]
        if loop.leaps:
            loop.leaps = [goto for goto in loop.leaps if goto[2] not in region]
        if not loop.plan.body <= region:  # entered in its midst: its exits are decided anew when it has ended again
            for edge in loop.plan.leaving:
                self.undo(edge)

    def _withdraw_gotos(self, region: AbstractSet[int]) -> None:
        """Like an edge, a goto is undone with the visit that made it; those from outside the region stay."""
        if self.went:
            kept = {target: [goto for goto in gotos if goto[2] not in region] for target, gotos in self.went.items()}
            self.went.clear()
            self.went.update((target, gotos) for target, gotos in kept.items() if gotos)
        scope = self.scopes[self.scope_of[next(iter(region))]] if region else self.run_scope
        if scope.gotos:
            scope.gotos = [goto for goto in scope.gotos if goto[2] not in region]
        scope.leavers -= region
