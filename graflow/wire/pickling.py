"""Code as bytes that execute: what the name-by-import rule has no name for. Only what is signed comes here; see :mod:`graflow.wire.signing`."""

from __future__ import annotations

import ast
import asyncio
import importlib
import io
import pickle
from functools import cache
from typing import TYPE_CHECKING, Any, Final

from graflow.core.boundary import UserCode
from graflow.core.function import FunctionSpec
from graflow.core.staying import StaysHere
from graflow.core.task import Task
from graflow.errors import ConfigurationError, FunctionNotFoundError, SerializationError
from graflow.wire.standins import HeldFunction
from graflow.wire.unpicklable import culprit

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FunctionType

PROTOCOL = 5
"""of the pickles: the same on every Python that Graflow runs on"""
_OF_A_LOOP: Final = (asyncio.Lock, asyncio.Event, asyncio.Condition, asyncio.Semaphore, asyncio.Queue, asyncio.Barrier)
"""what can be pickled before it was first waited for, and would then be another one at the other end"""


def dumps(code: Any, name: str) -> bytes:
    """A function, class or value as a pickle, with what it needs of its module and its closure where that cannot be imported.

    Args:
        code: what is to travel.
        name: what it is called in errors, such as ``task fetch``.

    Raises:
        SerializationError: something that it holds cannot be pickled; ``path`` says where, ``type_name`` what it is.
        ConfigurationError: cloudpickle is not installed.
    """
    kind = _pickler()
    with UserCode() as attempt:
        return _dumped(kind, code)
    error = attempt.error
    assert error is not None
    found = culprit(code, lambda value: _can_be_pickled(kind, value), lambda value: refusal(value) is not None)
    if found is not None and (instead := refusal(found.value)) is not None:
        raise _stays(f"{name}{found.path}", found.value, instead) from error
    path, type_name = (f"{name}{found.path}", found.type_name) if found is not None else (name, type(code).__qualname__)
    text = f"{path} is a {type_name}" if found is not None and found.path else f"{name} cannot be pickled"
    raise SerializationError(
        f"{text}, and cannot travel ({error}): make or open it inside the function, or in `lifespan=`, and hand on what it is made from",
        path=path,
        type_name=type_name,
    ) from error


def refusal(value: Any) -> str | None:
    """What to do instead of sending something that is never pickled, though it might be; None for anything else."""
    if isinstance(value, StaysHere):
        return value.instead
    if isinstance(value, _OF_A_LOOP):
        return "it belongs to one event loop: make it inside the function; between tasks, use `ctx.channel` and its locks"
    return None


def _stays(path: str, value: Any, instead: str) -> SerializationError:
    kind = type(value).__qualname__
    return SerializationError(f"{path} is a {kind}, which stays in its process and cannot travel: {instead}", path=path, type_name=kind)


def loads(data: bytes, name: str) -> Any:
    """What :func:`dumps` was given. **Executes what the bytes say: they must have been verified.**

    Raises:
        FunctionNotFoundError: it cannot be made again here, as where a module that it names is missing; that is the cause.
    """
    with UserCode() as attempt:
        return pickle.loads(data)  # verified by whoever calls this
    error = attempt.error
    raise FunctionNotFoundError(
        f"{name!r} was sent as a signed pickle, which cannot be opened here: {type(error).__name__}: {error}; install here the same version "
        "of the code and its packages as where it was sent",
        reference=name,
    ) from error


def can_be_pickled(value: Any) -> bool:
    """Whether :func:`dumps` would take it. Raises ConfigurationError when cloudpickle is not installed."""
    return _can_be_pickled(_pickler(), value)


def _can_be_pickled(kind: Any, value: Any) -> bool:
    with UserCode() as attempt:
        _dumped(kind, value)
    return attempt.error is None


def _dumped(kind: Any, value: Any) -> bytes:
    buffer = io.BytesIO()
    kind(buffer, PROTOCOL).dump(value)
    return buffer.getvalue()


@cache
def _pickler() -> Any:
    try:
        cloudpickle: Any = importlib.import_module("cloudpickle")
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            "code that cannot be imported travels by cloudpickle, which is not installed: pip install 'graflow[pickle]'",
            setting="secret_key",
        ) from error

    base: Any = cloudpickle.Pickler

    class Pickler(base):  # type: ignore[misc]
        """Functions keep the globals that their annotations name, too: by those it is known what the parameters take.

        Cloudpickle takes along what the bytecode names, which is nothing of the annotations under ``from __future__ import annotations``.
        A task that a function refers to may be the one made of it: it is made again from a function that is not complete yet, which is why
        its signature is read later.
        """

        def reducer_override(self, obj: Any) -> Any:
            instead = refusal(obj)
            if instead is not None:
                raise _stays("a part of it", obj, instead)
            if isinstance(obj, Task):
                return _parts_of(obj)
            if isinstance(obj, FunctionSpec):
                return HeldFunction, (obj.function, obj.is_async, obj.inject_context)
            return base.reducer_override(self, obj)

        def _dynamic_function_reduce(self, func: FunctionType) -> Any:
            reduced = base._dynamic_function_reduce(self, func)
            kept = reduced[2][1]["__globals__"]
            for name in _names_in(func.__annotations__.values()):
                if name in func.__globals__:
                    kept.setdefault(name, func.__globals__[name])
            return reduced

    return Pickler


def _parts_of(task: Any) -> Any:
    return type(task), (task.id, task.spec, task.options, dict(task.bound))


def _names_in(annotations: Any) -> Iterator[str]:
    for text in annotations:
        if isinstance(text, str):
            try:
                tree = ast.parse(text, mode="eval")
            except SyntaxError:
                continue
            for node in ast.walk(tree):
                if isinstance(node, ast.Name):
                    yield node.id
