"""What has no name, and values that opt in, in child processes of an engine that has a key."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator

import pytest

from graflow import WorkflowEngine, task
from graflow.backends.memory import MemoryBackend
from graflow.errors import FunctionNotFoundError, GraflowError
from graflow.handlers.conversation import Conversation, Ended
from graflow.wire.keys import Signer
from graflow.wire.signing import VARIABLE
from tests.handlers import work

pytest.importorskip("cloudpickle")

KEY = "a-key-of-these-tests-which-is-long-enough"


@pytest.fixture
async def engine(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[WorkflowEngine]:
    monkeypatch.setenv(VARIABLE, KEY)
    async with WorkflowEngine(MemoryBackend(strict=True)) as engine:
        yield engine


async def test_a_local_function_runs_there(engine: WorkflowEngine) -> None:
    added = 40

    @task(handler="process")
    def local(n: int) -> tuple[int, int]:
        return n + added, os.getpid()

    total, pid = (await engine.execute(local, inputs={"n": 2})).output
    assert total == 42
    assert pid != os.getpid()


async def test_a_value_that_opts_in_is_made_and_opened_there(engine: WorkflowEngine) -> None:
    assert (await engine.execute(work.train >> work.predict, inputs={"factor": 3, "n": 4})).output == 15


async def test_a_key_that_is_given_in_code_reaches_children_and_is_not_in_their_environment(no_secret_key: None) -> None:
    async with WorkflowEngine(secret_key=KEY) as engine:
        assert (await engine.execute(work.train >> work.predict, inputs={"factor": 3, "n": 4})).output == 15
        assert (await engine.execute(work.environment, inputs={"name": VARIABLE})).output is None


async def test_a_child_that_is_not_trusted_is_sent_no_key() -> None:
    """As containers are not."""
    sent: list[bytes] = []

    class Wire:
        async def send(self, data: bytes) -> None:
            sent.append(data)

        async def receive(self) -> bytes:
            return b""

    signer = Signer.of(KEY)
    for trusted, reaches in ((False, False), (True, True)):
        sent.clear()
        with pytest.raises(Ended):
            await Conversation(Wire(), where="", output_limit=1, trusted=trusted).begin(path=[], keep_path=True, signer=signer)
        assert (KEY.encode() in b"".join(sent)) == reaches


async def test_without_a_key_a_local_function_is_refused_when_it_is_submitted() -> None:
    @task(handler="process")
    def local() -> None: ...

    async with WorkflowEngine() as engine:
        with pytest.raises(GraflowError, match=VARIABLE) as caught:
            await engine.submit(local)
    assert isinstance(caught.value, FunctionNotFoundError)
