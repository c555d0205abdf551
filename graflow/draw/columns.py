"""At which column each item of a row stands, so that lines run straight."""

from __future__ import annotations

from itertools import pairwise
from statistics import median
from typing import TYPE_CHECKING

from msgspec import Struct

if TYPE_CHECKING:
    from collections.abc import Sequence

    from graflow.draw.items import Item

SWEEPS = 4
BETWEEN_NODES, BETWEEN_LANES = 2, 1
INDIFFERENT = 0.01
"""the weight of an item that is joined to nothing"""


class _Wish(Struct, frozen=True):
    column: float
    weight: float


class _Block(Struct):
    """Neighbours that stand as close as they may, because they wish to stand closer."""

    total: float
    weight: float
    count: int

    @property
    def place(self) -> float:
        return self.total / self.weight


def room_of(row: Sequence[Item]) -> int:
    """How many columns a row needs, in whatever order it will be."""
    return sum(item.width for item in row) + BETWEEN_NODES * max(len(row) - 1, 0)


def place_items(rows: Sequence[list[Item]], width: int) -> None:
    """Give every item a column, of ``width`` there are, with every row in its order.

    Each row is drawn towards the one above, then each towards the one below, several times.
    """
    for row in rows:
        _place(row, [_Wish(0, INDIFFERENT)] * len(row), width)
    for sweep in range(SWEEPS):
        if sweep % 2 == 0:
            for upper, lower in pairwise(rows):
                _place(lower, _wishes_from_above(upper, lower), width)
        else:
            for upper, lower in reversed(list(pairwise(rows))):
                _place(upper, _wishes_from_below(upper, lower), width)
    margin = min((item.x for row in rows for item in row), default=0)
    for row in rows:
        for item in row:
            item.x -= margin


def _wishes_from_above(upper: Sequence[Item], lower: Sequence[Item]) -> list[_Wish]:
    columns: dict[int, list[int]] = {}
    for item in upper:
        for net in item.outs:
            columns.setdefault(net, []).append(item.column_out(net))
    return [_wish(item, [column - item.offset_in(net) for net in item.ins for column in columns[net]]) for item in lower]


def _wishes_from_below(upper: Sequence[Item], lower: Sequence[Item]) -> list[_Wish]:
    columns: dict[int, list[int]] = {}
    for item in lower:
        for net in item.ins:
            columns.setdefault(net, []).append(item.column_in(net))
    return [_wish(item, [column - item.offset_out(net) for net in item.outs for column in columns[net]]) for item in upper]


def _wish(item: Item, columns: Sequence[int]) -> _Wish:
    return _Wish(median(columns), 1.0) if columns else _Wish(item.x, INDIFFERENT)


def _place(row: Sequence[Item], wishes: Sequence[_Wish], width: int) -> None:
    """The columns nearest to the wishes, in the least squares sense, that keep the order and the gaps (isotonic regression)."""
    offsets = _offsets(row)
    blocks: list[_Block] = []
    for offset, wish in zip(offsets, wishes, strict=True):
        blocks.append(_Block((wish.column - offset) * wish.weight, wish.weight, 1))
        while len(blocks) > 1 and blocks[-2].place >= blocks[-1].place:
            last = blocks.pop()
            blocks[-1].total += last.total
            blocks[-1].weight += last.weight
            blocks[-1].count += last.count
    most = width - offsets[-1] - row[-1].width if row else 0
    places = [min(max(int(block.place + 0.5), 0), most) for block in blocks for _ in range(block.count)]
    for item, offset, place in zip(row, offsets, places, strict=True):
        item.x = offset + place


def _offsets(row: Sequence[Item]) -> list[int]:
    """The columns of a row whose items stand as far to the left as they may."""
    offsets: list[int] = []
    column = 0
    for number, item in enumerate(row):
        if number:
            both_lanes = item.node is None and row[number - 1].node is None
            column += BETWEEN_LANES if both_lanes else BETWEEN_NODES
        offsets.append(column)
        column += item.width
    return offsets
