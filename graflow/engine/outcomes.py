"""Results and errors of a run, made from the backend's snapshot of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from graflow.core.outcome import GroupFailure
from graflow.core.result import RunResult, RunStatus
from graflow.errors import (
    CycleLimitExceededError,
    ParallelGroupError,
    RunError,
    RunTimeoutError,
    StepLimitExceededError,
    TaskFailedError,
    WorkflowCancelledError,
)

if TYPE_CHECKING:
    from graflow.backends.base import Ending, Snapshot
    from graflow.core.outcome import Failure


def as_result(snapshot: Snapshot) -> RunResult[Any]:
    """What there is of a run, as its user sees it."""
    return RunResult(
        run_id=snapshot.run_id,
        status=snapshot.status,
        duration=snapshot.duration,
        output=snapshot.output,
        results=snapshot.results,
        errors={node: as_error(failure, snapshot.run_id) for node, failure in snapshot.failures.items()},
        groups=snapshot.groups,
        others=snapshot.waiting,
    )


def as_error(failure: Failure | GroupFailure, run_id: str, result: RunResult[Any] | None = None) -> TaskFailedError:
    """The exception that a failed task or group is reported as; ``__cause__`` is what was raised, where that is at hand."""
    error = failure.error
    if isinstance(failure, GroupFailure):
        branches = {branch: as_error(inner, run_id) for branch, inner in failure.failed.items()}
        group = ParallelGroupError(
            error.message,
            run_id=run_id,
            group_id=error.task_id,
            failed=branches,
            succeeded=failure.succeeded,
            cancelled=failure.cancelled,
            result=result,
        )
        group.__cause__ = next(iter(branches.values()), None)
        return group
    message = f"task {error.task_id!r} failed (attempt {error.attempt}): {error.error_type}: {error.message}"
    failed = TaskFailedError(
        message,
        run_id=run_id,
        task_id=error.task_id,
        attempt=error.attempt,
        error_type=error.error_type,
        remote_traceback=error.remote_traceback,
        result=result,
    )
    failed.__cause__ = failure.exception
    return failed


def raise_unless_well(snapshot: Snapshot, result: RunResult[Any]) -> None:
    """Raise the error of a run that failed or was cancelled; a suspended one is well."""
    ending = snapshot.ending
    if ending is not None and snapshot.status in (RunStatus.FAILED, RunStatus.CANCELLED):
        raise _run_error(snapshot, ending, result)


def _run_error(snapshot: Snapshot, ending: Ending, result: RunResult[Any]) -> RunError:
    run_id, task_id, limit = snapshot.run_id, ending.task_id, ending.limit
    run = f"run {run_id!r} of {snapshot.workflow!r}"
    if ending.cause == "cancelled":
        by = f"by task {task_id!r}" if task_id is not None else "from outside"
        message = f"{run} was cancelled {by}: {ending.reason}"
        return WorkflowCancelledError(message, run_id=run_id, reason=ending.reason, task_id=task_id, result=result)
    if ending.cause == "timeout":
        waited = ending.waited and f"; {ending.waited}"
        message = f"{run} did not end within its timeout of {limit:g} s{waited}"
        return RunTimeoutError(message, run_id=run_id, timeout=limit or 0.0, result=result)
    if ending.cause == "steps":
        return StepLimitExceededError(
            f"{run} was about to visit {task_id!r} after {limit:g} steps, which is its limit; does a loop never end? Else raise max_steps",
            run_id=run_id, task_id=task_id or "", limit=int(limit or 0), result=result,
        )  # fmt: skip
    if ending.cause == "cycles":
        return CycleLimitExceededError(
            f"{run} was about to visit {task_id!r} more often than its max_cycles={limit:g}; "
            f"end the loop earlier (ctx.can_iterate() tells), or raise it",
            run_id=run_id, task_id=task_id or "", limit=int(limit or 0), result=result,
        )  # fmt: skip
    return as_error(snapshot.failures[task_id or ""], run_id, result)
