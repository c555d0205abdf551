"""What identifies a graph: its structure and its code, in a form that is the same in every process."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, Protocol, cast

from graflow.core.identity import code_identity
from graflow.core.node import is_group

if TYPE_CHECKING:
    from collections.abc import Mapping

    from graflow.core.edge import Edge
    from graflow.core.node import ParallelGroup

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
