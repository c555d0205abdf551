"""Groups: branches side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from graflow.core.node import Branch, MapSource, Node, ParallelGroup
from graflow.core.operands import operand_error
from graflow.core.recording import record
from graflow.errors import GraphError

if TYPE_CHECKING:
    from graflow.core.policy import PolicyLike

__all__ = ["Branch", "MapSource", "ParallelGroup", "parallel"]

R = TypeVar("R")


def parallel(*nodes: Node[R], name: str | None = None, policy: PolicyLike | None = None, limit: int | None = None) -> ParallelGroup[R]:
    """Run nodes side by side: ``a | b | c`` for many, or with a name, a policy or a limit.

    Unlike ``|`` it never takes a group apart: ``parallel(a | b, c)`` has two branches, the first of which is a group.

    Args:
        nodes: tasks, chains and groups; each is a branch.
        name: the id of the group, under which its result is found; by default the members' ids joined by ``|``.
        policy: when the group fails, by default ``strict``.
        limit: how many members may run at once.

    Raises:
        GraphError: no nodes, something that is no node, a node in two branches, or a limit below 1.
        InvalidPolicyError: a policy that these branches could never meet.

    Example::

        parallel(*(fetch.clone(f"fetch-{url}", url=url) for url in urls), name="pages", limit=10)
    """
    if not nodes:
        raise GraphError("parallel() was given no nodes; give at least one (task.map([]) makes a group that may be empty)")
    for node in nodes:
        if not isinstance(node, Node):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise operand_error("parallel()", "", node)
    group = ParallelGroup[Any](nodes, name=name, policy=policy, limit=limit)
    _ = group.branches  # finds nodes that stand in two branches while the traceback still shows who wrote them
    record(group, *nodes)
    return group
