"""Chains: nodes one after the other."""

from __future__ import annotations

from typing import Any, TypeVar, overload

from graflow.core.group import parallel
from graflow.core.node import Chain, Node
from graflow.core.operands import operand_error
from graflow.core.recording import record
from graflow.errors import GraphError

__all__ = ["Chain", "chain", "parallel"]

R = TypeVar("R")


@overload
def chain(a: Node[R], /) -> Chain[R]: ...
@overload
def chain(a: Node[Any], b: Node[R], /) -> Chain[R]: ...
@overload
def chain(a: Node[Any], b: Node[Any], c: Node[R], /) -> Chain[R]: ...
@overload
def chain(a: Node[Any], b: Node[Any], c: Node[Any], d: Node[R], /) -> Chain[R]: ...
@overload
def chain(*nodes: Node[Any]) -> Chain[Any]: ...
def chain(*nodes: Node[Any]) -> Chain[Any]:
    """Run nodes one after the other: ``a >> b >> c`` for many.

    Raises:
        GraphError: no nodes, or something that is no node.

    Example::

        chain(*(step.clone(f"step-{n}", n=n) for n in range(10)))
    """
    if not nodes:
        raise GraphError("chain() was given no nodes; give at least one")
    for node in nodes:
        if not isinstance(node, Node):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise operand_error("chain()", "", node)
    joined: Chain[Any] = Chain(nodes[0])
    record(joined, nodes[0])
    for node in nodes[1:]:
        joined = Chain(joined, node)
    return joined
