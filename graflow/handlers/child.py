"""A child process: started, talked to, ended, and asked what it died of."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any, Final, Self

from graflow.errors import ChildDiedError, HandlerError, OutOfMemoryError
from graflow.handlers.begun import BegunCalls
from graflow.handlers.conversation import Conversation, Ended
from graflow.handlers.failures import RemoteTraceback
from graflow.handlers.memory import out_of_memory_kills
from graflow.handlers.shipping import BOOT

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from graflow.handlers.base import TaskCall
    from graflow.wire.functions import Code
    from graflow.wire.keys import Signer

logger: logging.Logger = logging.getLogger("graflow.handlers.process")

CHUNK: Final = 1 << 16
LAST_WORDS: Final = 2000
"""characters of what a dead child wrote to its standard error that its error shows"""
LINGER: Final = 0.5
"""seconds for which the standard error of a dead child is read: something that it has started may hold it open"""


class Pipes:
    """The two pipes of the protocol."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._writer = process.stdin
        self._reader = process.stdout

    async def send(self, data: bytes) -> None:
        """Write, and wait while the child is slow to read."""
        self._writer.write(data)
        await self._writer.drain()

    async def receive(self) -> bytes:
        """What has arrived; empty at the end."""
        return await self._reader.read(CHUNK)


class Child:
    """One child process, in a session of its own, so that it can be ended with whatever it has started."""

    def __init__(self, process: asyncio.subprocess.Process, output_limit: int, kills: int, begun: BegunCalls) -> None:
        self._process = process
        self._begun = begun
        self._conversation = Conversation(Pipes(process), where="in a child process", output_limit=output_limit, trusted=True)
        self._errors = asyncio.create_task(self._read_errors(), name=f"graflow-child-{process.pid}")
        self._kills = kills
        self._last_words = ""
        self._call: TaskCall | None = None
        self.calls: int = 0
        """calls that it has run"""
        self.answered: bool = False
        """whether its last call came to its end, with whatever outcome"""

    @classmethod
    async def spawn(cls, environment: Mapping[str, str], *, output_limit: int, patience: float, signer: Signer | None) -> Self:
        """A child that is ready.

        Raises:
            HandlerError: it could not be started, or is not ready after ``patience`` seconds.
            ChildDiedError: it ended before it was ready.
        """
        command: list[str] = [sys.executable, *_interpreter_flags(), "-c", BOOT]
        kills = await asyncio.to_thread(out_of_memory_kills)
        try:
            begun = BegunCalls()
            process = await _start(command, {**os.environ, **environment}, begun)
        except OSError as error:
            raise HandlerError(f"no child process could be started: {error}; are there too many processes or open files?") from error
        child = cls(process, output_limit, kills, begun)
        try:
            async with asyncio.timeout(patience):
                await child._conversation.begin(
                    path=sys.path, keep_path=False, with_parent=os.getpid(), begun=begun.descriptor, signer=signer
                )
        except Ended:
            raise await child.death("")  # noqa: B904
        except TimeoutError:
            await child.end()
            raise HandlerError(
                f"a child process was not ready after {patience:g} s; is the machine overloaded? start_timeout= sets the time"
            ) from None
        except BaseException:
            await child.end()
            raise
        return child

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def lives(self) -> bool:
        """Whether it has not ended."""
        return self._process.returncode is None

    @property
    def has_begun(self) -> bool:
        """Whether the task's code may have run in the last call."""
        return self._begun.includes(self._conversation.calls)

    @property
    def memory(self) -> int:
        """Bytes that it took after its last call, where that was asked for."""
        return self._conversation.memory

    async def run(self, call: TaskCall, code: Code, *, measure: bool) -> Any:
        """Run one attempt. Raises what :meth:`Conversation.run` raises."""
        self.calls += 1
        self._call = call
        self._last_words = ""  # what an earlier task has written is nobody else's to see
        self.answered = False
        try:
            value = await self._conversation.run(call, code, measure=measure)
        finally:
            self._call = None
            self.answered = self._conversation.settled
        return value

    async def death(self, task_id: str) -> HandlerError:
        """What it died of, caused by what it wrote to its standard error last. Ends it where it has only closed its pipes."""
        error = await self._cause_of_death(task_id)
        if self._last_words.strip():
            error.__cause__ = RemoteTraceback(self._last_words)
        return error

    async def _cause_of_death(self, task_id: str) -> HandlerError:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LINGER):
                await self._process.wait()
        deliberate = self.lives
        await self.end()
        kills = await asyncio.to_thread(out_of_memory_kills)
        code = self._process.returncode
        whose = f"of task {task_id!r} " if task_id else ""
        if deliberate or code is None:
            return ChildDiedError(f"the child process {whose}closed its pipes without an answer", task_id=task_id, exit_code=code)
        if code >= 0:
            text = f"the child process {whose}ended with exit code {code} before it answered: does it call os._exit()?"
            return ChildDiedError(text, task_id=task_id, exit_code=code)
        name = signal.Signals(-code).name
        if -code == signal.SIGKILL and kills > self._kills:
            text = (
                f"the child process {whose}was killed as the memory ran out: let it work on less at once, or give the machine more memory"
            )
            return OutOfMemoryError(text, task_id=task_id)
        why = "did something else kill it?" if -code in (signal.SIGKILL, signal.SIGTERM) else "did C code crash?"
        return ChildDiedError(f"the child process {whose}was ended by the signal {name}: {why}", task_id=task_id, signal=name)

    async def end(self) -> None:
        """Kill it, with what it has started, and wait until it is gone. Being cancelled does not keep it from that."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        await asyncio.shield(asyncio.ensure_future(self._bury()))

    async def _bury(self) -> None:
        await self._process.wait()
        self._begun.close()
        await asyncio.wait((self._errors,), timeout=LINGER)
        self._errors.cancel()
        await asyncio.wait((self._errors,))
        assert self._process.stdin is not None
        self._process.stdin.close()
        with contextlib.suppress(OSError):
            await self._process.stdin.wait_closed()
        self._process._transport.close()  # type: ignore[attr-defined]  # pyright: ignore - the pipes of a process are closed in no other way

    async def _read_errors(self) -> None:
        """What C code and child processes print, and what the interpreter says when it crashes."""
        assert self._process.stderr is not None
        rest = ""
        while data := await self._process.stderr.read(CHUNK):
            text = data.decode("utf-8", "replace")
            self._last_words = (self._last_words + text)[-LAST_WORDS:]
            *lines, rest = (rest + text).split("\n")
            for line in lines:
                self._conversation.printed(self._call, "stderr", line)
        if rest:
            self._conversation.printed(self._call, "stderr", rest)


async def _start(command: Sequence[str], environment: Mapping[str, str], begun: BegunCalls) -> asyncio.subprocess.Process:
    pipe = asyncio.subprocess.PIPE
    try:
        return await asyncio.create_subprocess_exec(
            *command, stdin=pipe, stdout=pipe, stderr=pipe, env=environment, start_new_session=True, pass_fds=begun.inherited
        )
    except BaseException:
        begun.close()
        raise
    finally:
        begun.hand_over()


def _interpreter_flags() -> list[str]:
    """How this interpreter was started: warnings, isolation, optimisation. What multiprocessing hands on to its children too."""
    flags: Any = getattr(subprocess, "_args_from_interpreter_flags", list)
    return list(flags())
