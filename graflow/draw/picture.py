"""What there is to draw: a graph's nodes and edges, with what is worth showing of each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import msgspec

from graflow.core.graph import TaskGraph
from graflow.core.loops import find_loops
from graflow.core.naming import unknown_error
from graflow.core.node import Node, is_group
from graflow.core.workflow import Workflow

if TYPE_CHECKING:
    from collections.abc import Mapping

    from graflow.core.edge import Condition
    from graflow.core.graph import GraphNode
    from graflow.core.node import ParallelGroup

LONGEST_TITLE = 48
"""characters of an unnamed group's id that are shown: it is made of all its members' ids, which are drawn anyway"""


class Box(msgspec.Struct, frozen=True):
    """A node of the graph.

    Attributes:
        id: its id.
        label: what is written on it.
        kind: a ``map`` is a group whose members are made at run time; it is drawn as one node.
        parent: the group that it stands in, None at the top level.
        members: ids of what stands in a group.
        note: a group's policy and limit, where they were set.
        is_start: a run begins here.
        is_output: its result is (part of) the run's output.
    """

    id: str
    label: str
    kind: Literal["task", "group", "map"]
    parent: str | None
    members: tuple[str, ...] = ()
    note: str = ""
    is_start: bool = False
    is_output: bool = False

    @property
    def text(self) -> str:
        """The label with the note."""
        return f"{self.label} ({self.note})" if self.note else self.label


class Arrow(msgspec.Struct, frozen=True):
    """An edge; ``is_back`` says that it closes a loop (rule 5)."""

    source: str
    target: str
    on: Condition = "success"
    is_back: bool = False

    @property
    def label(self) -> str:
        """What is written along the edge; nothing along an ordinary one."""
        condition = {"success": "", "failure": "on failure", "always": "always"}[self.on]
        return ", ".join(filter(None, ("again" if self.is_back else "", condition)))


class Picture(msgspec.Struct, frozen=True):
    """A graph ready to be drawn: nodes by id, groups before their members, and edges in drawing order."""

    name: str
    boxes: Mapping[str, Box]
    arrows: tuple[Arrow, ...]

    def inside(self, scope: str | None) -> list[Box]:
        """What stands in a group, or at the top level for None, in order."""
        if scope is None:
            return [box for box in self.boxes.values() if box.parent is None]
        return [self.boxes[member] for member in self.boxes[scope].members]

    def arrows_by_scope(self) -> dict[str | None, list[Arrow]]:
        """The edges between the members of each group, and under None those at the top level. No edge crosses a border (rule 22)."""
        scopes: dict[str | None, list[Arrow]] = {}
        for arrow in self.arrows:
            scopes.setdefault(self.boxes[arrow.source].parent, []).append(arrow)
        return scopes


def picture_of(graph: TaskGraph | Workflow[Any] | Node[Any], *, start: str | None = None, output: str | None = None) -> Picture:
    """The picture of a graph; see :func:`graflow.draw.draw` for the arguments.

    Raises:
        UnknownTaskError: ``start`` or ``output`` is not in the graph.
    """
    if isinstance(graph, Workflow):
        start, output = start or graph.start, output or graph.output
        graph = graph.graph
    elif isinstance(graph, Node):
        drawn = TaskGraph(graph.id)
        drawn.add(graph)
        graph = drawn
    for given in (start, output):
        if given is not None and given not in graph.nodes:
            raise unknown_error(given, graph.name, graph.nodes)
    arrows = _arrows(graph)
    top = graph.members(None)
    starts = {start} if start is not None else set(top) - {arrow.target for arrow in arrows if not arrow.is_back}
    outputs = {output} if output is not None else set(top) - {arrow.source for arrow in arrows if not arrow.is_back}
    boxes: dict[str, Box] = {}
    waiting = list(reversed(top))
    while waiting:
        node_id = waiting.pop()
        box = _box(graph, node_id, is_start=node_id in starts, is_output=node_id in outputs)
        boxes[node_id] = box
        waiting += reversed(box.members)
    return Picture(graph.name, boxes, arrows)


def _box(graph: TaskGraph, node_id: str, *, is_start: bool, is_output: bool) -> Box:
    node = graph.nodes[node_id]
    parent, members = graph.scope_of(node_id), graph.members(node_id)
    label, note = _label(node), ""
    kind: Literal["task", "group", "map"] = "task"
    if is_group(node):
        kind = "group" if node.mapped is None else "map"
        note = _note(node)
    return Box(node_id, label, kind, parent, members, note, is_start, is_output)


def _label(node: GraphNode) -> str:
    if not is_group(node):
        return node.id
    if node.mapped is not None:
        members = f"{node.mapped.task.id}[*]"
        return members if node.mapped.task.id == node.id else f"{node.id}: {members}"
    if node.named or len(node.id) <= LONGEST_TITLE:
        return node.id
    return f"{node.id[: LONGEST_TITLE - 1]}… ({len(node.branches)} branches)"


def _note(group: ParallelGroup[Any]) -> str:
    limit = f"limit {group.limit}" if group.limit is not None else ""
    return ", ".join(filter(None, (str(group.policy) if group.has_policy else "", limit)))


def _arrows(graph: TaskGraph) -> tuple[Arrow, ...]:
    edges = graph.edges
    number = {node_id: place for place, node_id in enumerate(graph.nodes)}
    by_scope: dict[str | None, list[tuple[int, int, int]]] = {}
    for place, edge in enumerate(edges):
        by_scope.setdefault(graph.scope_of(edge.source), []).append((place, number[edge.source], number[edge.target]))
    back: set[int] = set()
    for scope, arcs in by_scope.items():
        members = [number[member] for member in graph.members(scope)]
        back.update(edge for loop in find_loops(members, arcs, -1) for edge in loop.back)
    return tuple(Arrow(edge.source, edge.target, edge.on, place in back) for place, edge in enumerate(edges))
