"""In which order the items of each row stand, so that lines seldom cross."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from graflow.draw.items import Item

SWEEPS = 6

Places = dict[int, list[float]]
"""for each net, where the items stand that it joins in a row"""


def sort_items(rows: Sequence[list[Item]]) -> None:
    """Put each item below the middle of what leads to it, then above the middle of what it leads to, several times; then sort the nets that
    touch an item likewise."""
    for sweep in range(SWEEPS):
        if sweep % 2 == 0:
            for upper, lower in pairwise(rows):
                _sort_row(lower, _places(upper, _outs), _ins)
        else:
            for upper, lower in reversed(list(pairwise(rows))):
                _sort_row(upper, _places(lower, _ins), _outs)
    for upper, lower in pairwise(rows):
        above, below = _places(upper, _outs), _places(lower, _ins)
        for item in lower:
            _sort_nets(item.ins, above)
        for item in upper:
            _sort_nets(item.outs, below)


def _ins(item: Item) -> list[int]:
    return item.ins


def _outs(item: Item) -> list[int]:
    return item.outs


def _places(row: Sequence[Item], nets_of: Callable[[Item], list[int]]) -> Places:
    """Each row is one unit wide, so that rows of different lengths can be compared."""
    places: Places = {}
    for number, item in enumerate(row):
        for net in nets_of(item):
            places.setdefault(net, []).append((number + 0.5) / len(row))
    return places


def _sort_row(row: list[Item], places: Places, nets_of: Callable[[Item], list[int]]) -> None:
    """What is joined to nothing keeps its place."""
    keys: dict[int, float] = {}
    for number, item in enumerate(row):
        joined = [place for net in nets_of(item) for place in places.get(net, ())]
        keys[id(item)] = _middle(joined) if joined else (number + 0.5) / len(row)
    row.sort(key=lambda item: keys[id(item)])


def _sort_nets(nets: list[int], places: Places) -> None:
    nets.sort(key=lambda net: _middle(places[net]))


def _middle(places: Sequence[float]) -> float:
    return sum(places) / len(places)
