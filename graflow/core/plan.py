"""The compiled, frozen form of a graph: what a run is made from.

Nodes and edges are numbered; everything a run asks of its graph again and again is looked up by number. Nodes of one scope are contiguous,
top-level ones first, so that a group's members are a range.
"""

from __future__ import annotations

from collections import deque
from copy import copy
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final, Literal

import msgspec
from msgspec.structs import replace

from graflow.core.digest import digest_graph
from graflow.core.edge import Edge
from graflow.core.group import ParallelGroup
from graflow.core.loops import Loop, find_loops
from graflow.core.task import Task
from graflow.errors import GraphError, UnknownTaskError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from collections.abc import Mapping as AnyMapping

    from graflow.core.graph import GraphNode, TaskGraph
    from graflow.core.policy import GroupPolicy

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


class Plan:
    """A graph ready to run. Made by :func:`compile_plan`; never changed afterwards, and shared by all runs of the graph.

    Attributes are parallel sequences indexed by node number (``ids``, ``tasks``, ``groups``, ``scope``, ``branch``, ``outs``, ``ins``,
    ``around``) or by edge number (``edges``). ``loops`` are ordered outer before inner within a scope.
    """

    __slots__ = (
        "_all_ins", "_digest", "_handler_kinds", "around", "branch", "drawn", "edges", "forks", "group_depth", "groups", "ids", "index", "indegree", "ins", "is_back",
        "loops", "map_sources", "max_cycles", "name", "output_given", "outputs", "outs", "recipes", "released", "scope", "shared_recipes", "start", "substitute", "tasks", "top",
    )  # fmt: skip

    def __init__(self, name: str) -> None:
        self.name = name
        self.drawn: dict[int, ParallelGroup[Any]] = {}
        """groups as they were drawn"""
        self.ids: list[str] = []
        self.index: dict[str, int] = {}
        self.tasks: list[Task[..., Any] | None] = []
        self.groups: list[GroupPlan | None] = []
        self.scope: list[int] = []
        self.branch: list[int] = []
        self.group_depth: dict[int, int] = {RUN: 0}
        self.max_cycles: dict[int, int] = {}
        self.top: range = range(0)
        self.edges: list[PlanEdge] = []
        self.is_back = bytearray()
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
        self.output_given = False
        self._digest: str | None = None
        self._all_ins: list[list[int]] | None = None
        self.substitute: Substitute | None = None
        """what replaces a task made at run time, in a plan with stubs"""
        self._handler_kinds: dict[str, str] | None = None
        self.recipes: list[Any] = []
        """how a node is run; filled in by core.calls at a node's first visit and shared by all runs"""
        self.shared_recipes: dict[Any, Any] = {}

    @property
    def all_ins(self) -> list[list[int]]:
        """Edges into each node, back edges included; worked out when first asked for."""
        if self._all_ins is None:
            self._all_ins = [[] for _ in self.ids]
            for number, edge in enumerate(self.edges):
                self._all_ins[edge.target].append(number)
        return self._all_ins

    @property
    def digest(self) -> str:
        """What identifies the plan in every process: sha-256 over structure and code, start and output included."""
        if self._digest is None:
            ends = [self.start, self.outputs if self.output_given else None]
            self._digest = sha256(repr((digest_graph(_Drawn(self)), ends)).encode()).hexdigest()
        return self._digest

    @property
    def handler_kinds(self) -> dict[str, str]:
        """The handlers that the plan's tasks need, each with one task that needs it."""
        if self._handler_kinds is None:
            mapped = (group.mapping.task for group in self.groups if group is not None and group.mapping is not None)
            tasks = (task for task in (*self.tasks, *mapped) if task is not None)
            self._handler_kinds = {task.handler_kind: task.id for task in tasks}
        return self._handler_kinds

    def holds(self, node: int, task: Task[..., Any]) -> bool:
        """Whether a node runs this very task, rather than another one of the same id."""
        return self.tasks[node] == (task if self.substitute is None else self.substitute(task))

    def substituted(self, substitute: Substitute) -> Plan:
        """The same plan with other tasks."""
        twin = copy(self)
        twin.substitute = substitute
        twin.tasks = [None if task is None else substitute(task) for task in self.tasks]
        twin.groups = [
            replace(group, mapping=replace(group.mapping, task=substitute(group.mapping.task, group.mapping.parameter))) if group is not None and group.mapping is not None else group
            for group in self.groups
        ]
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


