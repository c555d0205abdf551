"""The attempts of a run: which to start, which to stop, what they left behind, and who waits for a place in a limited group."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

import msgspec

from graflow.core.board import ACTIVE, CANCELLED, FIRE, SKIP, Board, ScopeState
from graflow.core.outcome import describe
from graflow.core.plan import RUN, Plan

if TYPE_CHECKING:
    from collections.abc import Sequence

    from graflow.core.ending import End
    from graflow.core.outcome import Failure, GroupFailure, Iteration
    from graflow.core.task import Task
    from graflow.errors import GraflowError


class Start(msgspec.Struct, frozen=True, gc=False):
    """Put an attempt on the queue, ``delay`` seconds from now."""

    node: int
    cycle: int
    attempt: int
    delay: float = 0.0


class Stop(msgspec.Struct, frozen=True, gc=False):
    """Drop an attempt that is queued, cancel it where it runs; its outcome is refused from now on."""

    node: int
    cycle: int
    attempt: int


Note = tuple[str, int, int, int, dict[str, Any] | None]
"""(event type, node, cycle, attempt, data): what observers of the run are told"""


class Attempts(Board, ABC):
    """The board, and the attempts that are out."""

    step_limit: int
    """how many visits the run may make (10)"""
    limit_given: bool
    """whether the user chose that number"""

    def __init__(self, plan: Plan) -> None:
        super().__init__(plan)
        self.attempt: list[int] = [0] * len(plan.ids)
        self.retries: dict[int, int] = {}
        """how much of the retry budget of its visit a node has used"""
        self.iterations: dict[int, Iteration] = {}
        """what a visit made by ``next_iteration`` is given"""
        self.came_from: dict[int, list[int]] = {}
        """who led to this visit, where that was no forward edge"""
        self.jumps: set[tuple[int, int]] = set()
        """every goto of the run: who went, and where"""
        self.item_of: dict[int, int] = {}
        """member of a mapped group -> its place in the source's result"""
        self.items: dict[int, int] = {}
        """source of a mapped group -> number of items in its result, -1 if it is no sequence"""
        self.results: dict[int, Any] = {}
        self.result_keys: dict[int, tuple[int, ...]] = {}
        """group -> the nodes that its result is made of, in order"""
        self.errors: dict[int, Failure | GroupFailure] = {}
        self.suspended: dict[int, str] = {}
        self.without_place: set[int] = set()
        """active nodes that wait for a place in a limited group: no attempt of theirs is out"""
        self.again: dict[int, list[Task[..., Any]]] = {}
        """dynamic tasks asked for once more while they were being visited (18)"""
        self.outstanding: int = 0
        """attempts queued, delayed or running; with none left, and none suspended, the run is over (34)"""
        self.end: End | None = None
        self.starts: list[Start] = []
        self.stops: list[Stop] = []
        self.notes: list[Note] = []

    # Said by the run as a whole, needed by the rooms below it.

    @abstractmethod
    def visit(self, node: int, came_from: list[int] | None = None, iteration: Iteration | None = None) -> None:
        """Visit a node."""

    @abstractmethod
    def fail(self, node: int, failure: Failure | GroupFailure) -> None:
        """A node has failed for good."""

    @abstractmethod
    def release(self, node: int) -> None:
        """Have the edges of a decided node decided."""

    @abstractmethod
    def go(self, node: int, gotos: Sequence[tuple[int, int]]) -> None:
        """Go from a node to others, instead of along its edges: pairs of the target and which task went."""

    @abstractmethod
    def go_on(self, node: int, *, end_loop: bool) -> None:
        """Go from a node that has succeeded along its edges; with ``end_loop`` out of the innermost loop around it."""

    @abstractmethod
    def prepare_scope(self, scope: ScopeState) -> GraflowError | None:
        """Make the members of a group undecided before it waits for a place, so that it does not look drained."""

    @abstractmethod
    def enter_scope(self, scope: ScopeState) -> None:
        """Begin a visit of a group, or of the run."""

    def allow_one_more_step(self) -> None:
        """A node was added that brings its own share of the step limit, unless the user chose that (10)."""
        if not self.limit_given:
            self.step_limit += 1

    # ---- effects ----

    def note(self, type_: str, node: int, data: dict[str, Any] | None = None) -> None:
        """Tell observers something about a node's present visit."""
        self.notes.append((type_, node, self.cycle[node], self.attempt[node], data))

    def start(self, node: int, delay: float = 0.0) -> None:
        """Send out the node's present attempt."""
        self.outstanding += 1
        self.starts.append(Start(node, self.cycle[node], self.attempt[node], delay))

    def stop(self, node: int) -> None:
        """Take back what is out for a node, and for all members when it is a group; their outcomes are refused from now on."""
        if self.status[node] == ACTIVE:
            scope = self.scopes.get(node)
            if scope is not None:
                self.stop_members(scope)
                if self.end is not None:
                    self.results.pop(node, None)  # from an earlier visit: a group that is not finished has no result (21)
            elif node in self.suspended:
                del self.suspended[node]
            elif node not in self.without_place:
                self.outstanding -= 1
                self.stops.append(Stop(node, self.cycle[node], self.attempt[node]))
            self.without_place.discard(node)
            self.note("task_cancelled", node)
        self.mark(node, CANCELLED)

    def stop_members(self, scope: ScopeState) -> None:
        """Stop the undecided members of a group."""
        scope.held.clear()  # first, lest a freed place start the next member only to stop it again
        for member in scope.members:
            if self.status[member] <= ACTIVE:
                self.stop(member)

    def drop_short_lived(self) -> None:
        """Drop attempts that were made and taken back before anybody heard of them: neither started nor stopped."""
        if not self.starts or not self.stops:
            return
        stopped = {(stop.node, stop.cycle, stop.attempt) for stop in self.stops}
        short_lived = {(start.node, start.cycle, start.attempt) for start in self.starts} & stopped
        if short_lived:
            self.starts = [start for start in self.starts if (start.node, start.cycle, start.attempt) not in short_lived]
            self.stops = [stop for stop in self.stops if (stop.node, stop.cycle, stop.attempt) not in short_lived]

    # ---- visits and places ----

    def begin_visit(self, node: int, iteration: Iteration | None) -> None:
        """The visit is counted and allowed: make the node active and let it start when there is a place for it."""
        self.mark(node, ACTIVE)
        self.attempt[node] = 1
        if self.retries:
            self.retries.pop(node, None)
        if iteration is not None:
            self.iterations[node] = iteration
        elif self.iterations:
            self.iterations.pop(node, None)
        group = self.scopes.get(node)
        if group is not None:
            self.note("group_started", node)
            problem = self.prepare_scope(group)
            if problem is not None:
                self.fail(node, describe(problem, self.ids[node]))
                return
        self.take_place(node)

    def take_place(self, node: int) -> None:
        """Start a node now, or when a place in its limited group is free (27)."""
        scope = self.scopes[self.scope_of[node]]
        group = scope.group
        if group is not None and group.limit is not None:
            if len(scope.running) >= group.limit:
                scope.held.append((node, self.cycle[node]))
                self.without_place.add(node)
                return
            scope.running.add(node)
        self._set_out(node)

    def admit(self, scope: ScopeState) -> None:
        """Give free places of a limited group to members that wait, first come first served.

        By now what follows the members that gave them up has had its turn: a branch goes on before another one begins.
        """
        limit = scope.group.limit if scope.group is not None else None
        while scope.held and limit is not None and len(scope.running) < limit:
            node, cycle = scope.held.popleft()
            if node in self.without_place and self.cycle[node] == cycle:  # else it was stopped meanwhile
                self.without_place.discard(node)
                scope.running.add(node)
                self._set_out(node)

    def _set_out(self, node: int) -> None:
        if node in self.scopes:
            self.enter_scope(self.scopes[node])
        else:
            self.start(node)

    def add_node(self, node_id: str, scope: ScopeState, branch: int, maker: int, task: Task[..., Any]) -> int:
        """A new node in a scope, without edges."""
        self.attempt.append(0)
        return super().add_node(node_id, scope, branch, maker, task)

    # ---- what successors want to know ----

    def want_all(self, node: int, decision: int) -> None:
        """Let every edge of a node be decided the same way."""
        for edge in self.plan.outs[node] if node < len(self.plan.outs) else ():
            self.want[edge] = decision

    def want_on_success(self, node: int) -> None:
        """A node has succeeded: success and always edges fire, failure edges are skipped (2)."""
        if node in self.plan.forks:
            for edge in self.plan.outs[node]:
                self.want[edge] = SKIP if self.plan.edges[edge].on == "failure" else FIRE
        else:
            self.want_all(node, FIRE)

    def predecessor(self, node: int) -> int | None:
        """The only node whose edge fired for the present visit, None if there are several or none (30)."""
        came_from = self.came_from.get(node)
        if came_from is None:
            if node in self.item_of or (node < len(self.plan.ins) and not self.plan.ins[node]):
                group = self.scope_of[node]
                return None if group == RUN else self.predecessor(group)
            came_from = [self.plan.edges[edge].source for edge in self.plan.ins[node] if self.edge[edge] == FIRE]
        return came_from[0] if len(set(came_from)) == 1 else None
