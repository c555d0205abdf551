"""What identifies a graph: its structure and its code, in a form that is the same in every process."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, Protocol, cast

from graflow.core.identity import code_identity
from graflow.core.node import is_group

if TYPE_CHECKING:
    from collections.abc import Mapping, MutableSequence

    from graflow.core.edge import Edge
    from graflow.core.node import ParallelGroup
    from graflow.core.policy import GroupPolicy

_SCALARS = frozenset({type(None), bool, int, float, str, bytes})
"""Types whose ``repr`` says all there is to say, and is quick to make."""


class Graph(Protocol):
    """What is read of a graph here."""

    name: str

    @property
    def nodes(self) -> Mapping[str, Any]: ...
    @property
    def edges(self) -> tuple[Edge, ...]: ...
    def scope_of(self, node_id: str) -> str | None: ...


class Numbered(Protocol):
    """What is read of a plan here."""

    name: str
    ids: list[str]
    tasks: list[Any]
    groups: list[Any]
    scope: MutableSequence[int]
    branch: MutableSequence[int]
    edges: list[Any]
    start: int | None
    outputs: tuple[int, ...]
    output_given: bool


def digest_plan(plan: Numbered) -> str:
    """The sha-256, in hex, of a plan: its structure and code, and where it begins and ends.

    By columns, each of which is made into text at once: a plan may hold 100 000 nodes, and their names, numbers and arguments are all that
    differs among most of them.
    """
    code = _Code()
    kinds = [-1 if task is None else code.kind(task) for task in plan.tasks]
    bound = _Bound()
    for number, task in enumerate(plan.tasks):
        if task is not None and task.bound:
            bound.add(number, task.bound)
    groups: list[Any] = []
    for number, group in enumerate(plan.groups):
        if group is not None:
            groups.append((number, group.members, group.lasts, group.limit, code.policy(group.policy)))
            mapping = group.mapping
            if mapping is not None:
                groups.append((mapping.source, mapping.parameter, mapping.task.id, code.kind(mapping.task)))
                bound.add(~number, mapping.task.bound)
    nodes = (plan.name, plan.ids, list(plan.scope), list(plan.branch), kinds, list(code.kinds), bound.columns)
    edges = [[edge.source for edge in plan.edges], [edge.target for edge in plan.edges], [edge.on for edge in plan.edges]]
    ends = (plan.start, plan.outputs if plan.output_given else None)
    return hashlib.sha256(repr((nodes, groups, edges, ends)).encode("utf-8", "surrogatepass")).hexdigest()


class _Code:
    """The code behind the tasks and policies of a plan; each function, and options that thousands of clones share, are looked into once."""

    __slots__ = ("_known", "_policies", "kinds")

    def __init__(self) -> None:
        self.kinds: dict[tuple[bytes, bytes, bool], int] = {}
        """a number for whatever is another task by more than its id and arguments"""
        self._known: dict[tuple[int, int], int] = {}
        self._policies: dict[int, bytes] = {}

    def kind(self, task: Any) -> int:
        """The number of the task's options and function."""
        spec, options = task.spec, task.options
        known = self._known.get((id(spec), id(options)))
        if known is None:
            parts = (code_identity(options), spec.identity, spec.inject_context)
            known = self._known[id(spec), id(options)] = self.kinds.setdefault(parts, len(self.kinds))
        return known

    def policy(self, policy: GroupPolicy) -> bytes:
        """What identifies a policy, with its function."""
        known = self._policies.get(id(policy))
        if known is None:
            known = self._policies[id(policy)] = code_identity(cast("Any", policy))
        return known


class _Bound:
    """The arguments bound to tasks, as columns: whose they are, the names, the values."""

    __slots__ = ("columns",)

    def __init__(self) -> None:
        self.columns: tuple[list[int], list[str], list[Any]] = ([], [], [])

    def add(self, owner: int, bound: Mapping[str, Any]) -> None:
        owners, names, values = self.columns
        for name in sorted(bound) if len(bound) > 1 else bound:
            value = bound[name]
            owners.append(owner)
            names.append(name)
            values.append(value if type(value) in _SCALARS else _identity_of(value))


def digest_graph(graph: Graph) -> str:
    """The sha-256, in hex, of a graph; see :meth:`TaskGraph.digest`."""
    digest = _Digest()
    digest.put(graph.name)
    for node_id, node in graph.nodes.items():
        digest.put(node_id, graph.scope_of(node_id))
        if is_group(node):
            digest.put_group(node)
        else:
            digest.put_task(node)
    for edge in graph.edges:
        digest.put(edge.source, edge.target, edge.on)
    return digest.hexdigest()


class _Digest:
    """A hash that is fed the parts of a graph."""

    __slots__ = ("_hash", "_options")

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self._options: dict[int, bytes] = {}

    def hexdigest(self) -> str:
        return self._hash.hexdigest()

    def put(self, *parts: str | int | bytes | None) -> None:
        """Scalars, in a form that cannot be mistaken for other ones side by side."""
        self._hash.update(repr(parts).encode("utf-8", "surrogatepass"))

    def put_group(self, group: ParallelGroup[Any]) -> None:
        self.put("group", group.limit, code_identity(cast("Any", group.policy)))
        for branch in group.branches:
            self.put(branch.id, *(node.id for node in branch.nodes))
        if group.mapped is not None:
            self.put(group.mapped.source_id, group.mapped.parameter, group.mapped.task.id)
            self.put_task(group.mapped.task)

    def put_task(self, task: Any) -> None:
        options = self._options.get(id(task.options))
        if options is None:  # thousands of clones share one options object
            options = self._options[id(task.options)] = code_identity(task.options)
        self.put("task", options, task.spec.identity)
        for name in sorted(task.bound):
            value = task.bound[name]
            self.put(name, value if type(value) in _SCALARS else _identity_of(value))


def _identity_of(value: Any) -> bytes:
    """Any value as bytes that are the same in every process. What has no such form counts by its class."""
    try:
        view = memoryview(value)
    except TypeError:
        return code_identity(value)
    shape = repr((type(value).__qualname__, view.format, view.shape)).encode()
    return hashlib.sha256(shape + view.tobytes()).digest()
