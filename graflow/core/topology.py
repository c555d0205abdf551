"""The order of a graph's nodes, and its cycles."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Protocol

from graflow.errors import GraphError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from graflow.core.edge import Edge


class Adjacency:
    """The edges of each node, by its id."""

    __slots__ = ("_ins", "_outs")

    def __init__(self, edges: Iterable[Edge]) -> None:
        self._outs: dict[str, list[Edge]] = {}
        self._ins: dict[str, list[Edge]] = {}
        for edge in edges:
            self.add(edge)

    def add(self, edge: Edge) -> None:
        self._outs.setdefault(edge.source, []).append(edge)
        self._ins.setdefault(edge.target, []).append(edge)

    def outs(self, node_id: str) -> Sequence[Edge]:
        """Edges that leave a node, in drawing order."""
        return self._outs.get(node_id, ())

    def ins(self, node_id: str) -> Sequence[Edge]:
        """Edges that lead to a node, in drawing order."""
        return self._ins.get(node_id, ())

    def around(self, node_id: str) -> Sequence[Edge]:
        """Both."""
        return (*self.outs(node_id), *self.ins(node_id))


class Graph(Protocol):
    """What is read of a graph here."""

    @property
    def edges(self) -> tuple[Edge, ...]: ...
    def members(self, group_id: str | None) -> tuple[str, ...]: ...


def sort_nodes(graph: Graph) -> list[str]:
    """All ids, each after those that lead to it; a group is followed by its members.

    Raises GraphError naming a cycle.
    """
    following = _following(graph)
    order: list[str] = []
    stack = list(reversed(_sort_scope(graph.members(None), following)))
    while stack:
        node = stack.pop()
        order.append(node)
        stack += reversed(_sort_scope(graph.members(node), following))
    return order


def find_cycle(graph: Graph) -> list[str] | None:
    """The ids along some cycle, the first one repeated at the end, or None."""
    following = _following(graph)
    scopes: list[str | None] = [None]
    while scopes:
        members = graph.members(scopes.pop())
        left = _left_over(members, following, [])
        if left:
            return _trace(left, following)
        scopes += [member for member in members if graph.members(member)]
    return None


def _following(graph: Graph) -> dict[str, list[str]]:
    following: dict[str, list[str]] = {}
    for edge in graph.edges:
        following.setdefault(edge.source, []).append(edge.target)
    return following


def _sort_scope(members: tuple[str, ...], following: dict[str, list[str]]) -> list[str]:
    order: list[str] = []
    left = _left_over(members, following, order)
    if left:
        cycle = _trace(left, following)
        raise GraphError(f"the graph has a cycle, so its nodes have no order: {' >> '.join(cycle)}", ids=cycle)
    return order


def _left_over(members: tuple[str, ...], following: dict[str, list[str]], order: list[str]) -> set[str]:
    """Kahn's algorithm: fills ``order``, and returns the nodes that are in a cycle or behind one."""
    waiting = dict.fromkeys(members, 0)
    for member in members:
        for target in following.get(member, ()):
            waiting[target] += 1
    ready = deque(member for member in members if not waiting[member])
    while ready:
        node = ready.popleft()
        order.append(node)
        for target in following.get(node, ()):
            waiting[target] -= 1
            if not waiting[target]:
                ready.append(target)
    return {member for member in members if waiting[member]}


def _trace(left: set[str], following: dict[str, list[str]]) -> list[str]:
    """A cycle among ``left``. Each of them has a predecessor there, so that going backwards must come round."""
    before: dict[str, str] = {}
    for source in following:
        if source in left:
            before.update((target, source) for target in following[source] if target in left)
    node = min(left)
    path: dict[str, None] = {}
    while node not in path:
        path[node] = None
        node = before[node]
    found = list(path)
    cycle = found[found.index(node) :][::-1]
    return [cycle[-1], *cycle]
