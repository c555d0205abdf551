"""A channel holds values by key: typed, atomic, for as long as it was told to."""

from __future__ import annotations

import asyncio
import datetime
from collections import Counter, OrderedDict
from decimal import Decimal
from typing import Any

import anyio.to_thread
import pytest

from graflow.core.channel import Channel, SyncChannel, TypedChannel
from graflow.errors import ChannelTypeError
from tests.conformance.conftest import PassTime, Start
from tests.wire.shapes import Colour, Item, Pair, Point, Row, same

# ---- values --------------------------------------------------------------------------------------------------------


async def test_a_missing_key_gives_the_default(channel: Channel) -> None:
    assert await channel.get("k") is None
    assert await channel.get("k", 7) == 7
    assert await channel.exists("k") is False
    assert await channel.delete("k") is False


async def test_a_value_stays_until_it_is_replaced_or_deleted(channel: Channel) -> None:
    await channel.set("k", 1)
    await channel.set("k", 2)
    assert await channel.get("k", 7) == 2
    assert await channel.exists("k") is True
    assert await channel.delete("k") is True
    assert await channel.get("k", 7) == 7


async def test_none_is_a_value(channel: Channel) -> None:
    await channel.set("k", None)
    assert await channel.get("k", 7) is None
    assert await channel.exists("k")


async def test_keys_are_sorted_and_clear_removes_them(channel: Channel) -> None:
    for key in ("b", "c", "a", "", "with space"):
        await channel.set(key, 1)
    assert await channel.keys() == ["", "a", "b", "c", "with space"]
    await channel.clear()
    assert await channel.keys() == []
    assert await channel.get("a") is None


@pytest.mark.parametrize(
    "value",
    [
        {"a": [1, 2.5, None, True, b"x"], "b": {"c": "d"}},
        (1, (2, "x")),
        {1, 2},
        frozenset({("a", 1)}),
        {(1, 2): {3: 4}},
        datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC),
        datetime.timedelta(days=1),
        Decimal("1.10"),
        10**40,
        1j,
        Colour.GREEN,
        Row(1, [Point(1, 2)]),
        Item(1, ["a"]),
        Pair(1, 2),
        OrderedDict(b=1, a=2),
        Counter("abca"),
        bytearray(b"ab"),
        "\N{SNOWMAN}",
        b"\x00\xff",
        -0.0,
    ],
)
async def test_types_survive(channel: Channel, value: Any) -> None:
    await channel.set("k", value)
    assert same(await channel.get("k"), value)
    await channel.append("l", value)
    assert same(await channel.get("l"), [value])


@pytest.mark.parametrize("value", [[1], {"a": 1}, {1}, bytearray(b"a")])
async def test_changing_what_was_put_in_or_taken_out_changes_nothing(channel: Channel, value: Any) -> None:
    mine = value.copy()
    await channel.set("k", mine)
    mine.clear()
    taken = await channel.get("k")
    taken.clear()
    waited = await channel.wait("k")
    waited.clear()
    assert await channel.get("k") == value


@pytest.mark.parametrize("key", [1, None, b"k", ("k",)])
async def test_a_key_is_text(channel: Channel, key: Any) -> None:
    calls = (channel.get, channel.exists, channel.delete, channel.append, channel.atomic_add, channel.wait)
    for call in (*calls, lambda key: channel.set(key, 1)):
        with pytest.raises(ChannelTypeError, match="keys are text") as caught:
            await call(key)
        assert (caught.value.key, caught.value.expected) == (repr(key), "str")
    with pytest.raises(ChannelTypeError):
        async with channel.lock(key):
            pass


# ---- lists and numbers ---------------------------------------------------------------------------------------------


async def test_values_are_appended_and_prepended_in_the_order_given(channel: Channel) -> None:
    assert await channel.append("k", 3) == 1
    assert await channel.append("k", 4, 5) == 3
    assert await channel.prepend("k", 1, 2) == 5
    assert await channel.get("k") == [1, 2, 3, 4, 5]


