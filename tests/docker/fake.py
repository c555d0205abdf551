"""A small engine that speaks Docker's HTTP API on a unix socket, and fails when it is told to.

Its containers are processes of this machine. It is for what a real engine cannot be made to do; what goes well is tested on a real one.
"""

from __future__ import annotations

import asyncio
import json
import struct
import sys
from collections import defaultdict, deque
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

HANG = "hang"
DROP = "drop"
Fault = tuple[int, str] | str
"""A status and a message, or HANG: never answer, or DROP: close the connection instead."""


@dataclass
class Container:
    id: str
    name: str
    config: dict[str, Any]
    started: asyncio.Event = field(default_factory=asyncio.Event)
    process: asyncio.subprocess.Process | None = None
    attached: asyncio.StreamWriter | None = None
    pumps: list[asyncio.Task[None]] = field(default_factory=list)
    oom: bool = False


class FakeEngine:
    """An engine whose next answers can be replaced by faults."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.containers: dict[str, Container] = {}
        self.asked: list[str] = []
        self.images = {"fake:1"}
        self.registry: set[str] = set()
        self._faults: defaultdict[str, deque[Fault]] = defaultdict(deque)
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        return f"unix://{self.path}"

    def fail(self, operation: str, *faults: Fault) -> None:
        """What the operation (version, image, create, attach, start, wait, show, rename, delete, list) answers next."""
        self._faults[operation].extend(faults)

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.close()
        for container in list(self.containers.values()):
            await self._end(container)

    async def open(self) -> None:
        await asyncio.to_thread(Path(self.path).unlink, missing_ok=True)
        self._server = await asyncio.start_unix_server(self._begin, self.path)

    async def close(self) -> None:
        """Stop answering, and cut all connections, as an engine does that crashes. Containers go on."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for connection in list(self._connections):
            connection.cancel()
        if self._connections:
            await asyncio.wait(self._connections)

    def cut(self) -> None:
        """Cut what is attached, as a network does; the containers go on."""
        for container in self.containers.values():
            if container.attached is not None:
                container.attached.close()

    # ---- HTTP ----

    async def _begin(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = asyncio.current_task()
        assert connection is not None
        self._connections.add(connection)
        try:
            while await self._serve(reader, writer):
                pass
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        except asyncio.CancelledError:
            return
        finally:
            self._connections.discard(connection)
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        method, target, _ = head[0].split(" ")
        headers = {name.lower(): value for line in head[1:] if line for name, _, value in [line.partition(": ")]}
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        url = urlsplit(target)
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        parts = [part for part in url.path.split("/") if part and not part.startswith("v1.")]
        operation = self._operation(method, parts)
        self.asked.append(operation)
        fault = self._faults[operation].popleft() if self._faults[operation] else None
        if fault == HANG:
            await asyncio.Event().wait()
        if fault == DROP:
            return False
        if isinstance(fault, tuple):
            self._answer(writer, fault[0], {"message": fault[1]})
            return True
        container = self.containers.get(parts[1]) if len(parts) > 1 and parts[0] == "containers" else None
        if operation == "attach":
            if container is None:
                self._answer(writer, 404, {"message": f"No such container: {parts[1]}"})
                return True
            await self._attach(container, reader, writer)
            return False
        status, answer = await self._do(operation, parts, query, body, container)
        self._answer(writer, status, answer)
        return True

    def _operation(self, method: str, parts: list[str]) -> str:
        match parts:
            case ["version"]:
                return "version"
            case ["images", "create"]:
                return "pull"
            case ["images", *_]:
                return "image"
            case ["containers", "json"]:
                return "list"
            case ["containers", "create"]:
                return "create"
            case ["containers", _, "json"]:
                return "show"
            case ["containers", _, what]:
                return what
            case ["containers", _] if method == "DELETE":
                return "delete"
            case _:
                raise AssertionError(f"{method} {parts}")

    def _answer(self, writer: asyncio.StreamWriter, status: int, body: Any) -> None:
        data = b"" if body is None else json.dumps(body).encode()
        writer.write(f"HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n".encode() + data)

    async def _do(
        self, operation: str, parts: list[str], query: dict[str, str], body: bytes, container: Container | None
    ) -> tuple[int, Any]:
        if operation == "version":
            return 200, {"ApiVersion": "1.41", "Version": "0-fake"}
        if operation == "pull" and (name := query["fromImage"]) in self.registry:
            self.images.add(name)
            return 200, {"status": f"Downloaded {name}"}
        if operation in ("image", "pull"):
            name = "/".join(parts[1:-1])
            return (200, {"Id": name}) if name in self.images else (404, {"message": f"No such image: {name}"})
        if operation == "list":
            wanted = [label.partition("=") for label in json.loads(query["filters"])["label"]]
            return 200, [self._listed(each) for each in self.containers.values() if _has(each.config["Labels"], wanted)]
        if operation == "create":
            if (name := json.loads(body)["Image"]) not in self.images:
                return 404, {"message": f"No such image: {name}"}
            made = Container(f"{len(self.asked):064x}", query["name"], json.loads(body))
            self.containers[made.id] = made
            return 201, {"Id": made.id}
        if container is None:
            container = next((each for each in self.containers.values() if each.name == parts[1]), None)
        if container is None:
            return 404, {"message": f"No such container: {parts[1]}"}
        return await getattr(self, f"_{operation}")(container, query)

    def _listed(self, container: Container) -> dict[str, Any]:
        return {"Id": container.id, "Names": [f"/{container.name}"], "Labels": container.config["Labels"], "State": "running"}

    # ---- containers ----

    async def _attach(self, container: Container, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n")
        container.attached = writer
        while data := await reader.read(1 << 16):
            await container.started.wait()
            assert container.process is not None
            assert container.process.stdin is not None
            container.process.stdin.write(data)
        if container.process is not None and container.process.stdin is not None:
            container.process.stdin.close()

    async def _start(self, container: Container, query: dict[str, str]) -> tuple[int, Any]:
        program = container.config["Entrypoint"][-1]
        pipe = asyncio.subprocess.PIPE
        container.process = await asyncio.create_subprocess_exec(sys.executable, "-c", program, stdin=pipe, stdout=pipe, stderr=pipe)
        container.started.set()
        streams = ((1, container.process.stdout), (2, container.process.stderr))
        container.pumps = [asyncio.create_task(self._pump(container, number, stream)) for number, stream in streams]
        container.pumps.append(asyncio.create_task(self._finish(container, container.pumps[:])))
        return 204, None

    async def _pump(self, container: Container, number: int, stream: asyncio.StreamReader | None) -> None:
        assert stream is not None
        while data := await stream.read(1 << 16):
            if container.attached is not None and not container.attached.is_closing():
                container.attached.write(struct.pack(">BxxxL", number, len(data)) + data)

    async def _finish(self, container: Container, pumps: list[asyncio.Task[None]]) -> None:
        await asyncio.wait(pumps)
        if container.attached is not None:
            container.attached.close()

    async def _wait(self, container: Container, query: dict[str, str]) -> tuple[int, Any]:
        assert container.process is not None
        return 200, {"StatusCode": _docker_code(await container.process.wait())}

    async def _show(self, container: Container, query: dict[str, str]) -> tuple[int, Any]:
        code = container.process.returncode if container.process is not None else None
        state = {"OOMKilled": container.oom, "ExitCode": _docker_code(code or 0), "Running": code is None}
        return 200, {"Id": container.id, "Config": {"Tty": False}, "State": state}

    async def _rename(self, container: Container, query: dict[str, str]) -> tuple[int, Any]:
        container.name = query["name"]
        return 204, None

    async def _delete(self, container: Container, query: dict[str, str]) -> tuple[int, Any]:
        await self._end(container)
        return 204, None

    async def _end(self, container: Container) -> None:
        self.containers.pop(container.id, None)
        if container.process is not None:
            if container.process.returncode is None:
                container.process.kill()
            await container.process.wait()
            await asyncio.wait(container.pumps)
            container.process._transport.close()  # type: ignore[attr-defined]  # its pipes are closed in no other way


def _has(labels: dict[str, str], wanted: list[tuple[str, str, str]]) -> bool:
    return all(name in labels and (not equals or labels[name] == value) for name, equals, value in wanted)


def _docker_code(code: int) -> int:
    return code if code >= 0 else 128 - code
