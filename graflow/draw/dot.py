"""Graphviz: ``dot -Tsvg`` makes pictures of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from graflow.draw.layers import heights_of
from graflow.draw.words import visible

if TYPE_CHECKING:
    from collections.abc import Mapping

    from graflow.draw.picture import Arrow, Box, Picture

INDENT = "    "
START, OUTPUT = "#2a7d4f", "#2b6cb0"
FONT = 'fontname="sans-serif"'
ANCHOR = '[label="", shape=point, style=invis, width=0, height=0]'


def draw_dot(picture: Picture) -> str:
    """The digraph. Nodes are called by their ids; a group is a cluster around its members.

    Graphviz knows no edges to clusters, so a group also has an invisible node of its id inside its cluster, which edges lead to; they are
    cut off at the cluster's border.
    """
    lines = [f"digraph {quoted(picture.name)} {{", f"{INDENT}compound=true;"]
    lines += [f"{INDENT}node [{FONT}, shape=box, style=rounded];", f"{INDENT}edge [{FONT}, fontsize=10];"]
    _write_boxes(picture, lines)
    heights = heights_of(picture)
    for arrow in picture.arrows:
        ends = f"{quoted(arrow.source)} -> {quoted(arrow.target)}"
        lines.append(f"{INDENT}{ends}{_attributes(_edge(arrow, picture, heights))};")
    return "\n".join([*lines, "}"]) + "\n"


def quoted(text: str) -> str:
    """A text as a name. Backslashes are doubled, lest one swallows the closing quote; what begins with % would count as no name."""
    name = text.replace("\\", "\\\\").replace('"', '\\"').replace("\0", "\\x00")
    name = f"\\{name}" if name.startswith("%") else name
    return f'"{name.encode("utf-8", "backslashreplace").decode()}"'


def label(text: str) -> str:
    """A text to be read. Graphviz would take backslashes for commands and ampersands for entities."""
    shown = visible(text).replace("\\", "\\\\").replace('"', '\\"').replace("&", "&amp;")
    return f'"{shown}"'


def _write_boxes(picture: Picture, lines: list[str]) -> None:
    """By a stack, because groups may nest deeper than Python's."""
    work: list[tuple[Box | None, int]] = [(box, 1) for box in reversed(picture.inside(None))]
    while work:
        box, depth = work.pop()
        indent = INDENT * depth
        if box is None:
            lines.append(f"{indent}}}")
        elif box.members:
            lines.append(f"{indent}subgraph {_cluster(box)} {{")
            lines.append(f"{indent}{INDENT}graph{_attributes(_frame(box))};")
            lines.append(f"{indent}{INDENT}{quoted(box.id)} {ANCHOR};")
            work.append((None, depth))
            work += [(member, depth + 1) for member in reversed(picture.inside(box.id))]
        else:
            lines.append(f"{indent}{quoted(box.id)}{_attributes(_shape(box))};")


def _cluster(box: Box) -> str:
    return quoted(f"cluster_{box.id}")


def _frame(box: Box) -> dict[str, str]:
    return {"label": label(box.text), "style": "rounded", "fontname": '"sans-serif"', **_marks(box)}


def _shape(box: Box) -> dict[str, str]:
    shape = {"label": label(box.text), **_marks(box)}
    return shape if box.kind == "task" else {**shape, "shape": "box3d", "style": '""'}


def _marks(box: Box) -> dict[str, str]:
    if not box.is_start and not box.is_output:
        return {}
    double = {"peripheries": "2"} if box.is_output else {}
    return {"color": f'"{START if box.is_start else OUTPUT}"', "penwidth": "2", **double}


def _edge(arrow: Arrow, picture: Picture, heights: Mapping[str, int]) -> dict[str, str]:
    source, target = picture.boxes[arrow.source], picture.boxes[arrow.target]
    attributes = {"label": label(arrow.label)} if arrow.label else {}
    if arrow.on != "success":
        attributes["style"] = "dashed"
    if arrow.is_back:
        attributes |= {"constraint": "false", "penwidth": "2"}
    if source is target:
        return attributes
    if source.members:  # what follows a group stands below all of it
        attributes |= {"ltail": _cluster(source), "minlen": str(heights[arrow.source])}
    if target.members:
        attributes["lhead"] = _cluster(target)
    return attributes


def _attributes(attributes: Mapping[str, str]) -> str:
    return f" [{', '.join(f'{name}={value}' for name, value in attributes.items())}]" if attributes else ""
