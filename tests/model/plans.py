"""Graphs as plain data, and the plans made from them without the graph language."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

from graflow.core.compiler import connect
from graflow.core.edge import Edge
from graflow.core.plan import RUN, GroupPlan, Mapping, Plan, PlanEdge
from graflow.core.policy import GroupPolicy, strict
from graflow.core.task import Task, task


@dataclass(frozen=True)
class NodeSpec:
    """A task or group. ``group`` is the one that it is written in, ``branch`` the branch of that group.

    ``mapped`` names the node that a mapped group is expanded from, ``template`` the task whose instances its members are.
    """

    id: str
    group: str | None = None
    branch: int = 0
    max_cycles: int | None = None
    is_group: bool = False
    policy: GroupPolicy = strict
    limit: int | None = None
    mapped: str | None = None
    template: str = ""


@dataclass(frozen=True)
class GraphSpec:
    """Nodes in order of appearance, edges in drawing order."""

    nodes: tuple[NodeSpec, ...]
    edges: tuple[Edge, ...]


async def work(item: Any = None) -> Any:
    """What every task of these graphs would run, if anything here did."""
    return item


@cache
def template(max_cycles: int | None = None) -> Task[..., Any]:
    """The task that others are clones of: declaring one anew takes long."""
    return task("work", max_cycles=max_cycles)(work)


def a_task(id: str, max_cycles: int | None = None) -> Task[..., Any]:
    """A task of that id."""
    return template(max_cycles).clone(id)


def make_plan(graph: GraphSpec) -> Plan:
    """The plan of a graph: scope by scope, the top level first, then the members of each group in turn."""
    plan = Plan("model")
    members: dict[str | None, list[NodeSpec]] = {}
    for node in graph.nodes:
        members.setdefault(node.group, []).append(node)
    scopes: list[NodeSpec | None] = [None]
    for scope in scopes:
        begin, inside = len(plan.ids), members.get(scope and scope.id, [])
        for node in inside:
            _add(plan, node)
        scopes += [node for node in inside if node.is_group]
        numbers = range(begin, len(plan.ids))
        if scope is None:
            plan.top = numbers
        else:
            _add_group(plan, scope, numbers)
    plan.map_sources = frozenset(plan.index[node.mapped] for node in graph.nodes if node.mapped is not None)
    connect(plan, [PlanEdge(plan.index[edge.source], plan.index[edge.target], edge.on) for edge in graph.edges])
    return plan


def _add(plan: Plan, node: NodeSpec) -> None:
    number = plan.index[node.id] = len(plan.ids)
    plan.ids.append(node.id)
    plan.scope.append(RUN if node.group is None else plan.index[node.group])
    plan.branch.append(node.branch)
    plan.groups.append(None)
    plan.tasks.append(None if node.is_group else a_task(node.id))
    if node.max_cycles is not None:
        plan.max_cycles[number] = node.max_cycles


def _add_group(plan: Plan, spec: NodeSpec, members: range) -> None:
    number = plan.index[spec.id]
    plan.group_depth[number] = plan.group_depth[plan.scope[number]] + 1
    lasts = {plan.branch[member]: member for member in members}
    mapping = None
    if spec.mapped is not None:
        mapping = Mapping(a_task(spec.template or spec.id), plan.index[spec.mapped], "item")
    named = frozenset(plan.branch[plan.index[member]] for member in spec.policy.ids if member in plan.index)
    in_order = tuple(lasts[branch] for branch in range(len(lasts)))
    plan.groups[number] = GroupPlan(members, in_order, spec.policy, spec.limit, named, mapping)