async def test_prepend_makes_the_list_that_is_missing(channel: Channel) -> None:
    assert await channel.prepend("k", 1, 2) == 2
    assert await channel.get("k") == [1, 2]


async def test_appending_nothing_tells_the_length_and_makes_no_list(channel: Channel) -> None:
    assert await channel.append("k") == 0
    assert not await channel.exists("k")
    await channel.append("k", 1)
    assert await channel.append("k") == 1


async def test_a_list_that_was_set_can_be_appended_to_and_stays_its_owners(channel: Channel) -> None:
    mine = [1]
    await channel.set("k", mine)
    await channel.append("k", 2)
    before = await channel.get("k")
    await channel.append("k", 3)
    assert (mine, before, await channel.get("k")) == ([1], [1, 2], [1, 2, 3])


async def test_a_number_is_added_to_from_0(channel: Channel) -> None:
    assert await channel.atomic_add("k") == 1
    assert await channel.atomic_add("k", 5) == 6
    assert await channel.atomic_add("k", -10) == -4
    assert await channel.get("k") == -4
    total = await channel.atomic_add("k", 0.5)
    assert total == -3.5
    await channel.set("k", 40)
    assert same(await channel.atomic_add("k", 2), 42)


@pytest.mark.parametrize("value", ["text", (1,), {"a": 1}, 7, None, {1}])
async def test_appending_to_what_is_no_list_is_an_error_and_changes_nothing(channel: Channel, value: Any) -> None:
    await channel.set("k", value)
    for call in (channel.append, channel.prepend):
        with pytest.raises(ChannelTypeError, match="a list under 'k'") as caught:
            await call("k", 1)
        assert (caught.value.key, caught.value.expected, caught.value.got) == ("k", "a list", type(value).__name__)
    assert await channel.get("k") == value


@pytest.mark.parametrize("value", ["1", True, [1], None, 1j, Decimal(1)])
async def test_adding_to_or_with_what_is_no_number_is_an_error_and_changes_nothing(channel: Channel, value: Any) -> None:
    await channel.set("k", value)
    with pytest.raises(ChannelTypeError, match="a number under 'k'") as caught:
        await channel.atomic_add("k", 1)
    assert (caught.value.key, caught.value.expected, caught.value.got) == ("k", "a number", type(value).__name__)
    assert same(await channel.get("k"), value)
    with pytest.raises(ChannelTypeError):
        await channel.atomic_add("other", value)
    assert not await channel.exists("other")


async def test_500_adders_lose_nothing(channel: Channel) -> None:
    async def add() -> None:
        for _ in range(100):
            await channel.atomic_add("k")
            await asyncio.sleep(0)

    await asyncio.gather(*(add() for _ in range(500)))
    assert await channel.get("k") == 50_000


async def test_concurrent_appenders_lose_nothing_and_keep_their_own_order(channel: Channel) -> None:
    async def append(who: int) -> None:
        for n in range(20):
            await channel.append("k", [who, n])
            await asyncio.sleep(0)

    await asyncio.gather(*(append(who) for who in range(50)))
    items = await channel.get("k")
    assert len(items) == 1000
    for who in range(50):
        assert [n for name, n in items if name == who] == list(range(20))


# ---- times to live -------------------------------------------------------------------------------------------------


async def test_a_value_is_gone_when_its_time_is_up(channel: Channel, pass_time: PassTime) -> None:
    await channel.set("short", 1, ttl=5)
    await channel.set("long", 2, ttl=50.0)
    await channel.set("for good", 3)
    await pass_time(4)
    assert await channel.keys() == ["for good", "long", "short"]
    await pass_time(2)
    assert await channel.get("short", "gone") == "gone"
    assert not await channel.exists("short")
    assert await channel.delete("short") is False
    assert await channel.keys() == ["for good", "long"]


