"""Which row each node of a scope stands in, in a terminal drawing, and which edges are drawn as one line.

The drawing is made in the usual way (Sugiyama's): nodes are put into rows so that edges lead down; an edge over several rows gets a place
(a *lane*) in each row on its way; rows are sorted so that edges seldom cross; then columns are chosen so that edges run straight.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from graflow.draw.columns import place_items, room_of
from graflow.draw.items import Item, Net
from graflow.draw.layers import in_order
from graflow.draw.order import sort_items

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from graflow.core.edge import Condition
    from graflow.draw.picture import Arrow

BUDGETS = (1.0, 0.75, 0.5, 0.25, 0.0)
"""shares of the width that nodes may fill: what is left is for lanes, and how many there will be shows only afterwards"""
GAP = 2
"""columns between nodes"""


def nets_of(arrows: Sequence[Arrow]) -> list[Net]:
    """The nets that a scope's forward edges make."""
    targets: dict[tuple[str, Condition], dict[str, None]] = {}
    for arrow in arrows:
        if not arrow.is_back:
            targets.setdefault((arrow.source, arrow.on), {})[arrow.target] = None
    sources: dict[tuple[frozenset[str], Condition], list[str]] = {}
    for (source, on), reached in targets.items():
        sources.setdefault((frozenset(reached), on), []).append(source)
    return [Net(tuple(which), tuple(reached), on) for (reached, on), which in sources.items()]


def arrange(widths: Mapping[str, int], arrows: Sequence[Arrow], nets: Sequence[Net], width: int) -> list[list[Item]] | None:
    """The rows, every item at its column; None where they cannot be fitted into ``width`` columns.

    Args:
        widths: how many columns each node of the scope needs.
        arrows: the edges between them.
        nets: the same edges as nets.
        width: how many columns there are.
    """
    ins: dict[str, list[int]] = {node: [] for node in widths}
    outs: dict[str, list[int]] = {node: [] for node in widths}
    for number, net in enumerate(nets):
        for source in net.sources:
            outs[source].append(number)
        for target in net.targets:
            ins[target].append(number)
    needed = {node: max(wide, 2 * len(ins[node]) - 1, 2 * len(outs[node]) - 1) for node, wide in widths.items()}
    for budget in BUDGETS:
        row_of = _rows(needed, arrows, int(width * budget))
        rows = _fill(row_of, [Item(node, needed[node], ins[node], outs[node]) for node in widths], nets)
        if all(room_of(row) <= width for row in rows):
            sort_items(rows)
            place_items(rows, width)
            return rows
    return None


def _rows(widths: Mapping[str, int], arrows: Sequence[Arrow], budget: int) -> dict[str, int]:
    """The row of each node: below its predecessors, and further below where a row is full."""
    above: dict[str, list[str]] = {node: [] for node in widths}
    for arrow in arrows:
        if not arrow.is_back:
            above[arrow.target].append(arrow.source)
    used: dict[int, int] = {}
    row_of: dict[str, int] = {}
    for node in in_order(list(widths), arrows):
        row = max((row_of[source] + 1 for source in above[node]), default=0)
        while row in used and used[row] + GAP + widths[node] > budget:
            row += 1
        used[row] = used[row] + GAP + widths[node] if row in used else widths[node]
        row_of[node] = row
    return row_of


def _fill(row_of: Mapping[str, int], items: Sequence[Item], nets: Sequence[Net]) -> list[list[Item]]:
    rows: list[list[Item]] = [[] for _ in range(max(row_of.values(), default=-1) + 1)]
    for item in items:
        if item.node is not None:
            rows[row_of[item.node]].append(item)
    for number, net in enumerate(nets):
        first, last = min(row_of[source] for source in net.sources), max(row_of[target] for target in net.targets)
        for row in rows[first + 1 : last]:
            row.append(Item(None, 1, [number], [number]))
    return rows
