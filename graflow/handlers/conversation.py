"""The worker's end of the protocol: one call after the other to a child, and an answer to whatever its task asks meanwhile."""

from __future__ import annotations

import asyncio
import logging
import struct
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, Protocol

import msgspec

from graflow.core.outcome import Directives, Iteration, NewTask
from graflow.errors import FunctionNotFoundError, HandlerError, OutputLimitError, SerializationError
from graflow.handlers import frames
from graflow.handlers.failures import error_from, error_parts
from graflow.handlers.service import Service
from graflow.handlers.shipping import program
from graflow.wire import codec
from graflow.wire.tasks import decode_task

if TYPE_CHECKING:
    from collections.abc import Sequence

    from graflow.handlers.base import TaskCall
    from graflow.handlers.frames import Ready
    from graflow.wire.functions import Code
    from graflow.wire.keys import Signer

logger: logging.Logger = logging.getLogger("graflow.handlers")
_output: logging.Logger = logging.getLogger("graflow.task.output")
_task_log: logging.Logger = logging.getLogger("graflow.task")

PROTOCOL: Final = 1
_ROOM: Final = 1 << 16
"""bytes of a frame besides the values in it"""

STORING: Final = frozenset({"channel.set", "channel.append", "channel.prepend"})
"""requests that leave what they carry with the run"""
SMALL: Final = 1 << 10
"""bytes of a request that only names something"""

_encode: Final = msgspec.msgpack.Encoder().encode


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


class Conversation:
    """Frames with one child.

    Args:
        link: bytes to and from it.
        where: says in errors where the child is, such as ``in a child process``.
        output_limit: bytes that one call may print, put into the channel and return.
        trusted: whether it may add tasks to its run. What it names would be imported by a worker, outside of the child's walls.
    """

    def __init__(self, link: Link, *, where: str, output_limit: int, trusted: bool) -> None:
        self._link = link
        self._where = where
        self._limit = output_limit
        self._trusted = trusted
        self._buffer = bytearray()
        self._calls = 0
        self._task_id = ""
        self.settled: bool = True
        """whether the last call was answered, with whatever outcome: the child can take another"""
        self.memory: int = 0
        """bytes that the child took after its last call, where that was asked for"""

    @property
    def calls(self) -> int:
        """How many calls there were; the number of the present one."""
        return self._calls

    async def begin(
        self,
        *,
        path: Sequence[str],
        keep_path: bool,
        with_parent: int = 0,
        begun: int | None = None,
        marks: bool = False,
        signer: Signer | None = None,
    ) -> Ready:
        """Send the child its program, and wait until it runs.

        Args:
            path: where it looks for modules.
            keep_path: whether it also looks where its Python does by itself.
            with_parent: pid of this process, if the child is to be killed with it.
            begun: a descriptor that it has inherited, of memory into which it writes which call it has begun with.
            marks: whether it says on its standard error, too, which call begins.
            signer: whose keys a trusted child is handed. They go over the pipe, where neither its environment nor its command line shows them.

        Raises:
            Ended: it came to an end instead.
        """
        facts: dict[str, Any] = {"path": list(path), "keep_path": keep_path, "with_parent": with_parent, "begun": begun, "marks": marks}
        if signer is not None and self._trusted:
            facts["secrets"] = signer.secrets
        setup = _frame("setup", facts)
        await self._send(await asyncio.to_thread(program) + setup)
        ready = frames.read_ready(await self._receive())
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
        self._task_id = call.task_id
        request = _frame("call", self._calls, _call(call, code, measure=measure))
        service = Service(self.reply, call, self._calls)
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

    async def _answer(self, call: TaskCall, code: Code, service: Service) -> Any:
        left = self._limit
        while True:
            data = await self._receive()
            frame = frames.read(data)
            if frame.number != service.number:
                await self._overhear(frame, service.number)
            elif isinstance(frame, frames.Answer):
                self.settled = True
                return self._outcome(frame, call, code)
            elif isinstance(frame, frames.Memory):
                self.memory = frame.resident
            else:
                left -= _weight(frame, len(data))
                if left < 0:
                    raise too_much(call.task_id, self._limit)
                if isinstance(frame, frames.Asked):
                    await service.ask(frame)
                elif isinstance(frame, frames.Printed):
                    self.printed(call, frame.stream, frame.line)
                else:
                    service.hear(frame)

    async def _overhear(self, frame: frames.Said, number: int) -> None:
        """What is not of this call: a thread that an earlier task has left behind may still speak, and must not answer for the present one."""
        if frame.number > number:
            raise HandlerError(
                f"a child speaks of its call {frame.number}, and the present one is {number}: its task tampers with the protocol"
            )
        if isinstance(frame, frames.Asked):
            await self.reply(frame.request, HandlerError("the task that asks is over"))
        elif isinstance(frame, frames.Printed):
            self.printed(None, frame.stream, frame.line)
        elif isinstance(frame, frames.Answer):
            logger.warning("a child answered a call that was over, which is passed over: does its task fork, or leave threads behind?")

    def _outcome(self, frame: frames.Answer, call: TaskCall, code: Code) -> Any:
        if isinstance(frame, frames.Missing):
            raise FunctionNotFoundError(f"{code.reference!r} was not found {self._where}: {frame.reason}", reference=code.reference)
        if isinstance(frame, frames.Failed):
            raise error_from(frame.names, frame.message, frame.trace, frame.state)
        if frame.directives is not None:
            call.context.requested = self._directives(frame.directives, call)
        return codec.decode(frame.value)

    async def _receive(self) -> bytes:
        buffer = self._buffer
        while True:
            if len(buffer) >= 4:
                (size,) = struct.unpack_from(">I", buffer)
                if size > self._limit + _ROOM:
                    raise too_much(self._task_id, self._limit)
                if len(buffer) >= 4 + size:
                    frame = bytes(buffer[4 : 4 + size])
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

    def _directives(self, asked: frames.Directives, call: TaskCall) -> Directives:
        if asked.new and not self._trusted:
            raise HandlerError(
                f"task {call.task_id!r} asked {self._where} for a new task, which would run outside of it; put it into the graph, and go to "
                "it by its id",
                task_id=call.task_id,
            )
        new = [NewTask(decode_task(data), ignore_existing=ignore, goto=goto) for data, ignore, goto in asked.new]
        iteration: Iteration | None = None
        if asked.iteration is not None:
            data, arguments = codec.decode(asked.iteration)
            iteration = Iteration(data[0], arguments) if data else Iteration(arguments=arguments)
        return Directives(asked.goto, new, iteration, asked.end_loop, asked.terminate, asked.cancel)


def _weight(frame: frames.Said, size: int) -> int:
    """How much of what a call may write a frame takes: a task that asks again and again for something small has written nothing."""
    return 0 if isinstance(frame, frames.Asked) and frame.name not in STORING and size <= SMALL else size


def too_much(task_id: str, limit: int) -> OutputLimitError:
    """The error of a task that writes and writes."""
    what = f"task {task_id!r} printed, put into the channel or returned more than {limit:,} bytes"
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