async def test_setting_again_makes_the_earlier_time_void(channel: Channel, pass_time: PassTime) -> None:
    await channel.set("kept", 1, ttl=5)
    await channel.set("kept", 2)
    await channel.set("longer", 1, ttl=5)
    await channel.set("longer", 2, ttl=20)
    await channel.set("again", 1, ttl=5)
    await channel.delete("again")
    await channel.set("again", 2)
    await pass_time(10)
    assert await channel.keys() == ["again", "kept", "longer"]
    await pass_time(11)
    assert await channel.keys() == ["again", "kept"]


async def test_adding_and_appending_leave_the_time_as_it_was(channel: Channel, pass_time: PassTime) -> None:
    await channel.set("n", 1, ttl=5)
    await channel.set("l", [1], ttl=5)
    await pass_time(3)
    await channel.atomic_add("n")
    await channel.append("l", 2)
    await pass_time(3)
    assert await channel.atomic_add("n") == 1
    assert await channel.append("l", 2) == 1


@pytest.mark.parametrize("wait", [float("nan"), "x", True, 10**400], ids=lambda value: repr(value)[:9])
async def test_a_wait_that_makes_no_sense_is_refused(channel: Channel, wait: Any) -> None:
    with pytest.raises(ValueError, match=r"timeout=.*: give the seconds to wait, or None for as long as it takes"):
        await channel.wait("k", timeout=wait)
    with pytest.raises(ValueError, match=r"wait=.*: give the seconds to wait, or None for as long as it takes"):
        async with channel.lock("k", wait=wait):
            pass


@pytest.mark.parametrize("ttl", [0, -1, float("nan"), float("inf"), "x", True])
async def test_a_time_to_live_that_makes_no_sense_is_refused(channel: Channel, ttl: Any) -> None:
    with pytest.raises(ValueError, match="ttl="):
        await channel.set("k", 1, ttl=ttl)
    with pytest.raises(ValueError, match="ttl="):
        async with channel.lock("k", ttl=ttl):
            pass
    assert not await channel.exists("k")


# ---- waiting -------------------------------------------------------------------------------------------------------


async def test_waiting_for_what_is_there_gives_it_at_once(channel: Channel) -> None:
    await channel.set("k", None)
    assert await channel.wait("k") is None
    assert await channel.wait("k", 0) is None


async def test_a_value_wakes_everyone_who_waits_for_its_key_and_nobody_else(channel: Channel, start: Start) -> None:
    waiters = await start(*(channel.wait("k") for _ in range(50)))
    (other,) = await start(channel.wait("other"))
    await channel.set("k", [1])
    results = await asyncio.gather(*waiters)
    assert results == [[1]] * 50
    assert len({id(result) for result in results}) == 50
    assert not other.done()
    await channel.set("other", 2)
    assert await other == 2


@pytest.mark.parametrize("operation", ["append", "prepend", "atomic_add"])
async def test_whatever_makes_a_key_wakes_who_waits_for_it(channel: Channel, operation: str, start: Start) -> None:
    (waiter,) = await start(channel.wait("k"))
    await getattr(channel, operation)("k", 3)
    assert await waiter == (3 if operation == "atomic_add" else [3])


async def test_waiting_ends_with_the_builtin_timeout_error(channel: Channel, pass_time: PassTime, start: Start) -> None:
    (waiter,) = await start(channel.wait("k", 5.0))
    await pass_time(4)
    assert not waiter.done()
    await pass_time(2)
    with pytest.raises(TimeoutError, match="'k' within 5"):
        await waiter
    with pytest.raises(TimeoutError):
        await channel.wait("k", 0)


async def test_a_value_whose_time_is_up_is_waited_for(channel: Channel, pass_time: PassTime, start: Start) -> None:
    await channel.set("k", 1, ttl=5)
    await pass_time(6)
    (waiter,) = await start(channel.wait("k"))
    assert not waiter.done()
    await channel.set("k", 2)
    assert await waiter == 2


