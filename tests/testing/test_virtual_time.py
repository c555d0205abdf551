"""The clock that tests own, and what it does to the event loop."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from graflow.errors import ConfigurationError
from graflow.testing import VirtualClock, looptime

STEERED = ("time", "call_at", "run_in_executor")


@pytest.fixture
async def clock() -> AsyncIterator[VirtualClock]:
    with VirtualClock() as clock:
        yield clock


@pytest.fixture
def quick_tick(monkeypatch: pytest.MonkeyPatch) -> float:
    """Announced work counts as time sooner, so that tests of it are quick."""
    monkeypatch.setattr(looptime, "TICK", 0.02)
    return 0.02


def steered_attributes(loop: asyncio.AbstractEventLoop) -> list[str]:
    selector: Any = loop._selector  # type: ignore[attr-defined]
    return [name for name in STEERED if name in vars(loop)] + [name for name in ("select",) if name in vars(selector)]


class Spent:
    """Real seconds spent in a block."""

    def __enter__(self) -> Spent:
        self._began = time.perf_counter()
        return self

    def __exit__(self, *_: object) -> None:
        self.seconds = time.perf_counter() - self._began


# ---- time passes without anybody waiting ----


async def test_an_hour_of_sleep_takes_no_time_and_is_exactly_an_hour(clock: VirtualClock) -> None:
    began = clock.monotonic()
    with Spent() as spent:
        await asyncio.sleep(3600)
    assert clock.monotonic() - began == 3600
    assert spent.seconds < 1


async def test_both_readings_and_the_loop_move_together(clock: VirtualClock) -> None:
    loop = asyncio.get_running_loop()
    now, monotonic = clock.now(), clock.monotonic()
    assert monotonic == loop.time()
    assert abs(now - time.time()) < 60
    await asyncio.sleep(86_400 * 30)  # asyncio itself never waits for longer than a day at a time
    assert clock.now() - now == clock.monotonic() - monotonic == loop.time() - monotonic == 86_400 * 30


async def test_time_stands_still_while_code_runs(clock: VirtualClock) -> None:
    began = clock.monotonic()
    for _ in range(1000):
        await asyncio.sleep(0)
    assert clock.monotonic() == began


async def test_nested_timeouts_run_out_at_their_times_and_leave_the_rest_alone(clock: VirtualClock) -> None:
    began = clock.monotonic()
    async with asyncio.timeout(7200):
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.wait_for(asyncio.Event().wait(), 5000), 3600)
        await asyncio.sleep(3599)
    assert clock.monotonic() - began == 7199


async def test_what_is_done_before_its_timeout_does_not_time_out(clock: VirtualClock) -> None:
    async with asyncio.timeout(10):
        await asyncio.sleep(9.999)


async def test_a_cancelled_timer_is_not_jumped_to(clock: VirtualClock) -> None:
    began, loop = clock.monotonic(), asyncio.get_running_loop()
    loop.call_later(5, pytest.fail, "cancelled").cancel()
    await asyncio.sleep(10)
    assert clock.monotonic() - began == 10


# ---- order is what it is ----


async def in_which_order_ten_sleepers_wake_up() -> list[int]:
    woken: list[int] = []

    async def sleeper(number: int) -> None:
        await asyncio.sleep(60)
        woken.append(number)

    async with asyncio.TaskGroup() as group:
        for number in range(10):
            group.create_task(sleeper(number))
    return woken


async def test_timers_due_at_the_same_moment_come_in_the_order_in_which_they_were_set(clock: VirtualClock) -> None:
    assert await in_which_order_ten_sleepers_wake_up() == list(range(10))


async def test_that_order_would_be_lost_if_timers_had_no_turn(clock: VirtualClock, monkeypatch: pytest.MonkeyPatch) -> None:
    loop = asyncio.get_running_loop()
    monkeypatch.delattr(loop, "call_at")
    assert await in_which_order_ten_sleepers_wake_up() != list(range(10))
    monkeypatch.undo()


async def test_timers_come_in_the_order_of_their_times_whenever_they_were_set(clock: VirtualClock) -> None:
    began, woken = clock.monotonic(), list[float]()

    async def sleeper(*naps: float) -> None:
        for nap in naps:
            await asyncio.sleep(nap)
            woken.append(clock.monotonic() - began)

    await asyncio.gather(sleeper(3, 3, 3), sleeper(2, 5), sleeper(8), sleeper(0.5, 0.25))
    assert woken == [0.5, 0.75, 2, 3, 6, 7, 8, 9]


async def test_a_timer_set_before_the_clock_took_over_keeps_its_place() -> None:
    order: list[str] = []
    loop = asyncio.get_running_loop()
    loop.call_later(30, order.append, "before")
    with VirtualClock():
        loop.call_later(20, order.append, "earlier")
        loop.call_later(40, order.append, "later")
        await asyncio.sleep(60)
    assert order == ["earlier", "before", "later"]


# ---- threads, and other work outside of the loop ----


async def test_a_thread_of_the_loop_has_all_the_time_it_needs(clock: VirtualClock) -> None:
    began = clock.monotonic()
    async with asyncio.timeout(10):
        assert await asyncio.to_thread(lambda: time.sleep(0.05) or 7) == 7
    assert clock.monotonic() == began


async def test_time_would_jump_over_a_thread_that_was_not_announced(clock: VirtualClock, monkeypatch: pytest.MonkeyPatch) -> None:
    end = threading.Event()
    monkeypatch.delattr(asyncio.get_running_loop(), "run_in_executor")
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(asyncio.to_thread(end.wait), 10)
    end.set()
    monkeypatch.undo()


async def test_a_thread_that_nobody_awaits_any_more_holds_no_time_up(clock: VirtualClock) -> None:
    end = threading.Event()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(asyncio.to_thread(end.wait), 0.01)
    with Spent() as spent:
        await asyncio.sleep(3600)
    end.set()
    assert spent.seconds < 1


async def test_a_thread_that_waits_for_time_to_pass_sees_it_pass(clock: VirtualClock, quick_tick: float) -> None:
    began = clock.monotonic()

    def until_later() -> None:
        while clock.monotonic() < began + 3 * quick_tick:
            time.sleep(0.001)

    await asyncio.to_thread(until_later)


async def test_timers_beside_a_long_thread_come_at_the_pace_of_real_time(clock: VirtualClock, quick_tick: float) -> None:
    began, end = clock.monotonic(), threading.Event()
    thread = asyncio.create_task(asyncio.to_thread(end.wait))
    with Spent() as spent:
        for _ in range(40):
            await asyncio.sleep(0.005)
    end.set()
    await thread
    assert clock.monotonic() - began > 0.199
    assert spent.seconds > 0.15


async def test_work_that_was_announced_has_all_the_time_it_needs(clock: VirtualClock) -> None:
    began, loop, done = clock.monotonic(), asyncio.get_running_loop(), asyncio.Event()

    def outside() -> None:
        time.sleep(0.05)
        loop.call_soon_threadsafe(done.set)

    threading.Thread(target=outside).start()
    async with asyncio.timeout(10):
        with clock.standing_still():
            await done.wait()
    assert clock.monotonic() == began


async def test_work_that_was_not_announced_gets_a_moment_before_time_jumps(clock: VirtualClock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(looptime, "GRACE", 5.0)
    loop, done = asyncio.get_running_loop(), asyncio.Event()
    threading.Thread(target=lambda: time.sleep(0.01) or loop.call_soon_threadsafe(done.set)).start()
    async with asyncio.timeout(10):
        await done.wait()


async def test_a_connection_within_the_process_keeps_working(clock: VirtualClock) -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.readline())
        writer.close()

    async with asyncio.timeout(60), await asyncio.start_server(echo, "127.0.0.1", 0) as server:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.write(b"hello\n")
        assert await reader.readline() == b"hello\n"
        writer.close()
        await writer.wait_closed()


async def test_nothing_can_be_announced_to_a_clock_that_is_not_in_use() -> None:
    with pytest.raises(ConfigurationError, match="inside its with block"), VirtualClock().standing_still():
        pass


# ---- the loop has its own time back ----


async def test_the_loop_has_its_own_time_back_afterwards() -> None:
    loop = asyncio.get_running_loop()
    with VirtualClock() as clock:
        assert len(steered_attributes(loop)) == 4
        await asyncio.sleep(1000)
    assert steered_attributes(loop) == []
    assert abs(loop.time() - time.monotonic()) < 60
    assert clock.monotonic() - loop.time() > 900, "the last reading stays, so that durations can be told"


async def test_the_loop_has_its_own_time_back_after_an_error_and_a_cancellation() -> None:
    with pytest.raises(ZeroDivisionError), VirtualClock():
        _ = 1 / 0
    assert steered_attributes(asyncio.get_running_loop()) == []

    async def stuck() -> None:
        with VirtualClock():
            await asyncio.Event().wait()

    with pytest.raises(TimeoutError):
        await asyncio.wait_for(stuck(), 0.001)
    assert steered_attributes(asyncio.get_running_loop()) == []


async def test_a_loop_whose_time_was_replaced_already_gets_that_one_back(monkeypatch: pytest.MonkeyPatch) -> None:
    loop = asyncio.get_running_loop()
    monkeypatch.setattr(loop, "time", lambda: 123.75)
    with VirtualClock() as clock:
        assert clock.monotonic() == 123.0
        await asyncio.sleep(5)
        assert loop.time() == 128.0
    assert loop.time() == 123.75


async def test_several_clocks_on_a_loop_are_one_until_the_last_is_left() -> None:
    loop = asyncio.get_running_loop()
    with VirtualClock() as outer:
        await asyncio.sleep(50)
        inner = VirtualClock()
        with inner, inner:
            await asyncio.sleep(50)
            assert (inner.monotonic(), inner.now()) == (outer.monotonic(), outer.now())
        read = inner.monotonic()
        await asyncio.sleep(50)
        assert (inner.monotonic(), outer.monotonic()) == (read, read + 50)
        assert len(steered_attributes(loop)) == 4
    assert steered_attributes(loop) == []


async def test_a_clock_is_of_one_loop_at_a_time(clock: VirtualClock) -> None:
    async def elsewhere() -> None:
        with pytest.raises(ConfigurationError, match="another event loop"):
            clock.__enter__()

    await asyncio.to_thread(asyncio.run, elsewhere())


def test_a_clock_can_be_read_before_there_is_a_loop() -> None:
    clock = VirtualClock()
    assert clock.monotonic() == clock.monotonic() > 0
    assert abs(clock.now() - time.time()) < 60


def test_a_loop_that_is_not_of_asyncio_is_refused_by_name() -> None:
    uvloop = pytest.importorskip("uvloop")

    async def enter() -> None:
        with pytest.raises(ConfigurationError, match=r"asyncio's own event loops, and uvloop\.Loop is not one"):
            VirtualClock().__enter__()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(enter())


def test_the_debug_mode_of_asyncio_changes_nothing() -> None:
    async def sleep() -> float:
        with VirtualClock() as clock:
            began = clock.monotonic()
            await asyncio.sleep(3600)
            return clock.monotonic() - began

    assert asyncio.run(sleep(), debug=True) == 3600
