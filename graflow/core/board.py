"""Where a run stands: the status of every node, the decision of every edge, and how much of each region is still open.

A *region* is the run, a group or a loop. One idea carries the rules: a region is entered, drains, and closes, and nothing leaves
it before it closes. So the board counts, for each region, the nodes that are still undecided, and remembers the regions whose count
has reached zero. Everything here is bookkeeping; what follows from it is decided in :mod:`graflow.core.run`.
"""

from __future__ import annotations

from collections import deque
from heapq import heappop, heappush
from typing import TYPE_CHECKING, Any, Final

from graflow.core.plan import RUN, Plan

if TYPE_CHECKING:
    from collections.abc import Iterable, MutableSequence

    from graflow.core.loops import Loop
    from graflow.core.plan import GroupPlan
    from graflow.core.task import Task

# A node's status. Up to ACTIVE it is undecided ("open").
WAITING: Final = 0
ACTIVE: Final = 1
DONE: Final = 2
SKIPPED: Final = 3
CANCELLED: Final = 4
HANDLED: Final = 5
"""failed, but a failure or always edge took it (rule 2)"""
FAILED: Final = 6
BROKEN: Final = 7
"""never ran, because something before it failed"""

STATUS_NAMES: Final = ("waiting", "active", "done", "skipped", "cancelled", "handled", "failed", "broken")

# What an edge was decided to be.
UNDECIDED: Final = 0
FIRE: Final = 1
SKIP: Final = 2
BREAK: Final = 3


Goto = tuple[int, int, int]
"""(where to, which task went, the node by which it goes): the last two differ when the task's group performs its goto"""


class ScopeState:
    """The run, or one group, while it is visited."""

    __slots__ = (
        "branch_bad",
        "branch_open",
        "critical",
        "critical_bad",
        "dynamic",
        "entered",
        "fresh",
        "gotos",
        "group",
        "held",
        "lasts",
        "leavers",
        "members",
        "node",
        "open",
        "order",
        "pool",
        "running",
        "succeeded",
    )  # fmt: skip

    def __init__(self, node: int, group: GroupPlan | None, members: Iterable[int], order: tuple[int, int]) -> None:
        self.node: int = node
        self.group: GroupPlan | None = group
        self.members: list[int] = list(members)
        self.lasts: list[int] = list(group.lasts) if group is not None else []
        self.pool: list[int] = []
        """all members that a mapped group ever had; a visit uses the first of them"""
        self.critical: frozenset[int] = group.critical if group is not None else frozenset()
        self.critical_bad: int = 0
        """how many of the critical branches have failed"""
        self.order: tuple[int, int] = order
        self.open: int = len(self.members)
        self.fresh: bool = True
        """nobody has touched the members since the run began: a visit has nothing to reset"""
        self.entered: bool = group is None
        """false while the group is visited but waits for a place in a limited group around it: then it cannot close"""
        self.dynamic: list[int] = []
        self.gotos: list[Goto] = []
        """gotos out of this group, performed when it settles (rule 14)"""
        self.leavers: set[int] = set()
        """members in no loop of this group that called ``end_loop``: it ends the one around the group, when it settles (rules 9 and 14)"""
        self.branch_bad: dict[int, int] = {}
        """failed and broken nodes of a branch; a branch without any is absent"""
        self.branch_open: dict[int, int] | None = None
        """undecided nodes of a branch, kept only for a policy that may succeed early"""
        self.succeeded: set[int] = set()
        self.running: set[int] = set()
        """members that hold one of the ``limit`` places"""
        self.held: deque[tuple[int, int]] = deque()
        """(member, cycle) visited but waiting for a place"""


class LoopState:
    """One loop, while its scope is visited."""

    __slots__ = ("bad", "ended", "leaps", "left", "open", "order", "plan", "turns")

    def __init__(self, plan: Loop, order: tuple[int, int]) -> None:
        self.plan: Loop = plan
        self.order: tuple[int, int] = order
        self.open: int = len(plan.body)
        self.bad: int = 0
        self.ended: bool = False
        self.left: set[int] = set()
        """nodes that left the loop in this round: it ends when the round has drained"""
        self.turns: list[Goto] = []
        """gotos to the header in this round: each is one more back edge (rule 12)"""
        self.leaps: list[Goto] = []
        """gotos out of the loop, performed when it ends"""