async def test_a_cancelled_wait_leaves_the_others_alone(channel: Channel, start: Start) -> None:
    first, second = await start(channel.wait("k"), channel.wait("k"))
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    await channel.set("k", 1)
    assert await second == 1


# ---- locks ---------------------------------------------------------------------------------------------------------


async def test_a_lock_excludes(channel: Channel) -> None:
    inside = 0

    async def work() -> None:
        nonlocal inside
        for _ in range(5):
            async with channel.lock("k"):
                inside += 1
                assert inside == 1
                total = await channel.get("n", 0)
                await asyncio.sleep(0)
                await channel.set("n", total + 1)
                inside -= 1

    await asyncio.gather(*(work() for _ in range(20)))
    assert await channel.get("n") == 100


async def test_locks_of_different_names_are_independent_and_no_keys(channel: Channel) -> None:
    async with channel.lock("a", wait=0), channel.lock("b", wait=0):
        assert await channel.keys() == []
        await channel.set("a", 1)
        await channel.clear()
        with pytest.raises(TimeoutError):
            async with channel.lock("a", wait=0):
                pass


async def hold(channel: Channel, name: str, log: list[str], until: asyncio.Event, **options: float) -> None:
    async with channel.lock("k", **options):
        log.append(name)
        await until.wait()


async def test_who_waited_longest_is_next(channel: Channel, start: Start) -> None:
    log: list[str] = []
    go, done = asyncio.Event(), asyncio.Event()
    done.set()
    first = await start(hold(channel, "first", log, go))
    rest = [*await start(hold(channel, "second", log, done)), *await start(hold(channel, "third", log, done))]
    assert log == ["first"]
    go.set()
    await asyncio.gather(*first, *rest)
    assert log == ["first", "second", "third"]


async def test_a_lock_is_waited_for_as_long_as_one_is_told(channel: Channel, pass_time: PassTime, start: Start) -> None:
    async with channel.lock("k", ttl=100):
        (waiter,) = await start(hold(channel, "waiter", [], asyncio.Event(), wait=5))
        await pass_time(4)
        assert not waiter.done()
        await pass_time(2)
        with pytest.raises(TimeoutError):
            await waiter
        with pytest.raises(TimeoutError):
            async with channel.lock("k", wait=0):
                pass
    async with channel.lock("k", wait=0):
        pass


async def test_a_lock_whose_holder_vanished_is_free_when_its_time_is_up(channel: Channel, pass_time: PassTime, start: Start) -> None:
    lost = channel.lock("k", ttl=5)
    await lost.__aenter__()
    log: list[str] = []
    done = asyncio.Event()
    done.set()
    (waiter,) = await start(hold(channel, "waiter", log, done))
    await pass_time(4)
    assert log == []
    await pass_time(2)
    await waiter
    assert log == ["waiter"]


async def test_a_lock_of_a_vanished_holder_can_be_taken_by_who_comes_later(channel: Channel, pass_time: PassTime) -> None:
    lost = channel.lock("k", ttl=5)
    await lost.__aenter__()
    await pass_time(6)
    async with channel.lock("k", wait=0):
        pass


async def test_a_holder_that_was_too_slow_does_not_free_the_next_ones_lock(
    channel: Channel, pass_time: PassTime, caplog: pytest.LogCaptureFixture
) -> None:
    slow, next_one = channel.lock("k", ttl=5), channel.lock("k", ttl=60)
    await slow.__aenter__()
    await pass_time(6)
    await next_one.__aenter__()
    await slow.__aexit__(None, None, None)
    assert "held for longer than its ttl of 5 s" in caplog.text
    with pytest.raises(TimeoutError):
        async with channel.lock("k", wait=0):
            pass
    caplog.clear()
    await next_one.__aexit__(None, None, None)
    assert caplog.text == ""
    async with channel.lock("k", wait=0):
        pass


