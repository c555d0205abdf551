"""Docker engines for the tests: the one of this machine, or one of our own; and what is on them, seen without the library under test."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import subprocess
import tarfile
import tempfile
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from tests.docker.api import Api, socket_of
from tests.docker.build_image import provide

LABEL = "graflow.token"
PATIENCE = 60.0
"""Seconds that an engine has to begin."""


class Engine(Api):
    """An engine, and what is on it."""

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

    def image_from(self, image: str, name: str, files: dict[str, str], *changes: str) -> str:
        """Another image, with these files in it besides."""
        made = self.ask("POST", "/containers/create", {"Image": image, "Cmd": ["true"], "HostConfig": {"NetworkMode": "none"}})["Id"]
        try:
            self.ask("PUT", f"/containers/{made}/archive?path=/", _archive(files), kind="application/x-tar")
            repo, _, tag = name.partition(":")
            self.ask("POST", f"/commit?container={made}&repo={repo}&tag={tag}&" + urlencode({"changes": "\n".join(changes)}))
        finally:
            self.remove(made)
        return name

    def remove_image(self, name: str) -> None:
        self.ask("DELETE", f"/images/{name}?force=1")

    def image(self) -> str:
        """The name of an image with Python, which is made if need be."""
        return provide(self)


class OwnEngine(Engine):
    """An engine of our own, with everything of it in one directory, which can be killed and started anew.

    Its network is one of its own, too: an engine without a bridge would take away the bridge of the machine's engine.
    """

    def __init__(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="graflow-docker-"))
        super().__init__(str(self.directory / "docker.sock"))
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        root = self.directory
        with (root / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [
                    "unshare", "--net", "dockerd", f"--host={self.url}", f"--data-root={root / 'data'}", f"--exec-root={root / 'exec'}",
                    f"--pidfile={root / 'pid'}", "--bridge=none", "--iptables=false", "--ip6tables=false", "--ip-forward=false", "--ip-masq=false",
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
        # Where nobody reaps the orphans of a machine, its containerd, which dies with it, would be taken for one that still runs.
        for stale in ("pid", "exec/containerd/containerd.pid"):
            (self.directory / stale).unlink(missing_ok=True)

    def end(self) -> None:
        """Tell it to end, which ends its containers first, and wait until it has."""
        if self.process is None or self.process.poll() is not None:
            return
        self.process.terminate()
        try:
            self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def stop(self) -> None:
        """End it, and remove what it had. One that was killed is started again first: nobody else can end its containers."""
        if self.process is not None and self.process.returncode == -signal.SIGKILL:
            self.start()
        self.end()
        for line in reversed(Path("/proc/mounts").read_text().splitlines()):
            if (place := line.split()[1]).startswith(str(self.directory)):
                subprocess.run(["umount", "-l", place], check=False, capture_output=True)
        shutil.rmtree(self.directory, ignore_errors=True)


def _archive(files: dict[str, str]) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for name, text in files.items():
            entry = tarfile.TarInfo(name.lstrip("/"))
            entry.size = len(text.encode())
            archive.addfile(entry, io.BytesIO(text.encode()))
    return packed.getvalue()


def here() -> Engine | None:
    """The engine that this machine has, if it answers."""
    engine = Engine(socket_of(os.environ.get("DOCKER_HOST")))
    return engine if engine.answers() else None


def why_none_of_our_own() -> str | None:
    """Why no engine can be started here; None if one can."""
    if os.geteuid() != 0:
        return "only root can start a Docker engine"
    for program in ("dockerd", "unshare"):
        if shutil.which(program) is None:
            return f"there is no {program} on this machine"
    return None
