"""A reader of terminal drawings: it follows the lines, as an eye would, and knows nothing of how they were drawn."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field

UP, DOWN, LEFT, RIGHT = (-1, 0), (1, 0), (0, -1), (0, 1)
Step = tuple[int, int]
ENDS: dict[str, tuple[Step, ...]] = {
    "│": (UP, DOWN), "╎": (UP, DOWN), "─": (LEFT, RIGHT), "╌": (LEFT, RIGHT),
    "┌": (DOWN, RIGHT), "┐": (DOWN, LEFT), "└": (UP, RIGHT), "┘": (UP, LEFT),
    "├": (UP, DOWN, RIGHT), "┤": (UP, DOWN, LEFT), "┬": (DOWN, LEFT, RIGHT), "┴": (UP, LEFT, RIGHT), "┼": (UP, DOWN, LEFT, RIGHT),
}  # fmt: skip
HEADS = {"▼": "success", "✗": "failure", "◆": "always"}
TAG = re.compile(r"(▶?)\[ *((?:\w|\[\*\]|[ ():,])*?) *\](■?)")
AGAIN = re.compile(r"↺ (\w+) → (\w+)")
LISTED = re.compile(r" *  (↺ )?([▼✗◆]) (\w+)")


@dataclass
class Reading:
    """What a drawing says. ``parents`` holds the frame that a node stands in."""

    nodes: Counter[str] = field(default_factory=Counter)
    starts: set[str] = field(default_factory=set)
    outputs: set[str] = field(default_factory=set)
    parents: dict[str, str | None] = field(default_factory=dict)
    edges: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    again: Counter[tuple[str, str]] = field(default_factory=Counter)
    listed: bool = False


@dataclass(frozen=True)
class Frame:
    name: str
    top: int
    left: int
    bottom: int
    right: int

    def holds(self, row: int, column: int) -> bool:
        return self.top < row < self.bottom and self.left < column < self.right


class Reader:
    """Reads one drawing."""

    def __init__(self, text: str) -> None:
        self.lines = text.split("\n\n")[0].split("\n")
        self.owner: dict[tuple[int, int], str] = {}
        self.reading = Reading()
        self.frames = list(self._frames())
        self._own_frames()
        self._own_tags()

    def read(self) -> Reading:
        """Follow every line from its arrow head."""
        seen: set[tuple[int, int]] = set()
        for row, line in enumerate(self.lines):
            for source, target in AGAIN.findall(line):
                self.reading.again[source, target] += 1
            for column, sign in enumerate(line):
                if sign in HEADS and (row, column) not in self.owner and (row, column) not in seen:
                    self._follow(row, column, seen)
        return self.reading

    def at(self, row: int, column: int) -> str:
        line = self.lines[row] if 0 <= row < len(self.lines) else ""
        return line[column] if 0 <= column < len(line) else " "

    def _frames(self):
        for row, line in enumerate(self.lines):
            for match in re.finditer(r"╭─ (▶?)(.*?)(?: \(.*?\))?(■?) ─+╮", line):
                below = next(
                    r for r in range(row, len(self.lines)) if self.at(r, match.start()) == "╰" and self.at(r, match.end() - 1) == "╯"
                )
                self._note(match[2], start=match[1], output=match[3])
                yield Frame(match[2], row, match.start(), below, match.end() - 1)

    def _own_frames(self) -> None:
        for frame in self.frames:
            for column in range(frame.left, frame.right + 1):
                self.owner[frame.top, column] = self.owner[frame.bottom, column] = frame.name
            for row in range(frame.top, frame.bottom + 1):
                self.owner[row, frame.left] = self.owner[row, frame.right] = frame.name
            self.reading.parents[frame.name] = self._around(frame.top, frame.left)

    def _own_tags(self) -> None:
        for row, line in enumerate(self.lines):
            for match in TAG.finditer(line):
                self._note(match[2], start=match[1], output=match[3])
                self.reading.parents[match[2]] = self._around(row, match.start())
                for column in range(match.start(), match.end()):
                    self.owner[row, column] = match[2]

    def _note(self, name: str, *, start: str, output: str) -> None:
        self.reading.nodes[name] += 1
        self.reading.starts |= {name} if start else set()
        self.reading.outputs |= {name} if output else set()

    def _around(self, row: int, column: int) -> str | None:
        holding = [frame for frame in self.frames if frame.holds(row, column)]
        return max(holding, key=lambda frame: frame.top).name if holding else None

    def _follow(self, row: int, column: int, seen: set[tuple[int, int]]) -> None:
        """All that hangs together with one arrow head: every source there leads to every target."""
        sources: set[str] = set()
        targets: set[tuple[str, str]] = set()
        work: list[tuple[int, int, Step]] = [(row, column, UP)]
        visited = set()
        while work:
            r, c, step = work.pop()
            sign = self.at(r, c)
            if (r, c) in self.owner:
                assert step == UP, "a line runs into a node from the side, or from above without a head"
                sources.add(self.owner[r, c])
                continue
            if sign in HEADS:
                targets.add((self.owner[r + 1, c], HEADS[sign]))
                seen.add((r, c))
                work += [(r - 1, c, UP)] if step == UP else []
                continue
            onwards = self._onwards(sign, step)
            for each in onwards:
                if (r, c, each) not in visited:
                    visited.add((r, c, each))
                    work.append((r + each[0], c + each[1], each))
        for source in sources:
            for target, on in targets:
                self.reading.edges[source, target, on] += 1

    def _onwards(self, sign: str, step: Step) -> tuple[Step, ...]:
        back = (-step[0], -step[1])
        ends = ENDS[sign]
        if back in ends:
            return tuple(end for end in ends if end != back)
        assert sign in "│╎", f"a line ends at {sign!r}"
        return (step,)  # it passes behind a line that runs down


def read(text: str) -> Reading:
    """What the drawing says, or the list that stands for one where there is no room."""
    listed = any(LISTED.fullmatch(line) for line in text.split("\n"))
    return _read_list(text) if listed else Reader(text).read()


def _read_list(text: str) -> Reading:
    reading = Reading(listed=True)
    current = ""
    for line in text.split("\n\n")[0].split("\n"):
        if match := TAG.fullmatch(line.strip()):
            current = re.sub(r" \(.*\)$", "", match[2])
            reading.nodes[current] += 1
            reading.starts |= {current} if match[1] else set()
            reading.outputs |= {current} if match[3] else set()
        elif (match := LISTED.fullmatch(line)) and match[1]:
            reading.again[current, match[3]] += 1
        elif match:
            reading.edges[current, match[3], HEADS[match[2]]] += 1
        else:
            raise ValueError(f"no line of a list: {line!r}")
    return reading
