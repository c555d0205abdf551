"""The figures as a picture: a panel for each, a bar for each contender, on a logarithmic scale. SVG, written by hand."""

from __future__ import annotations

import importlib
import math
import shutil
import subprocess
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from xml.sax.saxutils import escape

from benchmarks.redis import figures as f
from benchmarks.redis.measuring import Report
from benchmarks.redis.report import number, share

WIDTH, MARGIN, GAP = 1160, 36, 24
COLUMNS = 2
PANEL = (WIDTH - 2 * MARGIN - GAP * (COLUMNS - 1)) / COLUMNS
NAMES, VALUES = 120, 72
"""pixels of a panel for the names on the left and for the figures behind the bars"""
HEAD, ROW, BAR, FOOT = 66, 27, 17, 30
TOP, BOTTOM = 96, 62
FONT = "system-ui, 'Segoe UI', 'Helvetica Neue', 'DejaVu Sans', sans-serif"
PAPER, CARD, INK, PALE, GRID = "#f4f5f7", "#ffffff", "#1f2933", "#6b7785", "#e7eaee"
OURS, PEER, BARE, ASKED = "#0e7c86", "#aab4c0", "#dfe4ea", "#d9480f"
LABELS = {"bare": "bare redis-py", "publish": "bare publish", "barrier": "graflow"}
RASTERISERS = {"rsvg-convert": ("-o", "{png}", "{svg}"), "inkscape": ("{svg}", "-o", "{png}")}


def can_write(path: Path) -> str | None:
    """Why a picture cannot be written to such a file, before anybody has waited for the figures in it."""
    if path.suffix == ".svg" or (path.suffix == ".png" and _rasteriser()):
        return None
    if path.suffix == ".png":
        return f"a PNG needs cairosvg (pip install cairosvg), {' or '.join(RASTERISERS)}; an .svg needs nothing"
    return "give a name that ends with .svg or .png"


def write(report: Report, path: Path) -> None:
    """Write the picture."""
    document = "\n".join(_Chart(report).document())
    if path.suffix == ".svg":
        path.write_text(document, "utf-8")
    elif _rasteriser() == "cairosvg":
        importlib.import_module("cairosvg").svg2png(bytestring=document.encode(), write_to=str(path), scale=2)
    else:
        drawn = path.with_suffix(".svg")
        drawn.write_text(document, "utf-8")
        program = _rasteriser()
        assert program is not None
        subprocess.run([program, *(word.format(svg=drawn, png=path) for word in RASTERISERS[program])], check=True)


def _rasteriser() -> str | None:
    if find_spec("cairosvg"):
        return "cairosvg"
    return next((program for program in RASTERISERS if shutil.which(program)), None)


