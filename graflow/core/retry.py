"""When a failed attempt is tried again, and after how long."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final, TypeGuard

import msgspec

from graflow.errors import GraphError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

ErrorClasses = tuple[type[BaseException], ...]

LONGEST: Final = 1e9
"""seconds that an attempt may be put off; whoever says more, says never, and the numbers of the backends are left room"""


class RetryPolicy(msgspec.Struct, frozen=True):
    """How often a task is tried again, on which errors, and how long to wait in between.

    The wait before retry *n* is ``initial_interval * backoff_factor ** (n - 1)`` seconds and never more than
    ``max_interval``; with ``jitter`` it is drawn evenly from zero to that, so that tasks which failed together do not
    come back together. No worker slot is held meanwhile.

    Example::

        @task(retry=RetryPolicy(3, initial_interval=0.5, give_up_on=(Declined,)))
        async def charge(order_id: str) -> str: ...

    Attributes:
        max_retries: how many further attempts there are after the first.
        initial_interval: seconds before the first retry.
        backoff_factor: what each wait is multiplied by to give the next.
        max_interval: the longest wait in seconds.
        jitter: spread the waits at random.
        retry_on: an error that is an instance of none of these is final.
        give_up_on: an error that is an instance of one of these is final, also where ``retry_on`` matches.

    Raises:
        GraphError: a number is out of range, or an entry of ``retry_on`` or ``give_up_on`` is not an exception class.
    """

    max_retries: int
    initial_interval: float = 1.0
    backoff_factor: float = 2.0
    max_interval: float = 60.0
    jitter: bool = True
    retry_on: ErrorClasses = (Exception,)
    give_up_on: ErrorClasses = ()

    def __post_init__(self) -> None:
        if not _is_count(self.max_retries):
            raise GraphError(f"max_retries={self.max_retries!r}: give the number of further attempts, 0 or more")
        _check_number("initial_interval", self.initial_interval, 0.0)
        _check_number("max_interval", self.max_interval, 0.0)
        _check_number("backoff_factor", self.backoff_factor, 1.0)
        for name in ("retry_on", "give_up_on"):
            msgspec.structs.force_setattr(self, name, _error_classes(name, getattr(self, name)))

    def retries(self, exception: BaseException) -> bool:
        """Whether an attempt that ended with ``exception`` may be tried again, budget permitting."""
        return isinstance(exception, self.retry_on) and not isinstance(exception, self.give_up_on)

    def delay(self, retry_number: int, random: Callable[[], float]) -> float:
        """Seconds to wait before a retry.

        Args:
            retry_number: which retry, counted from 1.
            random: gives a number from 0 up to 1; asked only when there is jitter.
        """
        try:
            longest = min(self.max_interval, self.initial_interval * self.backoff_factor ** (retry_number - 1))
        except OverflowError:
            longest = self.max_interval if self.initial_interval else 0.0
        return longest * random() if self.jitter else longest


class RetryLater(Exception):
    """Raised by a task to be tried again ``after`` so many seconds. Does not use up the retries of its policy.

    Example::

        if response.status == 429:
            raise RetryLater(after=float(response.headers["Retry-After"]))
    """

    def __init__(self, after: float) -> None:
        if not _is_number(after) or not math.isfinite(after) or after < 0:
            raise GraphError(f"RetryLater(after={after!r}): give the seconds to wait, 0 or more")
        super().__init__(f"try again after {after:g} s")
        self.after: float = float(after)

    def __reduce__(self) -> tuple[type[RetryLater], tuple[float]]:
        return RetryLater, (self.after,)


def coerce_retry(retry: int | RetryPolicy | None) -> RetryPolicy | None:
    """``retry=`` of a task as a policy; 0 and None mean no retries.

    Raises GraphError for anything else than a count or a policy.
    """
    if retry is None or isinstance(retry, RetryPolicy):
        return retry
    if not _is_count(retry):
        raise GraphError(f"retry={retry!r}: give the number of retries (0 or more) or a RetryPolicy(max_retries=...)")
    return RetryPolicy(retry) if retry else None


def seconds_to_wait(value: Any) -> float | None:
    """The wait that somebody asks for, None if it is none.

    An exception is its owner's: whatever its constructor has checked, its attributes can be anything by the time that it is caught, and those of
    one from a container are what the container says.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
        return None
    return float(min(value, LONGEST))


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _check_number(name: str, value: float, least: float) -> None:
    if not _is_number(value) or value < least:
        raise GraphError(f"{name}={value!r}: give a number, {least:g} or more")


def _is_several(classes: object) -> TypeGuard[Sequence[Any]]:
    return isinstance(classes, tuple | list)


def _error_classes(name: str, classes: Any) -> ErrorClasses:
    many: tuple[Any, ...] = tuple(classes if _is_several(classes) else (classes,))
    for each in many:
        if not (isinstance(each, type) and issubclass(each, BaseException)):
            raise GraphError(f"{name} takes exception classes, not {each!r}")
    return many
