"""How a task's function is run: on the event loop, in a thread, in a child process, in a container, or in a way of the user's own.

A handler is registered by name on the engine or the worker, and chosen by ``@task(handler="name")``; coroutines and threads need no
choosing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from graflow.handlers.base import Handler as Handler
from graflow.handlers.base import TaskCall as TaskCall
from graflow.handlers.coroutine import CoroutineHandler as CoroutineHandler
from graflow.handlers.process import ProcessHandler as ProcessHandler
from graflow.handlers.thread import ThreadHandler as ThreadHandler

if TYPE_CHECKING:
    from graflow.handlers.docker import DockerHandler as DockerHandler

__all__ = ["CoroutineHandler", "DockerHandler", "Handler", "ProcessHandler", "TaskCall", "ThreadHandler"]


def __getattr__(name: str) -> Any:
    """``DockerHandler`` is imported when it is asked for: workers without containers, which are many, keep the memory that it takes."""
    if name != "DockerHandler":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from graflow.handlers.docker import DockerHandler

    return DockerHandler