async def test_the_time_of_a_lock_runs_from_when_it_was_got(channel: Channel, pass_time: PassTime, start: Start) -> None:
    go = asyncio.Event()
    log: list[str] = []
    async with channel.lock("k", ttl=100):
        (second,) = await start(hold(channel, "second", log, go, ttl=5))
        await pass_time(20)
    await pass_time(4)
    assert log == ["second"]
    with pytest.raises(TimeoutError):
        async with channel.lock("k", wait=0):
            pass
    go.set()
    await second


async def test_a_lock_is_freed_by_an_error_inside(channel: Channel) -> None:
    with pytest.raises(LookupError):
        async with channel.lock("k"):
            raise LookupError
    async with channel.lock("k", wait=0):
        pass


async def test_a_lock_is_not_reentrant(channel: Channel) -> None:
    async with channel.lock("k"):
        with pytest.raises(TimeoutError):
            async with channel.lock("k", wait=0):
                pass


async def test_cancelling_who_waits_for_a_lock_passes_it_on(channel: Channel, start: Start) -> None:
    log: list[str] = []
    done = asyncio.Event()
    done.set()
    holder = channel.lock("k")
    await holder.__aenter__()
    first, second = await start(hold(channel, "first", log, done), hold(channel, "second", log, done))
    first.cancel()
    await holder.__aexit__(None, None, None)
    with pytest.raises(asyncio.CancelledError):
        await first
    await second
    assert log == ["second"]


async def test_cancelling_just_as_the_lock_is_given_passes_it_on(channel: Channel, start: Start) -> None:
    log: list[str] = []
    done = asyncio.Event()
    done.set()
    holder = channel.lock("k")
    await holder.__aenter__()
    first, second = await start(hold(channel, "first", log, done), hold(channel, "second", log, done))
    await holder.__aexit__(None, None, None)
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    await second
    assert log[-1] == "second"
    async with channel.lock("k", wait=0):
        pass


# ---- the views of it -----------------------------------------------------------------------------------------------


class FromThread:
    """Runs the channel's coroutines on the loop for a thread."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()

    def __call__(self, function: Any, /, *args: Any) -> Any:
        async def call() -> Any:
            return await function(*args)

        return asyncio.run_coroutine_threadsafe(call(), self._loop).result(20)


async def test_threads_lose_nothing_through_a_sync_channel(channel: Channel) -> None:
    shared = SyncChannel(channel, FromThread())

    def work() -> None:
        for n in range(25):
            shared.atomic_add("n")
            shared.append("l", n)
            with shared.lock("k", wait=20.0):
                shared.set("m", shared.get("m", 0) + 1)

    async with anyio.create_task_group() as group:
        for _ in range(8):
            group.start_soon(anyio.to_thread.run_sync, work)
    assert [await channel.get("n"), await channel.get("m"), len(await channel.get("l"))] == [200, 200, 200]


async def test_a_thread_can_wait_for_a_key(channel: Channel) -> None:
    shared = SyncChannel(channel, FromThread())

    def work() -> Any:
        with pytest.raises(TimeoutError):
            shared.wait("k", 0)
        shared.set("asking", True)
        return shared.wait("k", 20.0)

    waiter = asyncio.create_task(anyio.to_thread.run_sync(work))
    await channel.wait("asking")
    await channel.set("k", (1, 2))
    assert await waiter == (1, 2)


async def test_a_typed_channel_gives_values_of_its_type(channel: Channel) -> None:
    typed = TypedChannel(channel, Row)
    await typed.set("k", Row(1))
    assert await typed.get("k") == Row(1)
    await channel.set("k", {"id": 2})
    assert await typed.get("k") == Row(2)
    await channel.set("k", "text")
    with pytest.raises(ChannelTypeError):
        await typed.get("k")
