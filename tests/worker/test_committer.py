"""Outcomes leave at once when nothing is under way, and together when something is."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from graflow.core.outcome import Failure
from graflow.errors import BackendUnavailableError
from graflow.worker.committer import LARGEST, Committer
from tests.conformance.hands import Hands
from tests.engine.support import turns


class SlowCoordinator:
    """Settles when it is told to. Deliveries and outcomes are texts here: nobody looks into them."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self._commits: list[asyncio.Future[list[str]]] = []

    async def settle(self, settled: Sequence[tuple[Any, Any]], slots: object) -> list[Any]:
        self.batches.append([delivery for delivery, _ in settled])
        commit = asyncio.get_running_loop().create_future()
        self._commits.append(commit)
        return await commit

    async def finish(self, *found: str, error: BaseException | None = None) -> None:
        """Let the commit that is under way come back, with new work or with an error."""
        commit = self._commits[-1]
        if error is None:
            commit.set_result(list(found))
        else:
            commit.set_exception(error)
        await turns(3)


class Bench:
    def __init__(self) -> None:
        self.coordinator = SlowCoordinator()
        self.begun: list[Any] = []
        self.committer = Committer(self.coordinator, Hands(), self.begun.extend)  # type: ignore[arg-type]
        self.tasks: dict[str, asyncio.Task[list[Any]]] = {}

    async def commit(self, *names: str) -> None:
        for name in names:
            self.tasks[name] = asyncio.create_task(self.committer.commit(name, None))  # type: ignore[arg-type]
        await turns(3)


@pytest.fixture
def bench() -> Bench:
    return Bench()


async def test_with_nothing_under_way_an_outcome_leaves_at_once(bench: Bench) -> None:
    await bench.commit("a")
    assert bench.coordinator.batches == [["a"]]
    await bench.coordinator.finish("next")
    assert await bench.tasks["a"] == ["next"]


async def test_what_is_ready_meanwhile_travels_together_in_the_next_one(bench: Bench) -> None:
    await bench.commit("a")
    await bench.commit("b", "c", "d")
    assert bench.coordinator.batches == [["a"]]
    assert [await bench.tasks[name] for name in "bcd"] == [[]] * 3  # they need not wait: the leader takes it from here
    await bench.coordinator.finish("x")
    assert bench.coordinator.batches == [["a"], ["b", "c", "d"]]
    await bench.commit("e")
    await bench.coordinator.finish("y", "z")
    assert bench.coordinator.batches == [["a"], ["b", "c", "d"], ["e"]]
    assert not bench.tasks["a"].done()
    await bench.coordinator.finish()
    assert await bench.tasks["a"] == ["x", "y", "z"]
    await bench.commit("f")
    assert bench.coordinator.batches[-1] == ["f"]
    await bench.coordinator.finish()


async def test_no_batch_is_larger_than_it_may_be(bench: Bench) -> None:
    await bench.commit("first", *(f"t{n}" for n in range(LARGEST + 10)))
    for _ in range(3):
        await bench.coordinator.finish()
    assert [len(batch) for batch in bench.coordinator.batches] == [1, LARGEST, 10]
    assert [name for batch in bench.coordinator.batches for name in batch] == ["first", *(f"t{n}" for n in range(LARGEST + 10))]


@pytest.mark.parametrize("cancelled", [True, False])
async def test_a_leader_that_is_cut_off_takes_nobody_elses_outcome_along(bench: Bench, cancelled: bool) -> None:
    await bench.commit("a", "b", "c")
    if cancelled:
        bench.tasks["a"].cancel()
        await turns(3)
    else:
        await bench.coordinator.finish(error=BackendUnavailableError("gone"))
    assert bench.coordinator.batches == [["a"], ["b", "c"]]
    with pytest.raises((BackendUnavailableError, asyncio.CancelledError)):
        await bench.tasks["a"]
    await bench.commit("d")
    await bench.coordinator.finish("x")
    assert bench.coordinator.batches == [["a"], ["b", "c"], ["d"]]
    flushing = asyncio.create_task(bench.committer.flush())
    await turns(3)
    assert not flushing.done()
    await bench.coordinator.finish("y")
    await flushing
    assert bench.begun == ["x", "y"]  # what came back when nobody was there is begun
    await bench.commit("e")
    assert bench.coordinator.batches[-1] == ["e"]
    await bench.coordinator.finish()


