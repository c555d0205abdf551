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
import threading
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from graflow.backends import open_backend
from graflow.errors import BackendUnavailableError, ConfigurationError, GraflowError
from graflow.worker import settings
from graflow.worker.worker import TaskWorker

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence

    from graflow.backends.base import Backend

logger: logging.Logger = logging.getLogger("graflow.worker")

app: typer.Typer = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)  # without rich: 8 MB less

FAILED: Final = 1
"""exit code when the server does not answer, or when a second signal cut the worker short"""
MISUSED: Final = 2
"""exit code of a mistake in what the worker was told"""
USAGE_ERROR: Final[type[Exception]] = typer.BadParameter.__mro__[2]
"""What all complaints of the option parser derive from. Some versions of typer bring that parser along and others import it."""


@app.command()
def aworker(
    apps: Annotated[
        list[str] | None, typer.Option("--app", help="A module to import, so that its tasks are known; may be repeated.")
    ] = None,
    redis: Annotated[
        str | None,
        typer.Option(
            help=f"URL of the server that the runs live on; by default of REDIS_HOST, REDIS_PORT, REDIS_DB and REDIS_PASSWORD, "
            f"or else {settings.LOCAL}.",
            envvar="GRAFLOW_REDIS_URL",
        ),
    ] = None,
    namespace: Annotated[str, typer.Option(help="Keeps applications that share a server apart.", envvar="REDIS_KEY_PREFIX")] = "graflow",
    concurrency: Annotated[int, typer.Option(help="Tasks at once.", envvar="MAX_CONCURRENT_TASKS")] = 100,
    queues: Annotated[str, typer.Option(help="Queues to serve, separated by commas.")] = "default",
    handlers: Annotated[
        str | None, typer.Option(help="Handlers to serve, separated by commas: coroutine, thread. All by default.", envvar="HANDLER_TYPE")
    ] = None,
    task_timeout: Annotated[
        float | None, typer.Option(help="Seconds for tasks that set no timeout of their own.", envvar="TASK_TIMEOUT", min=0.001)
    ] = None,
    worker_id: Annotated[str | None, typer.Option(help="What the worker is called; unique by default.", envvar="WORKER_ID")] = None,
    grace: Annotated[float, typer.Option(help="Seconds that running tasks are given when the worker is told to stop.")] = 25.0,
    log_level: Annotated[str, typer.Option(help=f"One of {', '.join(settings.LEVELS)}.", envvar="LOG_LEVEL")] = "INFO",
) -> None:
    """Run tasks until told to stop: SIGTERM or SIGINT once to finish what runs, twice to stop now."""
    logging.basicConfig(level=settings.level_of(log_level), format="%(asctime)s %(levelname)s %(name)s %(message)s")
    served = settings.handlers_of(handlers)
    backend = _remote(open_backend(settings.url_of(redis, os.environ), namespace=namespace))
    sys.path.insert(0, os.getcwd())  # as ``python -m`` does: --app names modules of the project that the worker is started in
    for module in apps or ():
        settings.import_app(module)
    worker = TaskWorker(
        backend,
        concurrency=concurrency,
        queues=settings.names_in(queues),
        worker_id=worker_id,
        serve=served,
        task_timeout=task_timeout,
        grace=grace,
    )
    _run(serve(worker))


def _run(work: Coroutine[Any, Any, None]) -> None:
    """On the faster event loop where it is installed."""
    try:
        factory: Callable[[], asyncio.AbstractEventLoop] | None = importlib.import_module("uvloop").new_event_loop
    except ModuleNotFoundError:
        factory = None
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(work)
        _leave_stuck_threads()


def _leave_stuck_threads() -> None:
    """Python waits for its threads before it ends, and one that runs a task which nobody waits for any more may take for ever."""
    if any(not thread.daemon and thread is not threading.main_thread() for thread in threading.enumerate()):
        logging.shutdown()
        os._exit(0)


async def serve(worker: TaskWorker, *, ready: Callable[[], None] | None = None) -> None:
    """Run a worker until a signal stops it. ``ready`` is called once it takes work."""
    loop = asyncio.get_running_loop()
    told = asyncio.Event()

    def tell() -> None:
        if told.is_set():  # the second signal: the operator does not want to wait
            os._exit(FAILED)
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


def _remote(backend: Backend) -> Backend:
    if backend.local:
        raise ConfigurationError(
            "a worker process cannot reach runs in another process's memory; give the URL of a server", setting="redis"
        )
    return backend


def main(arguments: Sequence[str] | None = None) -> None:
    """The entry point: a mistake is one line on standard error and exit code 2, a server that does not answer one line and exit code 1."""
    raise SystemExit(_call(arguments))


def _call(arguments: Sequence[str] | None) -> int:
    try:
        app(args=list(sys.argv[1:] if arguments is None else arguments), prog_name="graflow-aworker", standalone_mode=False)
    except BackendUnavailableError as error:
        return _complain(str(error), FAILED)
    except GraflowError as error:
        return _complain(str(error), MISUSED)
    except USAGE_ERROR as error:
        message = getattr(error, "format_message", error.__str__)().rstrip(".")
        return _complain(f"{message}; see graflow-aworker --help", MISUSED)
    return 0


def _complain(message: str, code: int) -> int:
    typer.echo(f"graflow-aworker: {' '.join(message.split())}", err=True)
    return code
