"""How far down each node stands: below everything that leads to it."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from graflow.draw.picture import Arrow, Picture


def in_order(ids: Sequence[str], arrows: Iterable[Arrow]) -> list[str]:
    """The nodes of one scope, each after those that lead to it. Without back edges there is always such an order."""
    following: dict[str, list[str]] = {node: [] for node in ids}
    waiting = dict.fromkeys(ids, 0)
    for arrow in arrows:
        if not arrow.is_back:
            following[arrow.source].append(arrow.target)
            waiting[arrow.target] += 1
    ready = deque(node for node in ids if not waiting[node])
    order: list[str] = []
    while ready:
        node = ready.popleft()
        order.append(node)
        for target in following[node]:
            waiting[target] -= 1
            if not waiting[target]:
                ready.append(target)
    return order


def depths(ids: Sequence[str], arrows: Sequence[Arrow], heights: Mapping[str, int]) -> dict[str, int]:
    """How much stands above each node of a scope, along the longest way to it; ``heights`` says how much each node counts."""
    incoming: dict[str, list[str]] = {node: [] for node in ids}
    for arrow in arrows:
        if not arrow.is_back:
            incoming[arrow.target].append(arrow.source)
    found: dict[str, int] = {}
    for node in in_order(ids, arrows):
        found[node] = max((found[source] + heights[source] for source in incoming[node]), default=0)
    return found


def heights_of(picture: Picture) -> dict[str, int]:
    """How many layers each node takes: one, or what its members need."""
    by_scope = picture.arrows_by_scope()
    heights: dict[str, int] = {}
    for box in reversed(list(picture.boxes.values())):  # members first
        members = box.members
        tops = depths(members, by_scope.get(box.id, []), heights) if members else {}
        heights[box.id] = max((tops[member] + heights[member] for member in members), default=1)
    return heights
