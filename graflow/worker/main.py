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
from typing import TYPE_CHECKING, Any, Final

from graflow.backends import open_backend
from graflow.errors import BackendUnavailableError, ConfigurationError, GraflowError
from graflow.worker.settings import Settings, import_app, read
from graflow.worker.worker import TaskWorker

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence

    from graflow.backends.base import Backend

logger: logging.Logger = logging.getLogger("graflow.worker")

FAILED: Final = 1
"""exit code when the server does not answer, or when a second signal cut the worker short"""
MISUSED: Final = 2
"""exit code of a mistake in what the worker was told"""


def aworker(settings: Settings) -> None:
    """Run tasks until told to stop."""
    logging.basicConfig(level=settings.log_level, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    backend = _remote(open_backend(settings.url, namespace=settings.namespace))
    sys.path.insert(0, os.getcwd())  # as ``python -m`` does: --app names modules of the project that the worker is started in
    for module in settings.apps:
        import_app(module)
    worker = TaskWorker(
        backend,
        concurrency=settings.concurrency,
        queues=settings.queues,
        worker_id=settings.worker_id,
        serve=settings.handlers,
        task_timeout=settings.task_timeout,
        grace=settings.grace,
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
    worker.heeds_keyboard = False  # what the keyboard sends comes to tell()
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
        aworker(read(sys.argv[1:] if arguments is None else arguments, os.environ))
    except BackendUnavailableError as error:
        return _complain(error, FAILED)
    except GraflowError as error:
        return _complain(error, MISUSED)
    return 0


def _complain(error: GraflowError, code: int) -> int:
    sys.stderr.write(f"graflow-aworker: {' '.join(str(error).split())}\n")
    return code
