"""A barrier: so many parties, and a door that opens once."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

import pytest

from graflow.backends.base import Backend, Coordinator
from graflow.errors import BackendUnavailableError, ConfigurationError, UnknownRunError
from tests.conformance.hands import Bench, a


@pytest.fixture
def barriers(backend: Backend) -> Coordinator:
    return backend.coordinator


async def test_it_opens_when_the_last_party_has_arrived(barriers: Coordinator) -> None:
    await barriers.create_barrier("g", 3)
    waiting = [asyncio.create_task(barriers.wait_barrier("g")) for _ in range(3)]
    assert await barriers.signal_barrier("g", "a") is False
    assert await barriers.signal_barrier("g", "b") is False
    await asyncio.sleep(0)
    assert not any(each.done() for each in waiting)
    assert await barriers.signal_barrier("g", "c") is True
    assert await asyncio.gather(*waiting) == [True] * 3


async def test_it_stays_open(barriers: Coordinator) -> None:
    await barriers.create_barrier("g", 1)
    assert await barriers.signal_barrier("g", "a") is True
    assert await barriers.wait_barrier("g") is True
    assert await barriers.wait_barrier("g", timeout=0) is True


async def test_a_party_that_arrives_twice_counts_once(barriers: Coordinator) -> None:
    await barriers.create_barrier("g", 2)
    assert await barriers.signal_barrier("g", "a") is False
    assert await barriers.signal_barrier("g", "a") is False
    assert await barriers.wait_barrier("g", timeout=0) is False
    assert await barriers.signal_barrier("g", "b") is True
    assert await barriers.signal_barrier("g", "b") is False


async def test_exactly_one_of_many_who_arrive_at_once_opens_it(barriers: Coordinator) -> None:
    await barriers.create_barrier("g", 50)
    opened = await asyncio.gather(*(barriers.signal_barrier("g", f"party {n % 50}") for n in range(100)))
    assert opened.count(True) == 1


async def test_whoever_waits_too_long_is_told_so_and_may_wait_again(barriers: Coordinator) -> None:
    await barriers.create_barrier("g", 1)
    assert await barriers.wait_barrier("g", timeout=0.05) is False
    waiting = asyncio.create_task(barriers.wait_barrier("g", timeout=20))
    await asyncio.sleep(0)
    await barriers.signal_barrier("g", "a")
    assert await waiting is True


async def test_creating_it_again_changes_nothing(barriers: Coordinator) -> None:
    await barriers.create_barrier("g", 2)
    await barriers.signal_barrier("g", "a")
    await barriers.create_barrier("g", 2)
    assert await barriers.signal_barrier("g", "b") is True


async def test_one_that_exists_is_not_opened_by_another_number_of_parties(barriers: Coordinator) -> None:
    """Two who chose the same name by chance hear of it, before one of them goes through a door that the other has opened."""
    await barriers.create_barrier("g", 2)
    with pytest.raises(ConfigurationError) as caught:
        await barriers.create_barrier("g", 5)
    assert str(caught.value) == (
        "barrier 'g' exists and is opened by 2 parties, not by 5; use another group_id, or give run_id= to keep the barriers of runs apart, "
        "or cleanup_barrier() it first"
    )
    assert caught.value.setting == "parties"
    await barriers.signal_barrier("g", "a")
    assert await barriers.signal_barrier("g", "b") is True


async def test_barriers_know_nothing_of_each_other(barriers: Coordinator) -> None:
    await barriers.create_barrier("g", 1)
    await barriers.create_barrier("h", 1)
    await barriers.signal_barrier("g", "a")
    assert await barriers.wait_barrier("h", timeout=1) is False


async def test_one_that_is_removed_lets_nobody_wait_for_ever(barriers: Coordinator) -> None:
    await barriers.create_barrier("g", 2)
    waiting = asyncio.create_task(barriers.wait_barrier("g"))
    await asyncio.sleep(0)
    await barriers.cleanup_barrier("g")
    assert await waiting is False
    await barriers.cleanup_barrier("g")  # again, and nothing happens
    await barriers.create_barrier("g", 1)
    assert await barriers.wait_barrier("g", timeout=1) is False
    assert await barriers.signal_barrier("g", "a") is True


async def test_a_wait_can_be_cancelled(barriers: Coordinator) -> None:
    await barriers.create_barrier("g", 1)
    waiting = [asyncio.create_task(barriers.wait_barrier("g")) for _ in range(2)]
    await asyncio.sleep(0)
    waiting[0].cancel()
    await asyncio.sleep(0)
    assert await barriers.signal_barrier("g", "a") is True
    assert await waiting[1] is True
    assert waiting[0].cancelled()


async def test_one_that_was_never_made_is_an_error(barriers: Coordinator) -> None:
    for call in (barriers.signal_barrier("g", "a"), barriers.wait_barrier("g")):
        with pytest.raises(ConfigurationError) as caught:
            await call
        assert str(caught.value) == "no barrier 'g': create_barrier('g', parties) comes first"


@pytest.mark.parametrize("parties", [0, -1])
async def test_one_for_nobody_is_an_error(barriers: Coordinator, parties: int) -> None:
    with pytest.raises(ConfigurationError, match=f"barrier 'g' wants at least one party, not {parties}"):
        await barriers.create_barrier("g", parties)


@pytest.mark.parametrize("parties", [2.5, True, "2", None])
async def test_parties_are_counted_in_whole_numbers(barriers: Coordinator, parties: Any) -> None:
    with pytest.raises(ConfigurationError, match="is no whole number; say how many open it") as caught:
        await barriers.create_barrier("g", parties)
    assert caught.value.setting == "parties"


@pytest.mark.parametrize("name", ["", 5, None, "\ud800"])
async def test_what_is_no_name_is_refused(barriers: Coordinator, name: Any) -> None:
    await barriers.create_barrier("g", 1)
    for setting, call in (
        ("group_id", barriers.create_barrier(name, 1)),
        ("group_id", barriers.signal_barrier(name, "a")),
        ("group_id", barriers.wait_barrier(name)),
        ("group_id", barriers.cleanup_barrier(name)),
        ("party", barriers.signal_barrier("g", name)),
    ):
        with pytest.raises(ConfigurationError) as caught:
            await call
        assert caught.value.setting == setting


@pytest.mark.parametrize("timeout", ["x", float("nan"), True])
async def test_a_wait_that_makes_no_sense_is_refused(barriers: Coordinator, timeout: Any) -> None:
    await barriers.create_barrier("g", 1)
    with pytest.raises(ConfigurationError, match=r"timeout=.*: give the seconds to wait, or None for as long as it takes") as caught:
        await barriers.wait_barrier("g", timeout)
    assert caught.value.setting == "timeout"


# ---- of a run ------------------------------------------------------------------------------------------------------


async def test_runs_that_use_one_name_have_a_barrier_each(bench: Bench) -> None:
    """Fault 4 of the past: two runs with one group name opened each other's barrier."""
    barriers = bench.coordinator
    for run, parties in (("r:1", 1), ("r", 2)):
        await bench.submit(a, run)
        await barriers.create_barrier("g", parties, run_id=run)
    await barriers.create_barrier("g", 3)
    assert await barriers.signal_barrier("g", "a", run_id="r:1") is True
    assert await barriers.signal_barrier("g", "a", run_id="r") is False
    waiting = asyncio.create_task(barriers.wait_barrier("g", run_id="r"))
    assert await barriers.wait_barrier("g", run_id="r:1") is True
    assert await barriers.signal_barrier("g", "b", run_id="r") is True
    assert await waiting is True
    assert await barriers.wait_barrier("g", timeout=0) is False


