"""What a task prints and logs, as frames: it reaches the log of the worker, and never the protocol."""

from __future__ import annotations

import codecs
import io
import logging
import os
import sys
import traceback
from typing import TYPE_CHECKING, Any

from graflow.handlers.inside.boundary import UserCode

if TYPE_CHECKING:
    from collections.abc import Callable

    from graflow.handlers.inside.link import Link

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime"}
LONGEST = 1 << 16


class PrintedLines(io.TextIOBase):
    """Stands for ``sys.stdout`` or ``sys.stderr``: each line is a frame."""

    encoding: str = "utf-8"
    errors: str | None = "backslashreplace"
    line_buffering: bool = True

    def __init__(self, name: str, link: Link, descriptor: int) -> None:
        self.buffer: PrintedBytes = PrintedBytes(self)
        self._name = name
        self._link = link
        self._descriptor = descriptor
        self._line = ""

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        """Of the descriptor that child processes and C code write to."""
        return self._descriptor

    def write(self, text: str, /) -> int:
        self._line += str(text)
        while "\n" in self._line or len(self._line) > LONGEST:
            end = self._line.find("\n", 0, LONGEST + 1)
            line, self._line = (self._line[:end], self._line[end + 1 :]) if end >= 0 else (self._line[:LONGEST], self._line[LONGEST:])
            self._send(line)
        return len(text)

    def _send(self, line: str) -> None:
        if self._link.copied:
            os.write(self._descriptor, f"{_sendable(line)}\n".encode())
        else:
            self._link.send("print", self._link.number, self._name, _sendable(line))

    def reconfigure(self, **settings: Any) -> None:
        """There is nothing to set: lines are sent as they come."""

    def finish(self) -> None:
        """Send what has no end of line yet."""
        if self._line:
            line, self._line = self._line, ""
            self._send(line)


def _sendable(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()


class PrintedBytes(io.RawIOBase):
    """Stands for ``sys.stdout.buffer``."""

    def __init__(self, text: PrintedLines) -> None:
        self._text = text
        self._decoder = codecs.getincrementaldecoder("utf-8")("backslashreplace")

    def writable(self) -> bool:
        return True

    def write(self, data: Any, /) -> int:
        self._text.write(self._decoder.decode(bytes(data)))
        return len(bytes(data))


class SentRecords(logging.Handler):
    """Sends log records to the worker, which hands them to the logger of the same name there."""

    def __init__(self, link: Link, encode: Callable[[Any], bytes]) -> None:
        super().__init__()
        self._link = link
        self._encode = encode

    def emit(self, record: logging.LogRecord) -> None:
        """Send one record; one that cannot be put together, as its text and arguments do not fit, is told and fails nothing."""
        with UserCode() as code:
            self._send(record)
        if code.error is not None:
            where = f"{record.pathname}:{record.lineno}"
            sys.stderr.write(f"a log record could not be made ({type(code.error).__name__}: {code.error}) at {where}: {record.msg!r}\n")

    def _send(self, record: logging.LogRecord) -> None:
        """Its message put together and its exception written out."""
        if self._link.copied:
            sys.stderr.write(f"{record.levelname} {record.name} {record.getMessage()}\n")
            return
        fields: dict[str, Any] = {
            "name": record.name, "levelno": record.levelno, "levelname": record.levelname, "msg": _sendable(record.getMessage()),
            "pathname": record.pathname, "lineno": record.lineno, "funcName": record.funcName, "created": record.created,
        }  # fmt: skip
        if record.exc_info and record.exc_info[1] is not None:
            fields["exc_text"] = _sendable("".join(traceback.format_exception(record.exc_info[1])))
        self._link.send(
            "log",
            self._link.number,
            fields,
            self._encode({key: self._plain(value) for key, value in vars(record).items() if key not in _STANDARD}),
        )

    def _plain(self, value: Any) -> Any:
        with UserCode() as code:
            self._encode(value)
        if code.error is None:
            return value
        text = type(value).__name__  # a record is never lost for what it carries
        with UserCode():
            text = _sendable(repr(value))
        return text


def capture(link: Link, encode: Callable[[Any], bytes]) -> tuple[PrintedLines, PrintedLines]:
    """Lead prints and records into the link from now on."""
    streams = PrintedLines("stdout", link, 1), PrintedLines("stderr", link, 2)
    sys.stdout, sys.stderr = streams
    logging.root.addHandler(SentRecords(link, encode))
    return streams
