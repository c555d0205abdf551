"""Failures as bytes.

What a task raised travels as a description, and besides as its class and state where those can travel: then the reader has the exception too, if it
has the class. No code of the class runs when it is made again.
"""

from __future__ import annotations

import sys
from contextlib import suppress
from typing import Any

from graflow.core.outcome import Failure, TaskError
from graflow.errors import SerializationError
from graflow.wire import codec


def encode_failure(failure: Failure) -> bytes:
    """A failure as bytes."""
    error = failure.error
    told = [error.task_id, error.attempt, error.error_type, error.message, error.remote_traceback]
    return codec.encode([*told, *_state_of(failure.exception)])


def decode_failure(data: bytes) -> Failure:
    """The failure that :func:`encode_failure` was given, with the exception where that can be had."""
    parts = codec.decode(data)
    return Failure(TaskError(*parts[:5]), rebuild_exception(*parts[5:8]))


def _state_of(error: BaseException | None) -> tuple[str | None, Any, Any]:
    if error is None or "<" in type(error).__qualname__:
        return None, None, None
    try:
        args = codec.roundtrip(list(error.args))
    except SerializationError:
        return None, None, None
    return f"{type(error).__module__}:{type(error).__qualname__}", args, attributes_that_travel(error)


def attributes_that_travel(error: BaseException) -> dict[str, Any]:
    """The attributes of an exception, its notes among them, as they arrive: one that cannot travel is no reason to keep the others back."""
    kept: dict[str, Any] = {}
    for name, value in error.__dict__.items():
        with suppress(SerializationError):
            kept[name] = codec.roundtrip(value)
    return kept


def rebuild_exception(reference: str | None, args: Any, state: Any) -> BaseException | None:
    """The exception of that class (``module:qualname``), or None where the class is not known here: nothing is imported because it was received."""
    module, _, name = (reference or "").partition(":")
    found: Any = sys.modules.get(module)
    for part in name.split("."):
        found = getattr(found, part, None)
    if not (isinstance(found, type) and issubclass(found, BaseException)):
        return None
    base: Any = next(kind for kind in found.__mro__ if kind.__module__ == "builtins")
    try:
        error: BaseException = base.__new__(found, *args)
        with suppress(TypeError):  # where the class has arguments of its own
            base.__init__(error, *args)  # SyntaxError and others keep in places of their own what they are given
        error.args = tuple(args)
        error.__dict__.update(state)
    except (TypeError, AttributeError):
        return None
    return error
