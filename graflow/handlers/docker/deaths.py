"""Why a container has ended, which only the engine knows, and only until the container is removed."""

from __future__ import annotations

import asyncio
import signal
import time
from typing import TYPE_CHECKING, Final

from graflow.errors import (
    ChildDiedError,
    ConfigurationError,
    ContainerEngineError,
    ContainerLostError,
    GraflowError,
    HandlerError,
    OutOfMemoryError,
)
from graflow.handlers.failures import RemoteTraceback
from graflow.handlers.memory import out_of_memory_kills

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from graflow.handlers.docker.engine import Engine
    from graflow.handlers.docker.settings import DockerSettings

LINGER: Final = 5.0
"""seconds that a container whose streams have ended is given to end itself"""
FRESH: Final = 1.0
"""seconds for which it is taken for granted that the kernel has killed nothing else"""
NO_SUCH_PROGRAM: Final = 127
NOT_A_PROGRAM: Final = 126
BY_SIGNAL: Final = 128
KILLED: Final = BY_SIGNAL + signal.SIGKILL


class Kills:
    """How many processes this machine's kernel has killed as memory ran out, as far as it was looked at.

    The engine hears of it from the container's control group, which may be gone before it is read: then it says of a container that was
    killed for its memory that it was killed, and no more. The kernel counts each one.

    Args:
        local: whether the containers are on this machine. Elsewhere nothing is counted.
    """

    def __init__(self, *, local: bool) -> None:
        self._local = local
        self._seen = 0
        self._looked = -FRESH

    async def look(self) -> int:
        """How many there are by now."""
        if self._local:
            began = time.monotonic()
            self._seen = max(self._seen, await asyncio.to_thread(out_of_memory_kills))
            self._looked = began
        return self._seen

    async def recent(self) -> int:
        """How many there were a moment ago: what a call costs nothing to ask that is one of many."""
        return await self.look() if time.monotonic() - self._looked >= FRESH else self._seen


async def cause_of_death(
    engine: Engine, settings: DockerSettings, container: str, last_words: bytes, *, kills: Kills, before: int, task_id: str = ""
) -> GraflowError:
    """The error for a container whose streams have ended before its answer, caused by what it wrote to its standard error last.

    Args:
        kills: how many the kernel has killed.
        before: how many those were when the container began what it died of.
    """
    try:
        state = await engine.ended(container, LINGER)
    except ContainerLostError as error:
        found: GraflowError = _lost(container, task_id, "it was removed, by somebody else or as the engine was started anew")
        found.__cause__ = error
        return found
    except (ContainerEngineError, ConfigurationError) as error:
        found = _lost(container, task_id, f"the Docker engine at {engine.host} went away")
        found.__cause__ = error
        return found
    grown = await kills.look() > before
    if state is not None and state["ExitCode"] == KILLED and grown:
        state = {**state, "OOMKilled": True}
    words = last_words.decode("utf-8", "replace").strip()
    found = _verdict(state, settings, container, task_id) if task_id else _stillbirth(state, settings, container, words)
    if words:
        found.__cause__ = RemoteTraceback(words)
    return found


def _verdict(state: Mapping[str, Any] | None, settings: DockerSettings, container: str, task_id: str) -> GraflowError:
    if state is None:
        return _lost(container, task_id, "the connection to it broke while it was running")
    whose = _whose(container, task_id)
    code = int(state["ExitCode"])
    if state.get("OOMKilled"):
        limit = f"{settings.memory >> 20} MiB" if settings.memory % (1 << 20) == 0 else f"{settings.memory} bytes"
        text = f"{whose} took more than its {limit} of memory and was killed: let it work on less at once, or give it more with memory="
        return OutOfMemoryError(text, task_id=task_id, limit=settings.memory)
    name = _signal(code)
    if name is None:
        text = f"{whose} ended with exit code {code} before it answered: does the task call os._exit()?"
        return ChildDiedError(text, task_id=task_id, exit_code=code)
    why = "did something else kill it, or stop it?" if name in ("SIGKILL", "SIGTERM") else "did C code crash?"
    return ChildDiedError(f"{whose} was ended by the signal {name}: {why}", task_id=task_id, exit_code=code, signal=name)


def _stillbirth(state: Mapping[str, Any] | None, settings: DockerSettings, container: str, words: str) -> GraflowError:
    """The error for a container that has ended before any task: what keeps Python from starting in it is how it was set up."""
    code = 0 if state is None else int(state["ExitCode"])
    if code in (NO_SUCH_PROGRAM, NOT_A_PROGRAM):
        text = (
            f"the image {settings.image} has no {settings.python!r} that could be run; say where its Python is: DockerHandler(python=...)"
        )
        return ConfigurationError(text, setting="python")
    if state is None or state.get("OOMKilled") or _signal(code) is not None:
        return _verdict(state, settings, container, "")
    lines = [line.strip() for line in words.splitlines()]
    reason = next((line for line in reversed(lines) if "error" in line.lower()), lines[-1] if lines else "")
    said = f" ({reason})" if reason else ""
    text = (
        f"Python in a container of {settings.image} ended with exit code {code} before any task{said}: is it kept from starting by "
        "environment=, pids=, user=, workdir= or tmpfs=, or is what python= names no Python?"
    )
    return ChildDiedError(text, exit_code=code)


def _lost(container: str, task_id: str, how: str) -> HandlerError:
    text = f"{_whose(container, task_id)} was lost: {how}; what the task had done by then is unknown, so retry it only if that does no harm"
    return ContainerLostError(text, task_id=task_id, container=container)


def _whose(container: str, task_id: str) -> str:
    return f"the container {container[:12]}" + (f" of task {task_id!r}" if task_id else "")


def _signal(code: int) -> str | None:
    """Docker tells the end by a signal as 128 and its number."""
    try:
        return signal.Signals(code - BY_SIGNAL).name if code > BY_SIGNAL else None
    except ValueError:
        return None
