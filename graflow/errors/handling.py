"""What can go wrong between a worker and the process or container that it runs a task in."""

from __future__ import annotations

from graflow.errors.root import GraflowError


class HandlerError(GraflowError):
    """What runs a task outside of its worker, a process or a container, failed. ``task_id`` is empty where no task was concerned."""

    code = "GF306"

    def __init__(self, message: str, *, task_id: str = "") -> None:
        super().__init__(message)
        self.task_id = task_id


class ChildDiedError(HandlerError):
    """The process or container that ran the task ended before it answered.

    ``exit_code`` is what it ended with, None where a signal ended it; ``signal`` is that signal's name, such as ``SIGSEGV``.
    """

    code = "GF307"

    def __init__(self, message: str, *, task_id: str = "", exit_code: int | None = None, signal: str | None = None) -> None:
        super().__init__(message, task_id=task_id)
        self.exit_code = exit_code
        self.signal = signal


class OutOfMemoryError(HandlerError):
    """The process or container was killed because it took too much memory. ``limit`` is what it may take in bytes, None where unknown."""

    code = "GF308"

    def __init__(self, message: str, *, task_id: str = "", limit: int | None = None) -> None:
        super().__init__(message, task_id=task_id)
        self.limit = limit


class OutputLimitError(HandlerError):
    """The task wrote more than ``limit`` bytes to its standard output and error, into the channel, or as its result."""

    code = "GF309"

    def __init__(self, message: str, *, task_id: str = "", limit: int) -> None:
        super().__init__(message, task_id=task_id)
        self.limit = limit


class ContainerEngineError(HandlerError):
    """No Docker engine answers, or it refuses. ``host`` is where it was looked for."""

    code = "GF310"

    def __init__(self, message: str, *, task_id: str = "", host: str = "") -> None:
        super().__init__(message, task_id=task_id)
        self.host = host


class ContainerLostError(HandlerError):
    """The container of the task is gone, or the connection to it: the engine was restarted, or somebody removed it."""

    code = "GF311"

    def __init__(self, message: str, *, task_id: str = "", container: str = "") -> None:
        super().__init__(message, task_id=task_id)
        self.container = container


class ImageNotFoundError(HandlerError):
    """There is no such image on the engine, and none could be pulled."""

    code = "GF312"

    def __init__(self, message: str, *, task_id: str = "", image: str) -> None:
        super().__init__(message, task_id=task_id)
        self.image = image


class PythonVersionError(HandlerError):
    """Code that is sent as a pickle runs on one minor version of Python only. ``here`` and ``there`` are versions such as ``3.11``."""

    code = "GF313"

    def __init__(self, message: str, *, task_id: str = "", here: str, there: str) -> None:
        super().__init__(message, task_id=task_id)
        self.here = here
        self.there = there
