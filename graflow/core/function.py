"""What is known of a task's function, once, however many tasks are made from it."""

from __future__ import annotations

import functools
import inspect
from typing import TYPE_CHECKING, Any

from graflow.core.arguments import FunctionSignature
from graflow.core.identity import code_identity
from graflow.errors import GraphError

if TYPE_CHECKING:
    from collections.abc import Callable


class FunctionSpec:
    """A function and what was found out about it when it was declared.

    Attributes:
        function: the plain function, method, partial or callable object.
        name: what it is called, or an empty text where it has no usable name.
        is_async: whether calling it gives a coroutine.
        inject_context: whether the first parameter was said to take the context.
        signature: its parameters.
    """

    __slots__ = ("__weakref__", "_identity", "function", "inject_context", "is_async", "name", "signature")

    def __init__(self, function: Callable[..., Any], *, inject_context: bool = False) -> None:
        self.function: Callable[..., Any] = function
        self.name: str = _name_of(function)
        self.is_async: bool = _refuse_generators(function, self.name)
        self.inject_context: bool = inject_context
        self.signature: FunctionSignature = FunctionSignature(function, inject_context=inject_context)
        self._identity: bytes | None = None
        self._check_contexts()

    @property
    def identity(self) -> bytes:
        """What tells its code from any other, the same in every process."""
        if self._identity is None:
            self._identity = code_identity(self.function)
        return self._identity

    def _check_contexts(self) -> None:
        for name, found in self.signature.injected.items():
            if found.role != "context" or found.blocking is None:
                continue
            if self.is_async and found.blocking:
                raise GraphError(
                    f"{self.name}: an async def takes a TaskContext; the methods of the SyncTaskContext that parameter "
                    f"{name!r} asks for would block the event loop"
                )
            if not self.is_async and not found.blocking:
                raise GraphError(
                    f"{self.name}: a def runs in a thread, where nothing can be awaited; annotate {name!r} with "
                    "SyncTaskContext, or make it an async def"
                )


def _refuse_generators(function: Any, name: str) -> bool:
    """Whether the function is async. Raises GraphError for generators, whose values nobody would collect."""
    called = function if _is_plain(function) else type(function).__call__
    for candidate in (called, inspect.unwrap(called)):
        if inspect.isgeneratorfunction(candidate) or inspect.isasyncgenfunction(candidate):
            raise GraphError(
                f"{name} is a generator, and a task returns one value; return a list, or send items as they come with ctx.emit(...)"
            )
    return inspect.iscoroutinefunction(called)


def _is_plain(function: object) -> bool:
    """Whether calling it is not a matter of its class's ``__call__``."""
    return inspect.isroutine(function) or isinstance(function, functools.partial | type)


def _name_of(function: Any) -> str:
    while isinstance(function, functools.partial):
        function = function.func
    return str(getattr(function, "__name__", None) or type(function).__name__)
