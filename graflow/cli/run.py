"""``graflow run``: run a workflow in this process, or on workers over Redis."""

from __future__ import annotations

import asyncio
import enum
import logging
import os
import sys
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated, Any
from uuid import uuid4

import msgspec
import typer
from rich.console import Console

from graflow.backends import open_backend
from graflow.backends.base import Backend
from graflow.cli import leaving
from graflow.cli.children import STOPS, signals_kept, tidy
from graflow.cli.failures import INTERRUPTED, SUSPENDED, TERMINATED, CommandError, boundary, one_line
from graflow.cli.inputs import read_inputs
from graflow.cli.loading import Found, Runnable, load, load_for_workers
from graflow.cli.output import console, json_text, kept_clean, run_as_json, show_run
from graflow.cli.progress import Lines, LiveView, watched
from graflow.cli.tracking import Tracking
from graflow.cli.workers import LocalWorkers, Orders, handlers_of, local_workers, queues_of
from graflow.core.result import RunResult, RunStatus
from graflow.draw import picture_of
from graflow.engine import WorkflowEngine
from graflow.engine.handle import RunHandle, shielded
from graflow.errors import ConfigurationError, RunError
from graflow.handlers import Handler, ThreadHandler
from graflow.wire.messages import RunEvent

TARGET_HELP = "A Python file or module, and after a colon the workflow in it, where there are several."


class OnFailure(enum.StrEnum):
    """What becomes of the rest of a run when a task has failed."""

    FAIL = "fail"
    CONTINUE = "continue"


class Remote(msgspec.Struct, frozen=True):
    """A run on a server.

    Attributes:
        url: the server.
        namespace: of the run.
        workers: what workers of this command's own are told; None without any.
        retention: seconds that the run is kept after its end; None for as long as others are.
        quiet: whether the log is of no interest.
    """

    url: str
    namespace: str = "graflow"
    workers: Orders | None = None
    retention: float | None = None
    quiet: bool = False


