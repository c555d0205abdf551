"""Values that opt in travel as signed pickles, which are opened when somebody asks for the value, and by whom they were meant for."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from graflow import TaskContext, WorkflowEngine, task
from graflow.errors import SerializationError, TaskFailedError, UntrustedPayloadError
from graflow.wire import codec
from graflow.wire.keys import VARIABLE, Signer
from graflow.wire.signing import Pickled, current, signing_for

SIGNER = Signer.of("k1:correct-horse-battery-staple-and-more")


class Model:
    """Neither dataclass nor struct: the codec has no way to send it."""

    def __init__(self, weight: int) -> None:
        self.weight = weight


pytestmark = pytest.mark.usefixtures("no_secret_key")


def in_run(run_id: str, data: bytes, signer: Signer | None = SIGNER) -> Any:
    with signing_for(signer, run_id):
        return codec.decode(data)


def sent(value: Any, run_id: str = "run-1") -> bytes:
    with signing_for(SIGNER, run_id):
        return codec.encode(value)


def test_it_is_opened_when_it_is_asked_for_its_value() -> None:
    there = in_run("run-1", sent({"model": Pickled(Model(3))}))["model"]
    assert type(there) is Pickled
    assert repr(there) == "Pickled(...)"
    assert there.value.weight == 3
    assert there.value is there.value


def test_in_another_run_it_is_refused() -> None:
    there = in_run("run-2", sent(Pickled(Model(3))))
    with pytest.raises(UntrustedPayloadError) as caught:
        _ = there.value
    assert caught.value.reason == "replayed"


def test_altered_and_without_a_key_it_is_refused() -> None:
    data = sent(Pickled(Model(3)))
    for signer, bytes_, reason in ((None, data, "no_key"), (SIGNER, data[:-1] + bytes([data[-1] ^ 1]), "altered")):
        with pytest.raises(UntrustedPayloadError) as caught:
            _ = in_run("run-1", bytes_, signer).value
        assert caught.value.reason == reason


def test_signed_code_is_no_value() -> None:
    with signing_for(SIGNER, "run-1") as run:
        assert run is not None
        there = Pickled.sent(run.seal(lambda: 1, "function", ["one"]))
    with pytest.raises(UntrustedPayloadError) as caught:
        _ = there.value
    assert caught.value.reason == "swapped"


def test_without_a_key_it_does_not_leave_and_the_error_says_where_it_was() -> None:
    with pytest.raises(SerializationError, match=rf'result\["m"\] .*a pickle needs a signature.*set {VARIABLE}') as caught:
        codec.encode({"m": Pickled(1)}, name="result")
    assert caught.value.path == 'result["m"]'


def test_what_cannot_be_pickled_is_named() -> None:
    model = Model(3)
    model.lock = threading.Lock()  # type: ignore[attr-defined]
    with pytest.raises(SerializationError, match=r"\.lock is a _thread\.lock"):
        sent(Pickled(model))


def test_one_that_arrived_travels_on_unopened_within_its_run_and_signed_anew_into_another() -> None:
    data = sent(Pickled(Model(3)))
    there = in_run("run-1", data)
    assert sent(there) == data
    assert repr(there) == "Pickled(...)"
    other = in_run("run-2", sent(there, "run-2"))
    assert other.value.weight == 3


def test_nothing_is_signed_outside_of_a_run() -> None:
    assert current() is None
    with signing_for(None, "run-1"):
        assert current() is None


@task
async def train(weight: int) -> Pickled[Model]:
    return Pickled(Model(weight))


@task
def predict(train: Pickled[Model], shift: Pickled[Model]) -> int:
    return train.value.weight + shift.value.weight


@task
async def predict_later(ctx: TaskContext, train: Pickled[Model], shift: Pickled[Model]) -> int:
    await ctx.channel.set("kept", train)
    kept = await ctx.channel.get("kept")
    return train.value.weight + shift.value.weight + kept.value.weight


@pytest.mark.parametrize(("url", "key"), [("memory://", None), ("memory://?strict=1", "k1:correct-horse-battery-staple-and-more")])
async def test_it_goes_from_input_to_task_to_task_in_memory(url: str, key: str | None) -> None:
    async with WorkflowEngine(url, secret_key=key) as engine:
        result = await engine.execute(train >> predict_later, inputs={"weight": 3, "shift": Pickled(Model(10))})
    assert result.output == 16
    assert result[train].value.weight == 3


async def test_in_strict_memory_it_needs_a_key_as_it_will_on_workers() -> None:
    async with WorkflowEngine("memory://?strict=1") as engine:
        with pytest.raises(TaskFailedError, match="a pickle needs a signature"):
            await engine.execute(train, inputs={"weight": 3})