async def test_what_had_come_back_to_a_leader_that_is_cut_off_is_begun(bench: Bench) -> None:
    await bench.commit("a", "b")
    await bench.coordinator.finish("x")
    bench.tasks["a"].cancel()
    await turns(3)
    assert bench.begun == ["x"]
    await bench.commit("c")
    assert bench.coordinator.batches == [["a"], ["b"], ["c"]]
    await bench.coordinator.finish()
    await bench.committer.flush()


# ---- what cannot be written ----------------------------------------------------------------------------------------


class PickyCoordinator:
    """Writes none of a batch that one of the poisonous is in; failures of them too, where it is ``hopeless``."""

    def __init__(self, *poisonous: str, hopeless: bool = False) -> None:
        self.poisonous = poisonous
        self.hopeless = hopeless
        self.written: dict[str, Any] = {}
        self.gates: Iterator[asyncio.Event] = iter(())
        self.errors: list[Exception] = []

    async def settle(self, settled: Sequence[tuple[Any, Any]], slots: object) -> list[Any]:
        await next(self.gates, passable()).wait()
        if self.errors:
            raise self.errors.pop(0)
        for delivery, outcome in settled:
            if delivery.spec.task_id in self.poisonous and (self.hopeless or type(outcome) is not Failure):
                raise ValueError("cannot convert float NaN to integer")
        self.written.update((delivery.spec.task_id, outcome) for delivery, outcome in settled)
        return []


def passable() -> asyncio.Event:
    event = asyncio.Event()
    event.set()
    return event


def delivery(name: str) -> Any:
    return SimpleNamespace(spec=SimpleNamespace(task_id=name, attempt=1, run_id=f"run-{name}"))


async def committed(coordinator: PickyCoordinator, *names: str) -> Committer:
    """The first leads, and the others are in one batch behind it."""
    gate = asyncio.Event()
    coordinator.gates = iter([gate])
    committer = Committer(coordinator, Hands(), lambda found: None)  # type: ignore[arg-type]
    commits = [asyncio.create_task(committer.commit(delivery(name), None)) for name in names]
    await turns(3)
    gate.set()
    for result in await asyncio.gather(*commits, return_exceptions=True):
        assert result == [] or isinstance(result, BackendUnavailableError)
    await committer.flush()
    return committer


@pytest.mark.parametrize("poison", ["a", "b", "c", "e"])
async def test_an_outcome_that_cannot_be_written_fails_its_task_and_the_rest_of_its_batch_is_written(poison: str) -> None:
    coordinator = PickyCoordinator(poison)
    await committed(coordinator, *"abcde")
    failed = coordinator.written.pop(poison)
    assert coordinator.written == {name: None for name in "abcde" if name != poison}
    assert failed.error.message == f"the outcome of task {poison!r} cannot be written: ValueError: cannot convert float NaN to integer"


async def test_many_of_them_are_each_failed() -> None:
    coordinator = PickyCoordinator("b", "c", "e")
    committer = await committed(coordinator, *"abcdef")
    assert {name for name, outcome in coordinator.written.items() if outcome is not None} == {"b", "c", "e"}
    assert sorted(coordinator.written) == list("abcdef")
    assert await committer.commit(delivery("g"), None) == []
    assert coordinator.written["g"] is None


async def test_what_cannot_even_be_failed_is_told_of_and_keeps_nobody(caplog: pytest.LogCaptureFixture) -> None:
    coordinator = PickyCoordinator("c", hopeless=True)
    await committed(coordinator, *"abcde")
    assert sorted(coordinator.written) == list("abde")
    assert "task c of run run-c cannot even be failed" in caplog.text


async def test_an_error_that_does_not_come_again_fails_nobody() -> None:
    coordinator = PickyCoordinator()
    coordinator.errors = [RuntimeError("once")]
    await committed(coordinator, *"abc")
    assert coordinator.written == dict.fromkeys("abc")


async def test_those_who_wait_for_their_turn_alone_are_not_lost_when_the_backend_does_not_answer() -> None:
    """The backend finds those by itself of which it was told; of those in line it was not."""
    coordinator = PickyCoordinator()
    coordinator.errors = [RuntimeError("the leader's"), BackendUnavailableError("gone"), BackendUnavailableError("still gone")]
    await committed(coordinator, *"abcd")
    assert sorted(coordinator.written) == []
    coordinator.errors = [RuntimeError("once"), BackendUnavailableError("gone")]
    await committed(coordinator, *"abcd")
    assert sorted(coordinator.written) == ["b", "c", "d"]
