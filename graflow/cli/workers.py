"""Worker processes for one command: started, waited for, replaced when they crash, and ended with it."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Final, NoReturn, cast
from uuid import uuid4

import msgspec

from graflow.cli import children
from graflow.cli.failures import CommandError, one_line
from graflow.core.graph import TaskGraph
from graflow.core.node import Node, is_group
from graflow.core.task import Task
from graflow.core.workflow import Workflow
from graflow.draw.picture import graph_of
from graflow.worker.assembly import BY_DEFAULT

PROGRAM: Final = "from graflow.worker.main import main; main()"
COMPLAINT: Final = "graflow-aworker: "
READY: Final = 30.0
"""seconds that a worker has to be ready"""
LOOK_EVERY: Final = 0.05
GRACE: Final = 10.0
"""seconds that a worker has to end: what it runs by then is of no use to anybody"""
MOST_REPLACED: Final = 10


class Orders(msgspec.Struct, frozen=True):
    """What workers are told.

    Attributes:
        number: how many there are to be.
        url: the server.
        namespace: of the runs on it.
        apps: modules that they import.
        folders: where they find those.
        queues: what they serve.
        concurrency: tasks at once, for each; None for their default.
        docker_image: where their tasks in containers run; None for their default.
        serve_docker: whether they serve such tasks, too, as a process without workers would.
        log_level: what they say.
    """

    number: int
    url: str
    namespace: str
    apps: tuple[str, ...]
    folders: tuple[Path, ...] = ()
    queues: tuple[str, ...] = ("default",)
    concurrency: int | None = None
    docker_image: str | None = None
    serve_docker: bool = False
    log_level: str = "WARNING"


@contextmanager
def local_workers(orders: Orders) -> Generator[LocalWorkers]:
    """Workers, which end when this is left. What they print is printed."""
    workers = LocalWorkers(orders)
    try:
        for _ in range(orders.number):
            workers.add()
        yield workers
    finally:
        workers.end()


class LocalWorkers:
    """Worker processes of this command."""

    def __init__(self, orders: Orders) -> None:
        self._orders = orders
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._pumps: list[threading.Thread] = []
        self._complaints: deque[str] = deque(maxlen=1)
        self._replaced = 0
        self._ours, self._theirs = socket.socketpair()
        """their lifeline: its end is ours, also when this command is killed and can tell nobody anything"""

    def add(self) -> None:
        """Start one more."""
        orders = self._orders
        name = f"local-{uuid4().hex[:12]}"
        command = [sys.executable, "-c", PROGRAM, "--worker-id", name, "--queues", ",".join(orders.queues), "--log-level", orders.log_level]
        command += ["--grace", "0"] + [word for app in orders.apps for word in ("--app", app)]
        if orders.concurrency is not None:
            command += ["--concurrency", str(orders.concurrency)]
        if orders.serve_docker:
            command += ["--handlers", ",".join((*BY_DEFAULT, "docker"))]
        if orders.docker_image is not None:
            command += ["--docker-image", orders.docker_image]
        kept = [] if sys.platform == "win32" else [self._theirs.fileno()]  # which hands none on
        command += [word for each in kept for word in ("--lifeline", str(each))]
        with children.held():
            process = children.start(command, environment=self._environment(), output=subprocess.PIPE, kept=kept)
            self._running[name] = process
        for source, is_error in ((process.stdout, False), (process.stderr, True)):
            pump = threading.Thread(target=self._pump, args=(source, is_error), name=f"graflow-output-{name}", daemon=True)
            self._pumps.append(pump)
            pump.start()

    def _environment(self) -> dict[str, str]:
        """The URL may hold a password, which the list of processes should not show."""
        orders = self._orders
        path = [*map(str, orders.folders), *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
        mine = {"GRAFLOW_REDIS_URL": orders.url, "REDIS_KEY_PREFIX": orders.namespace, "PYTHONPATH": os.pathsep.join(path)}
        kept = {name: value for name, value in os.environ.items() if name not in ("HANDLER_TYPE", "MAX_CONCURRENT_TASKS")}
        return {**kept, **mine, "PYTHONUNBUFFERED": "1"}

    def _pump(self, source: IO[bytes], is_error: bool) -> None:
        """Pass on what a worker prints: line by line, lest those of several get mixed up."""
        with source:
            for data in source:
                line = data.decode("utf-8", "backslashreplace")
                if is_error and line.startswith(COMPLAINT):
                    self._complaints.append(line.removeprefix(COMPLAINT))
                    continue
                out = sys.stderr if is_error else sys.stdout
                try:
                    out.write(line)
                    out.flush()
                except (OSError, ValueError):  # whoever read it has gone, or it is closed
                    continue

    # ---- while the command runs ----

    async def ready(self, backend: Any) -> None:
        """Until all of them take work. ``backend`` is the Redis backend, open.

        Raises:
            CommandError: one has ended instead, or takes too long.
        """
        from graflow.backends.redis.roster import workers  # imported when it is needed: the client is an extra

        until = time.monotonic() + READY
        while not self._running.keys() <= {str(each["name"]) for each in await workers(backend.client)}:
            for process in self._running.values():
                if process.poll() is not None:
                    raise CommandError(f"a worker did not start: {await asyncio.to_thread(self._why, process)}")
            if time.monotonic() > until:
                raise CommandError(f"the workers are not ready after {READY:g} s; is the machine overloaded?")
            await asyncio.sleep(LOOK_EVERY)

    async def watch(self) -> NoReturn:
        """Put another worker in the place of one that ends: a task may have ended its process.

        Raises:
            CommandError: it happens again and again.
        """
        while True:
            await asyncio.sleep(4 * LOOK_EVERY)
            for name, process in list(self._running.items()):
                if process.poll() is None:
                    continue
                del self._running[name]
                self._replaced += 1
                why = await asyncio.to_thread(self._why, process)
                if self._replaced > MOST_REPLACED:
                    raise CommandError(f"{self._replaced} workers have ended, the last one with: {why}")
                sys.stderr.write(f"graflow: a worker ended ({why}); another takes its place\n")
                await asyncio.to_thread(self.add)

    def _why(self, process: subprocess.Popen[bytes]) -> str:
        for pump in self._pumps:
            pump.join(0.2)  # its last words may be on their way
        if self._complaints:
            return one_line(self._complaints[-1])
        code = cast("int", process.returncode)
        return f"exit code {code}" if code >= 0 else f"signal {signal.Signals(-code).name}"

    def end(self) -> None:
        """End all of them."""
        children.end(list(self._running.values()), GRACE)
        for pump in self._pumps:
            pump.join(1.0)
        self._ours.close()
        self._theirs.close()


def queues_of(graph: TaskGraph | Workflow[Any] | Node[Any]) -> tuple[str, ...]:
    """The queues that the tasks of a graph are sent to, and the default one."""
    return tuple(dict.fromkeys(["default", *(task.options.queue for task in _tasks_of(graph))]))


def handlers_of(graph: TaskGraph | Workflow[Any] | Node[Any]) -> frozenset[str]:
    """The handlers that the tasks of a graph are for."""
    return frozenset(task.handler_kind for task in _tasks_of(graph))


def _tasks_of(graph: TaskGraph | Workflow[Any] | Node[Any]) -> Iterator[Task[..., Any]]:
    for node in graph_of(graph).nodes.values():
        each = node.mapped.task if is_group(node) and node.mapped is not None else node
        if isinstance(each, Task):
            yield each
