"""What a command says when something is wrong: one line, and an exit code. Tracebacks only for those who ask for them with ``--debug``."""

from __future__ import annotations

import traceback
from collections.abc import Generator
from contextlib import contextmanager
from typing import Final

import typer

from graflow.errors import (
    BackendUnavailableError,
    BackendUnsuitableError,
    ConfigurationError,
    FunctionNotFoundError,
    GraflowError,
    GraphError,
    QueueFullError,
    RunConflictError,
    SerializationError,
    TaskFailedError,
    UnknownRunError,
)

OK: Final = 0
FAILED: Final = 1
"""the run failed or was cancelled"""
MISUSED: Final = 2
"""the command was used in a wrong way, or given something that cannot be run"""
SUSPENDED: Final = 3
"""the run waits for an answer from outside"""
INTERRUPTED: Final = 130
"""Ctrl-C; 128 and the number of the signal, as shells have it"""
TERMINATED: Final = 143
"""SIGTERM; likewise"""

OF_THE_CALLER: Final = (
    GraphError, ConfigurationError, SerializationError, RunConflictError, UnknownRunError, FunctionNotFoundError,
    BackendUnavailableError, BackendUnsuitableError, QueueFullError,
)  # fmt: skip
"""errors that whoever typed the command can do something about before anything has run"""


class CommandError(Exception):
    """Ends a command with a message of one line.

    Args:
        message: what is wrong, and what to do about it.
        code: the exit code.
    """

    def __init__(self, message: str, code: int = MISUSED) -> None:
        super().__init__(message)
        self.code = code


def one_line(text: object) -> str:
    """A text without its line ends."""
    return " ".join(str(text).split())


def complain(message: object) -> None:
    """Say what is wrong, in one line on standard error."""
    typer.echo(f"graflow: {one_line(message)}", err=True)


@contextmanager
def boundary(*, debug: bool) -> Generator[None]:
    """Where the errors of a command end: inside, raise whatever says best what is wrong.

    Raises:
        typer.Exit: with the exit code, once the message has been printed.
    """
    try:
        yield
    except typer.Exit:
        raise
    except KeyboardInterrupt as interrupt:
        complain("interrupted")
        raise typer.Exit(INTERRUPTED) from interrupt
    except BrokenPipeError:  # whoever read our output has gone; there is nobody left to tell
        raise
    except Exception as error:
        if debug:
            _show_traceback(error)
        complain(_message(error, debug=debug))
        raise typer.Exit(_code(error)) from error


def _code(error: Exception) -> int:
    if isinstance(error, CommandError):
        return error.code
    return MISUSED if isinstance(error, OF_THE_CALLER) else FAILED


def _message(error: Exception, *, debug: bool) -> str:
    hint = "" if debug else "; --debug shows where"
    if isinstance(error, TaskFailedError):
        return f"{error}{hint}"
    if isinstance(error, GraflowError | CommandError):
        return str(error)
    return f"something unexpected happened: {type(error).__name__}: {error}{hint}"


def _show_traceback(error: Exception) -> None:
    """That of the task's own code where it is one; for a command's own complaint, that of what it complains about."""
    remote = error.remote_traceback if isinstance(error, TaskFailedError) else ""
    cause = error.__cause__ if isinstance(error, CommandError) else error
    if remote:
        typer.echo(remote.rstrip("\n"), err=True)
    elif cause is not None:
        typer.echo("".join(traceback.format_exception(cause)).rstrip("\n"), err=True)
