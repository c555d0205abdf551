"""The compiled, frozen form of a graph: what a run is made from.

Nodes and edges are numbered; everything a run asks of its graph again and again is looked up by number. Nodes of one scope are contiguous,
top-level ones first, so that a group's members are a range.
"""

from __future__ import annotations

from copy import copy
from typing import TYPE_CHECKING, Any, Final, Literal

import msgspec
from msgspec.structs import replace

from graflow.core.digest import digest_plan

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, MutableSequence, Sequence

    from graflow.core.loops import Loop
    from graflow.core.node import ParallelGroup
    from graflow.core.policy import GroupPolicy
    from graflow.core.task import Task

    Substitute = Callable[..., Task[..., Any]]
    """given a task and, for one that is mapped, the name of the parameter that takes the item; returns what is to run instead"""

RUN: Final = -1
"""The scope of top-level nodes."""

Condition = Literal["success", "failure", "always"]


class PlanEdge(msgspec.Struct, frozen=True, gc=False):
    """An edge between two nodes of one scope."""

    source: int
    target: int
    on: Condition = "success"


class Mapping(msgspec.Struct, frozen=True):
    """``task.map(source)``: members are made when the group is visited, one for each item of the source's result (rule 27)."""

    task: Task[..., Any]
    source: int
    parameter: str


class GroupPlan(msgspec.Struct, frozen=True):
    """A group: its members by number, the branches they belong to, and what decides it.

    Attributes:
        members: numbers of the nodes written in the group.
        lasts: for each branch the node whose result stands for it.
        policy: when the group fails.
        limit: how many members may run at once, None for all.
        critical: numbers of the branches that ``critical`` names.
        mapping: set for a group that is expanded at run time; then ``members`` and ``lasts`` are empty.
    """

    members: range
    lasts: tuple[int, ...]
    policy: GroupPolicy
    limit: int | None
    critical: frozenset[int]
    mapping: Mapping | None

    def substituted(self, substitute: Substitute) -> GroupPlan:
        """The same group, mapping another task."""
        if self.mapping is None:
            return self
        task = substitute(self.mapping.task, self.mapping.parameter)
        return replace(self, mapping=replace(self.mapping, task=task))


