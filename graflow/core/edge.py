"""An edge: what leads from one node to another, and on which condition."""

from __future__ import annotations

from typing import Final, Literal, get_args

import msgspec

from graflow.errors import GraphError

Condition = Literal["success", "failure", "always"]
CONDITIONS: Final[tuple[Condition, ...]] = get_args(Condition)


class Edge(msgspec.Struct, frozen=True, gc=False):
    """``source`` leads to ``target`` when it ends as ``on`` says: with success, with failure or either way (rule 2)."""

    source: str
    target: str
    on: Condition = "success"


def check_condition(on: str) -> Condition:
    """``on`` as a condition. Raises GraphError for anything but the three."""
    for condition in CONDITIONS:
        if on == condition:
            return condition
    raise GraphError(f'on={on!r} is no condition of an edge; use "success", "failure" or "always"')
