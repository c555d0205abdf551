"""What makes a graph impossible to run, and how to say so."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from graflow.core.naming import unknown_error
from graflow.core.node import is_group
from graflow.errors import EmptyGraphError, GraphError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from graflow.core.edge import Edge


class Graph(Protocol):
    """What is read of a graph here."""

    name: str

    @property
    def nodes(self) -> Mapping[str, Any]: ...
    @property
    def edges(self) -> tuple[Edge, ...]: ...
    def scope_of(self, node_id: str) -> str | None: ...


def crossing_error(edge: Edge, member: str, group: str) -> GraphError:
    """The error for an edge between a member and a node outside its group (rule 22)."""
    other = edge.target if member == edge.source else edge.source
    hint = f"join {other!r} to the group instead, or put it into the branch of {member!r}"
    return GraphError(
        f"the edge {edge.source!r} >> {edge.target!r} crosses the border of a group: "
        f"{member!r} is a member of {group!r} and {other!r} is not; {hint}",
        ids=(edge.source, edge.target),
    )


def two_groups_error(node_id: str, first: str, second: str) -> GraphError:
    """The error for a node that would be a member of two groups (rule 22)."""
    same = sorted(first.split("|")) == sorted(second.split("|"))
    hint = (
        "they have the same members in another order; write them in the same order"
        if same
        else f"use {node_id}.clone('other-id') in one of them"
    )
    return GraphError(f"{node_id!r} is a member of two groups, {first!r} and {second!r}; {hint}", ids=(node_id, first, second))


def check_graph(graph: Graph) -> None:
    """Raise the first reason why the graph cannot run; see :meth:`TaskGraph.validate`."""
    nodes = graph.nodes
    if not nodes:
        raise EmptyGraphError(f"the graph {graph.name!r} has no nodes; draw some with >>, or add a lone task with wf.add(task)")
    edges = graph.edges
    for edge in edges:
        if edge.source == edge.target:
            _check_self_edge(edge.source, nodes[edge.source])
    for node_id, node in nodes.items():
        if is_group(node):
            if node.mapped is None:
                node.check_policy(node.policy)
            else:
                _check_mapped(graph, node_id, node.mapped.source_id, edges)


def _check_self_edge(node_id: str, node: Any) -> None:
    if is_group(node):
        raise GraphError(
            f"the group {node_id!r} leads to itself; to repeat a group, lead back to it from a task after it",
            ids=(node_id,),
        )
    if node.options.max_cycles is None:
        raise GraphError(f"{node_id!r} leads to itself and would never end; give it a bound: @task(max_cycles=...)", ids=(node_id,))


def _check_mapped(graph: Graph, group_id: str, source: str, edges: tuple[Edge, ...]) -> None:
    nodes = graph.nodes
    if source == group_id:
        raise GraphError(
            f"the group {group_id!r} maps over its own result; give it another id with map(..., name='other-id')",
            ids=(group_id,),
        )
    if source not in nodes:
        raise unknown_error(source, graph.name, nodes, why=f"{group_id!r} maps over the result of {source!r}, and ")
    wanted, inner = graph.scope_of(source), group_id
    while graph.scope_of(inner) != wanted:
        around = graph.scope_of(inner)
        if around is None:
            raise GraphError(
                f"{group_id!r} maps over the result of {source!r}, which is a member of the group {wanted!r}; map over that group instead",
                ids=(group_id, source),
            )
        inner = around
    if inner == source:
        raise GraphError(f"{group_id!r} maps over the result of {source!r}, the group that it stands in", ids=(group_id, source))
    if inner != group_id and not _leads_to(source, inner, edges):
        raise GraphError(
            f"{group_id!r} maps over the result of {source!r}, but nothing leads from there to the group {inner!r} "
            f"around it; draw {source} >> that group",
            ids=(group_id, source),
        )


def _leads_to(source: str, target: str, edges: tuple[Edge, ...]) -> bool:
    following: dict[str, list[str]] = {}
    for edge in edges:
        following.setdefault(edge.source, []).append(edge.target)
    seen, work = {source}, [source]
    while work:
        for reached in following.get(work.pop(), ()):
            if reached == target:
                return True
            if reached not in seen:
                seen.add(reached)
                work.append(reached)
    return False
