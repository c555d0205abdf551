"""Watching a run: a live view on a terminal, lines elsewhere. Both on standard error, so that results can be piped."""

from __future__ import annotations

import asyncio
import sys
import time
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Sequence, Sized
from contextlib import asynccontextmanager, suppress
from typing import Any, Final

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from graflow.cli.failures import one_line
from graflow.cli.tracking import Entry, Members, Tracking, unserved, why_refused
from graflow.core.result import RunStatus
from graflow.engine import RunHandle
from graflow.errors import RunLostError
from graflow.wire.messages import RunEvent

FRAMES: Final = 8
"""times a second that the live view is drawn anew"""
REPORT_EVERY: Final = 5.0
"""seconds between two lines about the members of one group"""
FAILURES_TOLD: Final = 10
"""members of one group whose failure gets a line of its own"""
BAR: Final = 24
SIGNS: Final = {
    "waiting": ("·", "dim"), "running": ("▸", "cyan"), "retrying": ("↻", "yellow"), "succeeded": ("✓", "green"), "failed": ("✗", "red"),
    "skipped": ("-", "dim"), "cancelled": ("■", "dim"), "suspended": ("‖", "yellow"),
}  # fmt: skip
URGENT: Final = ("running", "retrying", "failed", "suspended", "succeeded", "cancelled", "waiting", "skipped")
"""what is shown first where not everything fits"""


class Lines:
    """A line for whatever happens to a task; for the members of a mapped group, only now and then."""

    def __init__(self, tracking: Tracking, write: Callable[[str], None]) -> None:
        self._tracking = tracking
        self._write = write
        self._reported: dict[str, float] = {}
        self._failures: Counter[str] = Counter()
        self._refused: set[str] = set()

    def take(self, event: RunEvent, entry: Entry | None) -> None:
        """Tell what there is to tell of an event; ``entry`` is the node that it is about."""
        if entry is None:
            if event.type == "run_finished":
                self._say(f"run {event.data['status']}")
            elif event.type == "no_worker":
                self._say(unserved(event))
        elif entry.id != event.task_id:
            self._take_member(event, entry)
        elif event.type in ("task_started", "group_started"):
            again = f" (visit {entry.visits})" if entry.visits > 1 else ""
            self._say(f"{entry.label} started{again}{_of_how_many(entry.members)}")
            self._reported[entry.id] = self._tracking.now
        elif event.type == "progress":
            self._report(entry, entry.told)
        elif event.type not in ("message", "iteration"):
            self._say(" ".join(filter(None, (f"{entry.label} {entry.state}", _how_long(entry), entry.told and f"({entry.told})"))))

    def _take_member(self, event: RunEvent, group: Entry) -> None:
        if event.type == "task_failed":
            self._failures[group.id] += 1
            if self._failures[group.id] <= FAILURES_TOLD:
                self._say(f"{event.task_id} failed ({event.data.get('error_type')}: {event.data.get('message')})")
            elif self._failures[group.id] == FAILURES_TOLD + 1:
                self._say(f"{group.label}: more of them fail, which are only counted from here on")
        elif event.type == "task_suspended":
            self._say(f"{event.task_id} suspended ({event.data.get('reason')})")
        elif event.type == "task_refused" and group.id not in self._refused:  # of the others it is mostly the same
            self._refused.add(group.id)
            self._say(f"{event.task_id} waiting ({why_refused(event)})")
        elif group.members is not None:
            self._report(group, _counts(group.members))

    def _report(self, entry: Entry, text: str) -> None:
        now = self._tracking.now
        if now - self._reported.get(entry.id, 0.0) >= REPORT_EVERY:
            self._reported[entry.id] = now
            left = entry.left(now)
            self._say(f"{entry.label}: {text}" + (f", {_about(left)}" if left is not None else ""))

    def _say(self, text: str) -> None:
        self._write(f"{self._tracking.now:8.2f} s  {one_line(text)}")


class LiveView:
    """The states of all tasks, drawn again several times a second."""

    def __init__(self, tracking: Tracking, console: Console, title: str) -> None:
        self._tracking = tracking
        self._console = console
        self._title = title
        self._began = time.monotonic()
        # What a task prints goes above the view, unless it goes to a file or a pipe.
        self._live = Live(console=console, auto_refresh=False, transient=True, redirect_stdout=sys.stdout.isatty())

    def begin(self) -> None:
        """Take over the lower part of the terminal."""
        self._live.start()

    def tick(self) -> None:
        """Draw."""
        self._live.update(self.render(time.monotonic() - self._began), refresh=True)

    def end(self) -> None:
        """Give the terminal back."""
        self._live.stop()

    def render(self, now: float) -> RenderableType:
        """What is shown ``now``, in seconds from the start of the run."""
        entries = list(self._tracking.entries.values())
        shown = most_urgent(entries, max(self._console.size.height - 4 - len(self._tracking.unserved), 3))
        table = Table.grid(padding=(0, 1))
        table.add_column(no_wrap=True)
        table.add_column(no_wrap=True, overflow="ellipsis", max_width=40)
        table.add_column(no_wrap=True, justify="right", width=9)
        table.add_column(no_wrap=True, overflow="ellipsis")
        for entry in shown:
            sign, style = SIGNS[entry.state]
            elapsed = entry.elapsed(now)
            visits = f" x{entry.visits}" if entry.visits > 1 else ""
            table.add_row(
                Text(sign, style),
                Text("  " * entry.depth + one_line(entry.label) + visits, "" if entry.state != "waiting" else "dim"),
                Text("" if elapsed is None else f"{elapsed:.1f} s", "dim"),
                _detail(entry, now),
            )
        hidden = hidden_states(entries, shown)
        lines: list[RenderableType] = [Text(f"{self._title}  {now:.1f} s", "bold"), table]
        if hidden:
            lines.append(Text(hidden, "dim"))
        lines += [Text(one_line(text), "yellow") for text in self._tracking.unserved.values()]
        lines.append(Text(_summary(entries, now), "dim"))
        return Group(*lines)


