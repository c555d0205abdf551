"""``graflow-aworker``: a worker as a process of its own, or several, each as one, from a file.

Everything about the process is here: signals, the readiness line, exit codes. What the worker does is in :mod:`graflow.worker.worker`. A backend
that lives in one process cannot be served from another, so the command needs the URL of a server.
"""

from __future__ import annotations

import asyncio
import importlib
import logging
import os
import signal
import sys
import threading
import traceback
from typing import TYPE_CHECKING, Any, Final, TypeVar

from graflow.errors import BackendUnavailableError, GraflowError
from graflow.worker.config import assemble
from graflow.worker.settings import Command, Settings, read_command

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence

    from graflow.worker.supervisor import Lifeline
    from graflow.worker.worker import TaskWorker

T = TypeVar("T")

logger: logging.Logger = logging.getLogger("graflow.worker")

FAILED: Final = 1
"""exit code when the server does not answer, or when a second signal cut the worker short"""
INTERRUPTED: Final = 130
"""exit code when Ctrl-C came before there was a worker"""
MISUSED: Final = 2
"""exit code of a mistake in what the worker was told"""


def aworker(settings: Settings, lifeline: int | None = None) -> int:
    """Run tasks until told to stop."""
    line = None if lifeline is None else _lifeline(lifeline, settings.grace)
    _log(settings.log_level)
    _find_modules()
    worker = assemble(settings, remote=True)
    _run(serve(worker, ready=None if line is None else line.ready), then=_leave_stuck_threads)
    return 0


def _lifeline(descriptor: int, grace: float) -> Lifeline:
    from graflow.worker.supervisor import Lifeline

    return Lifeline(descriptor, grace)


def aworkers(workers: Sequence[Settings], arguments: Sequence[str]) -> int:
    """Run a process for each worker of a file until told to stop."""
    _log(workers[0].log_level)
    code = _try(workers)
    if code:
        return code
    commands = {str(each.worker_id): [*arguments, f"--worker={each.worker_id}"] for each in workers}
    return _run(_supervise(commands, max(each.grace for each in workers)))


async def _supervise(commands: dict[str, list[str]], grace: float) -> int:
    from graflow.worker.supervisor import Supervisor  # the many workers without one do without what it imports

    return await Supervisor(commands, grace).run()


def _try(workers: Sequence[Settings]) -> int:
    """Make all workers once, so that a mistake in any of them is told before one is started, and told once.

    In a process that ends again: the supervisor has no use for what their tasks and handlers import.
    """
    child = os.fork()
    if child:
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if code < 0:  # what a module does when it is imported may be the end of a process
            sys.stderr.write(f"graflow-aworker: making the workers ended with signal {-code}; see --check --worker ID for each of them\n")
            return FAILED
        return code
    code = FAILED
    try:
        code = _guarded(lambda: _try_all(workers))
    except BaseException:
        traceback.print_exc()  # nobody else will: this process does not end in the ordinary way
        raise
    finally:
        sys.stderr.flush()
        os._exit(code)


def _try_all(workers: Sequence[Settings]) -> int:
    _find_modules()
    for settings in workers:
        assemble(settings, remote=True)
    return 0


def _log(level: str) -> None:
    logging.basicConfig(level=level, format="%(asctime)s %(levelname)s %(name)s %(message)s")


def _find_modules() -> None:
    """As ``python -m`` does: modules are those of the project that the worker is started in."""
    sys.path.insert(0, os.getcwd())


def _run(work: Coroutine[Any, Any, T], *, then: Callable[[], None] | None = None) -> T:
    """On the faster event loop where it is installed."""
    try:
        factory: Callable[[], asyncio.AbstractEventLoop] | None = importlib.import_module("uvloop").new_event_loop
    except ModuleNotFoundError:
        factory = None
    with asyncio.Runner(loop_factory=factory) as runner:
        result = runner.run(work)
        if then is not None:
            then()
    return result


def _leave_stuck_threads() -> None:
    """Python waits for its threads before it ends, and one that runs a task which nobody waits for any more may take for ever."""
    if any(not thread.daemon and thread is not threading.main_thread() for thread in threading.enumerate()):
        logging.shutdown()
        os._exit(0)


async def serve(worker: TaskWorker, *, ready: Callable[[], None] | None = None) -> None:
    """Run a worker until a signal stops it. ``ready`` is called once it takes work.

    A signal that comes before that ends the start, which may be waiting for a server that does not answer.
    """
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    told = asyncio.Event()
    starting = True

    def tell() -> None:
        if told.is_set():  # the second signal: the operator does not want to wait
            os._exit(FAILED)
        told.set()
        if starting and task is not None:
            task.cancel()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, tell)
    worker.heeds_keyboard = False  # what the keyboard sends comes to tell()
    try:
        async with worker:
            starting = False
            if ready is not None:
                ready()
            logger.info("worker %s is ready", worker.worker_id, extra={"worker_id": worker.worker_id})
            await told.wait()
            logger.info("worker %s stops; running tasks have their grace", worker.worker_id, extra={"worker_id": worker.worker_id})
    except asyncio.CancelledError:
        if not told.is_set():
            raise
        logger.info("worker %s was stopped before it was ready", worker.worker_id, extra={"worker_id": worker.worker_id})
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)


def main(arguments: Sequence[str] | None = None) -> None:
    """The entry point: a mistake is one line on standard error and exit code 2, a server that does not answer one line and exit code 1."""
    words = sys.argv[1:] if arguments is None else arguments
    raise SystemExit(_guarded(lambda: _carry_out(read_command(words, os.environ), words)))


def _carry_out(command: Command, arguments: Sequence[str]) -> int:
    if command.check:
        from graflow.worker.check import check  # imported when it is asked for: it brings what draws tables, which a worker would keep

        _find_modules()
        return check(command.workers, as_json=command.as_json)
    if len(command.workers) > 1:
        return aworkers(command.workers, arguments)
    return aworker(command.workers[0], command.lifeline)


def _guarded(work: Callable[[], int]) -> int:
    try:
        return work()
    except KeyboardInterrupt:  # while it was imported or made: there is nothing yet to stop in good order
        return INTERRUPTED
    except BackendUnavailableError as error:
        return _complain(error, FAILED)
    except GraflowError as error:
        return _complain(error, MISUSED)


def _complain(error: GraflowError, code: int) -> int:
    sys.stderr.write(f"graflow-aworker: {' '.join(str(error).split())}\n")
    return code
