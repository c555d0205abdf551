"""Docker engines for the tests: the one of this machine, or one of our own; and what is on them, seen without the library under test."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote

BUILD = Path(__file__).parent / "build_image.sh"
LABEL = "graflow.token"
PATIENCE = 60.0
"""Seconds that an engine has to begin."""


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=30)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(30)
        self.sock.connect(self._path)


class Engine:
    """An engine at a unix socket. Its methods block: they are for threads, and for fixtures without an event loop."""

    def __init__(self, path: str) -> None:
        self.path = path

    @property
    def url(self) -> str:
        return f"unix://{self.path}"

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        connection = _Connection(self.path)
        try:
            headers = {"Content-Type": "application/json"}
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            answer = connection.getresponse()
            data = answer.read()
            if answer.status >= 400:
                raise RuntimeError(f"{method} {path}: {answer.status} {data.decode()}")
            return json.loads(data) if data.startswith((b"{", b"[")) else data
        finally:
            connection.close()

    def answers(self) -> bool:
        try:
            return bool(self.ask("GET", "/_ping") == b"OK")
        except OSError:
            return False

    def containers(self, *labels: str) -> dict[str, dict[str, Any]]:
        """All containers with these labels, by id; those of handlers of this process unless others are given."""
        filters = quote(json.dumps({"label": list(labels or (LABEL,))}))
        found = {each["Id"]: each for each in self.ask("GET", f"/containers/json?all=1&filters={filters}")}
        mine = f"{os.getpid()}/"
        return {id: each for id, each in found.items() if labels or each["Labels"].get("graflow.process", "").startswith(mine)}

    def inspect(self, container: str) -> dict[str, Any]:
        found: dict[str, Any] = self.ask("GET", f"/containers/{container}/json")
        return found

    def volumes(self) -> set[str]:
        return {each["Name"] for each in self.ask("GET", "/volumes")["Volumes"] or ()}

    def make(self, image: str, labels: dict[str, str], *command: str) -> str:
        """A container that runs; not of the library's making."""
        body = {
            "Image": image,
            "Cmd": list(command) or ["sleep", "600"],
            "Labels": labels,
            "HostConfig": {"NetworkMode": "none", "Init": True},
        }
        made = self.ask("POST", "/containers/create", body)["Id"]
        self.ask("POST", f"/containers/{made}/start")
        return str(made)

    def remove(self, container: str) -> None:
        self.ask("DELETE", f"/containers/{container}?force=1&v=1")

    def image(self) -> str:
        """The name of an image with Python, which is made if need be."""
        command = subprocess.run([str(BUILD)], env={**os.environ, "DOCKER_HOST": self.url}, check=True, capture_output=True, text=True)
        return command.stdout.strip()


class OwnEngine(Engine):
    """An engine of our own, with everything of it in one directory, which can be killed and started anew."""

    def __init__(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="graflow-docker-"))
        super().__init__(str(self.directory / "docker.sock"))
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        root = self.directory
        with (root / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [
                    "dockerd", f"--host={self.url}", f"--data-root={root / 'data'}", f"--exec-root={root / 'exec'}", f"--pidfile={root / 'pid'}",
                    "--bridge=none", "--iptables=false", "--ip6tables=false", "--ip-forward=false", "--ip-masq=false",
                ],
                stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        until = time.monotonic() + PATIENCE
        while not self.answers():
            if self.process.poll() is not None or time.monotonic() > until:
                raise RuntimeError("dockerd does not start: " + (root / "log").read_text()[-2000:])
            time.sleep(0.05)

    def kill(self) -> None:
        """End it at once, as a crash would. What it started goes on, until it is started again."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()
        (self.directory / "pid").unlink(missing_ok=True)

    def stop(self) -> None:
        """End it, with its containers, and remove what it had."""
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        for line in reversed(Path("/proc/mounts").read_text().splitlines()):
            if (place := line.split()[1]).startswith(str(self.directory)):
                subprocess.run(["umount", "-l", place], check=False, capture_output=True)
        shutil.rmtree(self.directory, ignore_errors=True)


def here() -> Engine | None:
    """The engine that this machine has, if it answers."""
    told = os.environ.get("DOCKER_HOST", "")
    for path in [told.removeprefix("unix://")] if told.startswith("unix://") else ["/var/run/docker.sock"]:
        engine = Engine(path)
        if engine.answers():
            return engine
    return None


def why_none_of_our_own() -> str | None:
    """Why no engine can be started here; None if one can."""
    if os.geteuid() != 0:
        return "no Docker engine answers, and only root can start one"
    if shutil.which("dockerd") is None:
        return "no Docker engine answers, and there is no dockerd on this machine"
    return None
