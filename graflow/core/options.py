"""How a task is run: what ``@task(...)`` can be told."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final, Literal, get_args

import msgspec

from graflow.core.naming import check_label
from graflow.errors import GraphError

if TYPE_CHECKING:
    from graflow.core.retry import RetryPolicy

Priority = Literal["critical", "high", "normal", "low"]
PRIORITIES: Final[tuple[Priority, ...]] = get_args(Priority)


class TaskOptions(msgspec.Struct, frozen=True):
    """How a task is run.

    Attributes:
        retry: when a failed attempt is tried again; None for never.
        timeout: seconds an attempt may take; None for any.
        handler: the name of the handler; None for the one that suits the function.
        queue: the queue that its attempts wait in.
        priority: which of them are fetched first.
        max_cycles: how often it may be visited in one run; None for any.

    Raises:
        GraphError: one of them is out of range.
    """

    retry: RetryPolicy | None = None
    timeout: float | None = None
    handler: str | None = None
    queue: str = "default"
    priority: Priority = "normal"
    max_cycles: int | None = None

    def __post_init__(self) -> None:
        if self.timeout is not None and not _is_positive(self.timeout):
            raise GraphError(f"timeout={self.timeout!r}: give the seconds an attempt may take, more than 0, or None")
        if self.max_cycles is not None and not (_is_positive(self.max_cycles) and _is_whole(self.max_cycles)):
            raise GraphError(f"max_cycles={self.max_cycles!r}: give how often it may be visited, 1 or more, or None")
        if self.priority not in PRIORITIES:
            raise GraphError(f"priority={self.priority!r}: use one of {', '.join(map(repr, PRIORITIES))}")
        if self.handler is not None:
            check_label(self.handler, "handler=")
        check_label(self.queue, "queue=")


def _is_whole(value: Any) -> bool:
    return isinstance(value, int)


def _is_positive(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < math.inf
