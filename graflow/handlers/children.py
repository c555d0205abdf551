"""The pool of child processes: warm, used again, replaced when they are worn."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING, Any

from graflow.handlers.child import Child
from graflow.handlers.conversation import Ended

if TYPE_CHECKING:
    from collections.abc import Mapping

    from graflow.handlers.base import TaskCall
    from graflow.wire.functions import Code
    from graflow.wire.keys import Signer

logger: logging.Logger = logging.getLogger("graflow.handlers.process")


class Children:
    """Child processes, as many as calls run at once.

    Args:
        environment: variables for them, besides those of this process.
        output_limit: bytes that one call may print, put into the channel and return.
        patience: seconds that one is given to start.
        most_calls: calls after which one is replaced, None for any number.
        most_memory: bytes beyond which one is replaced, None for any number.
        signer: the keys that they are handed.
    """

    def __init__(
        self,
        environment: Mapping[str, str],
        *,
        output_limit: int,
        patience: float,
        most_calls: int | None,
        most_memory: int | None,
        signer: Signer | None,
    ) -> None:
        self._environment = environment
        self._output_limit = output_limit
        self._patience = patience
        self._most_calls = most_calls
        self._most_memory = most_memory
        self._signer = signer
        self._idle: list[Child] = []
        self._all: set[Child] = set()
        self._warming: set[asyncio.Task[None]] = set()
        self._closed = False

    @property
    def pids(self) -> tuple[int, ...]:
        """The process ids of all there are now."""
        return tuple(child.pid for child in self._all)

    def warm(self, number: int) -> None:
        """Begin to start some ahead of their use."""
        for _ in range(number):
            warming = asyncio.create_task(self._warm(), name="graflow-process-warm")
            self._warming.add(warming)
            warming.add_done_callback(self._warmed)

    async def close(self) -> None:
        """End them all."""
        self._closed = True
        for warming in self._warming:
            warming.cancel()
        if self._warming:
            await asyncio.wait(self._warming)
        await asyncio.gather(*(self._end(child) for child in list(self._all)))

    async def run(self, call: TaskCall, code: Code) -> Any:
        """Run one attempt in one of them. Raises what the task raised, or how the child died."""
        while True:
            was_idle = bool(self._idle)
            child = await self._take()
            try:
                return await child.run(call, code, measure=self._most_memory is not None)
            except Ended:
                if child.has_begun or not was_idle or self._closed:
                    raise await child.death(call.task_id)  # noqa: B904 - it has a cause of its own: what the child wrote last
            finally:
                await self._put_back(child) if child.answered else await self._end(child)
            # Killed while it was idle, for the memory that it held maybe, so shortly ago that nobody had noticed: the task did not run at all.
            logger.warning("child %s had ended while it waited for a task; another one takes it", child.pid, extra={"pid": child.pid})

    async def _take(self) -> Child:
        while self._idle:
            child = self._idle.pop()  # the one used last: its memory is warm, and the others may be let go
            if child.lives:
                return child
            await self._end(child)
        return await self._new()

    async def _new(self) -> Child:
        child = await Child.spawn(self._environment, output_limit=self._output_limit, patience=self._patience, signer=self._signer)
        self._all.add(child)
        return child

    async def _warm(self) -> None:
        self._idle.append(await self._new())

    def _warmed(self, warming: asyncio.Task[None]) -> None:
        self._warming.discard(warming)
        error = None if warming.cancelled() else warming.exception()
        if error is not None:  # the first call that needs a child will say so to whoever waits for it
            logger.warning("no child process could be started ahead: %s", error)

    async def _put_back(self, child: Child) -> None:
        reason = self._wear(child)
        if reason is None:
            self._idle.append(child)
            return
        logger.debug("child %s is replaced: %s", child.pid, reason, extra={"pid": child.pid})
        await self._end(child)

    def _wear(self, child: Child) -> str | None:
        """Why it is not used again."""
        if self._closed:
            return "its worker has ended"
        if self._most_calls is not None and child.calls >= self._most_calls:
            return f"it has run {child.calls} calls"
        if self._most_memory is not None and child.memory > self._most_memory:
            return f"it takes {child.memory:,} bytes"
        return None

    async def _end(self, child: Child) -> None:
        self._all.discard(child)
        with contextlib.suppress(ValueError):
            self._idle.remove(child)
        await child.end()
