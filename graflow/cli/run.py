"""``graflow run``: run a workflow in this process."""

from __future__ import annotations

import asyncio
import enum
import logging
import signal
import sys
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated, Any
from uuid import uuid4

import msgspec
import typer
from rich.console import Console

from graflow.cli import leaving
from graflow.cli.failures import INTERRUPTED, SUSPENDED, TERMINATED, CommandError, boundary, one_line
from graflow.cli.inputs import read_inputs
from graflow.cli.loading import Runnable, load
from graflow.cli.output import console, json_text, kept_clean, run_as_json, show_run
from graflow.cli.progress import Lines, LiveView, watched
from graflow.cli.tracking import Tracking
from graflow.core.result import RunResult, RunStatus
from graflow.draw import picture_of
from graflow.engine import WorkflowEngine
from graflow.engine.handle import shielded
from graflow.errors import ConfigurationError, RunError
from graflow.handlers import ThreadHandler
from graflow.wire.messages import RunEvent

TARGET_HELP = "A Python file or module, and after a colon the workflow in it, where there are several."


class OnFailure(enum.StrEnum):
    """What becomes of the rest of a run when a task has failed."""

    FAIL = "fail"
    CONTINUE = "continue"


class RunSettings(msgspec.Struct, frozen=True):
    """How a workflow is to be run; the options of ``graflow run``."""

    inputs: dict[str, Any] = {}
    start: str | None = None
    timeout: float | None = None
    max_steps: int | None = None
    on_failure: OnFailure = OnFailure.FAIL
    run_id: str | None = None
    concurrency: int | None = None


class Finished(msgspec.Struct, frozen=True):
    """A run that has come to its end, or waits."""

    result: RunResult[Any]
    error: RunError | None
    tracking: Tracking


def run(
    target: Annotated[str, typer.Argument(metavar="FILE_OR_MODULE[:WORKFLOW]", help=TARGET_HELP)],
    pairs: Annotated[
        list[str] | None, typer.Option("--input", "-i", metavar="NAME=VALUE", help="A value for the tasks' parameters, as JSON or text.")
    ] = None,
    inputs: Annotated[Path | None, typer.Option(metavar="FILE.json", help="A JSON object with more of them.")] = None,
    start: Annotated[str | None, typer.Option(metavar="ID", help="The task or group to begin with.")] = None,
    timeout: Annotated[float | None, typer.Option(metavar="SECONDS", help="End the run when it takes longer.")] = None,
    max_steps: Annotated[int | None, typer.Option(metavar="N", help="End the run when it makes more visits of tasks.")] = None,
    on_failure: Annotated[
        OnFailure, typer.Option(help="End the run with the first failure, or let independent branches finish.")
    ] = OnFailure.FAIL,
    run_id: Annotated[str | None, typer.Option(metavar="ID", help="What the run is called.")] = None,
    concurrency: Annotated[int | None, typer.Option(min=1, metavar="N", help="Tasks at once, of each kind.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress; print the output only.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
) -> None:
    """Run a workflow in this process, and show what came of it.

    Exit codes: 0 it succeeded, 1 it failed or was cancelled, 2 it could not be run as asked, 3 it is suspended, 130 it was interrupted.
    """
    with boundary(debug=debug), kept_clean(wanted=as_json) as out:
        settings = RunSettings(read_inputs(pairs or [], inputs), start, timeout, max_steps, on_failure, run_id, concurrency)
        finished = perform(load(target), settings, quiet=quiet)
        result, error = finished.result, finished.error
        if as_json:
            out.write(json_text(run_as_json(result, error, debug=debug), out))
        elif not quiet:
            show_run(console(), result, finished.tracking, succeeded=result.status is RunStatus.SUCCEEDED)
        elif result.status is RunStatus.SUCCEEDED and result.output is not None:
            typer.echo(result.output)
        if error is not None:
            raise error
        if result.status is RunStatus.SUSPENDED:
            waiting = {task: why.removeprefix("suspended: ") for task, why in result.others.items() if why.startswith("suspended: ")}
            reasons = "; ".join(f"{task}: {why}" for task, why in waiting.items())
            raise CommandError(f"run {result.run_id!r} is suspended ({reasons}); it is lost now, as it ran in this process", SUSPENDED)


def perform(graph: Runnable, settings: RunSettings, *, quiet: bool, events: list[RunEvent] | None = None) -> Finished:
    """Run a graph with its progress on standard error, in an event loop of its own.

    Args:
        graph: what to run.
        settings: how.
        quiet: show no progress.
        events: where to put all events of the run, for those who want them.

    Raises:
        GraflowError: it cannot be run as asked.
        CommandError: Ctrl-C; the run has been cancelled.
    """
    tracking = Tracking(picture_of(graph))
    run_id = settings.run_id if settings.run_id is not None else uuid4().hex
    finished: list[Finished] = []

    async def perform() -> None:
        # Not returned: asyncio.run() makes a repr of what the main task returns (signal.getsignal does), which of a large result takes seconds.
        finished.append(await _perform(graph, settings, run_id, tracking, quiet=quiet, events=events))

    try:
        with _without_word_of_threads():
            asyncio.run(perform())
        return finished[0]
    except (KeyboardInterrupt, asyncio.CancelledError) as interrupt:
        leaving.be_abrupt()
        code = INTERRUPTED if isinstance(interrupt, KeyboardInterrupt) else TERMINATED
        raise CommandError(f"interrupted; run {run_id!r} was cancelled", code) from interrupt


async def _perform(
    graph: Runnable, settings: RunSettings, run_id: str, tracking: Tracking, *, quiet: bool, events: list[RunEvent] | None
) -> Finished:
    count = settings.concurrency
    handlers = None if count is None else {"thread": ThreadHandler(count)}
    engine = WorkflowEngine(handlers=handlers, concurrency=count or 100)
    _heed_sigterm()
    try:
        async with engine:
            handle = await engine.submit(
                graph, inputs=settings.inputs, start=settings.start, run_id=run_id, timeout=settings.timeout,
                max_steps=settings.max_steps, on_failure=settings.on_failure.value,
            )  # fmt: skip
            name = getattr(graph, "name", None) or getattr(graph, "id", "")
            view = None if quiet else _view(tracking, f"{one_line(name)}  run {run_id}")
            async with watched(handle, tracking, view, events):
                try:
                    return Finished(await handle.result(), None, tracking)
                except RunError as error:
                    return Finished(error.result, error, tracking)
                except asyncio.CancelledError:
                    await shielded(handle.cancel("interrupted"))
                    raise
    finally:
        with suppress(ConfigurationError):  # from an engine that could not start
            if engine.worker is not None and engine.worker.metrics().abandoned_threads:
                leaving.be_abrupt()


@contextmanager
def _without_word_of_threads() -> Generator[None]:
    """Threads that do not stop are dealt with when the command ends; warnings about them would stand between its lines."""
    logger = logging.getLogger("graflow.handlers.thread")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def _heed_sigterm() -> None:
    """Being told to stop cancels the run, as Ctrl-C does."""
    task = asyncio.current_task()
    if task is not None and sys.platform != "win32":
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)


def _view(tracking: Tracking, title: str) -> Lines | LiveView:
    if sys.stderr.isatty():
        return LiveView(tracking, Console(stderr=True, highlight=False, markup=False, emoji=False), title)
    return Lines(tracking, lambda line: typer.echo(line, err=True))
