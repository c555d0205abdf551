"""What every backend is told when it is made, checked."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from graflow.core.clock import is_number
from graflow.errors import ConfigurationError, QueueFullError

if TYPE_CHECKING:
    from graflow.core.plan import Plan

LONGEST: Final = 100 * 365 * 86_400
"""seconds; a server takes a life span that is much longer for a mistake, when the first run ends"""


def queue_full(queue: str, limit: int) -> QueueFullError:
    """The error for an attempt that finds no room: the limit is one for all queues, so the queue it would go to may be short itself."""
    what = f"queue {queue!r} takes nothing more: {limit} attempts wait in all queues together, as many as may"
    return QueueFullError(f"{what}; let workers catch up, or raise the limit", queue=queue, limit=limit)


def first_queue(plan: Plan, start: int | None) -> str:
    """The queue that the first attempt of a run goes to."""
    for task in islice(plan.tasks, start or 0, None):
        if task is not None:
            return str(task.options.queue)
    mapped = next((group.mapping for group in plan.groups if group is not None and group.mapping is not None), None)
    return "default" if mapped is None else str(mapped.task.options.queue)


def check_limits(retention: Any, queue_limit: Any) -> None:
    """Raise a ConfigurationError for a time that nothing could be kept, or a queue that could hold nothing."""
    if not (is_number(retention) and 1 <= retention <= LONGEST):
        raise ConfigurationError(
            f"retention={retention!r}: give the seconds that a run is kept after its end, from 1 to {LONGEST}", setting="retention"
        )
    if queue_limit is not None and not (isinstance(queue_limit, int) and is_number(queue_limit) and queue_limit >= 1):
        raise ConfigurationError(
            f"queue_limit={queue_limit!r}: give how many attempts may wait at once, 1 or more, or None for any number",
            setting="queue_limit",
        )