@asynccontextmanager
async def watched(
    handle: RunHandle[Any], tracking: Tracking, view: Lines | LiveView | None, events: list[RunEvent] | None = None
) -> AsyncGenerator[None]:
    """Follow the run inside the block, and when the run has ended there, up to its last event. ``events`` collects them."""
    tasks = [asyncio.create_task(_follow(handle, tracking, view, events))]
    if isinstance(view, LiveView):
        view.begin()
        tasks.append(asyncio.create_task(_tick(view)))
    try:
        yield
        if await handle.status() not in (RunStatus.RUNNING, RunStatus.SUSPENDED):
            await tasks[0]
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        if isinstance(view, LiveView):
            view.end()


async def _follow(handle: RunHandle[Any], tracking: Tracking, view: Lines | LiveView | None, events: list[RunEvent] | None) -> None:
    with suppress(RunLostError):  # whoever awaits the result says so
        async for event in handle.events():
            if events is not None:
                events.append(event)
            entry = tracking.take(event)
            if event.type == "group_started" and entry is not None and entry.members is not None:
                entry.members.total = await _count_items(handle, entry)
            if isinstance(view, Lines):
                view.take(event, entry)
            elif view is None and event.type == "no_worker":  # a warning, as one may wait for ever
                sys.stderr.write(f"graflow: {one_line(unserved(event))}\n")


async def _count_items(handle: RunHandle[Any], entry: Entry) -> int | None:
    """How many members a mapped group has, which only the result that it is made from tells."""
    known = await handle.peek()
    items = known.results.get(entry.items_of or "", known.groups.get(entry.items_of or ""))
    return len(items) if isinstance(items, Sized) else None


async def _tick(view: LiveView) -> None:
    while True:
        view.tick()
        await asyncio.sleep(1 / FRAMES)


# ---- words ----------------------------------------------------------------------------------------------------------


def most_urgent(entries: Sequence[Entry], room: int) -> Sequence[Entry]:
    """As many entries as there is room for, in their order: first what runs or failed, last what only waits or was skipped."""
    if len(entries) <= room:
        return entries
    chosen = sorted(entries, key=lambda entry: (URGENT.index(entry.state), -(entry.ended or 0.0)))[:room]
    kept = {entry.id for entry in chosen}
    return [entry for entry in entries if entry.id in kept]


def hidden_states(entries: Sequence[Entry], shown: Sequence[Entry]) -> str:
    """What is not shown, summed up; nothing if everything is."""
    hidden = Counter(entry.state for entry in entries) - Counter(entry.state for entry in shown)
    return "  and " + ", ".join(f"{count:,} {state}" for state, count in hidden.items()) if hidden else ""


def _detail(entry: Entry, now: float) -> Text:
    members, left = entry.members, entry.left(now)
    words = Text()
    if entry.state == "running" and (share := _share(entry)) is not None:
        filled = round(BAR * share)
        words.append("━" * filled, "cyan").append("─" * (BAR - filled), "dim").append(" ")
    if members is not None and entry.state != "waiting":
        words.append(_counts(members))
    elif entry.told:
        words.append(one_line(entry.told), "red" if entry.state == "failed" else "")
    if left is not None:
        words.append(f"  {_about(left)}", "dim")
    return words


def _share(entry: Entry) -> float | None:
    members = entry.members
    return members.done / members.total if members is not None and members.total else entry.share


def _counts(members: Members) -> str:
    total = f" of {members.total:,}" if members.total is not None else ""
    bad = [f", {count:,} {word}" for count, word in ((members.failed, "failed"), (members.cancelled, "cancelled")) if count]
    return f"{members.done:,}{total} done{''.join(bad)}"


def _of_how_many(members: Members | None) -> str:
    return f" ({members.total:,} members)" if members is not None and members.total is not None else ""


def _how_long(entry: Entry) -> str:
    seconds = entry.elapsed(entry.ended or 0.0) if entry.ended is not None else None
    counts = f", {_counts(entry.members)}" if entry.members is not None else ""
    return "" if seconds is None else f"after {seconds:.2f} s{counts}"


def _about(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"about {f'{minutes} min {rest} s' if minutes else f'{rest} s'} left"


def _summary(entries: Sequence[Entry], now: float) -> str:
    counts = Counter(entry.state for entry in entries)
    over = counts["succeeded"] + counts["failed"] + counts["skipped"] + counts["cancelled"]
    parts = [
        f"{over} of {len(entries)} done",
        *(f"{counts[state]} {state}" for state in ("running", "retrying", "suspended", "failed") if counts[state]),
    ]
    known = [left for entry in entries if (left := entry.left(now)) is not None]
    unknown = any(
        entry.state == "waiting" or (entry.state == "running" and entry.left(now) is None and entry.depth == 0) for entry in entries
    )
    if known:
        parts.append(f"{'at least' if unknown else 'about'} {_about(max(known)).removeprefix('about ')}")
    return ", ".join(parts)
