"""Ids as they may be written in a drawing: any text is an id, and not every character can be shown."""

from __future__ import annotations

import unicodedata

ELLIPSIS = "…"


def visible(text: str) -> str:
    """The text with what has no shape (control characters, lone surrogates, line ends) written as Python escapes."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode("ascii") for char in text)


def cells_of(text: str) -> list[str]:
    """One entry for each column of a terminal: a wide character is followed by an empty one, a combining one joins its base."""
    cells: list[str] = []
    for char in text:
        if unicodedata.combining(char) and cells:
            cells[-1 if cells[-1] else -2] += char
            continue
        cells.append(char)
        if unicodedata.east_asian_width(char) in "WF":
            cells.append("")
    return cells


def shortened(text: str, width: int) -> list[str]:
    """The cells of a text, at most ``width`` of them; what was cut off leaves an ellipsis."""
    cells = cells_of(text)
    if len(cells) <= width:
        return cells
    cells = cells[: max(width - 1, 0)]
    if cells and cells[-1] and unicodedata.east_asian_width(cells[-1][0]) in "WF":  # its second half was cut off
        cells[-1] = " "
    return [*cells, ELLIPSIS][:width]
