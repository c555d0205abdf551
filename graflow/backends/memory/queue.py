"""Attempts that wait for a worker of this process."""

from __future__ import annotations

import asyncio
from collections import deque
from heapq import heapify, heappop, heappush
from typing import TYPE_CHECKING, Final

from graflow.backends.base import QueueMetrics
from graflow.backends.limits import queue_full
from graflow.core.clock import SystemClock

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from graflow.backends.base import Slots
    from graflow.core.clock import Clock
    from graflow.wire.messages import TaskSpec

PRIORITIES: Final = ("critical", "high", "normal", "low")
RANK: Final = {priority: rank for rank, priority in enumerate(PRIORITIES)}
SHARE: Final = 8
"""every so many-th attempt is taken from one of the lower priorities first, so that a flood of urgent work starves nobody"""


class Lane:
    """One queue for one kind of handler: first in, first out within each priority."""

    __slots__ = ("_taken", "queue", "ranks")

    def __init__(self, queue: str) -> None:
        self.queue: str = queue
        self.ranks: tuple[deque[tuple[float, TaskSpec]], ...] = tuple(deque() for _ in PRIORITIES)
        self._taken = 0

    def take(self) -> TaskSpec | None:
        """The next attempt: strictly by priority, with a share for the lower ones."""
        for rank in self.ranks if (self._taken + 1) % SHARE else self._shared():
            if rank:
                self._taken += 1
                return rank.popleft()[1]
        return None

    def _shared(self) -> tuple[deque[tuple[float, TaskSpec]], ...]:
        """The lower priorities in turn, or those in the middle would starve between a flood above and one below them."""
        lower = self.ranks[:0:-1]
        turn = self._taken // SHARE % len(lower)
        return (*lower[turn:], *lower[:turn], self.ranks[0])

    def purge(self, run_id: str) -> int:
        """Drop the attempts of one run; how many there were."""
        before = len(self)
        for rank in self.ranks:
            kept = [entry for entry in rank if entry[1].run_id != run_id]
            if len(kept) != len(rank):
                rank.clear()
                rank.extend(kept)
        return before - len(self)

    def __len__(self) -> int:
        return sum(map(len, self.ranks))

    def specs(self) -> list[TaskSpec]:
        """What waits, in the order of priorities."""
        return [spec for rank in self.ranks for _, spec in rank]

    def oldest(self) -> float | None:
        """Since when the first in line has waited."""
        return min((rank[0][0] for rank in self.ranks if rank), default=None)


