"""Functions in child processes: for work that would hold the GIL, and code that may crash."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sys
from typing import TYPE_CHECKING, Any, ClassVar, Final

from graflow.errors import ConfigurationError
from graflow.handlers.base import Handler
from graflow.handlers.child import Child
from graflow.handlers.conversation import Ended
from graflow.handlers.inside.functions import STAGE
from graflow.handlers.sizes import bytes_in, check_count, check_seconds
from graflow.wire.functions import code_for_child

if TYPE_CHECKING:
    from collections.abc import Mapping

    from graflow.handlers.base import TaskCall, WorkerInfo
    from graflow.wire.signing import Signer

logger: logging.Logger = logging.getLogger("graflow.handlers.process")

RECYCLED_AFTER: Final = 1000
"""calls after which a child is replaced unless told otherwise: what leaks, leaks for so long at most"""


class ProcessHandler(Handler):
    """Runs tasks in a warm pool of child processes, ``def`` and ``async def`` alike.

    Children are started by need, as fresh interpreters (never by fork, which would copy locks in whatever state they are), and are used
    again. On a timeout or a stop a child is killed, with whatever it has started, and replaced. What a task prints goes to the logger
    ``graflow.task.output``; its records go to the logger of their own name.

    A function gets there by its name, so it must be importable; one of the main program is found by running that again, as Python's
    ``multiprocessing`` does, so what it does when run stands under ``if __name__ == "__main__"``. ``ctx.resources`` is empty there.

    Args:
        processes: how many run at once; as many as the machine has processors by default.
        recycle_calls: a child is replaced after so many calls; None for never.
        recycle_memory: a child is replaced once it takes more than this after a call: bytes, or a text such as ``"512m"``; None for any.
        prewarm: children that are started ahead of their first use.
        environment: variables for the children, besides those of this process.
        start_timeout: seconds that a child is given to start.
        output_limit: what one call may print and return: bytes, or a text such as ``"16m"``.
        timeout: seconds for tasks that set no timeout of their own.

    Raises:
        ConfigurationError: one of them makes no sense.

    Example:
        >>> @task(handler="process")
        ... def render(page: str) -> bytes: ...
        >>> async with WorkflowEngine(handlers={"process": ProcessHandler(4, prewarm=4)}) as engine:
        ...     await engine.execute(render, inputs={"page": "index"})
    """

    sends_code: ClassVar[bool] = True

    def __init__(
        self,
        processes: int | None = None,
        *,
        recycle_calls: int | None = RECYCLED_AFTER,
        recycle_memory: int | str | None = None,
        prewarm: int = 0,
        environment: Mapping[str, str] | None = None,
        start_timeout: float = 30.0,
        output_limit: int | str = "16m",
        timeout: float | None = None,
    ) -> None:
        self.concurrency: int | None = check_count(processes, "processes", least=1) if processes is not None else os.cpu_count() or 1
        self.timeout: float | None = None if timeout is None else check_seconds(timeout, "timeout")
        self._recycle_calls = None if recycle_calls is None else check_count(recycle_calls, "recycle_calls", least=1)
        self._recycle_memory = None if recycle_memory is None else bytes_in(recycle_memory, "recycle_memory")
        self._prewarm = check_count(prewarm, "prewarm", least=0)
        self._environment = _checked(environment)
        self._start_timeout = check_seconds(start_timeout, "start_timeout")
        self._output_limit = bytes_in(output_limit, "output_limit")
        self._signer: Signer | None = None
        self._idle: list[Child] = []
        self._all: set[Child] = set()
        self._calls: set[TaskCall] = set()
        self._stopped = False
        self._warming: set[asyncio.Task[None]] = set()

    @property
    def at_work(self) -> int:
        """How many attempts children are at work on, those left out that wait for the event loop."""
        return sum(not call.waiting for call in self._calls)

    @property
    def children(self) -> tuple[int, ...]:
        """The process ids of all children there are now."""
        return tuple(child.pid for child in self._all)

    def introduce(self, worker: WorkerInfo) -> None:
        """The worker's keys let functions without a name travel."""
        self._signer = worker.signer

    async def start(self) -> None:
        """Begin to start the children that are wanted ahead."""
        self._stopped = False
        for _ in range(min(self._prewarm, self.concurrency or 1)):
            warming = asyncio.create_task(self._warm(), name="graflow-process-warm")
            self._warming.add(warming)
            warming.add_done_callback(self._warming.discard)

    async def stop(self) -> None:
        """End all children."""
        self._stopped = True
        for warming in self._warming:
            warming.cancel()
        if self._warming:
            await asyncio.wait(self._warming)
        await asyncio.gather(*(self._end(child) for child in list(self._all)))

    async def run(self, call: TaskCall) -> Any:
        """Run the attempt in a child.

        Raises:
            ChildDiedError: the child ended before it answered.
            OutOfMemoryError: it was killed while the machine ran out of memory.
            FunctionNotFoundError: the function cannot get there.
        """
        _refuse_recursion(call)
        code = code_for_child(call.task.spec, self._signer, task_id=call.task_id)
        self._calls.add(call)
        try:
            child = await self._child()
            try:
                return await child.run(call, code, measure=self._recycle_memory is not None)
            except Ended:
                raise await child.death(call.task_id)  # noqa: B904 - it has a cause of its own: what the child wrote last
            finally:
                await self._put_back(child) if child.answered else await self._end(child)
        finally:
            self._calls.discard(call)

    # ---- the pool ----

    async def _child(self) -> Child:
        while self._idle:
            child = self._idle.pop()  # the one used last: its memory is warm, and the others may be let go
            if child.lives:
                return child
            await self._end(child)
        return await self._new()

    async def _new(self) -> Child:
        child = await Child.spawn(self._environment, output_limit=self._output_limit, patience=self._start_timeout)
        self._all.add(child)
        return child

    async def _warm(self) -> None:
        self._idle.append(await self._new())

    async def _put_back(self, child: Child) -> None:
        worn = self._recycle_calls is not None and child.calls >= self._recycle_calls
        swollen = self._recycle_memory is not None and child.memory > self._recycle_memory
        if not (worn or swollen or self._stopped):
            self._idle.append(child)
            return
        if self._stopped:  # the call has outlived its worker
            await self._end(child)
            return
        reason = f"{child.calls} calls" if worn else f"taking {child.memory:,} bytes"
        logger.debug("child %s is replaced after %s", child.pid, reason, extra={"pid": child.pid})
        await self._end(child)

    async def _end(self, child: Child) -> None:
        self._all.discard(child)
        with contextlib.suppress(ValueError):
            self._idle.remove(child)
        await child.end()


def _refuse_recursion(call: TaskCall) -> None:
    """A main program without its guard starts its work anew in each child, which would start children of its own, and so on."""
    if os.environ.get(STAGE, "").startswith("importing"):
        raise ConfigurationError(
            f"task {call.task_id!r} was started while {sys.argv[0] or 'the main program'} is run again in a child process for the functions "
            'it defines; put what is to run only once under: if __name__ == "__main__"',
            setting="handlers",
        )


def _checked(environment: Mapping[str, str] | None) -> dict[str, str]:
    given = dict(environment or {})
    for name, value in given.items():
        if not (isinstance(name, str) and isinstance(value, str) and name):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ConfigurationError(f"environment={{{name!r}: {value!r}}}: names and values are texts", setting="environment")
    return given
