"""The channel in memory: what it leaves behind, strict mode, and its end."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from graflow.backends.memory.channel import MemoryChannel
from graflow.errors import GraflowError, SerializationError
from graflow.wire.codec import roundtrip
from tests.conformance.conftest import shift_loop_clock


def timers() -> list[asyncio.TimerHandle]:
    scheduled: list[asyncio.TimerHandle] = asyncio.get_running_loop()._scheduled  # type: ignore[attr-defined]
    return [timer for timer in scheduled if not timer.cancelled() and "graflow" in str(timer._callback.__module__)]  # type: ignore[attr-defined]


async def start(*coroutines: Any) -> list[asyncio.Task[Any]]:
    tasks = [asyncio.create_task(coroutine) for coroutine in coroutines]
    await asyncio.sleep(0)
    return tasks


async def take(channel: MemoryChannel, **options: Any) -> None:
    async with channel.lock("k", **options):
        pass


async def test_it_can_be_read_without_waiting() -> None:
    channel = MemoryChannel(values={"b": [1], "a": 2})
    assert channel.peek("a") == 2
    assert channel.peek("c", 7) == 7
    assert channel.peek_keys() == ["a", "b"]
    channel.peek("b").append(2)
    assert channel.peek("b") == [1]


async def test_the_mapping_it_was_made_from_stays_its_owners() -> None:
    inputs = {"a": [1]}
    channel = MemoryChannel(values=inputs)
    await channel.append("a", 2)
    await channel.set("b", 1)
    assert inputs == {"a": [1]}


async def test_values_need_not_be_able_to_travel() -> None:
    channel = MemoryChannel()
    lock = threading.Lock()
    await channel.set("k", lock)
    assert await channel.get("k") is lock


async def test_a_strict_one_refuses_what_cannot_travel_and_stays_as_it_was() -> None:
    channel = MemoryChannel(seal=roundtrip)
    await channel.set("k", [1])
    for attempt in (channel.set("k", [threading.Lock()]), channel.append("k", 2, threading.Lock())):
        with pytest.raises(SerializationError):
            await attempt
    assert await channel.get("k") == [1]


async def test_a_strict_one_shares_nothing_at_any_depth() -> None:
    channel = MemoryChannel(seal=roundtrip)
    inner = {"n": 1}
    await channel.set("k", [inner])
    inner["n"] = 2
    (await channel.get("k"))[0]["n"] = 3
    assert await channel.get("k") == [{"n": 1}]


async def test_times_to_live_take_no_timers() -> None:
    channel = MemoryChannel()
    for n in range(100):
        await channel.set(f"k{n}", n, ttl=60)
    assert timers() == []


async def test_what_has_expired_is_freed_by_the_next_operation_of_any_kind() -> None:
    channel, pass_time = MemoryChannel(), shift_loop_clock()
    for n in range(100):
        await channel.set(f"k{n}", n, ttl=60)
    await pass_time(61)
    await channel.get("something else")
    assert (channel._values, channel._deadlines, channel._expiries) == ({}, {}, [])


async def test_setting_one_key_again_and_again_does_not_grow() -> None:
    channel = MemoryChannel()
    for n in range(10_000):
        await channel.set("k", n, ttl=3600)
    assert len(channel._expiries) < 100


async def test_waits_that_have_ended_leave_nothing_behind() -> None:
    channel, pass_time = MemoryChannel(), shift_loop_clock()
    woken, late, cancelled = await start(channel.wait("a"), channel.wait("b", 5), channel.wait("c", 500))
    cancelled.cancel()
    await channel.set("a", 1)
    await pass_time(6)
    await asyncio.gather(woken, late, cancelled, return_exceptions=True)
    assert channel._waiters == {}
    assert timers() == []


async def test_locks_that_nobody_holds_leave_nothing_behind() -> None:
    channel, pass_time = MemoryChannel(), shift_loop_clock()
    async with channel.lock("k", ttl=100):
        assert timers() == []
        late, cancelled, patient = await start(take(channel, wait=5), take(channel, wait=500), take(channel))
        cancelled.cancel()
        await pass_time(6)
        assert len(timers()) == 1
        assert len(channel._locks._locks["k"].queue) == 1
    await asyncio.gather(late, cancelled, patient, return_exceptions=True)
    assert channel._locks._locks == {}
    assert timers() == []


async def test_who_comes_just_when_a_lock_lapses_does_not_overtake_who_waits() -> None:
    channel = MemoryChannel()
    loop = asyncio.get_running_loop()
    await channel.lock("k", ttl=5).__aenter__()
    (patient,) = await start(take(channel))
    now = loop.time() + 6
    loop.time = lambda: now  # type: ignore[method-assign]
    with pytest.raises(TimeoutError):
        await take(channel, wait=0)
    await patient


async def test_a_lock_object_is_not_entered_twice_at_once() -> None:
    channel = MemoryChannel()
    lock = channel.lock("k")
    async with lock:
        with pytest.raises(RuntimeError, match="anew"):
            await lock.__aenter__()
    async with lock:
        pass


async def test_closing_turns_away_who_waits_and_leaves_no_timer() -> None:
    channel = MemoryChannel()
    await channel.set("there", 1, ttl=60)
    held = channel.lock("k", ttl=60)
    await held.__aenter__()
    waiting = await start(channel.wait("a"), channel.wait("b", 60), take(channel), take(channel, wait=60))
    channel.close()
    for outcome in await asyncio.gather(*waiting, return_exceptions=True):
        assert isinstance(outcome, GraflowError)
        assert "the run has ended" in str(outcome)
    assert timers() == []
    assert channel._waiters == {}
    await held.__aexit__(None, None, None)
    assert channel._locks._locks == {}


async def test_a_closed_one_can_still_be_used_by_who_cleans_up_but_not_waited_on() -> None:
    channel = MemoryChannel()
    channel.close()
    await channel.set("k", 1)
    assert await channel.wait("k") == 1
    await take(channel)
    with pytest.raises(GraflowError, match="no value under 'other'"):
        await channel.wait("other")
    async with channel.lock("k"):
        with pytest.raises(GraflowError, match="lock 'k'"):
            await take(channel)
    assert timers() == []


async def test_a_task_cancelled_while_the_channel_closes_is_just_cancelled() -> None:
    channel = MemoryChannel()
    (waiter,) = await start(channel.wait("a"))
    channel.close()
    waiter.cancel()
    await asyncio.gather(waiter, return_exceptions=True)
    assert waiter.cancelled()


async def test_many_waiters_for_one_lock_are_served_quickly() -> None:
    channel = MemoryChannel()
    loop = asyncio.get_running_loop()
    before = loop.time()
    await asyncio.gather(*(take(channel, wait=60) for _ in range(5000)))
    assert loop.time() - before < 5
