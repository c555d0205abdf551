"""A child that speaks the protocol as it likes: it fails its own task and nothing else."""

from __future__ import annotations

import asyncio
import logging
import struct
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from graflow import WorkflowEngine, task
from graflow.errors import HandlerError, OutputLimitError, TaskFailedError
from graflow.handlers import Handler, TaskCall
from graflow.handlers.conversation import Conversation
from graflow.wire import codec
from graflow.wire.functions import Code

READY = ["ready", {"protocol": 1, "python": [3, 11, 0], "implementation": "CPython", "pid": 1}]
DONE = ["done", 1, codec.encode("done"), None]


def framed(frame: Any) -> bytes:
    data = msgspec.msgpack.encode(frame)
    return struct.pack(">I", len(data)) + data


class Script:
    """A child that says what is written, and keeps what it is told."""

    def __init__(self, *frames: Any) -> None:
        self._said = [framed(READY), *(frame if isinstance(frame, bytes) else framed(frame) for frame in frames)]
        self.told: list[Any] = []

    async def send(self, data: bytes) -> None:
        self.told.append(data)

    async def receive(self) -> bytes:
        if not self._said:
            await asyncio.Event().wait()
        return self._said.pop(0)


class Scripted(Handler):
    """Has one conversation with a script."""

    def __init__(self) -> None:
        self.script = Script()
        self.conversation: Conversation | None = None

    async def run(self, call: TaskCall) -> Any:
        self.conversation = Conversation(self.script, where="in a script", output_limit=1 << 20, trusted=False)
        await self.conversation.begin(path=[], keep_path=True)
        return await self.conversation.run(call, Code("module:function"))


@task(handler="scripted", timeout=20)
def scripted() -> Any: ...


@pytest.fixture
def handler() -> Scripted:
    return Scripted()


@pytest.fixture
async def engine(handler: Scripted) -> AsyncIterator[WorkflowEngine]:
    async with WorkflowEngine(handlers={"scripted": handler}) as engine:
        yield engine


async def failure(engine: WorkflowEngine) -> BaseException | None:
    with pytest.raises(TaskFailedError) as caught:
        await engine.execute(scripted)
    return caught.value.__cause__


async def test_a_script_that_keeps_to_the_protocol_gets_through(engine: WorkflowEngine, handler: Scripted) -> None:
    handler.script = Script(DONE)
    assert (await engine.execute(scripted)).output == "done"


@pytest.mark.parametrize(
    "frame",
    [
        [],
        ["done"],
        ["done", 1],
        ["done", 1, "text", None],
        ["done", 1, b"", {"cancel": [1]}],
        ["done", 1, b"", {"terminate": 5}],
        ["done", 1, b"", {"goto": "a"}],
        ["failed", 1, "ValueError", "", "", None],
        ["unheard", 1],
        ["print", 1, "stdout", b"bytes"],
        ["log", 1, {"name": 5}, b""],
        ["ask", 1, "one", "get", b""],
        5,
        framed(None)[:4] + b"\xc1",
    ],
    ids=repr,
)
async def test_a_frame_that_is_none_fails_the_task_and_the_child_is_not_used_again(
    engine: WorkflowEngine, handler: Scripted, frame: Any
) -> None:
    handler.script = Script(frame)
    assert isinstance(await failure(engine), HandlerError)
    assert handler.conversation is not None
    assert not handler.conversation.settled


async def test_an_answer_to_an_earlier_call_is_passed_over(engine: WorkflowEngine, handler: Scripted) -> None:
    handler.script = Script(["done", 0, codec.encode("another's"), None], ["failed", 0, ["builtins:OSError"], "", "", None], DONE)
    assert (await engine.execute(scripted)).output == "done"


async def test_an_answer_to_a_call_that_was_not_made_is_no_answer(engine: WorkflowEngine, handler: Scripted) -> None:
    handler.script = Script(["done", 999, codec.encode("forged"), None])
    assert isinstance(await failure(engine), HandlerError)


async def test_a_new_task_is_refused_before_it_is_looked_at(engine: WorkflowEngine, handler: Scripted) -> None:
    handler.script = Script(["done", 1, codec.encode(None), {"new": [[b"whatever", False, False]]}])
    error = await failure(engine)
    assert isinstance(error, HandlerError)
    assert "new task" in str(error)


FIELDS = {
    "name": "shop",
    "levelno": 40,
    "levelname": "ERROR",
    "msg": "%300000000d",
    "pathname": "p",
    "lineno": 1,
    "funcName": "f",
    "created": 0.0,
}


async def test_a_log_record_cannot_speak_for_another_run_or_be_put_together_here(
    engine: WorkflowEngine, handler: Scripted, caplog: pytest.LogCaptureFixture
) -> None:
    extra = codec.encode({"run_id": "another", "args": [1], "exc_info": True, "colour": "red"})
    handler.script = Script(["log", 1, {**FIELDS, "run_id": "another", "args": [1]}, extra], DONE)
    await engine.execute(scripted, run_id="mine")
    (record,) = [record for record in caplog.records if record.name == "shop"]
    assert (record.run_id, record.colour, record.exc_info) == ("mine", "red", None)  # type: ignore[attr-defined]
    assert record.getMessage() == "%300000000d"


@pytest.mark.parametrize(
    "frame",
    [
        ["print", 1, "stdout", "x" * 1000],
        ["log", 1, {**FIELDS, "msg": "x" * 1000}, codec.encode({})],
        ["tell", 1, "message", codec.encode({"name": "n", "data": "x" * 1000})],
    ],
    ids=["print", "log", "tell"],
)
async def test_whatever_it_says_counts_towards_its_limit(
    engine: WorkflowEngine, handler: Scripted, frame: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)
    handler.script = Script(framed(frame) * 1100)
    error = await failure(engine)
    assert isinstance(error, OutputLimitError)
    assert error.task_id == "scripted"


@pytest.mark.parametrize("name", ["channel.lock", "channel.__class__", "backend", "channel", "result_of.x"])
async def test_a_request_for_what_there_is_not_is_refused(engine: WorkflowEngine, handler: Scripted, name: str) -> None:
    handler.script = Script(["ask", 1, 7, name, codec.encode([[], {}])])
    handle = await engine.submit(scripted)
    async with asyncio.timeout(10):
        while len(handler.script.told) < 3:  # noqa: ASYNC110 - the reply is the last that it is told
            await asyncio.sleep(0)
    kind, number, good, data = msgspec.msgpack.decode(handler.script.told[2][4:])
    assert (kind, number, good) == ("reply", 7, False)
    assert codec.decode(data)[0] == "graflow.errors:HandlerError"
    await handle.cancel("seen")
