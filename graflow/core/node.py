"""The shapes of the graph language: nodes, and what the operators make of them.

``Node``, ``Chain`` and ``ParallelGroup`` refer to each other (every node can be chained and put side by side), so they
stand in one module.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, Generic, NoReturn, TypeGuard, TypeVar, final

import msgspec

from graflow.core.edge import Edge
from graflow.core.naming import check_id, duplicate_error
from graflow.core.operands import operand_error
from graflow.core.policy import GroupPolicy, check_policy, coerce_policy, strict
from graflow.core.recording import record
from graflow.core.ropes import leaves, shortened
from graflow.errors import GraphError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from graflow.core.policy import PolicyLike

T = TypeVar("T")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)


class Node(ABC, Generic[R_co]):
    """What a graph is drawn from: a task, a chain or a group. ``R_co`` is the type of its result.

    ``a >> b`` runs b after a, ``b << a`` says the same, ``a | b`` runs them side by side.
    """

    __slots__ = ()

    @property
    @abstractmethod
    def id(self) -> str:
        """What the node is called in the graph, in results and in messages."""

    def __rshift__(self, other: Node[T]) -> Chain[T]:
        if not isinstance(other, Node):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise operand_error(">>", self.id, other)
        return Chain(self, other)

    def __lshift__(self, other: Node[Any]) -> Chain[R_co]:
        if not isinstance(other, Node):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise operand_error("<<", self.id, other)
        return Chain(other, self)

    def __or__(self, other: Node[T]) -> ParallelGroup[R_co | T]:
        if not isinstance(other, Node):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise operand_error("|", self.id, other)
        group = ParallelGroup[Any]((_flattened(self), _flattened(other)))
        record(group, self, other)
        return group

    if not TYPE_CHECKING:  # hidden from type checkers, which are to mark these as the mistakes that they are

        def __rrshift__(self, other: object) -> NoReturn:
            raise operand_error(">>", self.id, other, reflected=True)

        def __rlshift__(self, other: object) -> NoReturn:
            raise operand_error("<<", self.id, other, reflected=True)

        def __ror__(self, other: object) -> NoReturn:
            raise operand_error("|", self.id, other, reflected=True)


@final
class Chain(Node[R_co]):
    """Nodes one after the other. Its result is that of its last node.

    Attributes:
        first: the node that is reached by what leads to the chain.
        last: the node that leads to what follows the chain.
    """

    __slots__ = ("_edges", "_nodes", "_rope", "first", "last")

    def __init__(self, left: Node[Any], right: Node[R_co] | None = None) -> None:
        self._rope: Any = _unchained(left) if right is None else (_unchained(left), _unchained(right))
        self._nodes: tuple[Node[Any], ...] | None = None
        self._edges: tuple[Edge, ...] | None = None
        self.first: Node[Any] = first_of(left)
        self.last: Node[Any] = last_of(left if right is None else right)
        if right is not None:
            mark_joined(last_of(left))
            mark_joined(first_of(right))
            record(self, left, right)

    @property
    def id(self) -> str:
        """The id of the last node, whose result is the chain's."""
        return self.last.id

    def __iter__(self) -> Iterator[Node[Any]]:
        """The nodes as they were written; one that is visited again comes again."""
        return leaves(self._rope)

    @property
    def nodes(self) -> tuple[Node[Any], ...]:
        """Every node once, in order of appearance. Raises GraphError where different ones share an id."""
        if self._nodes is None:
            self._nodes = _distinct(self, "in one chain")
        return self._nodes

    @property
    def edges(self) -> tuple[Edge, ...]:
        """Every edge once, in drawing order."""
        if self._edges is None:
            ids = [node.id for node in self]
            self._edges = tuple(dict.fromkeys(map(Edge, ids, ids[1:])))
        return self._edges

    def __repr__(self) -> str:
        return f"<Chain {shortened(' >> ', [node.id for node in self])}>"