class _Drawn:
    """A plan seen as the graph that it was compiled from, which may have been changed since."""

    def __init__(self, plan: Plan) -> None:
        self.name = plan.name
        self.nodes = {name: plan.tasks[number] or plan.drawn[number] for number, name in enumerate(plan.ids)}
        self.edges = tuple(Edge(plan.ids[edge.source], plan.ids[edge.target], edge.on) for edge in plan.edges)
        self._plan = plan

    def scope_of(self, node_id: str) -> str | None:
        scope = self._plan.scope[self._plan.index[node_id]]
        return None if scope == RUN else self._plan.ids[scope]


def compile_plan(graph: TaskGraph, *, start: str | None = None, output: str | None = None) -> Plan:
    """The plan of a graph, from the graph's cache when it has not changed since.

    Args:
        graph: what to compile; it is validated first.
        start: the id of the top-level node to begin with, None for all that nothing leads to (rule 3).
        output: the id of the node whose result is the run's output, None for the last ones (rule 32).

    Raises:
        GraphError: the graph cannot run as it is written; the subclass says why.
    """
    key = (graph.revision, start, output)
    cached = graph.compiled
    if cached is not None and cached[0] == key:
        plan: Plan = cached[1]
        return plan
    graph.validate()
    plan = Plan(graph.name)
    _number_nodes(plan, graph)
    connect(plan, [PlanEdge(plan.index[edge.source], plan.index[edge.target], edge.on) for edge in graph.edges])
    _choose_ends(plan, start, output)
    plan.recipes = [None] * len(plan.ids)
    graph.compiled = (key, plan)
    return plan


def _number_nodes(plan: Plan, graph: TaskGraph) -> None:
    """Scope by scope, each a contiguous range: first the top level, then the members of each group in turn."""
    groups: deque[int] = deque()
    nodes = graph.nodes
    plan.top = _number_scope(plan, nodes, graph.members(None), RUN, groups)
    while groups:
        number = groups.popleft()
        group = plan.drawn[number]
        plan.group_depth[number] = plan.group_depth[plan.scope[number]] + 1
        members = _number_scope(plan, nodes, graph.members(group.id), number, groups)
        for place, branch in enumerate(group.branches):
            for member in branch.nodes:
                plan.branch[plan.index[member.id]] = place
        plan.groups[number] = _plan_group(plan, group, members)
    _resolve_mappings(plan)


def _number_scope(plan: Plan, nodes: AnyMapping[str, GraphNode], members: Sequence[str], scope: int, groups: deque[int]) -> range:
    """Number the nodes of one scope; the groups among them are added to those whose members come next."""
    begin = len(plan.ids)
    end = begin + len(members)
    plan.ids += members
    plan.index.update(zip(members, range(begin, end), strict=True))
    plan.scope += [scope] * len(members)
    plan.branch += [0] * len(members)
    plan.groups += [None] * len(members)
    for number, member in enumerate(members, begin):
        node = nodes[member]
        if type(node) is ParallelGroup:  # final, and its base is an ABC, which makes isinstance slow
            plan.tasks.append(None)
            plan.drawn[number] = node
            groups.append(number)
        else:
            plan.tasks.append(node)
            if node.options.max_cycles is not None:
                plan.max_cycles[number] = node.options.max_cycles
    return range(begin, end)


def _plan_group(plan: Plan, group: ParallelGroup[Any], members: range) -> GroupPlan:
    named = frozenset(plan.branch[plan.index[member]] for member in group.policy.ids if member in plan.index)
    lasts = tuple(plan.index[branch.id] for branch in group.branches)
    return GroupPlan(members, lasts, group.policy, group.limit, named, None)


