"""What the task of one call asks for and tells, done on its behalf."""

from __future__ import annotations

import asyncio
import logging
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any, Final

from graflow.core.boundary import UserCode
from graflow.errors import HandlerError
from graflow.handlers.frames import Told
from graflow.wire import codec

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from graflow.handlers.base import TaskCall
    from graflow.handlers.frames import Asked, Logged

CHANNEL: Final = frozenset({"set", "delete", "exists", "keys", "clear", "append", "prepend", "atomic_add", "wait"})
"""channel methods that a child may call as they are"""
MOST_REQUESTS: Final = 1000
"""requests of one task that may wait at the same time: a hostile one could fill the worker with them"""
MOST_LOGGERS: Final = 1000
"""names of loggers that children may bring along; a logger is never forgotten"""
_MISSING: Final = object()
_OWN: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime"}
"""what a record has by itself, and ``extra`` must not replace"""
_loggers: Final[set[str]] = set()


class Service:
    """Does what one task asks, each request in a task of its own: a wait on the channel must not hold up the next request.

    Args:
        reply: sends the reply to a request.
        call: the attempt.
        number: of its call.
    """

    def __init__(self, reply: Callable[[int, Any], Awaitable[None]], call: TaskCall, number: int) -> None:
        self.number: int = number
        self._reply = reply
        self._call = call
        self._tasks: set[asyncio.Task[None]] = set()
        self._locks: dict[int, AsyncExitStack] = {}

    def hear(self, frame: Told | Logged) -> None:
        """What needs no reply."""
        if isinstance(frame, Told):
            if frame.what in ("progress", "message"):
                self._call.services.publish(frame.what, codec.decode(frame.data))
        else:
            self._log(frame)

    async def ask(self, frame: Asked) -> None:
        """Begin with a request. Waits only to refuse one: a child that does not read its replies is not read either."""
        if len(self._tasks) >= MOST_REQUESTS:
            await self._reply(frame.request, HandlerError(f"a task has {MOST_REQUESTS} requests at once; let some of them end first"))
            return
        task = asyncio.create_task(self._ask(frame), name=f"graflow-ask-{frame.name[:40]}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """End what is still being asked, and give back the locks that the task has not."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        for held in self._locks.values():
            await held.aclose()

    async def _ask(self, frame: Asked) -> None:
        result: Any = None
        self._call.waiting += 1
        try:
            with _Requested() as code:
                args, kwargs = codec.decode(frame.data)
                result = await self._do(frame.name, args, kwargs)
        finally:
            self._call.waiting -= 1
        await self._reply(frame.request, code.error if code.error is not None else result)

    async def _do(self, name: str, args: list[Any], kwargs: dict[str, Any]) -> Any:
        services = self._call.services
        operation = name.removeprefix("channel.")
        if name == "channel.find":
            value = await services.channel.get(args[0], _MISSING)
            return [False, None] if value is _MISSING else [True, value]
        if name != operation and operation in CHANNEL:
            return await getattr(services.channel, operation)(*args, **kwargs)
        if name == "result_of":
            return await services.result_of(*args)
        if name == "lock":
            held = AsyncExitStack()
            await held.enter_async_context(services.channel.lock(*args, **kwargs))
            number = len(self._locks)
            self._locks[number] = held
            return number
        if name == "unlock":
            return await self._locks[args[0]].aclose()
        raise HandlerError(f"a child asked for {name!r}, which there is not")

    def _log(self, frame: Logged) -> None:
        fields, call = frame.fields, self._call
        logger = _logger(fields.name)
        if not logger.isEnabledFor(fields.levelno):
            return
        extra: dict[str, Any] = codec.decode(frame.extra)
        given = {name: value for name, value in extra.items() if name not in _OWN}
        who = {"run_id": call.run_id, "task_id": call.task_id, "attempt": call.attempt, "cycle": call.cycle}
        own: dict[str, Any] = {name: getattr(fields, name) for name in fields.__struct_fields__}
        logger.handle(logging.makeLogRecord({**given, **own, **who}))


class _Requested(UserCode):
    """A request of a task, whose errors are the task's to see."""

    __slots__ = ()

    passing = (*UserCode.passing, asyncio.CancelledError)


def _logger(name: str) -> logging.Logger:
    if name == "root":
        return logging.getLogger()
    if name not in _loggers:
        if len(_loggers) >= MOST_LOGGERS:
            return logging.getLogger("graflow.task")
        _loggers.add(name)
    return logging.getLogger(name)