class _Chart:
    def __init__(self, report: Report) -> None:
        self._report = report
        self._verdicts = {verdict.target.figure.key: verdict for verdict in report.verdicts}
        left_out = {f.IDLE_P95.key, f.RESIDENT_ALL.key, f.PUBLISH.key}
        panels = [(figure, self._bars(figure)) for figure in f.shown(report.sizes) if figure.key not in left_out]
        self._panels = [(figure, bars) for figure, bars in panels if bars]

    def _bars(self, figure: f.Figure) -> list[tuple[str, float]]:
        """Who has which value, the best first."""
        medians = self._report.medians
        if figure is f.BARRIER:
            found = {key: medians["graflow"][key] for key in ("publish", "barrier") if key in medians.get("graflow", {})}
        else:
            found = {name: values[figure.key] for name, values in medians.items() if figure.key in values}
        return sorted(found.items(), key=lambda bar: bar[1], reverse=figure.more)

    def document(self) -> Iterator[str]:
        rows = [self._panels[start : start + COLUMNS] for start in range(0, len(self._panels), COLUMNS)]
        heights = [HEAD + FOOT + ROW * max(len(bars) for _, bars in row) for row in rows]
        height = TOP + sum(heights) + GAP * max(len(rows) - 1, 0) + BOTTOM
        yield f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" font-family="{FONT}">'
        yield f'<rect width="{WIDTH}" height="{height}" fill="{PAPER}"/>'
        yield _text(MARGIN, 46, "Graflow on Redis", size=26, weight=700)
        yield _text(MARGIN, 72, f"One worker process each; medians; rounds: {self._report.sizes.rounds}; logarithmic scales", colour=PALE)
        yield from self._legend()
        top = float(TOP)
        for row, row_height in zip(rows, heights, strict=True):
            for column, (figure, bars) in enumerate(row):
                yield from self._panel(MARGIN + column * (PANEL + GAP), top, row_height, figure, bars)
            top += row_height + GAP
        yield _text(MARGIN, height - 32, self._conditions(), size=11.5, colour=PALE)
        yield _text(MARGIN, height - 15, "Only the ratios within one run mean anything elsewhere.", size=11.5, colour=PALE)
        yield "</svg>"

    def _legend(self) -> Iterator[str]:
        left = WIDTH - MARGIN - 470
        for colour, label, width in ((OURS, "Graflow", 90), (PEER, "task queues", 112), (BARE, "bare redis-py, the ceiling", 190)):
            yield f'<rect x="{left}" y="60" width="14" height="14" rx="3" fill="{colour}"/>'
            yield _text(left + 20, 72, label, size=12.5, colour=PALE)
            left += width
        yield f'<path d="M{left + 7} 58v18" stroke="{ASKED}" stroke-width="2" stroke-dasharray="4 3"/>'
        yield _text(left + 18, 72, "asked for", size=12.5, colour=PALE)

    def _panel(self, left: float, top: float, height: float, figure: f.Figure, bars: list[tuple[str, float]]) -> Iterator[str]:
        scale = _Scale(
            [value for _, value in bars] + ([asked] if (asked := self._asked(figure)) else []), left + NAMES, PANEL - NAMES - VALUES
        )
        base, body = top + HEAD, len(bars) * ROW
        yield f'<rect x="{left:.1f}" y="{top:.1f}" width="{PANEL:.1f}" height="{height:.1f}" rx="10" fill="{CARD}"/>'
        yield _text(left + 18, top + 28, figure.title[0].upper() + figure.title[1:], size=15, weight=650)
        yield _text(left + 18, top + 47, f"{figure.unit}, {'more' if figure.more else 'less'} is better", size=12, colour=PALE)
        if verdict := self._said(figure):
            colour = ASKED if verdict[0] is False else OURS
            yield _text(left + PANEL - 18, top + 28, verdict[1], size=13, weight=650, colour=colour, anchor="end")
        for decade, label in scale.decades():
            yield f'<path d="M{scale.at(decade):.1f} {base - 4:.1f}V{base + body:.1f}" stroke="{GRID}"/>'
            yield _text(scale.at(decade), base + body + 16, label, size=10.5, colour=PALE, anchor="middle")
        for place, (name, value) in enumerate(bars):
            yield _bar(scale, base + place * ROW, name, value)
        if asked:
            yield (
                f'<path d="M{scale.at(asked):.1f} {base - 6:.1f}V{base + body + 2:.1f}" stroke="{ASKED}" stroke-width="2" '
                f'stroke-dasharray="4 3"><title>asked for: {number(asked)} {figure.unit}</title></path>'
            )
        for place, (name, value) in enumerate(bars):  # after the line, so that it crosses no figure
            yield from _labels(scale, base + place * ROW, left, name, value)

    def _asked(self, figure: f.Figure) -> float | None:
        """The value that Graflow is asked to reach."""
        verdict = self._verdicts.get(figure.key)
        return None if verdict is None or verdict.other is None else verdict.target.asked * verdict.other

    def _said(self, figure: f.Figure) -> tuple[bool | None, str] | None:
        """Graflow's ratio in a few words, and whether it is what was asked."""
        verdict = self._verdicts.get(figure.key)
        if verdict is None or verdict.ratio is None or verdict.target.beside == "itself":
            return None
        ratio = share(verdict.ratio)
        return verdict.met, f"{ratio} {verdict.beside}" if ratio.endswith("x") else f"{ratio} of {verdict.beside}"

    def _conditions(self) -> str:
        known, versions = self._report.conditions, self._report.versions
        measured = ", ".join(
            f"{'redis-py' if name == 'bare' else name} {versions[name]}" for name in versions if name in self._report.medians
        )
        return f"Redis {known['redis']}, Python {known['python']}, {known['cores']} cores; {measured}"


class _Scale:
    """A logarithmic scale for some values. The smallest keeps a bar long enough to be seen."""

    def __init__(self, values: list[float], left: float, width: float) -> None:
        smallest, largest = min(values), max(values)
        self._low = math.log10(smallest) - max(0.15 * (math.log10(largest) - math.log10(smallest)), 0.25)
        self._high = math.log10(largest)
        self.left, self.width = left, width

    def at(self, value: float) -> float:
        return self.left + self.width * (math.log10(value) - self._low) / (self._high - self._low)

    def decades(self) -> Iterator[tuple[float, str]]:
        """The values that get a line: powers of ten, and between them where there would be fewer than two."""
        tens = [10.0**power for power in range(math.ceil(self._low), math.floor(self._high) + 1)]
        if len(tens) < 2:
            tens = [
                step * 10.0**power
                for power in range(math.floor(self._low), math.ceil(self._high) + 1)
                for step in (1, 2, 5)
                if self._low <= math.log10(step * 10.0**power) <= self._high
            ]
        for value in tens:
            yield value, f"{value:,.0f}" if value >= 1 else f"{value:g}"


def _bar(scale: _Scale, top: float, name: str, value: float) -> str:
    colour = OURS if name in ("graflow", "barrier") else BARE if name in ("bare", "publish") else PEER
    width = max(scale.at(value) - scale.left, 2.0)
    return f'<rect x="{scale.left:.1f}" y="{top + (ROW - BAR) / 2:.1f}" width="{width:.1f}" height="{BAR}" rx="3" fill="{colour}"/>'


def _labels(scale: _Scale, top: float, left: float, name: str, value: float) -> Iterator[str]:
    weight = 650 if name in ("graflow", "barrier") else 400
    middle, end = top + ROW / 2 + 4.5, max(scale.at(value), scale.left + 2.0)
    text = number(value)
    yield f'<rect x="{end + 4:.1f}" y="{top + 4:.1f}" width="{7.6 * len(text) + 6:.1f}" height="{ROW - 8}" fill="{CARD}" opacity="0.85"/>'
    yield _text(left + 18, middle, LABELS.get(name, name), size=12.5, weight=weight)
    yield _text(end + 7, middle, text, size=12.5, weight=weight)


def _text(left: float, base: float, text: str, *, size: float = 14, weight: int = 400, colour: str = INK, anchor: str = "start") -> str:
    return (
        f'<text x="{left:.1f}" y="{base:.1f}" font-size="{size}" font-weight="{weight}" fill="{colour}" text-anchor="{anchor}">'
        f"{escape(text)}</text>"
    )
