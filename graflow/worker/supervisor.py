"""The workers of a file as processes of their own: started, told to stop, and started again when they crash.

Each holds one end of a socket pair, its *lifeline*. A worker writes a byte once it takes work; when the other end is gone, so is the supervisor,
however it ended, and the worker stops.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

logger: logging.Logger = logging.getLogger("graflow.worker.supervisor")

PROGRAM: Final = "from graflow.worker.main import main; main()"
FIRST_WAIT: Final = 0.5
"""seconds until a worker that crashed is started again; twice as many the next time"""
LONGEST_WAIT: Final = 30.0
SOUND: Final = 60.0
"""seconds after which a worker that crashed counts as one that had been well"""
PATIENCE: Final = 15.0
"""seconds beyond its grace after which a worker that was told to stop, and does not, is ended"""


class Supervisor:
    """Keeps worker processes.

    Args:
        commands: the arguments of ``graflow-aworker`` for each of them, by the worker's name.
        grace: the seconds that they take to stop.
    """

    def __init__(self, commands: Mapping[str, Sequence[str]], grace: float) -> None:
        self._commands = commands
        self._grace = grace
        self._running: dict[str, asyncio.subprocess.Process] = {}
        self._told = asyncio.Event()
        self._code = 0

    async def run(self) -> int:
        """Until all have ended; returns the exit code.

        It is 0 when they were told to stop and did, and that of a worker which could not start, 1 or 2: the others are stopped then.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._tell)
        watchdog = asyncio.create_task(self._end_the_stubborn())
        try:
            async with asyncio.TaskGroup() as group:
                for name in self._commands:
                    group.create_task(self._keep(name), name=f"graflow-worker-{name}")
        finally:
            watchdog.cancel()
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.remove_signal_handler(number)
        return self._code

    async def _keep(self, name: str) -> None:
        """Run a worker, and run it again when it has crashed."""
        wait, was_ready = FIRST_WAIT, False
        while not self._told.is_set():
            began = time.monotonic()
            code, ready = await self._one_life(name)
            was_ready = was_ready or ready
            if code == 0:  # somebody told it to stop, and not us: it is not wanted
                return
            if self._told.is_set():
                if code != -signal.SIGTERM:  # that is one which had not come so far as to hear it
                    self._code = self._code or 1
                return
            if not was_ready:
                logger.error("worker %s cannot start; all are stopped", name, extra={"worker_id": name})
                self._code = code if code in (1, 2) else 1
                self._tell()
                return
            wait = FIRST_WAIT if time.monotonic() - began > SOUND else wait
            logger.error("worker %s ended with %s; it is started again in %g s", name, _told(code), wait, extra={"worker_id": name})
            with suppress(TimeoutError):
                await asyncio.wait_for(self._told.wait(), wait)
            wait = min(2 * wait, LONGEST_WAIT)

    async def _one_life(self, name: str) -> tuple[int, bool]:
        """How the worker ended, and whether it had been ready."""
        ours, theirs = socket.socketpair()
        with ours:
            with theirs:
                try:
                    process = await self._start(name, theirs.fileno())
                except OSError as error:  # no more processes, or no memory: that may pass
                    logger.error("worker %s cannot be started: %s", name, error, extra={"worker_id": name})
                    return 1, False
            self._running[name] = process
            if self._told.is_set():  # while it was being started
                process.terminate()
            code = await process.wait()
            del self._running[name]
            ours.setblocking(False)
            try:
                return code, ours.recv(1) != b""
            except (BlockingIOError, ConnectionError):
                return code, False

    async def _start(self, name: str, lifeline: int) -> asyncio.subprocess.Process:
        command = [sys.executable, "-c", PROGRAM, *self._commands[name], "--lifeline", str(lifeline)]
        # In a session of its own: Ctrl-C in a terminal would reach it too, and what we pass on would be its second signal.
        return await asyncio.create_subprocess_exec(*command, stdin=subprocess.DEVNULL, pass_fds=[lifeline], start_new_session=True)

    def _tell(self) -> None:
        """Tell all of them to stop. A second time tells them to stop at once."""
        if self._told.is_set():
            self._code = self._code or 1
        self._told.set()
        for process in self._running.values():
            with suppress(ProcessLookupError):
                process.terminate()

    async def _end_the_stubborn(self) -> None:
        await self._told.wait()
        await asyncio.sleep(self._grace + PATIENCE)
        for name, process in self._running.items():
            logger.error("worker %s does not stop; it is killed", name, extra={"worker_id": name})
            self._code = self._code or 1
            with suppress(ProcessLookupError):
                process.kill()


def _told(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    names = {each.value: each.name for each in signal.Signals}
    return f"signal {names.get(-code, -code)}"


class Lifeline:
    """A worker's end of it."""

    def __init__(self, descriptor: int, grace: float) -> None:
        self._socket = socket.socket(fileno=descriptor)
        self._socket.set_inheritable(False)  # what the worker starts must not keep it
        self._grace = grace
        # A thread and not the event loop, which may not run yet, or be held up by a task for as long as it likes.
        threading.Thread(target=self._wait, name="graflow-lifeline", daemon=True).start()

    def ready(self) -> None:
        """The worker takes work."""
        with suppress(OSError):  # the supervisor is gone, and the thread knows
            self._socket.send(b"r")

    def _wait(self) -> None:
        with suppress(OSError):
            self._socket.recv(1)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(self._grace + PATIENCE)
        os._exit(1)
