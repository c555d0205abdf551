"""How far a run is, from its events: what the live view shows."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from typing import Final, Literal

import msgspec

from graflow.draw.picture import Picture
from graflow.wire.messages import RunEvent

State = Literal["waiting", "running", "retrying", "succeeded", "failed", "skipped", "cancelled", "suspended"]

STATES: Final[Mapping[str, State]] = {
    "task_started": "running",
    "group_started": "running",
    "task_retrying": "retrying",
    "task_succeeded": "succeeded",
    "group_succeeded": "succeeded",
    "task_failed": "failed",
    "group_failed": "failed",
    "task_skipped": "skipped",
    "task_cancelled": "cancelled",
    "task_suspended": "suspended",
    "iteration": "running",
    "task_refused": "waiting",
}
OVER: Final = frozenset({"succeeded", "failed", "skipped", "cancelled"})
MEMBER: Final = re.compile(r"(.*)\[\d+\]", re.DOTALL)
ENOUGH_TO_GUESS: Final = 3
"""members that must be done before their pace says anything"""


class Members(msgspec.Struct):
    """The members of a mapped group, counted."""

    total: int | None = None
    running: int = 0
    succeeded: int = 0
    failed: int = 0
    cancelled: int = 0

    @property
    def done(self) -> int:
        """How many have ended."""
        return self.succeeded + self.failed + self.cancelled


class Entry(msgspec.Struct):
    """A node of the graph, or a task that was added to the run.

    Attributes:
        id: the node.
        label: what it is called.
        depth: in how many groups it stands.
        state: where it stands.
        visits: how often it has been started.
        started: seconds from the start of the run to its last start.
        ended: to its last end.
        told: what there is to say: why it failed, or what it says of its progress.
        members: for a mapped group.
        items_of: for a mapped group, the node whose result is the list of items.
    """

    id: str
    label: str
    depth: int
    state: State = "waiting"
    visits: int = 0
    started: float | None = None
    ended: float | None = None
    told: str = ""
    share: float | None = None
    """how much of it is done, from 0 to 1, as the task itself says"""
    members: Members | None = None
    items_of: str | None = None

    def elapsed(self, now: float) -> float | None:
        """Seconds since it was started, or that it took."""
        if self.started is None:
            return None
        return max((now if self.ended is None else self.ended) - self.started, 0.0)

    def left(self, now: float) -> float | None:
        """Seconds that it will take at the pace it has had so far; None where nobody can know."""
        elapsed, members = self.elapsed(now), self.members
        if elapsed is None or self.state != "running":
            return None
        if members is not None and members.total and members.done >= ENOUGH_TO_GUESS:
            return elapsed * (members.total - members.done) / members.done
        return elapsed * (1 - self.share) / self.share if self.share else None


class Tracking:
    """All nodes of a run.

    Attributes:
        entries: by id, in drawing order; tasks added to the run come last.
        over: whether the run has ended.
        unserved: by task, that no worker takes it, and what to do.
        now: seconds from its start to the last event.
    """

    def __init__(self, picture: Picture) -> None:
        depth: dict[str | None, int] = {None: -1}
        self.entries: dict[str, Entry] = {}
        self._maps: dict[str, Entry] = {}
        for box in picture.boxes.values():
            depth[box.id] = depth[box.parent] + 1
            entry = self.entries[box.id] = Entry(box.id, box.label, depth[box.id])
            if box.instances_of is not None:
                entry.members = Members()
                entry.items_of = box.items_of
                self._maps[box.instances_of] = entry
        self.over: bool = False
        self.unserved: dict[str, str] = {}
        self.now: float = 0.0
        self._origin: float | None = None
        self._running: set[str] = set()
        """members of mapped groups that run now"""

    def take(self, event: RunEvent) -> Entry | None:
        """Note an event; returns the node that it is about, which for a member of a mapped group is the group."""
        time = event.time.timestamp()
        self._origin = time if self._origin is None else self._origin
        self.now = time - self._origin
        if event.task_id is None:
            self.over = self.over or event.type == "run_finished"
            if event.type == "no_worker":
                self.unserved[event.data["task_id"]] = unserved(event)
            return None
        if event.type == "task_started":
            self.unserved.pop(event.task_id, None)
        entry = self.entries.get(event.task_id)
        if entry is None:
            group = self._group_of(event.task_id)
            if group is not None and group.members is not None:
                self._count(group.members, event, event.task_id)
                return group
            entry = self.entries[event.task_id] = Entry(event.task_id, event.task_id, 0)
        self._note(entry, event)
        return entry

    def is_member(self, event: RunEvent) -> bool:
        """Whether the event is about a member of a mapped group."""
        return event.task_id is not None and event.task_id not in self.entries and self._group_of(event.task_id) is not None

    def _group_of(self, task_id: str) -> Entry | None:
        match = MEMBER.fullmatch(task_id)
        return self._maps.get(match[1]) if match else None

    def _note(self, entry: Entry, event: RunEvent) -> None:
        if event.type == "progress":
            done, total, message = event.data["done"], event.data["total"], event.data["message"]
            entry.share = min(max(done / total, 0.0), 1.0) if total else None
            entry.told = " ".join(filter(None, (f"{done:g} of {total:g}" if total else f"{done:g}", message)))
            return
        state = STATES.get(event.type)
        if state is None:
            return
        before, entry.state = entry.state, state
        if event.type == "task_refused" and before == "running" and event.attempt in (None, 1):
            entry.visits -= 1  # it had only been handed out
        if event.type in ("task_started", "group_started"):
            entry.visits += event.attempt in (None, 1)
            entry.started, entry.ended, entry.told, entry.share = self.now, None, "", None
            if entry.members is not None:
                entry.members = Members()
        elif state in OVER or state in ("retrying", "suspended", "waiting"):
            entry.ended = self.now
            entry.told = _why(event)

    def _count(self, members: Members, event: RunEvent, task_id: str) -> None:
        if event.type == "task_started":
            if task_id not in self._running:
                self._running.add(task_id)
                members.running += 1
            return
        if event.type not in ("task_succeeded", "task_failed", "task_cancelled", "task_retrying", "task_suspended", "task_refused"):
            return
        if task_id in self._running:
            self._running.discard(task_id)
            members.running -= 1
        if event.type == "task_succeeded":
            members.succeeded += 1
        elif event.type == "task_failed":
            members.failed += 1
        elif event.type == "task_cancelled":
            members.cancelled += 1


def why_refused(event: RunEvent) -> str:
    """What a ``task_refused`` says."""
    return f"worker {event.data.get('worker')} cannot run it: {event.data.get('message')}"


def unserved(event: RunEvent) -> str:
    """What a ``no_worker`` event says, and the way out."""
    task_id, queue, handler = event.data["task_id"], event.data["queue"], event.data["handler"]
    command = f"graflow-aworker --app MODULE --queues {shlex.quote(queue)} --handlers {shlex.quote(handler)}"
    return f"no worker takes {task_id}: none serves the queue {queue!r} with the handler {handler!r}; start one with {command}"


def _why(event: RunEvent) -> str:
    """What an event says of a failure, a retry, a skip or a suspension."""
    data = event.data
    if event.type in ("task_failed", "group_failed", "task_retrying"):
        delay = f", again in {data.get('delay', 0):.3g} s" if event.type == "task_retrying" else ""
        return f"{data.get('error_type', '')}: {data.get('message', '')}{delay}"
    if event.type == "task_refused":
        return why_refused(event)
    return str(data.get("reason") or data.get("because") or "")
