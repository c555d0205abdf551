"""Processes that a command starts and ends: on every path, a signal included."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Final

from graflow.cli.failures import TERMINATED, CommandError

WATCH: Final = """
import os, shutil, signal, sys, time
sys.stdin.read()
time.sleep(2)  # for those who use it to take their leave: without it they would try for long
try:
    os.kill(int(sys.argv[1]), getattr(signal, "SIGKILL", signal.SIGTERM))
except OSError:
    pass
shutil.rmtree(sys.argv[2], ignore_errors=True)
"""

STOPS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))
"""what ends a command, other than Ctrl-C"""


@contextmanager
def tidy() -> Generator[None]:
    """Inside, being told to stop is an error like others, so that what was started is ended."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in STOPS}
    for number in STOPS:
        signal.signal(number, _stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def signals_kept() -> Generator[None]:
    """An event loop that has handled signals leaves none handled; here it is as it was."""
    before = {number: signal.getsignal(number) for number in STOPS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def held() -> Generator[None]:
    """Signals that come in the meantime are taken when this is left: what is started inside is known by then to whoever ends it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    before = {number: signal.signal(number, lambda number, _: came.append(number)) for number in (signal.SIGINT, *STOPS)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if came:
        signal.raise_signal(came[0])


def _stop(number: int, frame: FrameType | None) -> None:
    raise CommandError("told to stop", TERMINATED)


def start(
    command: Sequence[str], *, environment: dict[str, str] | None = None, output: int, kept: Sequence[int] = ()
) -> subprocess.Popen[bytes]:
    """A process that Ctrl-C in the terminal does not reach: it is ended when its work is. ``kept`` are descriptors that it is to have."""
    own = sys.platform != "win32"
    return subprocess.Popen(
        command, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=own, pass_fds=kept
    )


def outlive_nobody(process: subprocess.Popen[bytes], folder: Path) -> subprocess.Popen[bytes]:
    """A process that waits for the end of this one: if it is killed, and can end nothing itself, ``process`` is, and ``folder`` removed.

    It is to be killed before ``process`` is ended in good order.
    """
    command = [sys.executable, "-I", "-S", "-c", WATCH, str(process.pid), str(folder)]
    own = sys.platform != "win32"
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=own)


def dismiss(watcher: subprocess.Popen[bytes]) -> None:
    """What it watches is ended in good order."""
    watcher.kill()
    watcher.wait()
    if watcher.stdin is not None:
        watcher.stdin.close()


def end(processes: Sequence[subprocess.Popen[bytes]], grace: float) -> None:
    """Tell processes to stop, and kill those that have not after ``grace`` seconds, or all when that wait is interrupted."""
    until = time.monotonic() + grace
    try:
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait(max(0.0, until - time.monotonic()))
    except subprocess.TimeoutExpired:
        pass
    finally:
        for process in processes:
            if process.poll() is None:
                process.kill()
            process.wait()
