"""What the rows of a terminal drawing are made of."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

if TYPE_CHECKING:
    from graflow.core.edge import Condition


class Net(Struct, frozen=True):
    """Edges that are drawn as one line, which forks and joins: every source leads to every target, on the same condition."""

    sources: tuple[str, ...]
    targets: tuple[str, ...]
    on: Condition


class Item(Struct, eq=False):
    """A node in its row, or the place where a net passes the row.

    Attributes:
        node: the node, None for a lane.
        width: how many columns it takes.
        ins: numbers of the nets that arrive, from left to right.
        outs: numbers of those that leave.
        x: its first column.
    """

    node: str | None
    width: int
    ins: list[int]
    outs: list[int]
    x: int = 0

    def column_in(self, net: int) -> int:
        """Where a net arrives."""
        return self.x + self.offset_in(net)

    def column_out(self, net: int) -> int:
        """Where a net leaves."""
        return self.x + self.offset_out(net)

    def offset_in(self, net: int) -> int:
        """The same, counted from the item's first column."""
        return self._offset(self.ins, net)

    def offset_out(self, net: int) -> int:
        """The same, counted from the item's first column."""
        return self._offset(self.outs, net)

    def _offset(self, nets: list[int], net: int) -> int:
        return (self.width - (2 * len(nets) - 1)) // 2 + 2 * nets.index(net)
