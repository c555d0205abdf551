"""Outcomes leave at once when nothing is under way, and together when something is."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

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
        await bench.coordinator.finish(error=ConnectionError("gone"))
    assert bench.coordinator.batches == [["a"], ["b", "c"]]
    with pytest.raises((ConnectionError, asyncio.CancelledError)):
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
