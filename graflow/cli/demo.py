"""``graflow demo``: a real job, on files that every machine with Python has."""

from __future__ import annotations

import gc
import os
import sysconfig
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from graflow.cli.census import Census, LongFunction, Measure, census
from graflow.cli.failures import CommandError, boundary, one_line
from graflow.cli.output import console, json_text, kept_clean
from graflow.cli.run import Finished, RunSettings, perform
from graflow.core.result import RunResult
from graflow.observe.timeline import timeline

SLOTS = 4
FAILED_LISTED = 20


def demo(
    path: Annotated[Path | None, typer.Option(metavar="DIR", help="Count another folder than the standard library.")] = None,
    limit: Annotated[int, typer.Option(min=0, metavar="N", help="Count no more than so many files; 0 for all.")] = 0,
    timeline_file: Annotated[Path | None, typer.Option("--timeline", metavar="FILE.svg", help="Draw what ran when.")] = None,
    concurrency: Annotated[int, typer.Option(min=1, metavar="N", help="Files at once.")] = SLOTS,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
) -> None:
    """Take a census of the Python standard library: parse each of its files and count what is in it.

    The files are found at run time and fanned out over; those that are no Python fail their task, and the rest goes on.
    """
    with boundary(debug=debug), kept_clean(wanted=as_json) as out:
        root = path if path is not None else Path(sysconfig.get_paths()["stdlib"])
        _check(root, timeline_file)
        with _tuned():
            finished = perform(census, RunSettings({"root": str(root), "limit": limit}, concurrency=concurrency), quiet=quiet)
        if timeline_file is not None:
            _write(timeline_file, timeline(finished.events, f"Census of {root}"))
        if finished.error is not None:
            raise finished.error
        if as_json:
            out.write(json_text(_as_object(root, finished), out))
        else:
            _show(console(), root, finished, timeline_file)
