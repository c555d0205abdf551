"""What a worker has done."""

from __future__ import annotations

import msgspec


class WorkerMetrics(msgspec.Struct, frozen=True):
    """Counts of one worker since it was made.

    Attributes:
        worker_id: the worker.
        tasks_processed: attempts that ended, whatever came of them; stopped ones do not count.
        tasks_succeeded: those that returned.
        tasks_failed: those that raised or timed out, retried or not.
        tasks_running: attempts that run now.
        abandoned_threads: threads that still run a task nobody waits for.
        total_execution_time: seconds spent in tasks, added up.
        average_execution_time: seconds per processed task, 0.0 before the first.
        success_rate: share of the processed tasks that succeeded, from 0.0 to 1.0; 0.0 before the first.
    """

    worker_id: str
    tasks_processed: int = 0
    tasks_succeeded: int = 0
    tasks_failed: int = 0
    tasks_running: int = 0
    abandoned_threads: int = 0
    total_execution_time: float = 0.0
    average_execution_time: float = 0.0
    success_rate: float = 0.0


class Counter:
    """Counts while the worker runs; read as :class:`WorkerMetrics`."""

    __slots__ = ("failed", "seconds", "succeeded")

    def __init__(self) -> None:
        self.succeeded: int = 0
        self.failed: int = 0
        self.seconds: float = 0.0

    def read(self, worker_id: str, *, running: int, abandoned: int) -> WorkerMetrics:
        """The counts as a value."""
        processed = self.succeeded + self.failed
        return WorkerMetrics(
            worker_id=worker_id,
            tasks_processed=processed,
            tasks_succeeded=self.succeeded,
            tasks_failed=self.failed,
            tasks_running=running,
            abandoned_threads=abandoned,
            total_execution_time=self.seconds,
            average_execution_time=self.seconds / processed if processed else 0.0,
            success_rate=self.succeeded / processed if processed else 0.0,
        )
