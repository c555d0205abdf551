"""From a graph to its plan: numbers for nodes and edges, the loops, and what each join waits for."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from graflow.core.loops import find_loops
from graflow.core.node import ParallelGroup
from graflow.core.plan import RUN, GroupPlan, Mapping, Plan, PlanEdge
from graflow.errors import GraphError, UnknownTaskError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from collections.abc import Mapping as AnyMapping

    from graflow.core.graph import GraphNode, TaskGraph


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
    plan.around = {node: tuple(sorted(numbers, key=lambda number: -plan.loops[number].depth)) for node, numbers in holders.items()}


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
            message = f"start={start!r} is a member of the group {around!r}; start at the group or at another top-level node"
            raise GraphError(message, ids=(start, around))
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
