"""A picture of a run: what ran when, side by side with what, and how it ended. SVG, which any browser shows."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Final
from xml.sax.saxutils import escape

import msgspec

from graflow.observe.spans import Span, SpanOutcome, spans_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from graflow.wire.messages import RunEvent

WIDTH: Final = 1200
LEFT: Final = 190
RIGHT: Final = 24
TOP: Final = 64
ROW: Final = 22
"""pixels of a row that sums up one kind of task"""
MOST_KINDS: Final = 14
LANES: Final = 320
"""pixels that all lanes share, as long as each has from 3 to 24 of them"""
LETTER: Final = 6.8
"""pixels that a letter takes, more or less"""
INK, PALE, GRID, LANE_COLOURS = "#333", "#666", "#e4e4e4", ("#eff1f3", "#f6f7f8")
FONT: Final = "system-ui, 'Segoe UI', 'DejaVu Sans', sans-serif"
COLOURS: Final = ("#4e79a7", "#59a14f", "#b07aa1", "#f28e2b", "#76b7b2", "#9c755f", "#edc948", "#5b6abf", "#86bcb6", "#a0cbe8")
OUTCOME_COLOURS: Final[dict[SpanOutcome, str]] = {"failed": "#d62728", "retried": "#ff9d9a", "cancelled": "#9aa0a6", "suspended": "#c9b458"}
TICKS: Final = 10
NOT_IN_XML: Final = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class Kind(msgspec.Struct, frozen=True):
    """All attempts of one task and of its clones in a mapped group."""

    name: str
    colour: str
    spans: tuple[Span, ...]

    def count(self, outcome: SpanOutcome) -> int:
        """How many of them ended so."""
        return sum(span.outcome == outcome for span in self.spans)


def timeline(events: Iterable[RunEvent], title: str) -> str:
    """The timeline of a run as an SVG document.

    Above, a row for each task says when its attempts ran, how many there were and how they ended; below, each attempt stands in a lane of
    its own. Hovering over one tells which it is.

    Args:
        events: all of the run's events, in order.
        title: what stands above the picture.

    Example::

        Path("run.svg").write_text(timeline([event async for event in handle.events()], "nightly"), "utf-8")
    """
    return draw_spans(spans_of(events), title)


def draw_spans(spans: Sequence[Span], title: str) -> str:
    """The same from spans, as :func:`~graflow.observe.spans.spans_of` gives them."""
    return _Timeline(spans, title).document()


class _Timeline:
    def __init__(self, spans: Sequence[Span], title: str) -> None:
        self._spans = spans
        self._title = title
        self._kinds = _kinds_of(spans)
        self._colours = {span.kind: kind.colour for kind in self._kinds for span in kind.spans}
        self._lanes = max((span.lane for span in spans), default=0) + 1
        self._lane = min(max(LANES / self._lanes, 3.0), 24.0)
        end = max((span.end for span in spans), default=0.0)
        self._tick, self._end = _scale(end)
        self._lanes_top = TOP + ROW * len(self._kinds) + 34
        self._bottom = self._lanes_top + self._lane * self._lanes

    def document(self) -> str:
        """The whole SVG document."""
        height = self._bottom + 44
        parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:.0f}" width="{WIDTH}" height="{height:.0f}" '
            f'font-family="{FONT}" font-size="12" fill="{INK}">',
            f"<title>{_text(self._title)}</title>",
            _bar(0, 0, WIDTH, height, "#fff"),
            f'<text x="{LEFT}" y="26" font-size="17" font-weight="600">{_text(self._title)}</text>',
            _words(LEFT, 46, self._subtitle(), fill=PALE),
            *self._axis(),
            *self._rows(),
            *self._all_lanes(),
            *self._legend(height - 7),
        ]
        return "\n".join([*parts, "</svg>"]) + "\n"

    def _subtitle(self) -> str:
        if not self._spans:
            return "nothing ran"
        busy = sum(span.end - span.start for span in self._spans)
        elapsed = max(span.end for span in self._spans)
        overlap = f", {busy / elapsed:.1f} side by side on average" if elapsed else ""
        return f"{len(self._spans):,} attempts in {_seconds(elapsed)}{overlap}, at most {self._lanes}"

    def _x(self, seconds: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * seconds / self._end

    def _axis(self) -> Iterator[str]:
        decimals = max(0, -math.floor(math.log10(self._tick)))
        for number in range(round(self._end / self._tick) + 1):
            seconds = number * self._tick
            x = self._x(seconds)
            yield f'<path d="M{x:.1f} {TOP - 6}V{self._bottom + 4:.1f}" stroke="{GRID}"/>'
            yield _words(x, self._bottom + 18, f"{seconds:.{decimals}f} s", anchor="middle", fill=PALE)

    def _rows(self) -> Iterator[str]:
        """When each kind of task ran, and how it went."""
        for number, kind in enumerate(self._kinds):
            y = TOP + ROW * number
            first, last = min(span.start for span in kind.spans), max(span.end for span in kind.spans)
            x, width = self._x(first), max(self._x(last) - self._x(first), 1.5)
            counts = _counts(kind)
            told = f"{kind.name}: {counts}\n{first:.3f} s to {last:.3f} s"
            yield _words(LEFT - 10, y + 15, _cut(kind.name), anchor="end")
            yield _bar(x, y + 4, width, ROW - 8, kind.colour, title=told, more=' rx="2"')
            yield _beside(x, x + width, y + 15, counts)

    def _all_lanes(self) -> Iterator[str]:
        label_every = max(1, math.ceil(14 / self._lane))
        for lane in range(self._lanes):
            y = self._lanes_top + self._lane * lane
            yield _bar(LEFT, y, WIDTH - LEFT - RIGHT, self._lane, LANE_COLOURS[lane % 2])
            if lane % label_every == 0:
                yield _words(LEFT - 10, y + self._lane / 2 + 4, f"slot {lane + 1}", anchor="end", fill=PALE)
        # What went wrong comes last, so that no neighbour covers it.
        for span in sorted(self._spans, key=lambda span: span.outcome != "succeeded"):
            yield self._attempt(span)

    def _attempt(self, span: Span) -> str:
        went_well = span.outcome == "succeeded"
        colour = self._colours[span.kind] if went_well else OUTCOME_COLOURS[span.outcome]
        x = self._x(span.start)
        width = max(self._x(span.end) - x, 0.4 if went_well else 2.0)
        inset = min(1.5, self._lane / 6)
        edge = ' stroke="#fff" stroke-width="0.5"' if width > 3 else ""
        y, height = self._lanes_top + self._lane * span.lane + inset, self._lane - 2 * inset
        return _bar(x, y, width, height, colour, title=_description(span), more=edge)

    def _legend(self, y: float) -> Iterator[str]:
        x = float(LEFT)
        for outcome, colour in OUTCOME_COLOURS.items():
            count = sum(span.outcome == outcome for span in self._spans)
            if count:
                words = f"{outcome} ({count:,})"
                yield _bar(x, y - 9, 10, 10, colour)
                yield _words(x + 15, y, words, fill=PALE)
                x += 30 + LETTER * len(words)


def _bar(x: float, y: float, width: float, height: float, fill: str, *, title: str = "", more: str = "") -> str:
    shape = f'<rect x="{x:.2f}" y="{y:.2f}" width="{width:.2f}" height="{height:.2f}" fill="{fill}"{more}'
    return f"{shape}><title>{_text(title)}</title></rect>" if title else f"{shape}/>"


def _words(x: float, y: float, text: str, *, anchor: str = "start", fill: str = INK) -> str:
    where = "" if anchor == "start" else f' text-anchor="{anchor}"'
    colour = "" if fill == INK else f' fill="{fill}"'
    return f'<text x="{x:.1f}" y="{y:.1f}"{where}{colour}>{_text(text)}</text>'


def _beside(left: float, right: float, y: float, text: str) -> str:
    """Words behind a bar, or before it, or, where it leaves no room, on it."""
    room = LETTER * len(text) + 12
    if right + room < WIDTH:
        return _words(right + 6, y, text)
    if left - room > LEFT:
        return _words(left - 6, y, text, anchor="end")
    return _words(left + 6, y, text, fill="#fff")


def _kinds_of(spans: Sequence[Span]) -> list[Kind]:
    """In order of their first starts; beyond the first few, all others together."""
    found: dict[str, list[Span]] = {}
    for span in spans:
        found.setdefault(span.kind, []).append(span)
    kinds = [Kind(name, COLOURS[number % len(COLOURS)], tuple(each)) for number, (name, each) in enumerate(found.items())]
    if len(kinds) <= MOST_KINDS:
        return kinds
    rest = kinds[MOST_KINDS - 1 :]
    others = Kind(f"{len(rest)} other tasks", "#7f8790", tuple(span for kind in rest for span in kind.spans))
    return [*kinds[: MOST_KINDS - 1], others]


def _scale(end: float) -> tuple[float, float]:
    """Seconds between two ticks (1, 2 or 5 times a power of ten), and the end of the axis, which is a tick."""
    if end <= 0:
        return 0.1, 1.0
    step = 10.0 ** math.floor(math.log10(end / TICKS))
    tick = next(step * factor for factor in (1, 2, 5, 10) if end / (step * factor) <= TICKS)
    return tick, math.ceil(end / tick) * tick


def _counts(kind: Kind) -> str:
    bad = [f"{count:,} {outcome}" for outcome in OUTCOME_COLOURS if (count := kind.count(outcome))]
    longest = max(span.end - span.start for span in kind.spans)
    if len(kind.spans) == 1:
        return ", ".join([*(bad and [kind.spans[0].outcome]), _seconds(longest)])
    return ", ".join([f"{len(kind.spans):,} times", *bad, f"longest {_seconds(longest)}"])


def _seconds(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds >= 1 else f"{seconds * 1000:.3g} ms"


def _description(span: Span) -> str:
    attempt = f" (attempt {span.attempt})" if span.attempt > 1 else ""
    why = f": {span.message}" if span.message else ""
    return f"{span.task_id}{attempt}\n{span.outcome}{why}\n{_seconds(span.end - span.start)}, from {span.start:.3f} s to {span.end:.3f} s"


def _cut(name: str) -> str:
    return name if len(name) <= 26 else f"{name[:25]}…"


def _text(text: str) -> str:
    return escape(NOT_IN_XML.sub("\ufffd", text))