class Branch(msgspec.Struct, frozen=True):
    """One operand of ``|``: a node, or the nodes and edges of a chain.

    Attributes:
        nodes: tasks and groups in order of appearance.
        edges: what joins them.
        last: the node whose result stands for the branch.
    """

    nodes: tuple[Node[Any], ...]
    edges: tuple[Edge, ...]
    last: Node[Any]

    @property
    def id(self) -> str:
        """The id of the last node, by which results and policies name the branch."""
        return self.last.id


class MapSource(msgspec.Struct, frozen=True):
    """``task.map(source)``: the members are made when the group is visited (rule 27).

    Attributes:
        task: the task of which each item gets an instance.
        source_id: the node whose result is the list of items.
        parameter: the parameter of the task that takes the item.
    """

    task: Any  # a Task; its module stands above this one
    source_id: str
    parameter: str


@final
class ParallelGroup(Node[list[R]], Generic[R]):
    """Branches that run side by side; itself a node. Its result is the list of its branches' results, in order.

    Made by ``a | b``, :func:`graflow.parallel` and ``task.map(...)``.

    Attributes:
        limit: how many members may run at once, or None.
        mapped: set when the members are made at run time; there are no branches then.
        named: whether the id was given, by ``name=`` or by ``map``.
        revision: changes when the policy does.
    """

    __slots__ = ("_branches", "_id", "_joined", "_policy", "limit", "mapped", "named", "revision", "rope")

    def __init__(
        self,
        rope: Any = (),
        *,
        name: str | None = None,
        policy: PolicyLike | None = None,
        limit: int | None = None,
        mapped: MapSource | None = None,
    ) -> None:
        self.rope: Any = rope
        self._id = None if name is None else check_id(name, "the name of a group")
        self._branches: tuple[Branch, ...] | None = None
        self._policy: GroupPolicy | None = None
        self._joined = False
        self.limit: int | None = None if limit is None else _check_limit(limit)
        self.mapped: MapSource | None = mapped
        self.named: bool = name is not None
        self.revision: int = 0
        if policy is not None:
            self.with_policy(policy)

    @property
    def id(self) -> str:
        """The name, or else the ids of the members joined by ``|``."""
        if self._id is None:
            self._id = "|".join(node.id for branch in self.branches for node in branch.nodes)
        return self._id

    @property
    def branches(self) -> tuple[Branch, ...]:
        """The operands of ``|`` in order. Raises GraphError where two of them share a node."""
        if self._branches is None:
            self._branches = _branches_of(self.rope)
        return self._branches

    @property
    def policy(self) -> GroupPolicy:
        """When the group fails; ``strict`` unless set."""
        return self._policy or strict

    @property
    def has_policy(self) -> bool:
        """Whether the policy was given."""
        return self._policy is not None

    @property
    def is_bare(self) -> bool:
        """Whether ``|`` takes the group's branches instead of the group (rule 22)."""
        settings = (self._policy, self.limit, self.mapped)
        return not self.named and not self._joined and all(setting is None for setting in settings)

    def with_policy(self, policy: PolicyLike) -> ParallelGroup[R]:
        """Set when this group fails, and return it.

        Example::

            (a | b | c).with_policy(at_least_n(2)) >> d

        Raises:
            InvalidPolicyError: it is no policy, or one that these branches could never meet.
        """
        coerced = coerce_policy(policy)
        self.check_policy(coerced)
        self._policy = coerced
        self.revision += 1
        return self

    def check_policy(self, policy: GroupPolicy) -> None:
        """Raise InvalidPolicyError when the branches could never meet it. Those of a mapped group are not known yet."""
        if self.mapped is None:
            check_policy(policy, {branch.id: [node.id for node in branch.nodes] for branch in self.branches})

    def __or__(self, other: Node[T]) -> ParallelGroup[R | T]:  # type: ignore[override]  # pyright: ignore[reportIncompatibleMethodOverride]
        group: ParallelGroup[Any] = super().__or__(other)
        return group

    def same_shape(self, other: ParallelGroup[Any]) -> bool:
        """Whether both have the same members in the same branches, or map the same task over the same source."""
        return self.mapped == other.mapped and self._shape() == other._shape()

    def _shape(self) -> list[Any]:
        return [([node.id for node in branch.nodes], branch.edges) for branch in self.branches]

    def mark_joined(self) -> None:
        """Note that an edge leads here or away, so that ``|`` keeps the group whole."""
        self._joined = True

    def __repr__(self) -> str:
        if self.mapped is not None:
            return f"<ParallelGroup {self.id} of {self.mapped.task.id}.map({self.mapped.source_id!r})>"
        return f"<ParallelGroup {shortened(' | ', [branch.id for branch in self.branches])}>"


