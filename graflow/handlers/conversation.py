"""The worker's end of the protocol: one call after the other to a child, and an answer to whatever its task asks meanwhile."""

from __future__ import annotations

import asyncio
import logging
import struct
from contextlib import AsyncExitStack, suppress
from typing import TYPE_CHECKING, Any, Final, Protocol

import msgspec

from graflow.core.boundary import UserCode
from graflow.core.outcome import Directives, Iteration, NewTask
from graflow.errors import FunctionNotFoundError, HandlerError, OutputLimitError, SerializationError
from graflow.handlers.failures import error_from, error_parts
from graflow.handlers.shipping import program
from graflow.wire import codec
from graflow.wire.tasks import decode_task

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from graflow.handlers.base import TaskCall
    from graflow.wire.functions import Code

_output: logging.Logger = logging.getLogger("graflow.task.output")
_task_log: logging.Logger = logging.getLogger("graflow.task")

PROTOCOL: Final = 1
CHANNEL: Final = frozenset({"set", "delete", "exists", "keys", "clear", "append", "prepend", "atomic_add", "wait"})
"""channel methods that a child may call as they are"""
_MISSING: Final = object()
_ROOM: Final = 1 << 16
"""bytes of a frame besides the values in it"""

_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(list[Any]).decode


class Link(Protocol):
    """Bytes to and from a child."""

    async def send(self, data: bytes) -> None:
        """Write. Raises OSError when the child is gone."""
        ...

    async def receive(self) -> bytes:
        """What has arrived, as soon as there is something; empty at the end."""
        ...


class Ended(Exception):
    """The child's bytes ended before its answer. Whoever holds the child knows why, and makes an error of it."""


class Ready(msgspec.Struct, frozen=True):
    """What a child says of itself when it has started."""

    protocol: int
    python: tuple[int, int, int]
    implementation: str
    pid: int


class Conversation:
    """Frames with one child.

    Args:
        link: bytes to and from it.
        where: says in errors where the child is, such as ``in a child process``.
        output_limit: bytes that one call may print and return.
        trusted: whether it may add tasks to its run. What it names would be imported by a worker, outside of the child's walls.
    """

    def __init__(self, link: Link, *, where: str, output_limit: int, trusted: bool) -> None:
        self._link = link
        self._where = where
        self._limit = output_limit
        self._trusted = trusted
        self._buffer = bytearray()
        self._calls = 0
        self.settled: bool = True
        """whether the last call was answered, with whatever outcome: the child can take another"""
        self.memory: int = 0
        """bytes that the child took after its last call, where that was asked for"""

    async def begin(self, *, path: Sequence[str], keep_path: bool, with_parent: int = 0) -> Ready:
        """Send the child its program, and wait until it runs.

        Args:
            path: where it looks for modules.
            keep_path: whether it also looks where its Python does by itself.
            with_parent: pid of this process, if the child is to be killed with it.

        Raises:
            Ended: it came to an end instead.
        """
        setup = _frame("setup", {"path": list(path), "keep_path": keep_path, "with_parent": with_parent})
        await self._send(await asyncio.to_thread(program) + setup)
        kind, about = await self._receive()
        if kind != "ready":
            raise HandlerError(
                f"a child began with {kind!r} instead of saying that it is ready: its standard output is used by something else"
            )
        ready = msgspec.convert(about, Ready)
        if ready.protocol != PROTOCOL:
            raise HandlerError(f"a child speaks version {ready.protocol} of the protocol, and this process version {PROTOCOL}")
        return ready

    async def run(self, call: TaskCall, code: Code, *, measure: bool = False) -> Any:
        """Have one attempt run.

        Raises:
            Ended: the child is gone.
            OutputLimitError: it wrote too much; the child is to be ended, since it may go on.
            FunctionNotFoundError: it cannot find the function.
            SerializationError: an argument cannot travel.
            BaseException: whatever the task raised.
        """
        self._calls += 1
        request = _frame("call", self._calls, _call(call, code, measure=measure))
        service = _Service(self, call, self._calls)
        try:
            self.settled = False
            await self._send(request)
            return await self._answer(call, code, service)
        finally:
            await service.close()

    async def cancel(self) -> None:
        """Let the task know, if it asks, that nobody waits for it any more."""
        await self._send(_frame("cancel"))

    # ---- frames ----

    async def _answer(self, call: TaskCall, code: Code, service: _Service) -> Any:
        left = self._limit
        while True:
            kind, number, *rest = await self._receive()
            if number != service.number and kind in ("ask", "tell"):
                if kind == "ask":  # from a thread that an earlier task has left behind
                    await self.reply(rest[0], HandlerError("the task that asks is over"))
                continue
            self.settled = kind in ("done", "failed", "missing")
            if kind == "done":
                if rest[1]:
                    call.context.requested = self._directives(rest[1], call)
                return codec.decode(rest[0])
            if kind == "failed":
                raise error_from(*rest)
            if kind == "missing":
                raise FunctionNotFoundError(f"{code.reference!r} was not found {self._where}: {rest[0]}", reference=code.reference)
            if kind == "memory":
                self.memory = rest[0]
            elif kind == "print":
                left -= len(rest[1])
                if left < 0:
                    raise too_much(call.task_id, self._limit)
                self.printed(call, *rest)
            else:
                service.serve(kind, rest)

    async def _receive(self) -> list[Any]:
        buffer = self._buffer
        while True:
            if len(buffer) >= 4:
                (size,) = struct.unpack_from(">I", buffer)
                if size > self._limit + _ROOM:
                    raise too_much("", self._limit)
                if len(buffer) >= 4 + size:
                    frame = _read(bytes(buffer[4 : 4 + size]))
                    del buffer[: 4 + size]
                    return frame
            data = await self._link.receive()
            if not data:
                raise Ended
            buffer += data

    async def _send(self, data: bytes) -> None:
        try:
            await self._link.send(data)
        except OSError as error:
            raise Ended from error

    async def reply(self, number: int, result: Any) -> None:
        """Answer a request: with a value, or with the error that it led to."""
        good = not isinstance(result, BaseException)
        try:
            data = codec.encode(result if good else error_parts(result), name="what a task asked for")
        except SerializationError as error:
            good, data = False, codec.encode(error_parts(error))
        with suppress(Ended):  # who waits for the call's answer notices as well
            await self._send(_frame("reply", number, good, data))

    def printed(self, call: TaskCall | None, stream: str, line: str) -> None:
        """Log a line that was printed."""
        who = {} if call is None else {"run_id": call.run_id, "task_id": call.task_id, "attempt": call.attempt}
        _output.info("%s", line, extra={**who, "stream": stream})

    def _directives(self, asked: Mapping[str, Any], call: TaskCall) -> Directives:
        new = [NewTask(decode_task(data), ignore_existing=ignore, goto=goto) for data, ignore, goto in asked.get("new", ())]
        if new and not self._trusted:
            raise HandlerError(
                f"task {call.task_id!r} asked {self._where} for a new task, which would run outside of it; put it into the graph, and go to "
                "it by its id",
                task_id=call.task_id,
            )
        iteration: Iteration | None = None
        if asked.get("iteration") is not None:
            data, arguments = codec.decode(asked["iteration"])
            iteration = Iteration(data[0], arguments) if data else Iteration(arguments=arguments)
        return Directives(
            goto=list(asked.get("goto", ())),
            new=new,
            iteration=iteration,
            end_loop=bool(asked.get("end_loop")),
            terminate=asked.get("terminate"),
            cancel=asked.get("cancel"),
        )


