"""What stands for Graflow where it is not installed: enough for modules of tasks to be imported, and for a task to use its context.

An image needs nothing but Python. A module that says ``from graflow import task`` is imported all the same; what it builds of its tasks
there (chains, groups, workflows) is never run.
"""

from __future__ import annotations

import enum
import importlib.machinery
import importlib.util
import sys
from types import ModuleType
from typing import Any

from graflow.handlers.inside.contexts import AsyncChannel, BlockingChannel, Context, SyncContext
from graflow.handlers.inside.errors import error_class


class Anything(type):
    """The class of classes that can be called, drawn, subclassed and asked for anything."""

    def __getattr__(cls, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return StandIn()


def _drawn(self: Any, other: Any) -> Any:
    return StandIn()


for _operator in ("or", "ror", "rshift", "rrshift", "lshift", "rlshift", "getitem"):
    setattr(Anything, f"__{_operator}__", _drawn)


class StandIn(metaclass=Anything):
    """An object of which everything can be asked, and of which nothing comes."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return StandIn()

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return StandIn()

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def __iter__(self) -> Any:
        return iter(())


for _operator in ("or", "ror", "rshift", "rrshift", "lshift", "rlshift", "getitem"):
    setattr(StandIn, f"__{_operator}__", _drawn)


class StandInTask(StandIn):
    """A declared task: its function, and its id."""

    def __init__(self, function: Any, id: str) -> None:
        self.function = function
        self.id = id
        self.__doc__ = function.__doc__
        self.__module__ = function.__module__

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.function(*args, **kwargs)


def task(given: Any = None, /, **options: Any) -> Any:
    """``@task``, ``@task("id")`` and ``@task(id="id", ...)``."""
    if callable(given):
        return StandInTask(given, str(options.get("id") or getattr(given, "__name__", "task")))
    name: Any = options.get("id") or given

    def declare(function: Any) -> StandInTask:
        return StandInTask(function, name or function.__name__)

    return declare


def register(name: str, function: Any = None) -> Any:
    """``@register("name")`` and ``register("name", function)``: a name is for workers to find."""

    def named(function: Any) -> Any:
        return function

    return named if function is None else function


class RunStatus(str, enum.Enum):  # noqa: UP042 - for images whose Python has no StrEnum yet
    """What is known of a run."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    SUSPENDED = "suspended"
    RUNNING = "running"


class TypedChannel(StandIn):
    """A channel whose values are meant to be of one type. Neither this nor the worker's end of it checks them: that takes msgspec."""

    def __init__(self, channel: Any, type: Any) -> None:
        if not isinstance(channel, AsyncChannel):
            raise TypeError(f"TypedChannel takes the channel of an async task, not {channel!r}")
        self._channel = channel

    def __getattr__(self, name: str) -> Any:
        return getattr(self._channel, name)


class RetryLater(Exception):
    """Raised by a task that wants to be tried again after some seconds."""

    def __init__(self, after: float) -> None:
        super().__init__(after)
        self.after: float = float(after)


class SuspendStep(Exception):
    """Raised by a task to wait for an answer from outside."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


RetryLater.__module__, SuspendStep.__module__ = "graflow.core.retry", "graflow.core.suspension"
KNOWN: dict[str, Any] = {
    "task": task, "TaskContext": Context, "SyncTaskContext": SyncContext, "Channel": AsyncChannel, "SyncChannel": BlockingChannel,
    "TypedChannel": TypedChannel, "register": register, "RunStatus": RunStatus,
    "RetryLater": RetryLater, "SuspendStep": SuspendStep,
}  # fmt: skip


class _Module(ModuleType):
    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        made = KNOWN.get(name)
        if made is None:
            is_error = name.endswith("Error") and name != "TaskError"  # which is a value
            made = error_class(name) if is_error else Anything(name, (StandIn,), {"__module__": self.__name__})
            KNOWN[name] = made
        return made


class _Finder:
    """Finds and loads; not by the base classes for that, whose import takes longer than that of all the rest here."""

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> importlib.machinery.ModuleSpec | None:
        if fullname.partition(".")[0] != "graflow":
            return None
        loader: Any = self
        return importlib.machinery.ModuleSpec(fullname, loader, is_package=True)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        return _Module(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        pass


def is_installed() -> bool:
    """Whether the real Graflow can be imported here, with what it needs."""
    return all(importlib.util.find_spec(name) is not None for name in ("graflow", "msgspec"))


def install() -> None:
    """Stand for every module of Graflow from now on."""
    finder: Any = _Finder()
    sys.meta_path.insert(0, finder)


def forget() -> None:
    """Drop what an import of Graflow that failed has left behind."""
    for name in [*sys.modules]:
        if name.partition(".")[0] == "graflow" and not name.startswith("graflow.handlers.inside"):
            del sys.modules[name]
