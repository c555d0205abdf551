"""Drawings for terminals: nodes in layers, joined by lines, groups in frames."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from graflow.draw.channels import DOWN, LEFT, RIGHT, UP, Crossing, route
from graflow.draw.listing import HEADS, list_scope, tag_of, title_of
from graflow.draw.rows import arrange, nets_of
from graflow.draw.words import shortened, visible

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from graflow.draw.channels import Channel
    from graflow.draw.items import Item, Net
    from graflow.draw.picture import Arrow, Box, Picture

Lines = list[list[str]]
"""lines of text, each with one entry for every column"""

SOLID: Final = {
    UP | DOWN: "│", LEFT | RIGHT: "─", DOWN | RIGHT: "┌", DOWN | LEFT: "┐", UP | RIGHT: "└", UP | LEFT: "┘",
    UP | DOWN | RIGHT: "├", UP | DOWN | LEFT: "┤", LEFT | RIGHT | DOWN: "┬", LEFT | RIGHT | UP: "┴", UP | DOWN | LEFT | RIGHT: "┼",
}  # fmt: skip
DASHED: Final = {**SOLID, UP | DOWN: "╎", LEFT | RIGHT: "╌"}
PLAIN: Final = str.maketrans("│─╎╌┌┐└┘├┤┬┴┼╭╮╰╯▼✗◆▶■↺→…", "|-:.+++++++++++++vx*>#^>.")
FRAME_COLUMNS: Final = 4
NARROWEST_INSIDE: Final = 12
WIDEST: Final = 400
"""frames in frames to a depth of a hundred: deeper, Python's stack would be in danger"""
SHARES: Final = (1.0, 0.7, 0.45)
"""of the width that a group may fill: where groups fill all of it, no line can pass them"""
DEEPEST_TRIES: Final = 2
"""groups in groups for which that is tried: each level multiplies the tries"""
MOST_DRAWN: Final = 600
"""nodes of one scope beyond which nobody could follow its lines; they are listed"""


def draw_ascii(picture: Picture, *, width: int, plain: bool) -> str:
    """The drawing, no line wider than ``width``; what cannot be drawn in so little room is listed instead."""
    lines = _Drawing(picture).lines(min(width, WIDEST))
    text = "".join("".join(line).rstrip() + "\n" for line in lines)
    return text.translate(PLAIN) if plain else text


class _Drawing:
    def __init__(self, picture: Picture) -> None:
        self._picture = picture
        self._arrows = picture.arrows_by_scope()

    def lines(self, width: int) -> Lines:
        """Everything, with a legend for the signs that occur."""
        if not self._picture.boxes:
            return [list("(no nodes)")]
        return [*self._scope(None, width, 0), [], *self._legend(width)]

    def _legend(self, width: int) -> Lines:
        boxes, arrows = self._picture.boxes.values(), self._picture.arrows
        occurring = {
            "▶ start": any(box.is_start for box in boxes),
            "■ output": any(box.is_output for box in boxes),
            "✗ on failure": any(arrow.on == "failure" for arrow in arrows),
            "◆ always": any(arrow.on == "always" for arrow in arrows),
            "↺ again": any(arrow.is_back for arrow in arrows),
        }
        lines: list[str] = [""]
        for meaning in (meaning for meaning, occurs in occurring.items() if occurs):
            longer = f"{lines[-1]}   {meaning}" if lines[-1] else meaning
            lines[-1:] = [longer] if len(longer) <= width else [lines[-1], meaning]
        return [list(line) for line in lines]

    def _scope(self, scope: str | None, width: int, depth: int) -> Lines:
        """The nodes of the top level or of a group."""
        boxes, arrows = self._picture.inside(scope), self._arrows.get(scope, [])
        if len(boxes) <= MOST_DRAWN and width >= NARROWEST_INSIDE:
            for share in SHARES if depth < DEEPEST_TRIES and any(box.members for box in boxes) else SHARES[:1]:
                blocks = {box.id: self._block(box, int(width * share), depth) for box in boxes}
                drawn = _layered(blocks, arrows, width)
                if drawn is not None:
                    again = (f"↺ {visible(arrow.source)} → {visible(arrow.target)}" for arrow in arrows if arrow.is_back)
                    return drawn + [shortened(line, width) for line in again]
        return list_scope(self._picture, scope, width)

    def _block(self, box: Box, width: int, depth: int) -> Lines:
        """What is drawn for a node: its label in brackets, or a frame around what stands in the group."""
        if not box.members:
            return [tag_of(box, width)]
        inside = self._scope(box.id, width - FRAME_COLUMNS, depth + 1)
        title = shortened(title_of(box), width - FRAME_COLUMNS - 2)
        columns = max(len(title) + 2, *map(len, inside))
        top = ["╭", "─", " ", *title, " ", *"─" * (columns - len(title) - 1), "╮"]
        middle = [["│", " ", *line, *" " * (columns - len(line)), " ", "│"] for line in inside]
        return [top, *middle, ["╰", *"─" * (columns + 2), "╯"]]


