"""Errors on their way between a task in a child and its worker."""

from __future__ import annotations

import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from graflow.errors import GraflowError, SerializationError
from graflow.wire import codec
from graflow.wire.failures import attributes_that_travel, rebuild_exception

if TYPE_CHECKING:
    from collections.abc import Sequence


class RemoteTraceback(Exception):
    """The traceback of the process where an error was raised, as the cause of what it is here."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text

    def __str__(self) -> str:
        return f'\n"""\n{self.text}"""'


def error_from(names: Sequence[str], message: str, trace: str, state: bytes | None) -> BaseException:
    """What a task raised in a child.

    Args:
        names: its class and those that it extends, as ``module:qualname``.
        message: its text.
        trace: its traceback.
        state: its arguments and attributes, where they can travel.

    Returns:
        An exception of that class where the class is known here, else of the next one in line that is, under the name of the first. It is
        caused by the traceback of the child, so that a log shows where it came from.
    """
    parts: list[Any] = [[message], {}] if state is None else codec.decode(state)
    error = rebuild_exception(names[0], *parts)
    if not isinstance(error, Exception | SystemExit):  # a KeyboardInterrupt or a cancellation there is none here
        error = _named(names, message)
        for note in parts[1].get("__notes__", ()):
            error.add_note(str(note))
    error.__cause__ = RemoteTraceback(trace)
    return error


def _named(names: Sequence[str], message: str) -> BaseException:
    module, _, name = names[0].partition(":")
    base = next((known for each in names[1:] if (known := _known(each)) is not None), Exception)

    def text(_: object) -> str:
        return message

    kind: type[BaseException] = type(name.rpartition(".")[2], (base,), {"__module__": module, "__qualname__": name, "__str__": text})
    return kind.__new__(kind, message)


def _known(name: str) -> type[Exception] | None:
    module, _, qualname = name.partition(":")
    found: Any = getattr(sys.modules.get(module), qualname, None)
    if isinstance(found, type) and issubclass(found, Exception) and not issubclass(found, GraflowError):
        return found
    return None


def error_parts(error: BaseException) -> list[Any]:
    """An error as plain values: its class, text, arguments and attributes, the latter two where they can travel."""
    name = f"{type(error).__module__}:{type(error).__qualname__}"
    args: list[Any] | None = None
    with suppress(SerializationError):
        args = codec.roundtrip(list(error.args))
    return [name, str(error), args, attributes_that_travel(error)]
