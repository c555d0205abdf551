"""Every error that Graflow raises, as one tree.

::

    GraflowError
    ├── GraphError                     a graph that cannot be built
    │   ├── DuplicateTaskError         two different tasks with one id
    │   ├── UnknownTaskError           an id that the graph does not have
    │   ├── EmptyGraphError            nothing to run
    │   └── InvalidPolicyError         a group policy that can never be met
    ├── RunError                       a run that did not succeed (has run_id and result)
    │   ├── TaskFailedError            a task failed for good
    │   │   └── ParallelGroupError     a group's policy was not met
    │   ├── WorkflowCancelledError     cancelled from inside or outside
    │   ├── StepLimitExceededError     more visits than max_steps
    │   ├── CycleLimitExceededError    more visits of one task than its max_cycles
    │   ├── RunTimeoutError            execute(timeout=) ran out
    │   ├── RunLostError               the backend no longer knows the run
    │   ├── RunConflictError           the same run_id with another plan or other inputs
    │   └── UnknownRunError            attach() to a run that nobody submitted
    ├── MissingArgumentError           inside a step; seen as TaskFailedError.__cause__
    ├── ArgumentTypeError              "
    ├── TaskTimeoutError               "
    ├── WorkerLostError                "
    ├── ChannelTypeError               "
    ├── HandlerError                   what runs a task outside of its worker failed
    │   ├── ChildDiedError             its process or container ended before it answered
    │   ├── OutOfMemoryError           it was killed for the memory it took
    │   ├── OutputLimitError           it wrote more than it may
    │   ├── ContainerEngineError       no Docker engine answers
    │   ├── ContainerLostError         the engine restarted, or somebody removed the container
    │   ├── ImageNotFoundError         no such image, here or where it could be pulled from
    │   └── PythonVersionError         pickled code, and another minor version of Python
    ├── SerializationError             a value that cannot travel
    ├── UntrustedPayloadError          a pickle without a valid signature
    ├── FunctionNotFoundError          a function that a worker cannot import
    ├── QueueFullError                 back-pressure
    ├── BackendUnavailableError        no answer from the backend
    ├── BackendUnsuitableError         a backend of the wrong version or configuration
    └── ConfigurationError             a setting that makes no sense

Each class has a stable ``code`` for logs and alerts; each instance keeps what it is about in fields, so that nobody parses messages.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from graflow.errors.handling import ChildDiedError as ChildDiedError
from graflow.errors.handling import ContainerEngineError as ContainerEngineError
from graflow.errors.handling import ContainerLostError as ContainerLostError
from graflow.errors.handling import HandlerError as HandlerError
from graflow.errors.handling import ImageNotFoundError as ImageNotFoundError
from graflow.errors.handling import OutOfMemoryError as OutOfMemoryError
from graflow.errors.handling import OutputLimitError as OutputLimitError
from graflow.errors.handling import PythonVersionError as PythonVersionError
from graflow.errors.root import GraflowError as GraflowError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


# ---- building a graph ----------------------------------------------------------------------------------------------


class GraphError(GraflowError):
    """A graph, task or policy that cannot be built as written. ``ids`` names the nodes concerned."""

    code = "GF100"

    def __init__(self, message: str, *, ids: Iterable[str] = ()) -> None:
        super().__init__(message)
        self.ids: tuple[str, ...] = tuple(ids)


class DuplicateTaskError(GraphError):
    """Two different tasks (or a task and a group) share one id."""

    code = "GF101"


class UnknownTaskError(GraphError):
    """An id that is not in the graph, or not where it may be gone to. ``known`` lists ids that are."""

    code = "GF102"

    def __init__(self, message: str, *, ids: Iterable[str] = (), known: Iterable[str] = ()) -> None:
        super().__init__(message, ids=ids)
        self.known: tuple[str, ...] = tuple(known)


class EmptyGraphError(GraphError):
    """A graph without a single node was to be run."""

    code = "GF103"


class InvalidPolicyError(GraphError):
    """A group policy that is malformed or could never be met."""

    code = "GF104"


# ---- running it ----------------------------------------------------------------------------------------------------


class RunError(GraflowError):
    """A run did not succeed.

    ``run_id`` names it; ``result`` is the :class:`graflow.RunResult` with what had been completed, or None where nothing is known.
    """

    code = "GF200"

    def __init__(self, message: str, *, run_id: str, result: Any = None) -> None:
        super().__init__(message)
        self.run_id = run_id
        self.result = result


class TaskFailedError(RunError):
    """A task failed for good. ``__cause__`` is what it raised, where that could be rebuilt in this process."""

    code = "GF201"

    def __init__(
        self,
        message: str,
        *,
        run_id: str,
        task_id: str,
        attempt: int = 1,
        error_type: str = "",
        remote_traceback: str = "",
        result: Any = None,
    ) -> None:
        super().__init__(message, run_id=run_id, result=result)
        self.task_id = task_id
        self.attempt = attempt
        self.error_type = error_type
        self.remote_traceback = remote_traceback


class ParallelGroupError(TaskFailedError):
    """A group's policy was not met. Lists its failed branches with their errors, the succeeded and the cancelled ones."""

    code = "GF202"

    def __init__(
        self,
        message: str,
        *,
        run_id: str,
        group_id: str,
        failed: Mapping[str, Exception],
        succeeded: Iterable[str],
        cancelled: Iterable[str],
        result: Any = None,
    ) -> None:
        super().__init__(message, run_id=run_id, task_id=group_id, error_type="ParallelGroupError", result=result)
        self.group_id = group_id
        self.failed: dict[str, Exception] = dict(failed)
        self.succeeded: list[str] = list(succeeded)
        self.cancelled: list[str] = list(cancelled)