class MemoryTaskQueue:
    """A :class:`~graflow.backends.base.TaskQueue` in the memory of one event loop.

    Args:
        clock: tells when delayed attempts are due.
        limit: how many attempts may wait at once, None for any number.

    Example:
        >>> queue = MemoryTaskQueue()
        >>> await queue.enqueue(spec, delay=5.0)
        >>> await queue.dequeue(slots)
        []
    """

    def __init__(self, *, clock: Clock | None = None, limit: int | None = None) -> None:
        self._clock = clock or SystemClock()
        self._monotonic = self._clock.monotonic
        self._limit = limit
        self._lanes: dict[str, list[Lane]] = {}
        self._delayed: list[tuple[float, int, TaskSpec]] = []
        self._delayed_of: dict[str, int] = {}
        """run -> how many delayed attempts it has: most runs have none when they end, and need not be looked for"""
        self._timer: asyncio.TimerHandle | None = None
        self.ready: int = 0
        """attempts in line, which could start now"""
        self._enqueued = 0
        self._fetched = 0
        self.count_in_flight: Callable[[str | None], int] = lambda _: 0
        """says how many attempts, of a queue or of all, are in the hands of workers; whoever hands them out knows"""
        self.on_ready: Callable[[], None] | None = None
        """called when something was put in, or its time has come, while nobody was looking; not by :meth:`put`, whose caller knows"""

    # ---- the TaskQueue protocol ----

    async def enqueue(self, spec: TaskSpec, *, delay: float = 0.0) -> None:
        """Put an attempt in line, ``delay`` seconds from now."""
        self.check_room(lambda: spec.queue)
        self.put(spec, delay)
        self._tell()

    async def dequeue(self, slots: Slots) -> list[TaskSpec]:
        """Take what fits into the free slots; an empty list when there is nothing."""
        found: list[TaskSpec] = []
        for handler in slots.handlers:
            free = slots.free(handler) if self.has_work() else 0
            while free > 0 and (spec := self.take(handler, slots.queues)) is not None:
                found.append(spec)
                free -= 1
        return found

    async def is_empty(self) -> bool:
        """Whether nothing waits, delayed attempts included."""
        return not self.ready and not self._delayed

    async def metrics(self, queue: str | None = None) -> QueueMetrics:
        """Depth, age and counts; of one queue, what stands in it and is in somebody's hands."""
        self._promote()
        lanes = [lane for lanes in self._lanes.values() for lane in lanes if queue is None or lane.queue == queue]
        since = [oldest for lane in lanes if (oldest := lane.oldest()) is not None]
        depth, in_flight = sum(map(len, lanes)), self.count_in_flight(queue)
        age = max(0.0, self._monotonic() - min(since)) if since else 0.0
        if queue is not None:
            return QueueMetrics(depth=depth, in_flight=in_flight, oldest_age=age)
        return QueueMetrics(
            depth=depth,
            delayed=len(self._delayed),
            in_flight=in_flight,
            oldest_age=age,
            enqueued=self._enqueued,
            fetched=self._fetched,
        )

    # ---- what the coordinator beside it uses: the same without awaiting, so that a step stays atomic ----

    def check_room(self, queue: Callable[[], str]) -> None:
        """Raise QueueFullError when as many attempts wait as may."""
        if self._limit is not None and self.ready + len(self._delayed) >= self._limit:
            raise queue_full(queue(), self._limit)

    def put(self, spec: TaskSpec, delay: float = 0.0) -> None:
        """Put an attempt in line."""
        self._enqueued += 1
        if delay > 0:
            heappush(self._delayed, (self._monotonic() + delay, self._enqueued, spec))
            self._delayed_of[spec.run_id] = self._delayed_of.get(spec.run_id, 0) + 1
            if self._delayed[0][2] is spec:
                self._arm()
        else:
            self._stand_in_line(spec)

    def has_work(self) -> bool:
        """Whether anything is in line now."""
        if self._delayed:
            self._promote()
        return self.ready > 0

    def take(self, handler: str, queues: Sequence[str] | None = None) -> TaskSpec | None:
        """The next attempt for one kind of handler, None if there is none."""
        lanes = self._lanes.get(handler, ())
        for place, lane in enumerate(lanes):
            if queues is None or lane.queue in queues:
                spec = lane.take()
                if spec is not None:
                    self.ready -= 1
                    self._fetched += 1
                    if len(lanes) > 1:
                        self._move_on(self._lanes[handler], place)
                    return spec
        return None

    def withdraw(self, run_id: str) -> None:
        """Forget the delayed attempts of a run; those in line are dropped when they are taken, or by :meth:`purge`."""
        if self._delayed_of.pop(run_id, 0):
            self._delayed = [entry for entry in self._delayed if entry[2].run_id != run_id]
            heapify(self._delayed)
            self._arm()

    def purge(self, run_id: str) -> None:
        """Forget the attempts of a run that are in line: its id is to be used again."""
        for lanes in self._lanes.values():
            for lane in lanes:
                self.ready -= lane.purge(run_id)

    def to_list(self) -> list[str]:
        """Ids of the tasks in line, for looking at."""
        return [spec.task_id for lanes in self._lanes.values() for lane in lanes for spec in lane.specs()]

    def close(self) -> None:
        """Forget everything and leave no timer behind."""
        self._lanes.clear()
        self._delayed.clear()
        self._delayed_of.clear()
        self.ready = 0
        self._arm()

    # ---- inside ----

    def _stand_in_line(self, spec: TaskSpec) -> None:
        lanes = self._lanes.get(spec.handler)
        if lanes is None:
            lanes = self._lanes[spec.handler] = []
        for lane in lanes:
            if lane.queue == spec.queue:
                break
        else:
            lane = Lane(spec.queue)
            lanes.append(lane)
        lane.ranks[RANK[spec.priority]].append((self._monotonic(), spec))
        self.ready += 1

    def _move_on(self, lanes: list[Lane], place: int) -> None:
        """The queues take turns, so that none starves the others; one that is empty leaves, as there may be one for every user."""
        lane = lanes.pop(place)
        if len(lane):
            lanes.append(lane)

    def _promote(self) -> None:
        """Move what is due into line."""
        now = self._monotonic()
        while self._delayed and self._delayed[0][0] <= now:
            spec = heappop(self._delayed)[2]
            self._stand_in_line(spec)
            left = self._delayed_of[spec.run_id] = self._delayed_of[spec.run_id] - 1
            if not left:
                del self._delayed_of[spec.run_id]

    def _arm(self) -> None:
        """One timer, for the attempt that is due first."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._delayed:
            wait = max(0.0, self._delayed[0][0] - self._monotonic())
            self._timer = asyncio.get_running_loop().call_later(wait, self._ring)

    def _ring(self) -> None:
        self._timer = None
        self._promote()
        self._arm()
        self._tell()

    def _tell(self) -> None:
        if self.ready and self.on_ready is not None:
            self.on_ready()
