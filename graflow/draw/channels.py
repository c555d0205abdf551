"""The lines between two rows of a terminal drawing.

A *channel* has as many tracks (lines of text) as it needs. Each net runs down from the upper row to its track, along it, and down to the
lower row; where two nets cross, the one that runs down is shown unbroken. No two nets ever touch, so that every edge can be followed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

UP, DOWN, LEFT, RIGHT = 1, 2, 4, 8


class Crossing(Struct, frozen=True):
    """What a net has to join: columns of the upper and of the lower row."""

    tops: frozenset[int]
    bottoms: frozenset[int]


class Piece(Struct, frozen=True):
    """A part of a net that runs along one track; most nets have only one.

    Attributes:
        net: the net.
        tops: columns that it joins from above.
        bottoms: columns that it joins from below.
        above: the number of the piece of the same net that it continues, None where it begins at the upper row.
        continued: whether another piece continues it, so that it does not reach the lower row.
    """

    net: int
    tops: frozenset[int]
    bottoms: frozenset[int]
    above: int | None = None
    continued: bool = False

    @property
    def span(self) -> tuple[int, int]:
        """The first and the last column."""
        columns = self.tops | self.bottoms
        return min(columns), max(columns)


Cells = dict[tuple[int, int], dict[int, int]]
"""by (track, column): for each net that is there, the directions that its line leaves in"""


class Channel(Struct, frozen=True):
    """The lines between two rows: how many tracks, and what stands in them."""

    tracks: int
    cells: Cells


def route(nets: Mapping[int, Crossing], width: int) -> Channel | None:
    """Lines for the nets between two rows, or None where ``width`` columns leave no way."""
    bent = {net: each for net, each in nets.items() if len(each.tops | each.bottoms) > 1}
    used = {column for each in nets.values() for column in each.tops | each.bottoms}
    pieces = _in_order(bent, [column for column in range(width) if column not in used])
    if pieces is None:
        return None
    track_of = _tracks(pieces)
    tracks = max(track_of, default=-1) + 1
    cells: Cells = {}
    for net, each in nets.items():
        if net not in bent:
            _mark_column(cells, min(each.tops), range(tracks), net)
    for piece, track in zip(pieces, track_of, strict=True):
        _draw(cells, piece, track, 0 if piece.above is None else track_of[piece.above] + 1, tracks)
    return Channel(tracks, cells)


def _in_order(nets: Mapping[int, Crossing], spare: list[int]) -> list[Piece] | None:
    """The pieces, in an order in which each may lie below those before it.

    A net that begins at a column where another one ends must lie above it, lest they meet in that column. Where this goes in a circle, a
    net is cut in two, joined by a column that nobody else uses: its upper part can lie above all that are left, its lower part below.
    """
    waiting = {net: Piece(net, each.tops, each.bottoms) for net, each in nets.items()}
    begins = {column: net for net, piece in waiting.items() for column in piece.tops}
    above = {net: {begins[column] for column in piece.bottoms if begins.get(column, net) != net} for net, piece in waiting.items()}
    pieces: list[Piece] = []
    while waiting:
        done = [net for net in waiting if not above[net]]
        pieces += [waiting.pop(net) for net in done]
        if not done:
            if not spare:
                return None
            cut = _worth_cutting(waiting, above)
            piece = waiting[cut]
            middle = _nearest(spare, piece)
            pieces.append(Piece(cut, piece.tops, middle, continued=True))
            waiting[cut] = Piece(cut, middle, piece.bottoms, above=len(pieces) - 1)
            done = [cut]
        for others in above.values():
            others.difference_update(done)
    return pieces


def _worth_cutting(waiting: Mapping[int, Piece], above: Mapping[int, set[int]]) -> int:
    """A net that others wait for. (One that has been cut already is in nobody's way.)"""
    awaited = {net for others in above.values() for net in others}
    return min(awaited & waiting.keys(), key=lambda net: (len(above[net]), net))


def _nearest(spare: list[int], piece: Piece) -> frozenset[int]:
    left, right = piece.span
    column = min(spare, key=lambda column: max(left - column, column - right, 0))
    spare.remove(column)
    return frozenset((column,))


def _tracks(pieces: Sequence[Piece]) -> list[int]:
    """The track of each piece: the first on which it touches no other, below all that must lie above it."""
    taken: list[list[tuple[int, int]]] = []
    found: list[int] = []
    for piece in pieces:
        left, right = piece.span
        track = max((found[number] + 1 for number in range(len(found)) if _lies_above(pieces[number], number, piece)), default=0)
        while track < len(taken) and any(left <= end + 1 and begin <= right + 1 for begin, end in taken[track]):
            track += 1
        taken += [[] for _ in range(track + 1 - len(taken))]
        taken[track].append((left, right))
        found.append(track)
    return found


def _lies_above(upper: Piece, number: int, lower: Piece) -> bool:
    if upper.net == lower.net:
        return lower.above == number
    return not upper.tops.isdisjoint(lower.bottoms)


def _draw(cells: Cells, piece: Piece, track: int, first: int, tracks: int) -> None:
    left, right = piece.span
    for column in range(left, right + 1):
        _mark(cells, track, column, piece.net, (LEFT if column > left else 0) | (RIGHT if column < right else 0))
    for column in piece.tops:
        _mark_column(cells, column, range(first, track), piece.net)
        _mark(cells, track, column, piece.net, UP)
    for column in piece.bottoms:
        _mark(cells, track, column, piece.net, DOWN)
        if not piece.continued:
            _mark_column(cells, column, range(track + 1, tracks), piece.net)


def _mark_column(cells: Cells, column: int, tracks: range, net: int) -> None:
    for track in tracks:
        _mark(cells, track, column, net, UP | DOWN)


def _mark(cells: Cells, track: int, column: int, net: int, directions: int) -> None:
    here = cells.setdefault((track, column), {})
    here[net] = here.get(net, 0) | directions