class WorkflowCancelledError(RunError):
    """The run was cancelled: by the task ``task_id``, or from outside when that is None."""

    code = "GF203"

    def __init__(self, message: str, *, run_id: str, reason: str = "", task_id: str | None = None, result: Any = None) -> None:
        super().__init__(message, run_id=run_id, result=result)
        self.reason = reason
        self.task_id = task_id


class StepLimitExceededError(RunError):
    """The run made more visits than ``limit`` (``max_steps``); ``task_id`` would have been the next."""

    code = "GF204"

    def __init__(self, message: str, *, run_id: str, task_id: str, limit: int, result: Any = None) -> None:
        super().__init__(message, run_id=run_id, result=result)
        self.task_id = task_id
        self.limit = limit


class CycleLimitExceededError(RunError):
    """The task ``task_id`` was to be visited more often than ``limit`` (its ``max_cycles``)."""

    code = "GF205"

    def __init__(self, message: str, *, run_id: str, task_id: str, limit: int, result: Any = None) -> None:
        super().__init__(message, run_id=run_id, result=result)
        self.task_id = task_id
        self.limit = limit


class RunTimeoutError(RunError):
    """The run did not end within the ``timeout`` (seconds) given when it was started, and was ended."""

    code = "GF206"

    def __init__(self, message: str, *, run_id: str, timeout: float, result: Any = None) -> None:
        super().__init__(message, run_id=run_id, result=result)
        self.timeout = timeout


class RunLostError(RunError):
    """The backend forgot a run that was being awaited (emptied, evicted or replaced)."""

    code = "GF207"


class RunConflictError(RunError):
    """A run of this id exists with another plan, with other inputs, or at all when that was to be an error."""

    code = "GF208"


class UnknownRunError(RunError):
    """No run of this id is known: never submitted, or past its life span."""

    code = "GF209"


# ---- inside a step -------------------------------------------------------------------------------------------------


