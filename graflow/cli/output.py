"""What goes to standard output: a table for people, one JSON object for programs."""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Generator, Mapping, Sized
from contextlib import contextmanager
from typing import Any, Final, TextIO

from rich.cells import cell_len
from rich.console import Console
from rich.pretty import Pretty
from rich.table import Table
from rich.text import Text

from graflow.cli.failures import one_line
from graflow.cli.plain import shown, to_plain
from graflow.cli.progress import SIGNS, hidden_states, most_urgent
from graflow.cli.tracking import Entry, Tracking
from graflow.core.result import RunResult
from graflow.errors import ParallelGroupError, RunError, TaskFailedError

TIME: Final = 9
"""columns that a task's seconds take"""
MOST_ROWS: Final = 200
FAILURES_SHOWN: Final = 10
"""failed members of mapped groups that the table lists"""


def console() -> Console:
    """Standard output. Ids and values are shown as they are: what looks like markup in them is none."""
    return Console(highlight=False, markup=False, emoji=False)


@contextmanager
def kept_clean(*, wanted: bool) -> Generator[TextIO]:
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
    own = error if isinstance(error, ParallelGroupError) else error.__cause__ or error
    told = {"type": error.error_type, "message": str(own), "task_id": error.task_id, "attempt": error.attempt}
    return {**told, "traceback": error.remote_traceback} if debug else told


# ---- as a table -----------------------------------------------------------------------------------------------------


def show_run(out: Console, result: RunResult[Any], tracking: Tracking, *, succeeded: bool) -> None:
    """The tasks of a run, and its output."""
    every = list(tracking.entries.values())
    entries = most_urgent(every, MOST_ROWS)
    labels = [f"{'  ' * entry.depth}{one_line(entry.label)}{f' x{entry.visits}' if entry.visits > 1 else ''}" for entry in entries]
    left = min(max(map(cell_len, [*labels, "task"])), out.width // 2)
    right = max(out.width - left - TIME - 7, 10)
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("", no_wrap=True)
    table.add_column("task", no_wrap=True, overflow="ellipsis", max_width=left)
    table.add_column("time", no_wrap=True, justify="right", width=TIME)
    table.add_column("result", no_wrap=True)
    for entry, label in zip(entries, labels, strict=True):
        sign, style = SIGNS[entry.state]
        seconds = entry.elapsed(entry.ended if entry.ended is not None else tracking.now)
        took = Text("" if seconds is None else f"{seconds:.2f} s", "dim")
        what = _came_to(entry, result)
        what.truncate(right, overflow="ellipsis")  # left to itself, the table would take the room from the other columns
        table.add_row(Text(sign, style), Text(label), took, what)
    out.print(table)
    if len(entries) < len(every):
        out.print(Text(hidden_states(every, entries), "dim"))
    _show_failed_members(out, result, tracking)
    if succeeded:
        out.print(Text("\noutput", "bold"))
        out.print(Pretty(result.output, max_length=20, max_string=500))


def _came_to(entry: Entry, result: RunResult[Any]) -> Text:
    if entry.members is not None and entry.visits:
        bad = f", {entry.members.failed:,} failed" if entry.members.failed else ""
        return Text(f"{entry.members.succeeded:,} results{bad}")
    if entry.id in result:
        return Text(one_line(_short(result[entry.id])))
    if entry.state == "waiting":
        return Text(result.others.get(entry.id, "not reached"), "dim")
    why = one_line(entry.told)
    return Text(f"{entry.state}{f': {why}' if why else ''}", SIGNS[entry.state][1])


def _short(value: Any) -> str:
    """The beginning of a value's repr, without building that of a large collection."""
    if isinstance(value, str | bytes):
        return repr(value[:100])
    if isinstance(value, Sized) and len(value) > 20:
        return f"{type(value).__name__} of {len(value):,}"
    return shown(value)


def _show_failed_members(out: Console, result: RunResult[Any], tracking: Tracking) -> None:
    """Members of mapped groups have no row of their own; those that failed are worth a line."""
    failed = [(task, error) for task, error in result.errors.items() if task not in tracking.entries]
    for task, error in failed[:FAILURES_SHOWN]:
        cause = error.__cause__
        why = f"{type(cause).__name__}: {cause}" if cause is not None else str(error)
        out.print(Text(f"✗ {one_line(task)}: {one_line(why)}", "red"), no_wrap=True, overflow="ellipsis")
    if len(failed) > FAILURES_SHOWN:
        out.print(Text(f"  and {len(failed) - FAILURES_SHOWN:,} more that failed", "dim"))
