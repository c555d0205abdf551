"""What comes of an attempt: its outcome, and the directives that the task gave while it ran."""

from __future__ import annotations

import traceback
from itertools import islice
from typing import TYPE_CHECKING, Any

import msgspec

from graflow.core.boundary import UserCode

if TYPE_CHECKING:
    from collections.abc import Mapping

    from graflow.core.task import Task


class TaskError(msgspec.Struct, frozen=True):
    """A failure as a value: what a failure edge hands to its target, and what travels between processes.

    A task reached by ``wf.add_edge(a, b, on="failure")`` takes it as a parameter annotated ``TaskError``.

    Attributes:
        task_id: the task that failed.
        attempt: the attempt that failed for good, counted from 1.
        error_type: the qualified name of the exception's class, such as ``ValueError`` or ``package.module.Declined``.
        message: ``str()`` of the exception.
        remote_traceback: the formatted traceback of the process where it was raised.
    """

    task_id: str
    attempt: int
    error_type: str
    message: str
    remote_traceback: str = ""


class NewTask(msgspec.Struct, frozen=True):
    """``next_task(task)`` with a task that may not be in the plan."""

    task: Task[..., Any]
    ignore_existing: bool = False
    goto: bool = False


class Iteration(msgspec.Struct, frozen=True):
    """``next_iteration(data, **arguments)``: what the next visit of the same task is given."""

    data: Any = msgspec.UNSET
    arguments: dict[str, Any] = {}

    @property
    def has_data(self) -> bool:
        """Whether data was given by position."""
        return self.data is not msgspec.UNSET


class Directives(msgspec.Struct):
    """What a task asked of its run. Recorded while it runs, applied only if it succeeds (rules 16 and 17)."""

    goto: list[str] = []
    new: list[NewTask] = []
    iteration: Iteration | None = None
    end_loop: bool = False
    terminate: str | None = None
    cancel: str | None = None


class Success(msgspec.Struct, frozen=True):
    """The attempt returned. ``items`` is the number of items when the value feeds a mapped group, -1 when it is no sequence."""

    value: Any = None
    directives: Directives | None = None
    items: int | None = None


class Failure(msgspec.Struct, frozen=True):
    """The attempt failed for good. ``exception`` is the original where it is at hand; it does not travel."""

    error: TaskError
    exception: BaseException | None = None


class Retry(msgspec.Struct, frozen=True):
    """The attempt failed and is to be tried again after ``delay`` seconds."""

    delay: float
    error: TaskError
    counted: bool = True
    """False for ``RetryLater``: asking for more time does not use up the retry budget."""


class Suspend(msgspec.Struct, frozen=True):
    """The attempt waits for an answer from outside; the step stays undecided."""

    reason: str


Outcome = Success | Failure | Retry | Suspend


class GroupFailure(msgspec.Struct, frozen=True):
    """A group whose policy was not met: its branches by what became of them."""

    error: TaskError
    failed: dict[str, Failure | GroupFailure]
    succeeded: tuple[str, ...]
    cancelled: tuple[str, ...]


def policy_not_met(group: str, attempt: int, failed: Mapping[str, Failure | GroupFailure], branches: int) -> TaskError:
    """The error of a group whose policy was not met.

    Args:
        group: its id.
        attempt: its attempt.
        failed: the branches that failed, with their errors.
        branches: how many there are.
    """
    told = [f"{branch}: {cause.error.error_type}: {cause.error.message}" for branch, cause in islice(failed.items(), 3)]
    more = f" and {len(failed) - 3} more" if len(failed) > 3 else ""
    why = f"{len(failed)} of {branches} branches failed ({'; '.join(told)}{more})"
    message = f"group {group!r}: {why if failed else 'its policy was not met'}"
    return TaskError(group, attempt, "ParallelGroupError", message)


def describe(exception: BaseException, task_id: str, attempt: int = 1) -> Failure:
    """The failure that an exception stands for, its traceback written out so that it can travel."""
    kind = type(exception)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    trace = "".join(traceback.format_exception(exception))
    with UserCode() as code:
        message = str(exception)
        return Failure(TaskError(task_id, attempt, name, message, trace), exception)
    message = f"<its __str__ raised {type(code.error).__name__}>"
    return Failure(TaskError(task_id, attempt, name, message, trace), exception)