class Board:
    """Statuses, edges and open counts of one run, and the agenda of what is to be looked at next."""

    def __init__(self, plan: Plan) -> None:
        nodes = len(plan.ids)
        self.plan = plan
        self.status: bytearray = bytearray(nodes)
        self.cycle: list[int] = [0] * nodes
        self.scope_of: MutableSequence[int] = plan.scope
        self.branch_of: MutableSequence[int] = plan.branch
        self.edge: bytearray = bytearray(len(plan.edges))
        self.want: bytearray = bytearray(len(plan.edges))
        self.undecided: list[int] = list(plan.indegree)
        self.fired: list[int] = [0] * nodes
        self.broken: dict[int, int] = {}
        self.went: dict[int, list[Goto]] = {}
        """gotos to a node that is still waiting: each is one more fired edge into it (11)"""
        self.ids: list[str] = plan.ids
        self.dynamic: dict[int, int] = {}
        """nodes made at run time -> their maker, or the mapped group they belong to"""
        self.dynamic_tasks: dict[int, Task[..., Any]] = {}
        self.index_of_dynamic: dict[str, int] = {}
        # Regions close from the inside: loops before groups, the deepest first.
        self.run_scope: ScopeState = ScopeState(RUN, None, plan.top, (1, 0))
        self.scopes: dict[int, ScopeState] = {RUN: self.run_scope}
        for number, group in enumerate(plan.groups):
            if group is not None:
                self.scopes[number] = self._scope_state(number, group)
        self.loops: list[LoopState] = [LoopState(loop, (0, -loop.depth)) for loop in plan.loops]
        self.edge_agenda: deque[int] = deque()
        self.look_agenda: deque[int] = deque()
        self.visit_agenda: deque[int] = deque()
        self.drained: list[tuple[tuple[int, int], int]] = []
        self.admissions: deque[ScopeState] = deque()

    def _scope_state(self, number: int, group: GroupPlan) -> ScopeState:
        state = ScopeState(number, group, group.members, (1, -self.plan.group_depth[number]))
        if group.policy.early:
            state.branch_open = {}
            for member in state.members:
                branch = self.branch_of[member]
                state.branch_open[branch] = state.branch_open.get(branch, 0) + 1
        return state

    # ---- nodes ----

    def mark(self, node: int, status: int) -> None:
        """Give a node a status and keep the open counts of the regions around it."""
        before = self.status[node]
        if before == status:
            return
        self.status[node] = status
        scope = self.scopes[self.scope_of[node]]
        if (before <= ACTIVE) != (status <= ACTIVE):
            self._count_open(scope, node, 1 if status <= ACTIVE else -1)
        if (before >= FAILED) != (status >= FAILED):
            self._count_bad(scope, node, 1 if status >= FAILED else -1)
        if scope.branch_open is not None:
            self._judge_branch(scope, scope.branch_open, self.branch_of[node])
        if before == ACTIVE and scope.running and node in scope.running:
            self.give_place_back(scope, node)

    def _count_open(self, scope: ScopeState, node: int, change: int) -> None:
        scope.open += change
        if not scope.open:
            heappush(self.drained, (scope.order, scope.node))
        if scope.branch_open is not None:
            branch = self.branch_of[node]
            scope.branch_open[branch] = scope.branch_open.get(branch, 0) + change
        around = self.plan.around.get(node)
        if around is not None:
            for number in around:
                loop = self.loops[number]
                loop.open += change
                if not loop.open:
                    heappush(self.drained, (loop.order, number))

    def _count_bad(self, scope: ScopeState, node: int, change: int) -> None:
        branch = self.branch_of[node]
        before = scope.branch_bad.get(branch, 0)
        if before + change:
            scope.branch_bad[branch] = before + change
        else:
            del scope.branch_bad[branch]
        if branch in scope.critical and not (before and before + change):
            scope.critical_bad += change
        for number in self.plan.around.get(node, ()):
            self.loops[number].bad += change

    def _judge_branch(self, scope: ScopeState, branch_open: dict[int, int], branch: int) -> None:
        """Keep the set of branches that have succeeded, for a policy that need not wait for the others (24)."""
        if branch_open.get(branch) or branch in scope.branch_bad:
            scope.succeeded.discard(branch)
            return
        scope.succeeded.add(branch)
        if scope.group is not None and len(scope.succeeded) >= scope.group.policy.n:
            heappush(self.drained, (scope.order, scope.node))

    def give_place_back(self, scope: ScopeState, node: int) -> None:
        """A member of a group with a ``limit`` stopped running: the next one that waits may start."""
        scope.running.discard(node)
        if scope.held:
            self.admissions.append(scope)

    def pop_drained(self) -> tuple[LoopState | None, ScopeState | None]:
        """The innermost region that has drained and not been closed yet: a loop, a group, or the run; (None, None) if there is none."""
        while self.drained:
            (kind, _), number = heappop(self.drained)
            if kind == 0:
                loop = self.loops[number]
                if not loop.open and not loop.ended and self.is_live(loop.plan.scope):
                    return loop, None
            else:
                scope = self.scopes.get(number)
                if scope is not None and self.is_live(number) and (not scope.open or scope.branch_open is not None):
                    return None, scope
        return None, None

    def consider(self, scope: ScopeState) -> None:
        """Have a region looked at even though nothing in it changed: it may have been empty from the start."""
        if not scope.open:
            heappush(self.drained, (scope.order, scope.node))

    def rule_out(self, edge: int) -> None:
        """Skip an edge whose source lies before ``start=``, whatever its target is (3)."""
        self.want[edge] = self.edge[edge] = SKIP
        self.undecided[self.plan.edges[edge].target] -= 1

    def consider_loops(self) -> None:
        """Likewise for loops that ``start=`` left out as a whole."""
        for number, loop in enumerate(self.loops):
            if not loop.open:
                heappush(self.drained, (loop.order, number))

    def is_live(self, scope: int) -> bool:
        """Whether a scope is being visited, and has been entered."""
        return scope == RUN or (self.status[scope] == ACTIVE and self.scopes[scope].entered)

    # ---- edges and joins ----

    def decide(self, edge: int) -> int:
        """Decide an edge as its source wants it, once a visit (rule 1). Returns the target when all its edges are decided, else -1."""
        target = self.plan.edges[edge].target
        if self.edge[edge] or self.status[target] != WAITING:
            return -1
        decision = self.edge[edge] = self.want[edge] or SKIP
        if decision == FIRE:
            self.fired[target] += 1
        elif decision == BREAK:
            self.broken[target] = self.broken.get(target, 0) + 1
        self.undecided[target] = open_edges = self.undecided[target] - 1
        return -1 if open_edges else target

    def undo(self, edge: int) -> None:
        """Make an edge undecided again; its target's join counts one less."""
        decision = self.edge[edge]
        if not decision:
            return
        self.edge[edge] = UNDECIDED
        target = self.plan.edges[edge].target
        self.undecided[target] += 1
        if decision == FIRE:
            self.fired[target] -= 1
        elif decision == BREAK:
            self.broken[target] -= 1

    # ---- nodes made at run time ----

    def add_node(self, node_id: str, scope: ScopeState, branch: int, maker: int, task: Task[..., Any]) -> int:
        """A new node in a scope, without edges."""
        if self.ids is self.plan.ids:  # the plan is shared by all its runs: this run needs lists of its own from here on
            self.scope_of = list(self.scope_of)
            self.branch_of = list(self.branch_of)
            self.ids = list(self.ids)
        node = len(self.ids)
        self.ids.append(node_id)
        self.status.append(CANCELLED)
        self.cycle.append(0)
        self.undecided.append(0)
        self.fired.append(0)
        self.scope_of.append(scope.node)
        self.branch_of.append(branch)
        self.dynamic[node] = maker
        self.dynamic_tasks[node] = task
        self.index_of_dynamic[node_id] = node
        return node

    def find(self, node_id: str) -> int | None:
        """The number of a node of the plan or made at run time."""
        number = self.plan.index.get(node_id)
        return self.index_of_dynamic.get(node_id) if number is None else number
