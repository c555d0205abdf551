"""What a child may say, each kind of frame with its parts. What is none of these is refused before anything is made of it: a child may be hostile."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from graflow.errors import HandlerError

if TYPE_CHECKING:
    from collections.abc import Callable


class Directives(msgspec.Struct, frozen=True):
    """What a task asked of its run; values as the codec wrote them."""

    goto: list[str] = []
    new: list[tuple[bytes, bool, bool]] = []
    iteration: bytes | None = None
    end_loop: bool = False
    terminate: str | None = None
    cancel: str | None = None


class Ready(msgspec.Struct, frozen=True):
    """What a child says of itself when it has started."""

    protocol: int
    python: tuple[int, int, int]
    implementation: str
    pid: int


class Frame(msgspec.Struct, array_like=True, frozen=True):
    """Said amid the call of this number, or what a thread of an earlier one still says."""

    number: int


class Done(Frame, tag="done", array_like=True, frozen=True):
    """The task returned."""

    value: bytes
    directives: Directives | None


class Failed(Frame, tag="failed", array_like=True, frozen=True):
    """The task raised: its classes, text, traceback, and arguments and attributes."""

    names: list[str]
    message: str
    trace: str
    state: bytes | None


class Missing(Frame, tag="missing", array_like=True, frozen=True):
    """The function cannot be had there."""

    reason: str


class Memory(Frame, tag="memory", array_like=True, frozen=True):
    """What the child takes, in bytes."""

    resident: int


class Printed(Frame, tag="print", array_like=True, frozen=True):
    """A line."""

    stream: str
    line: str


class LogFields(msgspec.Struct, frozen=True):
    """A log record, its message put together."""

    name: str
    levelno: int
    levelname: str
    msg: str
    pathname: str
    lineno: int
    funcName: str
    created: float
    exc_text: str | None = None


class Logged(Frame, tag="log", array_like=True, frozen=True):
    """A log record, and what was given as ``extra``."""

    fields: LogFields
    extra: bytes


class Told(Frame, tag="tell", array_like=True, frozen=True):
    """Progress, or a message of the task's own."""

    what: str
    data: bytes


class Asked(Frame, tag="ask", array_like=True, frozen=True):
    """A request, which waits for its reply."""

    request: int
    name: str
    data: bytes


Answer = Done | Failed | Missing
Said = Done | Failed | Missing | Memory | Printed | Logged | Told | Asked

_said: Final[Callable[[bytes], Said]] = msgspec.msgpack.Decoder(Said).decode
_ready: Final = msgspec.msgpack.Decoder(tuple[str, Any]).decode


def read(data: bytes) -> Said:
    """A frame.

    Raises:
        HandlerError: it is none.
    """
    try:
        return _said(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise HandlerError(f"a child sent {len(data)} bytes that are no frame: {error}") from error


def read_ready(data: bytes) -> Ready:
    """The first frame.

    Raises:
        HandlerError: it is none.
    """
    try:
        kind, about = _ready(data)
        if kind == "ready":
            return msgspec.convert(about, Ready)
        reason = f"it begins with {kind!r}"
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        reason = str(error)
    raise HandlerError(f"a child did not say that it is ready, as its standard output is used by something else: {reason}")
