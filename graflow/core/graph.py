"""The graph: nodes and edges by id, with the groups that hold them."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any, cast

from graflow.core.checks import check_graph, crossing_error, two_groups_error
from graflow.core.digest import digest_graph
from graflow.core.edge import Condition, Edge, check_condition
from graflow.core.naming import check_id, duplicate_error, unknown_error
from graflow.core.node import Chain, Node, ParallelGroup, first_of, is_group, last_of, mark_joined, merge_groups
from graflow.core.operands import operand_error
from graflow.core.recording import forget
from graflow.core.task import Task
from graflow.core.topology import Adjacency, find_cycle, sort_nodes

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["Condition", "Edge", "GraphNode", "TaskGraph"]

GraphNode = Task[..., Any] | ParallelGroup[Any]


class TaskGraph:
    """Tasks and groups joined by edges; may hold cycles. What a workflow draws, and what can be built by hand.

    Example::

        graph = TaskGraph("numbers")
        graph.add_task(fetch)
        graph.add_task(clean)
        graph.add_edge("fetch", "clean")

    Attributes:
        name: what the graph is called in messages and events.
        compiled: where the plan made from this graph is kept; for the compiler.
    """

    __slots__ = (
        "_adjacency",
        "_aliases",
        "_edges",
        "_groups",
        "_implied",
        "_mapped",
        "_members",
        "_nodes",
        "_revision",
        "_scopes",
        "_top",
        "compiled",
        "name",
    )

    def __init__(self, name: str = "graph") -> None:
        self.name: str = check_id(name, "the name of a graph")
        self.compiled: Any = None
        self._nodes: dict[str, GraphNode] = {}
        self._top: dict[str, None] = {}
        self._scopes: dict[str, str] = {}
        """member -> its group; top-level nodes are absent"""
        self._members: dict[str, tuple[str, ...]] = {}
        self._edges: dict[Edge, None] = {}
        self._groups: list[ParallelGroup[Any]] = []
        """every group object that was added, also those that turned out to be a group which was there already"""
        self._aliases: dict[str, list[ParallelGroup[Any]]] = {}
        """for groups that were written several times, all of them"""
        self._mapped: list[str] = []
        self._adjacency: Adjacency | None = None
        self._implied: tuple[Edge, ...] | None = ()
        self._revision = 0

    # ---- building ----

    def add(self, *nodes: Node[Any]) -> None:
        """Add tasks, chains and groups with all that they are made of. What is there already is not added again.

        Raises:
            DuplicateTaskError: another node has one of the ids.
            GraphError: a task would be in two groups, an edge would cross a group's border, or one group is given two
                policies.
        """
        for node in nodes:
            self.add_nodes_of(node)
            self.add_edges_of(node)
            forget(node)

    def add_task(self, task: Task[..., Any], /) -> None:
        """Add a task. Raises DuplicateTaskError when another node has its id."""
        self.add(task)

    def add_edge(self, source: Node[Any] | str, target: Node[Any] | str, /, *, on: Condition = "success") -> None:
        """Let ``source`` lead to ``target``.

        Args:
            source: a node, or the id of one in the graph; a node that is not there yet is added.
            target: likewise.
            on: follow the edge when the source succeeds, when it fails for good (``failure``), or either way
                (``always``).

        Raises:
            UnknownTaskError: an id that the graph does not have.
            GraphError: the edge would cross a group's border.
        """
        condition = check_condition(on)
        for end in (source, target):
            if not isinstance(end, str):
                self.add(end)
        edge = Edge(
            self._known(source if isinstance(source, str) else last_of(source).id),
            self._known(target if isinstance(target, str) else first_of(target).id),
            condition,
        )
        self._link(edge)
        mark_joined(self._nodes[edge.source])
        mark_joined(self._nodes[edge.target])

    def add_nodes_of(self, node: Node[Any]) -> None:
        """Add the nodes of an expression without its edges, so that edges by id may refer to what is drawn later."""
        if isinstance(node, Chain):
            for each in node:
                self._put(each)
        else:
            self._put(node)

    def add_edges_of(self, node: Node[Any]) -> None:
        """Add the edges of an expression whose nodes are in the graph."""
        if isinstance(node, Chain):
            for edge in node.edges:
                self._link(edge)

    def _put(self, node: Node[Any]) -> None:
        unfilled = self._register(node)
        while unfilled:  # not by recursion: groups may nest deeper than the stack
            group = unfilled.pop()
            for branch in group.branches:
                for member in branch.nodes:
                    unfilled += self._register(member)
            if group.id not in self._members:
                self._enclose(group)

    def _register(self, node: Node[Any]) -> list[ParallelGroup[Any]]:
        """Put a node among the others; a group that has not been seen before is returned, to be filled."""
        if isinstance(node, Task):
            self._register_task(node)
            return []
        if not is_group(node):
            raise operand_error("add()", "", node)
        return [node] if self._register_group(node) else []

    def _register_task(self, task: Task[..., Any]) -> None:
        node_id = task.id
        known = self._nodes.get(node_id)
        if known is None:
            self._nodes[node_id] = task
            self._top[node_id] = None
            self._touch()
        elif known is not task and known != task:
            raise duplicate_error(node_id, f"of the graph {self.name!r}")

    def _register_group(self, group: ParallelGroup[Any]) -> bool:
        known = self._nodes.get(group.id)
        if known is None:
            self._nodes[group.id] = group
            self._top[group.id] = None
            if group.mapped is not None:
                self._mapped.append(group.id)
        elif not is_group(known) or not known.same_shape(group):
            raise duplicate_error(group.id, f"of the graph {self.name!r}")
        else:
            aliases = self._aliases.get(group.id, [known])
            if any(alias is group for alias in aliases):
                return False
            merge_groups([*aliases, group])
            self._aliases[group.id] = [*aliases, group]
        self._groups.append(group)
        self._touch()
        return True

    def _enclose(self, group: ParallelGroup[Any]) -> None:
        """Make the group's nodes its members. They may have stood at the top level until now, with edges."""
        ids = tuple(node.id for branch in group.branches for node in branch.nodes)
        self._members[group.id] = ids
        inside = frozenset(ids)
        for member in ids:
            if member in self._scopes:
                raise two_groups_error(member, self._scopes[member], group.id)
            for edge in self._adjacent().around(member) if self._edges else ():
                if edge.source not in inside or edge.target not in inside:
                    raise crossing_error(edge, member, group.id)
            self._scopes[member] = group.id
            del self._top[member]
        for branch in group.branches:
            for edge in branch.edges:
                self._link(edge)

    def _link(self, edge: Edge) -> None:
        if edge in self._edges:
            return
        if self._scopes:
            around, beyond = self._scopes.get(edge.source), self._scopes.get(edge.target)
            if around != beyond:
                inside, group = (edge.source, around) if around is not None else (edge.target, beyond)
                raise crossing_error(edge, inside, str(group))
        self._edges[edge] = None
        if self._adjacency is not None:
            self._adjacency.add(edge)
        self._touch()

    def _touch(self) -> None:
        self._revision += 1
        self._implied = None

    # ---- reading ----

    @property
    def revision(self) -> int:
        """A number that grows with every change, also with that of the policy of a group in the graph."""
        return self._revision + sum([group.revision for group in self._groups])

    @property
    def nodes(self) -> Mapping[str, GraphNode]:
        """All nodes by id, members of groups included, in order of adding. Read-only."""
        for group_id, aliases in self._aliases.items():
            self._nodes[group_id] = merge_groups(aliases)
        return MappingProxyType(self._nodes)

    @property
    def edges(self) -> tuple[Edge, ...]:
        """All edges in drawing order, followed by those that ``t.map(source)`` implies (rule 27)."""
        return (*self._edges, *self._implied_edges())

    def _implied_edges(self) -> tuple[Edge, ...]:
        if self._implied is None:
            self._implied = tuple(self._find_implied()) if self._mapped else ()
        return self._implied

    def _find_implied(self) -> Iterator[Edge]:
        for group_id in self._mapped:
            mapped = cast("ParallelGroup[Any]", self._nodes[group_id]).mapped
            source = mapped.source_id if mapped is not None else group_id
            if source == group_id or source not in self._nodes:
                continue
            if self._scopes.get(source) != self._scopes.get(group_id):
                continue
            if Edge(source, group_id) not in self._edges and Edge(source, group_id, "always") not in self._edges:
                yield Edge(source, group_id)

    def scope_of(self, node_id: str) -> str | None:
        """The id of the group that a node is a member of, or None at the top level. Raises UnknownTaskError."""
        return self._scopes.get(self._known(node_id))

    def members(self, group_id: str | None) -> tuple[str, ...]:
        """The ids of a group's members in order, or of the top-level nodes for None. Raises UnknownTaskError."""
        return tuple(self._top) if group_id is None else self._members.get(self._known(group_id), ())

    def predecessors(self, node_id: str) -> tuple[str, ...]:
        """The nodes that lead to this one, each once. Raises UnknownTaskError."""
        edges = (*self._adjacent().ins(self._known(node_id)), *self._implied_edges())
        return tuple(dict.fromkeys(edge.source for edge in edges if edge.target == node_id))

    def successors(self, node_id: str) -> tuple[str, ...]:
        """The nodes that this one leads to, each once. Raises UnknownTaskError."""
        edges = (*self._adjacent().outs(self._known(node_id)), *self._implied_edges())
        return tuple(dict.fromkeys(edge.target for edge in edges if edge.source == node_id))

    def _adjacent(self) -> Adjacency:
        if self._adjacency is None:
            self._adjacency = Adjacency(self._edges)
        return self._adjacency

    def _known(self, node_id: str) -> str:
        if node_id not in self._nodes:
            raise unknown_error(node_id, self.name, self._nodes)
        return node_id

    def topological_sort(self) -> list[str]:
        """All ids, each after those that lead to it; a group is followed by its members.

        Raises:
            GraphError: the graph has a cycle; the message shows it.
        """
        return sort_nodes(self)

    def has_cycle(self) -> bool:
        """Whether edges lead from some node back to it."""
        return find_cycle(self) is not None

    def validate(self) -> None:
        """Check what can only be said of the graph as a whole.

        Raises:
            EmptyGraphError: there is no node.
            InvalidPolicyError: a policy that its group can never meet.
            UnknownTaskError: ``t.map(source)`` of a node that the graph does not have.
            GraphError: a self-edge without ``max_cycles``, or a mapped group that its source does not lead to.
        """
        check_graph(self)

    def digest(self) -> str:
        """The sha-256, in hex, of the structure and the code. The same in every process; another after any change."""
        return digest_graph(self)

    def calculate_hash(self) -> str:
        """The :meth:`digest`, under the name that stores of graphs by content ask for: what is known by it need not be sent again."""
        return self.digest()

    def copy(self) -> TaskGraph:
        """A graph with the same nodes and edges that can be changed on its own. (The groups are shared.)"""
        twin = TaskGraph(self.name)
        for name in ("_nodes", "_top", "_scopes", "_members", "_edges", "_aliases", "_groups", "_mapped"):
            setattr(twin, name, getattr(self, name).copy())
        twin._touch()
        return twin

    def __contains__(self, node: object) -> bool:
        return (node.id if isinstance(node, Node) else node) in self._nodes

    def __len__(self) -> int:
        return len(self._nodes)

    def __repr__(self) -> str:
        return f"<TaskGraph {self.name}: {len(self._nodes)} nodes, {len(self._edges)} edges>"
