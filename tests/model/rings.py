"""The loops of a graph, found the slow way: who can reach whom, by trying."""

from __future__ import annotations

from dataclasses import dataclass

from graflow.core.edge import Edge
from tests.model.plans import GraphSpec


@dataclass(frozen=True)
class Ring:
    """A loop: its nodes, where its rounds begin, and the numbers of the edges that begin a new one."""

    header: str
    body: frozenset[str]
    back: frozenset[int]
    scope: str | None
    depth: int


def find_rings(graph: GraphSpec, rank: dict[str, int]) -> list[Ring]:
    """All loops; those of one scope together, outer before inner, then in the order of their nodes (5)."""
    scopes = [None, *(node.id for node in graph.nodes if node.is_group)]
    rings: list[Ring] = []
    for scope in sorted(scopes, key=lambda scope: -1 if scope is None else rank[scope]):
        inside = {node.id for node in graph.nodes if node.group == scope}
        edges = {number: edge for number, edge in enumerate(graph.edges) if edge.source in inside}
        rings += sorted(_peel(inside, edges, scope, 0), key=lambda ring: (ring.depth, min(rank[node] for node in ring.body)))
    return rings


def _peel(nodes: set[str], edges: dict[int, Edge], scope: str | None, depth: int) -> list[Ring]:
    rings: list[Ring] = []
    left = set(nodes)
    while left:
        node = left.pop()
        ahead = reachable(node, nodes, edges)
        body = {other for other in ahead if node in reachable(other, nodes, edges)}
        if not body:
            continue
        left -= body
        inner = {number: edge for number, edge in edges.items() if {edge.source, edge.target} <= body}
        entries = {edge.target for edge in edges.values() if edge.target in body and edge.source not in body} or body
        header = next(inner[number].source for number in sorted(inner) if inner[number].source in entries)
        back = frozenset(number for number, edge in inner.items() if edge.target == header)
        rings.append(Ring(header, frozenset(body), back, scope, depth))
        rest = {number: edge for number, edge in edges.items() if number not in back}
        rings += _peel(body - {header}, rest, scope, depth + 1)
    return rings


def reachable(node: str, nodes: set[str], edges: dict[int, Edge]) -> set[str]:
    """The nodes that one or more edges lead to without leaving ``nodes``."""
    seen: set[str] = set()
    work = [node]
    while work:
        here = work.pop()
        ahead = {edge.target for edge in edges.values() if edge.source == here and edge.target in nodes} - seen
        seen |= ahead
        work += ahead
    return seen


def rank_nodes(graph: GraphSpec) -> dict[str, int]:
    """The number of each node: the top level first, then the members of each group in turn."""
    order: list[str] = []
    scopes: list[str | None] = [None]
    for scope in scopes:
        members = [node for node in graph.nodes if node.group == scope]
        order += [node.id for node in members]
        scopes += [node.id for node in members if node.is_group]
    return {node: number for number, node in enumerate(order)}
