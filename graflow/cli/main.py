"""``graflow``: the command and the border behind which no error shows a traceback unless it is asked for."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Sequence
from importlib import metadata
from typing import Annotated, Final

import typer

from graflow.cli.demo import demo
from graflow.cli.dlq import dlq
from graflow.cli.failures import FAILED, INTERRUPTED, MISUSED, OK, complain
from graflow.cli.graph import graph
from graflow.cli.leaving import leave
from graflow.cli.run import run

USAGE_ERROR: Final[type[Exception]] = typer.BadParameter.__mro__[2]
"""What all complaints of the option parser derive from. Some versions of typer bring that parser along and others import it."""

app: typer.Typer = typer.Typer(
    name="graflow", help="Graphs of Python functions, run by asyncio.", add_completion=False, pretty_exceptions_enable=False
)
app.command()(run)
app.command()(graph)
app.command()(demo)
app.command()(dlq)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"graflow {metadata.version('graflow')}")
        raise typer.Exit(OK)


@app.callback(invoke_without_command=True)
def graflow(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version.")] = False,
) -> None:
    """Graphs of Python functions, run by asyncio."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


def main(arguments: Sequence[str] | None = None) -> None:
    """The entry point.

    Args:
        arguments: instead of those of the process.

    Raises:
        SystemExit: always, with the exit code.
    """
    if sys.stdout is None:  # closed by whoever started us
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - for as long as the process lives
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a name that a terminal cannot show is no reason to fail
            stream.reconfigure(errors="backslashreplace")
    leave(_call(arguments))


def _call(arguments: Sequence[str] | None) -> int:
    try:
        code = app(list(sys.argv[1:] if arguments is None else arguments), prog_name="graflow", standalone_mode=False)
        sys.stdout.flush()
    except KeyboardInterrupt:
        complain("interrupted")
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has gone. Python would try to write the rest of it at its end, and complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except USAGE_ERROR as error:
        return _misused(error)
    return code if isinstance(code, int) else OK


def _misused(error: Exception) -> int:
    """An option or argument that the command does not know or cannot use."""
    command = getattr(getattr(error, "ctx", None), "command_path", "graflow")
    message = getattr(error, "format_message", error.__str__)().rstrip(".")
    complain(f"{message}; see {command} --help")
    return MISUSED