class RunSettings(msgspec.Struct, frozen=True):
    """How a workflow is to be run; the options of ``graflow run``."""

    inputs: dict[str, Any] = {}
    start: str | None = None
    timeout: float | None = None
    max_steps: int | None = None
    on_failure: OnFailure = OnFailure.FAIL
    run_id: str | None = None
    concurrency: int | None = None
    docker_image: str | None = None
    remote: Remote | None = None


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
    docker_image: Annotated[
        str | None, typer.Option(metavar="IMAGE", help="Where tasks with the handler docker run; python:3.11-slim unless given.")
    ] = None,
    redis: Annotated[str | None, typer.Option(metavar="URL", help="Run on the workers of this Redis server, not in this process.")] = None,
    workers: Annotated[int, typer.Option(min=0, metavar="N", help="Start so many workers for the run.")] = 0,
    namespace: Annotated[
        str | None, typer.Option(metavar="NAME", help="Keeps applications that share a server apart; REDIS_KEY_PREFIX unless given.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress; print the output only.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
) -> None:
    """Run a workflow in this process or on workers, and show what came of it.

    Exit codes: 0 it succeeded, 1 it failed or was cancelled, 2 it could not be run as asked, 3 it is suspended, 130 it was interrupted.
    """
    with boundary(debug=debug), kept_clean(wanted=as_json) as out:
        values = read_inputs(pairs or [], inputs)
        found, remote = _prepare(target, redis, namespace, workers, concurrency, docker_image)
        settings = RunSettings(values, start, timeout, max_steps, on_failure, run_id, concurrency, docker_image, remote)
        finished = perform(found, settings, quiet=quiet)
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
            then = "it is lost now, as it ran in this process" if remote is None else "it waits on the server"
            raise CommandError(f"run {result.run_id!r} is suspended ({reasons}); {then}", SUSPENDED)


def _prepare(
    target: str, redis: str | None, namespace: str | None, workers: int, concurrency: int | None, docker_image: str | None
) -> tuple[Runnable, Remote | None]:
    """What is to be run, and where."""
    if redis is None:
        for given, option in ((workers, "--workers"), (namespace, "--namespace")):
            if given:
                raise CommandError(f"{option} is for runs on a server; add --redis URL, such as redis://localhost:6379/0")
        return load(target), None
    for given, option in ((concurrency, "--concurrency"), (docker_image, "--docker-image")):
        if given is not None and not workers:
            raise CommandError(f"{option} is for workers that this command starts; add --workers N, or leave it to those that there are")
    found = load_for_workers(target)
    # Only now: without --redis the variables of a worker's shell change nothing, least of all where a run takes place.
    name = namespace or os.environ.get("REDIS_KEY_PREFIX") or "graflow"
    return found.graph, Remote(redis, name, _orders(found, redis, name, workers, concurrency, docker_image) if workers else None)


def _orders(found: Found, url: str, namespace: str, workers: int, concurrency: int | None, docker_image: str | None) -> Orders:
    return Orders(
        workers, url, namespace, (found.module.__name__,), (found.folder,), queues_of(found.graph), concurrency, docker_image,
        serve_docker="docker" in handlers_of(found.graph),
    )  # fmt: skip


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

    remote = settings.remote
    backend = None if remote is None else open_backend(remote.url, namespace=remote.namespace, retention=remote.retention)

    async def perform(local: LocalWorkers | None) -> None:
        # Not returned: asyncio.run() makes a repr of what the main task returns (signal.getsignal does), which of a large result takes seconds.
        finished.append(await _perform(graph, settings, run_id, tracking, backend, local, quiet=quiet, events=events))

    try:
        with tidy(), quieter(*_noise(remote)), _workers(remote) as local, signals_kept():
            asyncio.run(perform(local))
        return finished[0]
    except (KeyboardInterrupt, asyncio.CancelledError) as interrupt:
        leaving.be_abrupt()
        code = INTERRUPTED if isinstance(interrupt, KeyboardInterrupt) else TERMINATED
        raise CommandError(f"interrupted; run {run_id!r} was cancelled", code) from interrupt


def _noise(remote: Remote | None) -> list[str]:
    return ["graflow.handlers.thread"] + (["graflow.redis"] if remote is not None and remote.quiet else [])


@contextmanager
def _workers(remote: Remote | None) -> Generator[LocalWorkers | None]:
    if remote is None or remote.workers is None:
        yield None
        return
    with local_workers(remote.workers) as workers:
        yield workers


async def _perform(
    graph: Runnable, settings: RunSettings, run_id: str, tracking: Tracking, backend: Backend | None, local: LocalWorkers | None,
    *, quiet: bool, events: list[RunEvent] | None,
) -> Finished:  # fmt: skip
    engine = _engine(settings, backend)
    _heed_signals()
    try:
        async with engine:
            if local is not None:
                await local.ready(engine.backend)
            handle = await engine.submit(
                graph, inputs=settings.inputs, start=settings.start, run_id=run_id, timeout=settings.timeout,
                max_steps=settings.max_steps, on_failure=settings.on_failure.value,
            )  # fmt: skip
            name = getattr(graph, "name", None) or getattr(graph, "id", "")
            view = None if quiet else _view(tracking, f"{one_line(name)}  run {run_id}")
            async with watched(handle, tracking, view, events):
                try:
                    return Finished(await _result(handle, local), None, tracking)
                except RunError as error:
                    return Finished(error.result, error, tracking)
                except (asyncio.CancelledError, CommandError):
                    await shielded(handle.cancel("interrupted"))
                    raise
    finally:
        with suppress(ConfigurationError):  # from an engine that could not start
            if engine.worker is not None and engine.worker.metrics().abandoned_threads:
                leaving.be_abrupt()


def _engine(settings: RunSettings, backend: Backend | None) -> WorkflowEngine:
    if backend is not None:
        return WorkflowEngine(backend)
    count, image = settings.concurrency, settings.docker_image
    handlers: dict[str, Handler] = {} if count is None else {"thread": ThreadHandler(count)}
    if image is not None:
        from graflow.handlers import DockerHandler  # imported when it is asked for: most runs have no container

        handlers["docker"] = DockerHandler(image) if count is None else DockerHandler(image, concurrency=count)
    return WorkflowEngine(handlers=handlers, concurrency=count or 100)


async def _result(handle: RunHandle[Any], local: LocalWorkers | None) -> RunResult[Any]:
    """The result; with workers of one's own, for as long as there are any."""
    if local is None:
        return await handle.result()
    waiting, watching = asyncio.ensure_future(handle.result()), asyncio.ensure_future(local.watch())
    try:
        await asyncio.wait((waiting, watching), return_when=asyncio.FIRST_COMPLETED)
        return await waiting if waiting.done() else await watching
    finally:
        for future in (waiting, watching):
            future.cancel()
        await asyncio.wait((waiting, watching))


@contextmanager
def quieter(*names: str) -> Generator[None]:
    """Only errors of these logs: warnings, as about threads that do not stop, would stand between the lines of the command."""
    loggers = [logging.getLogger(name) for name in names]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _heed_signals() -> None:
    """Being told to stop cancels the run, as Ctrl-C does."""
    task = asyncio.current_task()
    if task is not None and sys.platform != "win32":
        for number in STOPS:
            asyncio.get_running_loop().add_signal_handler(number, task.cancel)


def _view(tracking: Tracking, title: str) -> Lines | LiveView:
    if sys.stderr.isatty():
        return LiveView(tracking, Console(stderr=True, highlight=False, markup=False, emoji=False), title)
    return Lines(tracking, lambda line: typer.echo(line, err=True))