async def test_one_of_a_run_can_be_removed_and_made_anew(bench: Bench) -> None:
    barriers = bench.coordinator
    await bench.submit(a)
    await barriers.create_barrier("g", 2, run_id="r")
    waiting = asyncio.create_task(barriers.wait_barrier("g", run_id="r"))
    await asyncio.sleep(0)
    await barriers.cleanup_barrier("g", run_id="r")
    assert await waiting is False
    with pytest.raises(ConfigurationError, match=r"no barrier 'g': create_barrier\('g', parties, run_id='r'\) comes first"):
        await barriers.signal_barrier("g", "a", run_id="r")
    await barriers.create_barrier("g", 1, run_id="r")
    assert await barriers.signal_barrier("g", "a", run_id="r") is True


async def test_the_end_of_a_run_lets_nobody_wait_for_ever_at_its_barriers(bench: Bench) -> None:
    barriers = bench.coordinator
    await bench.submit(a)
    await barriers.create_barrier("g", 2, run_id="r")
    waiting = asyncio.create_task(barriers.wait_barrier("g", run_id="r"))
    await asyncio.sleep(0)
    await bench.succeed((await bench.fetch())[0], 1)
    assert await waiting is False
    for call in (
        barriers.create_barrier("g", 2, run_id="r"),
        barriers.signal_barrier("g", "a", run_id="r"),
        barriers.wait_barrier("g", run_id="r"),
    ):
        with pytest.raises(UnknownRunError, match="run 'r' is over") as caught:
            await call
        assert caught.value.run_id == "r"
    await barriers.cleanup_barrier("g", run_id="r")


async def test_a_run_that_is_made_anew_finds_no_barrier_of_the_one_before(bench: Bench) -> None:
    barriers = bench.coordinator
    await bench.submit(a)
    await barriers.create_barrier("g", 2, run_id="r")
    await barriers.cancel("r", "enough")
    assert await bench.submit(a, if_exists="rerun_failed") is True
    await barriers.create_barrier("g", 1, run_id="r")
    assert await barriers.signal_barrier("g", "a", run_id="r") is True


async def test_there_is_none_of_a_run_that_there_is_none_of(barriers: Coordinator) -> None:
    for call in (
        barriers.create_barrier("g", 2, run_id="nobody's"),
        barriers.signal_barrier("g", "a", run_id="nobody's"),
        barriers.wait_barrier("g", run_id="nobody's"),
    ):
        with pytest.raises(UnknownRunError, match='no run "nobody\'s"'):
            await call


# ---- the end of everything -----------------------------------------------------------------------------------------


async def test_closing_the_backend_lets_nobody_wait_for_ever(backend: Backend) -> None:
    await backend.coordinator.create_barrier("g", 2)
    waiting = asyncio.create_task(backend.coordinator.wait_barrier("g"))
    await asyncio.sleep(0)
    await backend.close()
    with suppress(BackendUnavailableError):  # a barrier on a server may still open: it is only that nobody here would hear of it
        assert await waiting is False