def _layered(blocks: Mapping[str, Lines], arrows: Sequence[Arrow], width: int) -> Lines | None:
    """Rows with lines between them; None where they do not fit."""
    nets = nets_of(arrows)
    rows = arrange({node: len(block[0]) for node, block in blocks.items()}, arrows, nets, width)
    if rows is None:
        return None
    lines: Lines = []
    for number, row in enumerate(rows):
        if number:
            crossings = _crossings(rows[number - 1], row)
            channel = route(crossings, width)
            if channel is None:
                return None
            lines += _tracks(channel, nets)
            lines += [_heads(row, nets)] if crossings else []
        lines += _row(row, blocks, nets)
    return lines


def _row(row: Sequence[Item], blocks: Mapping[str, Lines], nets: Sequence[Net]) -> Lines:
    """The nodes of a row, and the lines that pass them."""
    lines: Lines = [[] for _ in range(max(len(blocks[item.node]) if item.node is not None else 1 for item in row))]
    for item in row:
        block = _widened(blocks[item.node], item.width) if item.node is not None else []
        for number, line in enumerate(lines):
            if number < len(block):
                _put(line, item.x, block[number])
                continue
            for net in item.outs:
                _put(line, item.column_out(net), [_signs(nets[net])[UP | DOWN]])
    return lines


def _widened(block: Lines, width: int) -> Lines:
    """Room for more lines than the label has letters."""
    extra = width - len(block[0])
    if extra <= 0:
        return block
    if len(block) > 1:
        return [[*line[:-1], *(line[-2] if line[-2] == "─" else " ") * extra, line[-1]] for line in block]
    (line,) = block
    begin, end = line.index("[") + 1, len(line) - line[::-1].index("]") - 1
    return [[*line[:begin], *" " * (extra // 2), *line[begin:end], *" " * (extra - extra // 2), *line[end:]]]


def _crossings(upper: Sequence[Item], lower: Sequence[Item]) -> dict[int, Crossing]:
    tops: dict[int, set[int]] = {}
    bottoms: dict[int, set[int]] = {}
    for item in upper:
        for net in item.outs:
            tops.setdefault(net, set()).add(item.column_out(net))
    for item in lower:
        for net in item.ins:
            bottoms.setdefault(net, set()).add(item.column_in(net))
    return {net: Crossing(frozenset(columns), frozenset(bottoms[net])) for net, columns in tops.items()}


def _tracks(channel: Channel, nets: Sequence[Net]) -> Lines:
    lines: Lines = [[] for _ in range(channel.tracks)]
    for (track, column), here in channel.cells.items():
        net, directions = next(((net, each) for net, each in here.items() if each == UP | DOWN), next(iter(here.items())))
        _put(lines[track], column, [_signs(nets[net])[directions]])
    return lines


def _heads(row: Sequence[Item], nets: Sequence[Net]) -> list[str]:
    line: list[str] = []
    for item in row:
        for net in item.ins:
            _put(line, item.column_in(net), [HEADS[nets[net].on] if item.node is not None else _signs(nets[net])[UP | DOWN]])
    return line


def _signs(net: Net) -> Mapping[int, str]:
    return SOLID if net.on == "success" else DASHED


def _put(line: list[str], column: int, cells: Sequence[str]) -> None:
    line += " " * (column + len(cells) - len(line))
    line[column : column + len(cells)] = cells
