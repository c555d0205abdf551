"""``graflow-aworker``: a worker as a process of its own.

Everything about the process is here: settings, signals, the readiness line, exit codes. What the worker does is in
:mod:`graflow.worker.worker`. A backend that lives in one process cannot be served from another, so the command needs the URL of a server.
"""

from __future__ import annotations

import asyncio
import importlib
import logging
import os
import signal
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from graflow.backends import open_backend
from graflow.errors import ConfigurationError, GraflowError
from graflow.worker.worker import TaskWorker

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from graflow.backends.base import Backend

logger: logging.Logger = logging.getLogger("graflow.worker")

app: typer.Typer = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")


@app.command()
def aworker(
    apps: Annotated[
        list[str] | None, typer.Option("--app", help="A module to import, so that its tasks are known; may be repeated.")
    ] = None,
    redis: Annotated[
        str, typer.Option(help="URL of the server that the runs live on.", envvar="GRAFLOW_REDIS_URL")
    ] = "redis://localhost:6379/0",
    concurrency: Annotated[int, typer.Option(help="Tasks at once.", envvar="MAX_CONCURRENT_TASKS")] = 100,
    queues: Annotated[str, typer.Option(help="Queues to serve, separated by commas.")] = "default",
    worker_id: Annotated[str | None, typer.Option(help="What the worker is called; unique by default.", envvar="WORKER_ID")] = None,
    grace: Annotated[float, typer.Option(help="Seconds that running tasks are given when the worker is told to stop.")] = 25.0,
    log_level: Annotated[str, typer.Option(help=f"One of {', '.join(LEVELS)}.", envvar="LOG_LEVEL")] = "INFO",
) -> None:
    """Run tasks until told to stop: SIGTERM or SIGINT once to finish what runs, twice to stop now."""
    _configure_logging(log_level)
    sys.path.insert(0, os.getcwd())  # as ``python -m`` does: --app names modules of the project that the worker is started in
    for module in apps or ():
        _import(module)
    backend = _remote(open_backend(redis))
    names = [name.strip() for name in queues.split(",") if name.strip()]
    asyncio.run(serve(TaskWorker(backend, concurrency=concurrency, queues=names, worker_id=worker_id, grace=grace)))


async def serve(worker: TaskWorker, *, ready: Callable[[], None] | None = None) -> None:
    """Run a worker until a signal stops it. ``ready`` is called once it takes work."""
    loop = asyncio.get_running_loop()
    told = asyncio.Event()

    def tell() -> None:
        if told.is_set():  # the second signal: the operator does not want to wait
            os._exit(1)
        told.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, tell)
    try:
        async with worker:
            logger.info("worker %s is ready", worker.worker_id, extra={"worker_id": worker.worker_id})
            if ready is not None:
                ready()
            await told.wait()
            logger.info("worker %s stops; running tasks have their grace", worker.worker_id, extra={"worker_id": worker.worker_id})
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)


def _configure_logging(level: str) -> None:
    if level.upper() not in LEVELS:
        raise ConfigurationError(f"--log-level {level}: use one of {', '.join(LEVELS)}", setting="log_level")
    logging.basicConfig(level=level.upper(), format="%(asctime)s %(levelname)s %(name)s %(message)s")


def _import(module: str) -> None:
    try:
        importlib.import_module(module)
    except ImportError as error:
        remedy = "run the command where the module can be found"
        raise ConfigurationError(f"--app {module}: cannot be imported ({error}); {remedy}", setting="app") from error


def _remote(backend: Backend) -> Backend:
    if backend.local:
        raise ConfigurationError(
            "a worker process cannot reach runs in another process's memory; give the URL of a server", setting="redis"
        )
    return backend


def main(arguments: Sequence[str] | None = None) -> None:
    """The entry point: a mistake is one line on standard error and exit code 2."""
    try:
        app(args=list(arguments) if arguments is not None else None)
    except GraflowError as error:
        typer.echo(f"graflow-aworker: {error}", err=True)
        raise SystemExit(2) from None
