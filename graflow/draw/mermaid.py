"""Mermaid flowcharts, which code forges and wikis draw where they find them in a text."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from graflow.draw.picture import Arrow, Box, Picture

INDENT = "    "
ALWAYS_SAFE = frozenset(" ,/|'[]")
"""no meaning inside quotes, not even as Markdown, which labels are read as"""
SAFE_INSIDE_WORDS = frozenset("_-.+=")
"""Markdown emphasis, lists and rules begin at the edge of a word"""
STYLES = ("classDef start stroke:#2a7d4f,stroke-width:3px", "classDef output stroke:#2b6cb0,stroke-width:3px")


def draw_mermaid(picture: Picture) -> str:
    """The flowchart. Nodes are called ``n0``, ``n1``, ... so that no id can be mistaken for syntax; their labels are the ids."""
    keys = {node_id: f"n{number}" for number, node_id in enumerate(picture.boxes)}
    lines = ["flowchart TD"]
    _write_boxes(picture, keys, lines)
    lines += [f"{INDENT}{keys[arrow.source]} {_line_of(arrow)} {keys[arrow.target]}" for arrow in picture.arrows]
    starts = [keys[box.id] for box in picture.boxes.values() if box.is_start]
    outputs = [keys[box.id] for box in picture.boxes.values() if box.is_output]
    if starts or outputs:
        lines += [INDENT + style for style in STYLES]
        lines += [f"{INDENT}class {','.join(marked)} {style}" for marked, style in ((starts, "start"), (outputs, "output")) if marked]
    return "\n".join(lines) + "\n"


def quoted(text: str) -> str:
    """A text in quotes, in which every character that could mean anything is written as a numbered entity."""
    between = f" {text} "
    return f'"{"".join(_escaped(char, between[place], between[place + 2]) for place, char in enumerate(text))}"'


def _escaped(char: str, before: str, after: str) -> str:
    if char == "\n":
        return "<br/>"
    if char.isalnum() or char in ALWAYS_SAFE or (char in SAFE_INSIDE_WORDS and before.isalnum() and after.isalnum()):
        return char
    return f"#{ord(char)};"


def _write_boxes(picture: Picture, keys: dict[str, str], lines: list[str]) -> None:
    """Groups around their members, to any depth; by a stack, because groups may nest deeper than Python's."""
    work: list[tuple[Box | None, int]] = [(box, 1) for box in reversed(picture.inside(None))]
    while work:
        box, depth = work.pop()
        if box is None:
            lines.append(f"{INDENT * depth}end")
        elif box.members:
            lines.append(f"{INDENT * depth}subgraph {keys[box.id]}[{quoted(box.text)}]")
            work.append((None, depth))
            work += [(member, depth + 1) for member in reversed(picture.inside(box.id))]
        else:
            lines.append(f"{INDENT * depth}{keys[box.id]}{_shape_of(box)}")


def _shape_of(box: Box) -> str:
    text = quoted(box.text)
    if box.kind != "task":
        return f"[[{text}]]"
    return f"([{text}])" if box.is_start or box.is_output else f"[{text}]"


def _line_of(arrow: Arrow) -> str:
    line = "-.->" if arrow.on != "success" else "==>" if arrow.is_back else "-->"
    return f'{line}|"{arrow.label}"|' if arrow.label else line
