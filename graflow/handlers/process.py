"""Functions in child processes: for work that would hold the GIL, and code that may crash."""

from __future__ import annotations

import asyncio
import os
import sys
from typing import TYPE_CHECKING, Any, ClassVar, Final

from graflow.errors import ConfigurationError
from graflow.handlers.base import Handler
from graflow.handlers.inside.boundary import STAGE
from graflow.handlers.sizes import bytes_in, check_count, check_seconds
from graflow.wire.functions import code_for_child
from graflow.wire.keys import VARIABLE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from graflow.handlers.base import TaskCall, WorkerInfo
    from graflow.handlers.children import Children
    from graflow.wire.signing import Signer

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
        environment: variables for the children, besides those of this process. ``GRAFLOW_SECRET_KEY`` among them takes the place of the keys of
            the worker, which the children are handed otherwise.
        start_timeout: seconds that a child is given to start.
        output_limit: what one call may print, put into the channel and return: bytes, or a text such as ``"16m"``.
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
        self._children: Children | None = None
        self._calls: set[TaskCall] = set()

    @property
    def at_work(self) -> int:
        """How many attempts children are at work on, those left out that wait for the event loop."""
        return sum(not call.waiting for call in self._calls)

    @property
    def children(self) -> tuple[int, ...]:
        """The process ids of all children there are now."""
        return self._children.pids if self._children is not None else ()

    def introduce(self, worker: WorkerInfo) -> None:
        """The worker's keys let functions without a name travel."""
        self._signer = worker.signer

    async def start(self) -> None:
        """Begin to start the children that are wanted ahead."""
        if self._prewarm:
            (await self._pool()).warm(min(self._prewarm, self.concurrency or 1))

    async def stop(self) -> None:
        """End all children."""
        children, self._children = self._children, None
        if children is not None:
            await children.close()

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
            return await (self._children or await self._pool()).run(call, code)
        finally:
            self._calls.discard(call)

    async def _pool(self) -> Children:
        """Made when it is first needed: each worker has this handler, and most have no use for what it imports."""
        await asyncio.to_thread(_import_children)
        from graflow.handlers.children import Children

        if self._children is None:
            self._children = Children(
                self._environment,
                output_limit=self._output_limit,
                patience=self._start_timeout,
                most_calls=self._recycle_calls,
                most_memory=self._recycle_memory,
                signer=None if VARIABLE in self._environment else self._signer,
            )
        return self._children


def _import_children() -> None:
    """Reads files, so it is not for the event loop."""
    from graflow.handlers import children as children


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
