"""What goes to standard output: a table for people, one JSON object for programs."""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final, TextIO

from rich.console import Console
from rich.pretty import Pretty
from rich.table import Table
from rich.text import Text

from graflow.cli.failures import one_line
from graflow.cli.plain import to_plain
from graflow.cli.progress import SIGNS
from graflow.cli.tracking import Entry, Tracking
from graflow.core.result import RunResult
from graflow.errors import RunError, TaskFailedError

LONGEST: Final = 60
"""characters of a result in the table"""
FAILURES_SHOWN: Final = 10
"""failed members of mapped groups that the table lists"""


def console() -> Console:
    """Standard output. Ids and values are shown as they are: what looks like markup in them is none."""
    return Console(highlight=False, markup=False, emoji=False)


@contextmanager
def kept_clean(*, wanted: bool) -> Iterator[TextIO]:
    """Keep standard output for what is written to the file that this yields; all else that is printed meanwhile goes to standard error.

    Where standard output is a real file, so does what child processes print.
    """
    real = sys.stdout
    if not wanted:
        yield real
        return
    try:
        number = real.fileno()
    except (io.UnsupportedOperation, AttributeError):
        sys.stdout = sys.stderr
        try:
            yield real
        finally:
            sys.stdout = real
        return
    real.flush()
    saved = os.dup(number)
    os.dup2(sys.stderr.fileno(), number)
    with os.fdopen(saved, "w", encoding=real.encoding, errors="backslashreplace") as clean:
        try:
            yield clean
            clean.flush()
        finally:
            real.flush()
            os.dup2(saved, number)


def json_text(value: Mapping[str, Any], out: TextIO) -> str:
    """A JSON object as it can be written to ``out``, with a line end."""
    only_ascii = (out.encoding or "utf-8").lower().replace("-", "") != "utf8"
    return json.dumps(to_plain(value), indent=2, ensure_ascii=only_ascii, allow_nan=False) + "\n"


# ---- as JSON --------------------------------------------------------------------------------------------------------


def run_as_json(result: RunResult[Any], error: RunError | None, *, debug: bool) -> dict[str, Any]:
    """What ``--json`` prints of a run."""
    return {
        "run_id": result.run_id,
        "status": result.status.value,
        "duration": result.duration,
        "output": result.output,
        "results": {**result.results, **result.groups},
        "errors": {task: _error_as_json(each, debug=debug) for task, each in result.errors.items()},
        "others": dict(result.others),
        "error": None if error is None else {"code": error.code, **_error_as_json(error, debug=debug)},
    }


def _error_as_json(error: Exception, *, debug: bool) -> dict[str, Any]:
    if not isinstance(error, TaskFailedError):
        return {"type": type(error).__name__, "message": str(error)}
    told: dict[str, Any] = {"type": error.error_type, "message": str(error.__cause__ or error), "task_id": error.task_id, "attempt": error.attempt}
    return {**told, "traceback": error.remote_traceback} if debug else told


# ---- as a table -----------------------------------------------------------------------------------------------------


def show_run(out: Console, result: RunResult[Any], tracking: Tracking, *, succeeded: bool) -> None:
    """The tasks of a run, and its output."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("")
    table.add_column("task", overflow="fold")
    table.add_column("time", justify="right", no_wrap=True)
    table.add_column("result", overflow="ellipsis", no_wrap=True)
    for entry in tracking.entries.values():
        sign, style = SIGNS[entry.state]
        seconds = entry.elapsed(entry.ended if entry.ended is not None else tracking.now)
        visits = f" ×{entry.visits}" if entry.visits > 1 else ""
        table.add_row(
            Text(sign, style),
            Text("  " * entry.depth + one_line(entry.label) + visits),
            Text("" if seconds is None else f"{seconds:.2f} s", "dim"),
            _came_to(entry, result),
        )
    out.print(table)
    _show_failed_members(out, result, tracking)
    if succeeded:
        out.print(Text("\noutput", "bold"))
        out.print(Pretty(result.output, max_length=20, max_string=500))


def _came_to(entry: Entry, result: RunResult[Any]) -> Text:
    if entry.members is not None and entry.visits:
        bad = f", {entry.members.failed:,} failed" if entry.members.failed else ""
        return Text(f"{entry.members.succeeded:,} results{bad}")
    if entry.id in result:
        value = one_line(_short(result[entry.id]))
        return Text(value if len(value) <= LONGEST else f"{value[: LONGEST - 1]}…")
    why = one_line(entry.told)
    return Text(f"{entry.state}{f': {why}' if why else ''}", SIGNS[entry.state][1])


def _short(value: Any) -> str:
    """The beginning of a value's repr, without building that of a large collection."""
    if isinstance(value, list | tuple | set | frozenset | dict) and len(value) > 20:
        return f"{type(value).__name__} of {len(value):,}"
    return repr(value[:100] if isinstance(value, str | bytes) else value)


def _show_failed_members(out: Console, result: RunResult[Any], tracking: Tracking) -> None:
    """Members of mapped groups have no row of their own; those that failed are worth a line."""
    failed = [(task, error) for task, error in result.errors.items() if task not in tracking.entries]
    for task, error in failed[:FAILURES_SHOWN]:
        cause = error.__cause__
        why = f"{type(cause).__name__}: {cause}" if cause is not None else str(error)
        out.print(Text(f"✗ {one_line(task)}: {one_line(why)}", "red"), no_wrap=True, overflow="ellipsis")
    if len(failed) > FAILURES_SHOWN:
        out.print(Text(f"  and {len(failed) - FAILURES_SHOWN:,} more that failed", "dim"))
