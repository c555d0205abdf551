"""``graflow demo``: a real job, on files that every machine with Python has."""

from __future__ import annotations

import gc
import sysconfig
import warnings
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Annotated, Any
from uuid import uuid4

import msgspec
import typer
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from graflow.cli.census import Census, LongFunction, Measure, census
from graflow.cli.children import tidy
from graflow.cli.failures import CommandError, boundary, one_line
from graflow.cli.output import console, json_text, kept_clean
from graflow.cli.run import Remote, RunSettings, perform
from graflow.cli.server import private_server
from graflow.cli.workers import Orders, queues_of
from graflow.core.result import RunResult
from graflow.observe.timeline import timeline
from graflow.wire.messages import RunEvent

SLOTS = 4
CENSUS = "graflow.cli.census"
FAILED_LISTED = 20


def demo(
    path: Annotated[Path | None, typer.Option(metavar="DIR", help="Count another folder than the standard library.")] = None,
    limit: Annotated[int, typer.Option(min=0, metavar="N", help="Count no more than so many files; 0 for all.")] = 0,
    timeline_file: Annotated[Path | None, typer.Option("--timeline", metavar="FILE.svg", help="Draw what ran when.")] = None,
    concurrency: Annotated[int, typer.Option(min=1, metavar="N", help="Files at once, of each worker.")] = SLOTS,
    workers: Annotated[
        int, typer.Option(min=0, metavar="N", help="Have so many worker processes do it, over a Redis server started for it.")
    ] = 0,
    redis: Annotated[str | None, typer.Option(metavar="URL", help="Use this Redis server.")] = None,
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
        if redis is not None and not workers:
            raise CommandError("--redis is for a census on workers; add --workers 2")
        events: list[RunEvent] | None = [] if timeline_file is not None else None
        inputs = {"root": str(root.resolve()), "limit": limit}
        with _tuned(), _on_workers(workers, redis, concurrency) as remote:
            settings = RunSettings(inputs, concurrency=concurrency, remote=remote)
            finished = perform(census, settings, quiet=quiet, events=events)
        if timeline_file is not None and events is not None:
            _write(timeline_file, timeline(events, f"Census of {root}"))
        if finished.error is not None:
            raise finished.error
        outcome = _outcome(root, finished.result)
        if as_json:
            out.write(json_text(_as_object(root, outcome), out))
        else:
            _show(console(), root, outcome)
            if timeline_file is not None:
                typer.echo(f"\nThe timeline is in {timeline_file}.")


def _check(root: Path, timeline_file: Path | None) -> None:
    if not root.is_dir():
        raise CommandError(f"--path {root} is no folder; give one with Python files in it")
    if timeline_file is None:
        return
    if timeline_file.suffix != ".svg":
        raise CommandError(f"--timeline {timeline_file}: timelines are drawn as SVG only; give a name that ends with .svg")
    if not timeline_file.parent.is_dir():
        raise CommandError(f"--timeline {timeline_file}: there is no folder {timeline_file.parent}")


@contextmanager
def _on_workers(workers: int, url: str | None, concurrency: int) -> Generator[Remote | None]:
    """Where the census takes place, None for here. On a server that others use it keeps to itself, and leaves nothing for long."""
    if not workers:
        yield None
        return
    with tidy(), ExitStack() as stack:
        namespace = "graflow" if url is None else f"graflow-demo-{uuid4().hex[:8]}"
        where = stack.enter_context(private_server()) if url is None else url
        orders = Orders(workers, where, namespace, (CENSUS,), queues=queues_of(census), concurrency=concurrency, log_level="ERROR")
        yield Remote(where, namespace, orders, retention=60.0, quiet=True)


@contextmanager
def _tuned() -> Generator[None]:
    """Settings of the process that suit the job: old code warns when it is parsed, and syntax trees are many small objects without cycles,
    which the garbage collector would otherwise look at again and again (a third of the time)."""
    before = gc.get_threshold()
    gc.set_threshold(500_000)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        gc.set_threshold(*before)


def _write(file: Path, text: str) -> None:
    try:
        file.write_text(text, "utf-8")
    except OSError as error:
        raise CommandError(f"--timeline {file} cannot be written: {error.strerror}") from error


# ---- what came of it ------------------------------------------------------------------------------------------------


class _Outcome(msgspec.Struct, frozen=True):
    files: int
    census: Census
    unreadable: dict[str, str]
    """why, by path"""
    seconds: float


def _outcome(root: Path, result: RunResult[Any]) -> _Outcome:
    files: list[str] = result["discover"]
    if not files:
        raise CommandError(f"there is no Python file in {root} or below; give another --path")
    unreadable: dict[str, str] = {}
    for number, name in enumerate(files):
        error = result.errors.get(f"parse[{number}]")
        if error is not None:
            unreadable[name] = _reason(error.__cause__ or error)
    found: Census = result.output
    return _Outcome(len(files), found, unreadable, result.duration)


def _reason(error: BaseException) -> str:
    where = f" (line {error.lineno})" if isinstance(error, SyntaxError) and error.lineno else ""
    return f"{type(error).__name__}: {one_line(error.msg if isinstance(error, SyntaxError) else error)}{where}"


def _as_object(root: Path, outcome: _Outcome) -> dict[str, Any]:
    return {
        "root": str(root),
        "files": outcome.files,
        "duration": outcome.seconds,
        "census": outcome.census,
        "unreadable": outcome.unreadable,
    }


def _show(out: Console, root: Path, outcome: _Outcome) -> None:
    found, totals = outcome.census, outcome.census.totals
    pace = outcome.files / outcome.seconds if outcome.seconds else 0.0
    out.print(Text(f"{outcome.files:,} files below {root}, in {outcome.seconds:.1f} s ({pace:,.0f} a second)", "bold"), soft_wrap=True)
    functions = f"{totals.functions:,} functions, {totals.async_functions:,} async functions, {totals.classes:,} classes"
    out.print(f"{totals.lines:,} lines, {totals.code:,} of them code: {functions}", soft_wrap=True)
    out.print()
    out.print(_largest(found.largest))
    out.print()
    out.print(_longest(found.longest))
    out.print()
    out.print(_imported(found.imported, totals.files))
    _show_odd(out, outcome)


def _table(title: str, *columns: str) -> Table:
    table = Table(title=Text(title, "bold"), title_justify="left", box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for number, column in enumerate(columns):
        table.add_column(column, justify="right" if number else "left", overflow="fold", no_wrap=bool(number))
    return table


def _largest(modules: list[Measure]) -> Table:
    table = _table("Largest files", "file", "lines", "code", "functions", "classes")
    for each in modules:
        table.add_row(
            Text(each.path), f"{each.lines:,}", f"{each.code:,}", f"{each.functions + each.async_functions:,}", f"{each.classes:,}"
        )
    return table


def _longest(functions: list[LongFunction]) -> Table:
    table = _table("Longest functions", "function", "lines")
    for each in functions:
        table.add_row(Text(f"{each.path}: {each.name}"), f"{each.lines:,}")
    return table


def _imported(packages: list[tuple[str, int]], files: int) -> Table:
    table = _table("Most imported", "package", "files", "share")
    for name, count in packages:
        table.add_row(Text(name), f"{count:,}", f"{count / files:.0%}")
    return table


def _show_odd(out: Console, outcome: _Outcome) -> None:
    """What is not UTF-8, and what failed."""
    encodings = outcome.census.encodings
    if encodings:
        out.print(Text(f"\n{len(encodings)} in another encoding than UTF-8", "bold"))
        for name, encoding in encodings.items():
            out.print(Text(f"  {one_line(name)}: {encoding}"))
    if outcome.unreadable:
        out.print(Text(f"\n{len(outcome.unreadable)} cannot be parsed: their tasks failed, and the others went on", "bold"))
        for name, why in list(outcome.unreadable.items())[:FAILED_LISTED]:
            out.print(Text(f"  {one_line(name)}: {why}"), soft_wrap=True)
        if len(outcome.unreadable) > FAILED_LISTED:
            out.print(f"  and {len(outcome.unreadable) - FAILED_LISTED:,} more")
