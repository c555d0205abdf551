"""What ran when, read from the events of a run."""

from __future__ import annotations

import heapq
import re
from typing import TYPE_CHECKING, Final, Literal

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

    from graflow.wire.messages import RunEvent

SpanOutcome = Literal["succeeded", "failed", "retried", "cancelled", "suspended"]

ENDS: Final[dict[str, SpanOutcome]] = {
    "task_succeeded": "succeeded",
    "iteration": "succeeded",
    "task_failed": "failed",
    "task_retrying": "retried",
    "task_cancelled": "cancelled",
    "task_suspended": "suspended",
    "task_refused": "cancelled",
}
MEMBER: Final = re.compile(r"\[\d+\]$")


class Span(msgspec.Struct, frozen=True):
    """One attempt, from its start to its end.

    Attributes:
        task_id: the task.
        start: seconds from the start of the run.
        end: likewise.
        outcome: how it ended; ``retried`` is a failure that was tried again.
        attempt: which try it was.
        lane: a slot that it had to itself, counted from 0. No more lanes are used than attempts ran side by side.
        message: why it failed.
    """

    task_id: str
    start: float
    end: float
    outcome: SpanOutcome
    attempt: int = 1
    lane: int = 0
    message: str = ""

    @property
    def kind(self) -> str:
        """The task that it is an instance of: members of a mapped group are of one kind."""
        return MEMBER.sub("", self.task_id)


def spans_of(events: Iterable[RunEvent]) -> list[Span]:
    """The attempts of a run, in order of their starts, each in its lane.

    Args:
        events: from the start of the run, in order; what is still running after the last one ends there, as cancelled.
    """
    spans: list[Span] = []
    running: dict[str, tuple[float, int]] = {}
    origin: datetime | None = None
    now = 0.0

    def close(task_id: str, outcome: SpanOutcome, message: str = "") -> None:
        begun = running.pop(task_id, None)
        if begun is not None:
            spans.append(Span(task_id, begun[0], max(now, begun[0]), outcome, begun[1], message=message))

    for event in events:
        origin = origin or event.time
        now = (event.time - origin).total_seconds()
        if event.task_id is None:
            continue
        if event.type == "task_started":
            close(event.task_id, "cancelled")
            running[event.task_id] = (now, event.attempt or 1)
        elif event.type in ENDS:
            close(event.task_id, ENDS[event.type], _message(event))
    for task_id in list(running):
        close(task_id, "cancelled")
    return _in_lanes(spans)


def _message(event: RunEvent) -> str:
    if event.type not in ("task_failed", "task_retrying"):
        return ""
    return f"{event.data.get('error_type', '')}: {event.data.get('message', '')}"


def _in_lanes(spans: Sequence[Span]) -> list[Span]:
    """Give each span the first lane that is free when it starts."""
    free: list[int] = []
    busy: list[tuple[float, int]] = []
    lanes = 0
    placed: list[Span] = []
    for span in sorted(spans, key=lambda span: (span.start, span.end)):
        while busy and busy[0][0] <= span.start:
            heapq.heappush(free, heapq.heappop(busy)[1])
        if free:
            lane = heapq.heappop(free)
        else:
            lane, lanes = lanes, lanes + 1
        heapq.heappush(busy, (span.end, lane))
        placed.append(msgspec.structs.replace(span, lane=lane))
    return placed