class Plan:
    """A graph ready to run. Made by :mod:`graflow.core.compiler`; never changed afterwards, and shared by all runs of the graph.

    Attributes are parallel sequences indexed by node number (``ids``, ``tasks``, ``groups``, ``scope``, ``branch``, ``outs``, ``ins``,
    ``around``) or by edge number (``edges``). ``loops`` are ordered outer before inner within a scope.
    """

    __slots__ = (
        "_all_ins", "_digest", "_handler_kinds", "_index", "around", "branch", "drawn", "edges", "forks", "group_depth", "groups", "ids", "indegree",
        "ins", "is_back", "loops", "map_sources", "max_cycles", "name", "output_given", "outputs", "outs", "recipes", "released",
        "scope", "shared_recipes", "start", "substitute", "tasks", "top",
    )  # fmt: skip

    def __init__(self, name: str) -> None:
        self.name: str = name
        self.drawn: dict[int, ParallelGroup[Any]] = {}
        """groups as they were drawn"""
        self.ids: list[str] = []
        self._index: dict[str, int] | None = {}
        self.tasks: list[Task[..., Any] | None] = []
        self.groups: list[GroupPlan | None] = []
        self.scope: MutableSequence[int] = []
        self.branch: MutableSequence[int] = []
        self.group_depth: dict[int, int] = {RUN: 0}
        self.max_cycles: dict[int, int] = {}
        self.top: range = range(0)
        self.edges: list[PlanEdge] = []
        self.is_back: bytearray = bytearray()
        self.outs: list[tuple[int, ...]] = []
        """all edges that leave a node"""
        self.released: list[tuple[int, ...]] = []
        """those decided as soon as their source is: neither back edges nor edges that leave a loop"""
        self.ins: list[tuple[int, ...]] = []
        """forward edges into a node: what its join waits for"""
        self.indegree: list[int] = []
        self.loops: list[Loop] = []
        self.around: dict[int, tuple[int, ...]] = {}
        """loops that hold a node, innermost first; nodes in no loop are absent"""
        self.forks: dict[int, tuple[int, ...]] = {}
        """nodes with a failure or always edge (rule 2), and those edges"""
        self.map_sources: frozenset[int] = frozenset()
        """nodes whose result some mapped group is expanded from"""
        self.start: int | None = None
        self.outputs: tuple[int, ...] = ()
        self.output_given: bool = False
        self._digest: str | None = None
        self._all_ins: list[list[int]] | None = None
        self.substitute: Substitute | None = None
        """what replaces a task made at run time, in a plan with stubs"""
        self._handler_kinds: dict[str, str] | None = None
        self.recipes: list[Any] = []
        """how a node is run; filled in by core.calls at a node's first visit and shared by all runs"""
        self.shared_recipes: dict[Any, Any] = {}

    @property
    def index(self) -> dict[str, int]:
        """Numbers of nodes by their ids; for a plan that came over the wire made when first asked for, which a worker may never do."""
        if self._index is None:
            self._index = dict(zip(self.ids, range(len(self.ids)), strict=True))
        return self._index

    def forget_index(self) -> None:
        """Have the index made anew when it is asked for: ``ids`` were set as a whole."""
        self._index = None

    @property
    def all_ins(self) -> Sequence[Sequence[int]]:
        """Edges into each node, back edges included; worked out when first asked for."""
        if not self.loops:
            return self.ins
        if self._all_ins is None:
            self._all_ins = [[] for _ in self.ids]
            for number, edge in enumerate(self.edges):
                self._all_ins[edge.target].append(number)
        return self._all_ins

    @property
    def digest(self) -> str:
        """What identifies the plan in every process: sha-256 over structure and code, start and output included."""
        if self._digest is None:
            self._digest = digest_plan(self)
        return self._digest

    @property
    def handler_kinds(self) -> dict[str, str]:
        """The handlers that the plan's tasks need, each with one task that needs it."""
        if self._handler_kinds is None:
            self._handler_kinds = {task.handler_kind: task.id for task in self.every_task()}
        return self._handler_kinds

    def every_task(self) -> Iterator[Task[..., Any]]:
        """The tasks of the nodes, and those that groups map."""
        yield from (task for task in self.tasks if task is not None)
        yield from (group.mapping.task for group in self.groups if group is not None and group.mapping is not None)

    def holds(self, node: int, task: Task[..., Any]) -> bool:
        """Whether a node runs this very task, rather than another one of the same id."""
        return self.tasks[node] == (task if self.substitute is None else self.substitute(task))

    def substituted(self, substitute: Substitute) -> Plan:
        """The same plan with other tasks."""
        twin = copy(self)
        twin.substitute = substitute
        twin.tasks = [None if task is None else substitute(task) for task in self.tasks]
        twin.groups = [None if group is None else group.substituted(substitute) for group in self.groups]
        twin.recipes, twin.shared_recipes = [None] * len(self.ids), {}
        twin._handler_kinds, twin._digest = None, None
        return twin

    def left_by(self, source: int, target: int) -> list[int]:
        """Loops that hold ``source`` and not ``target``, outermost first."""
        return [loop for loop in reversed(self.around.get(source, ())) if target not in self.loops[loop].body]

    def sees(self, node: int, target: int) -> bool:
        """Whether ``target`` stands beside ``node`` or beside a group around it (rule 15)."""
        scope, wanted = self.scope[node], self.scope[target]
        while scope != wanted:
            if scope == RUN:
                return False
            scope = self.scope[scope]
        return True

    def downstream(self, node: int) -> set[int]:
        """``node`` and all that forward edges lead to from there; a loop that is entered takes its exits with it (rule 13)."""
        seen, work = {node}, [node]
        entered = set[int]()
        while work:
            current = work.pop()
            following = [edge for edge in self.outs[current] if not self.is_back[edge]]
            for loop in self.around.get(current, ()):
                if loop not in entered:
                    entered.add(loop)
                    following += self.loops[loop].leaving
            for edge in following:
                target = self.edges[edge].target
                if target not in seen:
                    seen.add(target)
                    work.append(target)
        return seen
