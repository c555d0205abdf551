"""A barrier: so many parties, and a door that opens once."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest

from graflow.backends.base import Backend, Coordinator
from graflow.errors import BackendUnavailableError, ConfigurationError


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
    assert await barriers.wait_barrier("g", timeout=5) is False
    waiting = asyncio.create_task(barriers.wait_barrier("g", timeout=5))
    await asyncio.sleep(1)
    await barriers.signal_barrier("g", "a")
    assert await waiting is True


async def test_creating_it_again_changes_nothing(barriers: Coordinator) -> None:
    await barriers.create_barrier("g", 2)
    await barriers.signal_barrier("g", "a")
    await barriers.create_barrier("g", 5)
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


async def test_closing_the_backend_lets_nobody_wait_for_ever(backend: Backend) -> None:
    await backend.coordinator.create_barrier("g", 2)
    waiting = asyncio.create_task(backend.coordinator.wait_barrier("g"))
    await asyncio.sleep(0)
    await backend.close()
    with suppress(BackendUnavailableError):  # a barrier on a server may still open: it is only that nobody here would hear of it
        assert await waiting is False
