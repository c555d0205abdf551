"""Whose container it is: labels that are put on it, and read from it."""

from __future__ import annotations

import os
import re
import socket
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

if TYPE_CHECKING:
    from collections.abc import Mapping

HOST: Final = "graflow.host"
PLACE: Final = "graflow.place"
WORKER: Final = "graflow.worker"
TOKEN: Final = "graflow.token"
PROCESS: Final = "graflow.process"
RUN: Final = "graflow.run"
TASK: Final = "graflow.task"
ATTEMPT: Final = "graflow.attempt"

_NAME_LENGTH: Final = 100


@dataclass(frozen=True, slots=True)
class Process:
    """A process, told apart from a later one that was given the same number.

    Attributes:
        namespace: in which the number counts; processes of another one cannot be seen.
        started: when, in ticks since the machine began; empty where the system does not tell.
    """

    pid: int
    started: str
    namespace: str

    @classmethod
    def mine(cls) -> Process:
        """This process."""
        return cls(os.getpid(), _started(os.getpid()) or "", _namespace())

    @classmethod
    def read(cls, text: str) -> Process | None:
        """From a label; None where it is none of ours."""
        pid, _, rest = text.partition("/")
        started, _, namespace = rest.partition("/")
        return cls(int(pid), started, namespace) if pid.isdecimal() else None

    def __str__(self) -> str:
        return f"{self.pid}/{self.started}/{self.namespace}"

    def is_gone(self) -> bool:
        """Whether it has ended, for certain."""
        if self.namespace != _namespace():
            return False
        if self.started and (started := _started(self.pid)) is not None:
            return started != self.started
        with suppress(PermissionError):  # somebody else's, so it is there
            try:
                os.kill(self.pid, 0)
            except ProcessLookupError:
                return True
        return False


@dataclass(frozen=True, slots=True)
class Owner:
    """Who makes containers: a worker, of a place, in a process, on a host."""

    host: str
    place: str
    worker: str
    process: Process

    @classmethod
    def here(cls, place: str, worker: str) -> Owner:
        """A worker of this process."""
        return cls(socket.gethostname(), place, worker, Process.mine())

    def labels(self, token: str) -> dict[str, str]:
        """What goes on a container of this owner's."""
        return {HOST: self.host, PLACE: self.place, WORKER: self.worker, PROCESS: str(self.process), TOKEN: token}


@dataclass(frozen=True, slots=True)
class Purpose:
    """Which attempt a container is for."""

    run_id: str
    task_id: str
    attempt: int

    def labels(self) -> dict[str, str]:
        """What goes on a container that is made for it."""
        return {RUN: self.run_id, TASK: self.task_id, ATTEMPT: str(self.attempt)}

    def name(self, token: str) -> str:
        """What the container is called: the task for people, the token for there is one such name only."""
        readable = re.sub(r"[^A-Za-z0-9_.-]+", "-", f"{self.run_id}-{self.task_id}-{self.attempt}")
        return f"graflow-{readable[:_NAME_LENGTH]}-{token[:12]}"


def new_token() -> str:
    """What no other container has."""
    return uuid4().hex


def warm_name(token: str) -> str:
    """What a container is called whose task is not known yet."""
    return f"graflow-warm-{token[:12]}"


def labels_of(listed: Mapping[str, Any]) -> Mapping[str, str]:
    """The labels of a container as the engine lists it."""
    found: Mapping[str, str] | None = listed.get("Labels")
    return found or {}


def _started(pid: int) -> str | None:
    """When a process was started; None where there is none, or nobody says."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace")
    except OSError:
        return None
    return text.rpartition(")")[2].split()[19]  # the name in parentheses may hold anything, spaces and parentheses too


def _namespace() -> str:
    try:
        return str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        return ""
