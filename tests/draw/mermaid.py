"""A reader of the part of Mermaid's flowchart grammar that drawings are made of.

It is stricter than Mermaid: anything it does not know is an error, so that nothing slips through that Mermaid might read in another way.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

KEY = r"n\d+"
LABEL = r'"((?:[^"#&;<>`{}()%:$\\@]|#\d+;|<br/>)*)"'
NODE = re.compile(rf"({KEY})(?:\[{LABEL}\]|\(\[{LABEL}\]\)|\[\[{LABEL}\]\])")
SUBGRAPH = re.compile(rf"subgraph ({KEY})\[{LABEL}\]")
EDGE = re.compile(rf'({KEY}) (-->|-\.->|==>)(?:\|"((?:again)?(?:, )?(?:on failure|always)?)"\|)? ({KEY})')
CLASS = re.compile(rf"class ({KEY}(?:,{KEY})*) (\w+)")
CLASS_DEF = re.compile(r"classDef (\w+) stroke:#[0-9a-f]{6},stroke-width:3px")


@dataclass
class Chart:
    """What a flowchart says: labels, shapes and parents by key, edges as (source, target, line, label), classes by name."""

    labels: dict[str, str] = field(default_factory=dict)
    shapes: dict[str, str] = field(default_factory=dict)
    parents: dict[str, str | None] = field(default_factory=dict)
    edges: list[tuple[str, str, str, str]] = field(default_factory=list)
    classes: dict[str, set[str]] = field(default_factory=dict)


def read(text: str) -> Chart:
    """The chart. Raises ValueError for anything unexpected."""
    lines = text.split("\n")
    if lines[0] != "flowchart TD" or lines[-1] != "":
        raise ValueError(f"not a flowchart: {lines[0]!r} ... {lines[-1]!r}")
    chart, around, defined = Chart(), [], set()
    for line in lines[1:-1]:
        stripped = line.lstrip(" ")
        depth = len(around) + (stripped != "end")
        if line != "    " * depth + stripped:
            raise ValueError(f"wrong indentation: {line!r}")
        if stripped == "end":
            around.pop()
        elif match := SUBGRAPH.fullmatch(stripped):
            _define(chart, match[1], match[2], "subgraph", around)
            around.append(match[1])
        elif match := NODE.fullmatch(stripped):
            _define(chart, match[1], match[match.lastindex or 0], ["", "box", "round", "double"][(match.lastindex or 1) - 1], around)
        elif around:
            raise ValueError(f"not closed: {around}")
        elif match := EDGE.fullmatch(stripped):
            chart.edges.append((match[1], match[4], match[2], match[3] or ""))
        elif match := CLASS_DEF.fullmatch(stripped):
            defined.add(match[1])
        elif match := CLASS.fullmatch(stripped):
            chart.classes[match[2]] = set(match[1].split(","))
        else:
            raise ValueError(f"no statement: {line!r}")
    named = {key for edge in chart.edges for key in edge[:2]}.union(*chart.classes.values())
    if around or named - chart.labels.keys() or chart.classes.keys() - defined:
        raise ValueError(f"not closed: {around}; not defined: {named - chart.labels.keys()}, {chart.classes.keys() - defined}")
    return chart


def _define(chart: Chart, key: str, label: str, shape: str, around: list[str]) -> None:
    if key in chart.labels:
        raise ValueError(f"{key} is defined twice")
    chart.labels[key] = re.sub(r"#(\d+);", lambda match: chr(int(match[1])), label.replace("<br/>", "\n"))
    chart.shapes[key] = shape
    chart.parents[key] = around[-1] if around else None
