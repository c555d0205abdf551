"""One container with our program in it, ready to run tasks."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from typing import TYPE_CHECKING, Any, Final

from graflow.errors import GraflowError, PythonVersionError
from graflow.handlers.conversation import Ended, too_much
from graflow.handlers.docker.deaths import cause_of_death
from graflow.handlers.docker.labels import Purpose

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from graflow.handlers.base import TaskCall
    from graflow.handlers.conversation import Conversation
    from graflow.handlers.docker.deaths import Kills
    from graflow.handlers.docker.engine import Engine
    from graflow.handlers.docker.link import DockerLink
    from graflow.handlers.docker.settings import DockerSettings
    from graflow.handlers.frames import Ready
    from graflow.wire.functions import Code

NAMED_AFTER: Final = 0.25
"""seconds after which a container that was warm is named after its task: a short one is gone before anybody could read it"""
LINGER: Final = 2.0
"""seconds for which the streams of a container that is being removed are read"""
LINE: Final = 8192
"""bytes of a line of standard error that are logged at once"""


class Box:
    """A container that is attached to, whose program has said that it is ready.

    Attributes:
        container: its id.
        mounts: the code that it was given.
        ready: what its program said of itself.
        flooded: whether it wrote more to its standard error than a call may.
    """

    def __init__(
        self,
        engine: Engine,
        settings: DockerSettings,
        container: str,
        token: str,
        link: DockerLink,
        conversation: Conversation,
        ready: Ready,
        mounts: Mapping[str, str],
        *,
        named: bool,
        kills: Kills,
    ) -> None:
        self.container = container
        self.mounts = mounts
        self.ready = ready
        self.flooded: bool = False
        self._engine = engine
        self._settings = settings
        self._token = token
        self._link = link
        self._conversation = conversation
        self._named = named
        self._kills = kills
        self._call: TaskCall | None = None
        self._naming: asyncio.Task[None] | None = None
        self._watch: asyncio.Task[None] | None = None
        self._errors = _Lines(self._print)
        link.heard = self._hear

    @property
    def settled(self) -> bool:
        """Whether its last call was answered, so that it could take another."""
        return self._conversation.settled

    def fits(self, mounts: Mapping[str, str]) -> bool:
        """Whether it has the code that a task needs."""
        return mounts.items() <= self.mounts.items()

    # ---- while it waits for work ----

    def doze(self, died: Callable[[Box], None]) -> None:
        """Watch over it while nobody uses it: ``died`` is called with it if it ends."""
        watch = asyncio.create_task(self._link.watch(), name=f"graflow-docker-watch-{self.container[:12]}")
        watch.add_done_callback(lambda watch: None if watch.cancelled() or self._watch is not watch else died(self))
        self._watch = watch

    async def wake(self) -> bool:
        """Whether it is still there, for a call."""
        watch, self._watch = self._watch, None
        if watch is None:
            return True
        watch.cancel()
        await asyncio.wait((watch,))  # two cannot read the same stream at once
        return watch.cancelled()

    # ---- work ----

    async def run(self, call: TaskCall, code: Code) -> Any:
        """Run one attempt.

        Raises:
            PythonVersionError: the code is a pickle, and Python another one there.
            HandlerError: the container ended, or is to be ended: see ``settled``.
            BaseException: whatever the task raised.
        """
        self._check_version(call, code)
        self._call, self.flooded = call, False
        if self._settings.isolation == "worker":
            self._link.forget(until=self._conversation.calls + 1)
        self._errors.count = 0
        kills = await self._kills.recent()
        if not self._named:
            self._naming = asyncio.create_task(self._name(call), name=f"graflow-docker-name-{self.container[:12]}")
        try:
            return await self._conversation.run(call, code)
        except Ended:
            if self.flooded:
                raise too_much(call.task_id, self._settings.output_limit) from None
            words = self._link.last_words
            raise await cause_of_death(  # noqa: B904
                self._engine, self._settings, self.container, words, kills=self._kills, before=kills, task_id=call.task_id
            )
        finally:
            if self._naming is not None:
                self._naming.cancel()

    async def close(self) -> None:
        """Let go of its streams. The container itself is being removed by others, which ends them.

        What C code has printed comes by a way of its own, and may be here later than the answer: it is still read, and logged.
        """
        pending = [task for task in (self._watch, self._naming) if task is not None]
        for task in pending:
            task.cancel()
        if pending:
            await asyncio.wait(pending)
        if not self.flooded:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LINGER):
                    await self._link.drain()
        self._errors.finish()
        await self._link.close()

    def _check_version(self, call: TaskCall, code: Code) -> None:
        here, there = sys.version_info[:2], self.ready.python[:2]
        if code.pickled is None or here == tuple(there):
            return
        mine, its = (".".join(map(str, version)) for version in (here, there))
        text = (
            f"task {call.task_id!r} travels as a pickle, which Python {mine} wrote here, and the image {self._settings.image} "
            f"has Python {its}: use an image of Python {mine}, or define the function with def at the top of a module"
        )
        raise PythonVersionError(text, task_id=call.task_id, here=mine, there=its)

    async def _name(self, call: TaskCall) -> None:
        """A name that tells the task, for whoever looks at the engine. Its labels cannot be changed any more."""
        await asyncio.sleep(NAMED_AFTER)
        name = Purpose(call.run_id, call.task_id, call.attempt).name(self._token)
        with contextlib.suppress(GraflowError):
            await self._engine.rename(self.container, name)

    def _hear(self, data: bytes) -> None:
        self._errors.add(data)
        if self._errors.count > self._settings.output_limit:
            self.flooded = True
            self._link.stop()

    def _print(self, line: str) -> None:
        self._conversation.printed(self._call, "stderr", line)


class _Lines:
    """Bytes, put together to lines."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self.count = 0
        self._tell = tell
        self._rest = b""

    def add(self, data: bytes) -> None:
        self.count += len(data)
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._tell(line.decode("utf-8", "replace"))
        if len(self._rest) > LINE:
            self.finish()

    def finish(self) -> None:
        if self._rest:
            self._tell(self._rest.decode("utf-8", "replace"))
            self._rest = b""