class _Service:
    """What the task of one call asks for, each request in a task of its own: a wait on the channel must not hold up the next request."""

    def __init__(self, conversation: Conversation, call: TaskCall, number: int) -> None:
        self.number = number
        self._conversation = conversation
        self._call = call
        self._tasks: set[asyncio.Task[None]] = set()
        self._locks: dict[int, AsyncExitStack] = {}

    def serve(self, kind: str, rest: list[Any]) -> None:
        if kind == "tell":
            type, data = rest
            if type in ("progress", "message"):
                self._call.services.publish(type, codec.decode(data))
        elif kind == "log":
            self._log(*rest)
        elif kind == "ask":
            task = asyncio.create_task(self._ask(*rest), name=f"graflow-ask-{rest[1]}")
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

    async def _ask(self, number: int, name: str, data: bytes) -> None:
        result: Any = None
        self._call.waiting += 1
        try:
            with _Asked() as code:
                args, kwargs = codec.decode(data)
                result = await self._do(name, args, kwargs)
        finally:
            self._call.waiting -= 1
        await self._conversation.reply(number, code.error if code.error is not None else result)

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
            self._locks[len(self._locks)] = held
            return len(self._locks) - 1
        if name == "unlock":
            return await self._locks[args[0]].aclose()
        raise HandlerError(f"a child asked for {name!r}, which there is not")

    def _log(self, fields: dict[str, Any], extra: bytes) -> None:
        logger = logging.getLogger(None if fields["name"] == "root" else fields["name"])
        if logger.isEnabledFor(fields["levelno"]):
            who = {"run_id": self._call.run_id, "task_id": self._call.task_id, "attempt": self._call.attempt, "cycle": self._call.cycle}
            logger.handle(logging.makeLogRecord({**who, **codec.decode(extra), **fields}))


class _Asked(UserCode):
    """A request of a task, whose errors are the task's to see."""

    __slots__ = ()

    passing = (*UserCode.passing, asyncio.CancelledError)


def too_much(task_id: str, limit: int) -> OutputLimitError:
    """The error of a task that writes and writes."""
    what = f"task {task_id!r} printed or returned more than {limit:,} bytes"
    text = f"{what}: write to a file or store, and hand on where it is, or raise output_limit="
    return OutputLimitError(text, task_id=task_id, limit=limit)


def _call(call: TaskCall, code: Code, *, measure: bool) -> dict[str, Any]:
    name = call.delivery.call.context
    arguments = {key: value for key, value in call.arguments.items() if key != name}
    who = {
        "run_id": call.run_id, "task_id": call.task_id, "attempt": call.attempt, "cycle": call.cycle,
        "max_cycles": call.task.options.max_cycles, "workflow": call.delivery.workflow,
    }  # fmt: skip
    return {
        "reference": code.reference, "pickled": code.pickled, "main": code.main, "is_async": call.task.is_async, "context": name, "who": who,
        "arguments": codec.encode(arguments, name=f"arguments of {call.task_id}"), "measure": measure, "level": _task_log.getEffectiveLevel(),
    }  # fmt: skip


def _frame(*parts: Any) -> bytes:
    data = _encode(parts)
    return struct.pack(">I", len(data)) + data


def _read(data: bytes) -> list[Any]:
    try:
        return _decode(data)
    except msgspec.MsgspecError as error:
        raise HandlerError(f"a child sent {len(data)} bytes that are no frame: {error}") from error