def _resolve_mappings(plan: Plan) -> None:
    sources: set[int] = set()
    for number, node in plan.drawn.items():
        group = plan.groups[number]
        if group is None or node.mapped is None:
            continue
        mapping = Mapping(node.mapped.task, plan.index[node.mapped.source_id], node.mapped.parameter)
        sources.add(mapping.source)
        plan.groups[number] = replace(group, mapping=mapping)
    plan.map_sources = frozenset(sources)


def connect(plan: Plan, edges: list[PlanEdge]) -> None:
    """Give a plan whose nodes are numbered its edges, in drawing order, and find its loops."""
    plan.edges = edges
    plan.is_back = bytearray(len(edges))
    _find_loops(plan)
    _sort_edges(plan)


def _find_loops(plan: Plan) -> None:
    if all(edge.source < edge.target for edge in plan.edges):
        return
    by_scope: dict[int, list[tuple[int, int, int]]] = {}
    for number, edge in enumerate(plan.edges):
        by_scope.setdefault(plan.scope[edge.source], []).append((number, edge.source, edge.target))
    for scope, arcs in sorted(by_scope.items()):
        group = plan.groups[scope] if scope != RUN else None
        members = plan.top if group is None else group.members
        plan.loops += find_loops(members, arcs, scope)
    holders: dict[int, list[int]] = {}
    for number, loop in enumerate(plan.loops):
        for number_of_edge in loop.back:
            plan.is_back[number_of_edge] = 1
        for node in loop.body:
            holders.setdefault(node, []).append(number)
    plan.around = {
        node: tuple(sorted(numbers, key=lambda number: -plan.loops[number].depth)) for node, numbers in holders.items()
    }


def _sort_edges(plan: Plan) -> None:
    """Which edges leave and enter each node; what each join waits for."""
    count = len(plan.ids)
    kept = {edge for loop in plan.loops for edge in loop.leaving}
    forward = [number for number, back in enumerate(plan.is_back) if not back]
    plan.outs = _by_node(count, ((edge.source, number) for number, edge in enumerate(plan.edges)))
    plan.ins = _by_node(count, ((plan.edges[number].target, number) for number in forward))
    plan.indegree = list(map(len, plan.ins))
    if plan.loops:
        plan.released = _by_node(count, ((plan.edges[number].source, number) for number in forward if number not in kept))
    else:
        plan.released = plan.outs
    forks: dict[int, list[int]] = {}
    for number, edge in enumerate(plan.edges):
        if edge.on != "success":
            forks.setdefault(edge.source, []).append(number)
    plan.forks = {node: tuple(numbers) for node, numbers in forks.items()}


def _by_node(count: int, pairs: Iterable[tuple[int, int]]) -> list[tuple[int, ...]]:
    """Edge numbers by node. Most nodes have one or none: a tuple for each, and a list only for those with more."""
    sorted_: list[tuple[int, ...]] = [()] * count
    several: dict[int, list[int]] = {}
    for node, number in pairs:
        if not sorted_[node]:
            sorted_[node] = (number,)
        elif node in several:
            several[node].append(number)
        else:
            several[node] = [*sorted_[node], number]
    for node, numbers in several.items():
        sorted_[node] = tuple(numbers)
    return sorted_


def _choose_ends(plan: Plan, start: str | None, output: str | None) -> None:
    if start is not None:
        plan.start = _known(plan, start, "start")
        if plan.scope[plan.start] != RUN:
            around = plan.ids[plan.scope[plan.start]]
            raise GraphError(f"start={start!r} is a member of the group {around!r}; start at the group or at another top-level node", ids=(start, around))
    if output is not None:
        plan.outputs = (_known(plan, output, "output"),)
        plan.output_given = True
    else:
        plan.outputs = tuple(node for node in plan.top if all(plan.is_back[edge] for edge in plan.outs[node]))


def _known(plan: Plan, node_id: str, role: str) -> int:
    number = plan.index.get(node_id)
    if number is None:
        known = ", ".join(map(repr, plan.ids[:5]))
        raise UnknownTaskError(
            f"{role}={node_id!r} is not in the graph {plan.name!r}, which has {known}{', ...' if len(plan.ids) > 5 else ''}",
            ids=(node_id,),
            known=plan.ids[:5],
        )
    return number