class MissingArgumentError(GraflowError):
    """A required parameter got no value. ``available`` lists the names that would have been found."""

    code = "GF301"

    def __init__(self, message: str, *, task_id: str, parameter: str, available: Iterable[str] = ()) -> None:
        super().__init__(message)
        self.task_id = task_id
        self.parameter = parameter
        self.available: tuple[str, ...] = tuple(available)


class ArgumentTypeError(GraflowError):
    """A value does not fit the annotation of the parameter that it was meant for."""

    code = "GF302"

    def __init__(self, message: str, *, task_id: str, parameter: str, expected: str, got: str) -> None:
        super().__init__(message)
        self.task_id = task_id
        self.parameter = parameter
        self.expected = expected
        self.got = got


class TaskTimeoutError(GraflowError):
    """An attempt ran longer than its ``timeout`` (seconds) and was stopped."""

    code = "GF303"

    def __init__(self, message: str, *, task_id: str, timeout: float) -> None:
        super().__init__(message)
        self.task_id = task_id
        self.timeout = timeout


class WorkerLostError(GraflowError):
    """A task cost so many workers their lives that it is not given to another. ``task_id``, ``workers`` is how many."""

    code = "GF305"

    def __init__(self, message: str, *, task_id: str, workers: int) -> None:
        super().__init__(message)
        self.task_id = task_id
        self.workers = workers


class ChannelTypeError(GraflowError):
    """A channel operation met a value of the wrong type under ``key``."""

    code = "GF304"

    def __init__(self, message: str, *, key: str, expected: str, got: str) -> None:
        super().__init__(message)
        self.key = key
        self.expected = expected
        self.got = got


# ---- values, functions, backends -----------------------------------------------------------------------------------


class SerializationError(GraflowError):
    """A value cannot travel. ``path`` says where inside the value, ``type_name`` what was found there."""

    code = "GF401"

    def __init__(self, message: str, *, path: str = "", type_name: str = "") -> None:
        super().__init__(message)
        self.path = path
        self.type_name = type_name


class UntrustedPayloadError(GraflowError):
    """A payload that would have to be executed carries no valid signature. Nothing of it was opened.

    ``reason`` says what is wrong: ``unsigned``; ``altered``; ``swapped``, signed for another task or function; ``replayed``, signed for another
    run; ``unknown_key``; ``no_key``, there is none here; ``unverified``, it was not asked for by a task.
    """

    code = "GF402"

    def __init__(self, message: str, *, reason: str = "unsigned") -> None:
        super().__init__(message)
        self.reason = reason


class FunctionNotFoundError(GraflowError):
    """A function's reference leads nowhere. ``reference`` is ``module:qualname``."""

    code = "GF403"

    def __init__(self, message: str, *, reference: str) -> None:
        super().__init__(message)
        self.reference = reference


class QueueFullError(GraflowError):
    """No more attempts may wait: ``limit`` in all queues together. ``queue`` is the one that this one was for. Try again later."""

    code = "GF501"

    def __init__(self, message: str, *, queue: str, limit: int) -> None:
        super().__init__(message)
        self.queue = queue
        self.limit = limit


class BackendUnavailableError(GraflowError):
    """The backend did not answer, after bounded retries."""

    code = "GF502"


class BackendUnsuitableError(GraflowError):
    """The backend answers but cannot be used as it is: version, eviction policy, persistence."""

    code = "GF503"


class ConfigurationError(GraflowError):
    """A setting that makes no sense, found before anything was started. ``setting`` names it."""

    code = "GF504"

    def __init__(self, message: str, *, setting: str = "") -> None:
        super().__init__(message)
        self.setting = setting


for _kind in (
    GraflowError, HandlerError, ChildDiedError, OutOfMemoryError, OutputLimitError, ContainerEngineError, ContainerLostError, ImageNotFoundError,
    PythonVersionError,
):  # fmt: skip
    _kind.__module__ = __name__  # where users import it from, and so what they read in a traceback and in TaskError.error_type
del _kind
