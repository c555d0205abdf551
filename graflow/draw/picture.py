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
        policy: a group's policy, where it was set.
        limit: how many of a group's members may run at once, where that was set.
        instances_of: for a map, the id of the task that its members are instances of.
        items_of: for a map, the id of the node whose result is the list of items.
        is_start: a run begins here.
        is_output: its result is (part of) the run's output.
    """

    id: str
    label: str
    kind: Literal["task", "group", "map"]
    parent: str | None
    members: tuple[str, ...] = ()
    policy: str | None = None
    limit: int | None = None
    instances_of: str | None = None
    items_of: str | None = None
    is_start: bool = False
    is_output: bool = False

    @property
    def note(self) -> str:
        """What there is to say of a group."""
        return ", ".join(filter(None, (self.policy, f"limit {self.limit}" if self.limit is not None else None)))

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
    graph = graph_of(graph)
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


def graph_of(graph: TaskGraph | Workflow[Any] | Node[Any]) -> TaskGraph:
    """What is drawn as a ``TaskGraph``, whatever it is given as.

    Raises:
        GraphError: what was drawn makes no graph; the subclass says why.
    """
    if isinstance(graph, Workflow):
        return graph.graph
    if isinstance(graph, TaskGraph):
        return graph
    drawn = TaskGraph(graph.id)
    drawn.add(graph)
    return drawn


def _box(graph: TaskGraph, node_id: str, *, is_start: bool, is_output: bool) -> Box:
    node, parent = graph.nodes[node_id], graph.scope_of(node_id)
    if not is_group(node):
        return Box(node_id, node_id, "task", parent, is_start=is_start, is_output=is_output)
    return Box(
        node_id,
        _label(node),
        "group" if node.mapped is None else "map",
        parent,
        members=graph.members(node_id),
        policy=str(node.policy) if node.has_policy else None,
        limit=node.limit,
        instances_of=node.mapped.task.id if node.mapped is not None else None,
        items_of=node.mapped.source_id if node.mapped is not None else None,
        is_start=is_start,
        is_output=is_output,
    )


def _label(node: ParallelGroup[Any]) -> str:
    if node.mapped is not None:
        members = f"{node.mapped.task.id}[*]"
        return members if node.mapped.task.id == node.id else f"{node.id}: {members}"
    if node.named or len(node.id) <= LONGEST_TITLE:
        return node.id
    return f"{node.id[: LONGEST_TITLE - 1]}… ({len(node.branches)} branches)"


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
