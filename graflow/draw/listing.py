"""Graphs as lists, for what does not fit into a drawing: each node on a line, what it leads to below it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from graflow.draw.words import shortened, visible

if TYPE_CHECKING:
    from collections.abc import Mapping

    from graflow.core.edge import Condition
    from graflow.draw.picture import Arrow, Box, Picture

HEADS: Final[Mapping[Condition, str]] = {"success": "▼", "failure": "✗", "always": "◆"}
DEEPEST: Final = 4
"""steps of indentation: deeper groups would leave no room for words"""


def title_of(box: Box) -> str:
    """What is written on a node, with the signs of start and output."""
    return f"{'▶' if box.is_start else ''}{visible(box.text)}{'■' if box.is_output else ''}"


def tag_of(box: Box, width: int) -> list[str]:
    """A node as its label in brackets, with the signs of start and output."""
    before, after = ("▶[" if box.is_start else "["), ("]■" if box.is_output else "]")
    return [*before, *shortened(visible(box.text), width - len(before) - len(after)), *after]


def list_scope(picture: Picture, scope: str | None, width: int) -> list[list[str]]:
    """The nodes of the top level or of a group, members under their groups; no line wider than ``width``."""
    lines: list[list[str]] = []
    work = [(box, 0) for box in reversed(picture.inside(scope))]
    following: dict[str, list[Arrow]] = {}
    for arrow in picture.arrows:
        following.setdefault(arrow.source, []).append(arrow)
    while work:
        box, depth = work.pop()
        indent = [" "] * min(2 * min(depth, DEEPEST), width // 2)
        lines.append(indent + tag_of(box, width - len(indent)))
        for arrow in following.get(box.id, ()):
            sign = ("↺ " if arrow.is_back else "") + HEADS[arrow.on]
            lines.append(indent + shortened(f"  {sign} {visible(arrow.target)}", width - len(indent)))
        work += [(member, depth + 1) for member in reversed(picture.inside(box.id) if box.members else ())]
    return lines