def is_group(node: object) -> TypeGuard[ParallelGroup[Any]]:
    """``isinstance``, for type checkers that would otherwise not know the type of the group's results."""
    return isinstance(node, ParallelGroup)


def first_of(node: Node[Any]) -> Node[Any]:
    """The node that an edge to ``node`` leads to."""
    return node.first if isinstance(node, Chain) else node


def last_of(node: Node[Any]) -> Node[Any]:
    """The node that an edge from ``node`` begins at."""
    return node.last if isinstance(node, Chain) else node


def mark_joined(node: Node[Any]) -> None:
    """Note that an edge leads to or from ``node``; only groups care."""
    if is_group(node):
        node.mark_joined()


def merge_groups(groups: list[ParallelGroup[Any]]) -> ParallelGroup[Any]:
    """The one group that was written several times: a policy or limit that was given wins over one that was not.

    Raises:
        GraphError: two different ones were given.
    """
    first = groups[0]
    policies = list(dict.fromkeys(group.policy for group in groups if group.has_policy))
    limits = list(dict.fromkeys(group.limit for group in groups if group.limit is not None))
    for what, given in (("policies", policies), ("limits", limits)):
        if len(given) > 1:
            text = f"the group {first.id!r} is given two {what}, {given[0]} and {given[1]}; give it one"
            raise GraphError(text, ids=(first.id,))
    policy, limit = policies[0] if policies else None, limits[0] if limits else None
    for group in groups:
        if group.has_policy == (policy is not None) and group.limit == limit:
            return group
    return ParallelGroup(first.rope, name=first.id, policy=policy, limit=limit, mapped=first.mapped)


def _check_limit(limit: Any) -> int:
    if not isinstance(limit, int) or isinstance(limit, bool) or limit < 1:
        raise GraphError(f"limit={limit!r}: give how many members may run at once, 1 or more, or None for all")
    return limit


def _branches_of(rope: Any) -> tuple[Branch, ...]:
    operands: list[Node[Any]] = list(leaves(rope))
    branches = [Branch(each.nodes, each.edges, each.last) if isinstance(each, Chain) else Branch((each,), (), each) for each in operands]
    owner: dict[str, tuple[Node[Any], Branch]] = {}
    for branch in branches:
        for node in branch.nodes:
            known, other = owner.setdefault(node.id, (node, branch))
            if other is not branch:
                raise _overlap_error(node, known, branch, other)
    return tuple(branches)


def _overlap_error(node: Node[Any], known: Node[Any], branch: Branch, other: Branch) -> GraphError:
    if known != node:
        return duplicate_error(node.id, "in one group")
    return GraphError(
        f"{node.id!r} stands in two branches of one group, {other.id!r} and {branch.id!r}; to run it after both write "
        f"(a | b) >> {node.id}, to run it twice give one of them another id with {node.id}.clone('other-id')",
        ids=(node.id,),
    )


def _distinct(nodes: Iterable[Node[Any]], where: str) -> tuple[Node[Any], ...]:
    found: dict[str, Node[Any]] = {}
    for node in nodes:
        known = found.setdefault(node.id, node)
        if known is node or known == node:
            continue
        if not (is_group(known) and is_group(node) and known.same_shape(node)):
            raise duplicate_error(node.id, where)
        found[node.id] = merge_groups([known, node])
    return tuple(found.values())


def _unchained(node: Node[Any]) -> Any:
    return node._rope if isinstance(node, Chain) else node  # pyright: ignore[reportPrivateUsage]


def _flattened(node: Node[Any]) -> Any:
    return node.rope if is_group(node) and node.is_bare else node
