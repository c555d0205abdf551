"""Docker's HTTP API by the standard library: what there is on an engine is seen without the library under test."""

from __future__ import annotations

import http.client
import json
import socket
from typing import Any

DEFAULT = "/var/run/docker.sock"
PATIENCE = 120
"""Seconds that a request may take."""


class Refused(Exception):
    """The engine said no."""


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=PATIENCE)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(PATIENCE)
        self.sock.connect(self._path)


def socket_of(host: str | None) -> str:
    """The path in a ``DOCKER_HOST``."""
    return host.removeprefix("unix://") if host and host.startswith("unix://") else DEFAULT


class Api:
    """An engine at a unix socket. Its methods block: they are for threads, and for fixtures without an event loop."""

    def __init__(self, path: str) -> None:
        self.path = path

    @property
    def url(self) -> str:
        return f"unix://{self.path}"

    def ask(self, method: str, path: str, body: Any = None, *, kind: str = "application/json") -> Any:
        """The answer: decoded, where it is one JSON value."""
        connection = _Connection(self.path)
        try:
            data = body if body is None or isinstance(body, bytes) else json.dumps(body)
            connection.request(method, path, data, {"Content-Type": kind})
            answer = connection.getresponse()
            content = answer.read()
            if answer.status >= 400:
                raise Refused(f"{method} {path}: {answer.status} {content.decode()}")
            return json.loads(content) if content[:1] in (b"{", b"[") and content.count(b"\n") < 2 else content
        finally:
            connection.close()

    def has(self, path: str) -> bool:
        try:
            self.ask("GET", path)
        except Refused:
            return False
        return True

    def answers(self) -> bool:
        try:
            return bool(self.ask("GET", "/_ping") == b"OK")
        except OSError:
            return False
