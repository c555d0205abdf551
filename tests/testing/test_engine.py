"""The engine for tests: whole runs in which nobody waits for anything."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise

import pytest

from graflow import RetryLater, RetryPolicy, RunStatus, SyncTaskContext, TaskContext, WorkflowEngine, best_effort, parallel, task
from graflow.errors import ConfigurationError, RunTimeoutError, SerializationError, TaskFailedError, TaskTimeoutError
from graflow.handlers import Handler, TaskCall, ThreadHandler
from graflow.testing import VirtualEngine, engine, looptime

EVERY_MINUTE = RetryPolicy(3, initial_interval=60, backoff_factor=1, jitter=False)


@pytest.fixture
async def virtual() -> AsyncIterator[VirtualEngine]:
    async with engine() as virtual:
        yield virtual


@pytest.fixture(autouse=True)
def no_long_waits():
    began = time.perf_counter()
    yield
    assert time.perf_counter() - began < 10, "something was really waited for"


# ---- what takes time elsewhere ----


@pytest.mark.parametrize("kind", ["async def", "def"])
async def test_three_retries_a_minute_apart_take_three_minutes_and_no_time(virtual: VirtualEngine, kind: str) -> None:
    attempts: list[int] = []

    def fail(attempt: int) -> str:
        attempts.append(attempt)
        if attempt <= 3:
            raise ConnectionError("down")
        return "up"

    @task("flaky", retry=EVERY_MINUTE)
    async def flaky(ctx: TaskContext) -> str:
        return fail(ctx.attempt)

    @task("flaky", retry=EVERY_MINUTE)
    def flaky_def(ctx: SyncTaskContext) -> str:
        return fail(ctx.attempt)

    result = await virtual.execute(flaky if kind == "async def" else flaky_def)
    assert (result.output, result.duration, attempts) == ("up", 180, [1, 2, 3, 4])


async def test_the_backoff_is_exactly_what_the_policy_says(virtual: VirtualEngine) -> None:
    times: list[float] = []

    @task(retry=RetryPolicy(5, initial_interval=1, backoff_factor=3, max_interval=30, jitter=False))
    async def flaky(ctx: TaskContext) -> None:
        times.append(virtual.clock.monotonic())
        raise ConnectionError("down")

    with pytest.raises(TaskFailedError):
        await virtual.execute(flaky)
    assert [later - earlier for earlier, later in pairwise(times)] == [1, 3, 9, 27, 30]


async def test_the_jitter_of_retries_is_the_same_in_every_run_of_a_test() -> None:
    @task(retry=RetryPolicy(4))
    async def flaky() -> None:
        raise ConnectionError("down")

    async def duration(seed: int | None = 0) -> float:
        async with engine(seed=seed) as virtual:
            with pytest.raises(TaskFailedError) as caught:
                await virtual.execute(flaky)
            return caught.value.result.duration

    assert await duration() == await duration() != await duration(seed=1)


async def test_a_task_that_asks_to_be_tried_later_is_tried_later(virtual: VirtualEngine) -> None:
    @task
    async def limited(ctx: TaskContext) -> float:
        if ctx.attempt < 3:
            raise RetryLater(after=900)
        return ctx.elapsed()

    result = await virtual.execute(limited)
    assert (result.output, result.duration) == (0.0, 1800)


@pytest.mark.parametrize("nap", [3601, 1e9, None])
async def test_an_attempt_times_out_after_its_hour(virtual: VirtualEngine, nap: float | None) -> None:
    @task(timeout=3600)
    async def stuck() -> None:
        await (asyncio.Event().wait() if nap is None else asyncio.sleep(nap))

    with pytest.raises(TaskFailedError) as caught:
        await virtual.execute(stuck)
    assert isinstance(caught.value.__cause__, TaskTimeoutError)
    assert caught.value.result.duration == 3600


async def test_a_task_that_needs_most_of_its_hour_does_not_time_out(virtual: VirtualEngine) -> None:
    @task(timeout=3600)
    async def slow(ctx: TaskContext) -> float:
        await asyncio.sleep(3599)
        return ctx.elapsed()

    assert (await virtual.execute(slow)).output == 3599


async def test_a_run_times_out_after_what_was_given_to_execute(virtual: VirtualEngine) -> None:
    @task
    async def stuck() -> None:
        await asyncio.Event().wait()

    with pytest.raises(RunTimeoutError) as caught:
        await virtual.execute(stuck, timeout=86_400)
    assert caught.value.result.duration == 86_400


async def test_timeouts_inside_a_task_are_its_own(virtual: VirtualEngine) -> None:
    @task(timeout=100)
    async def careful() -> list[str]:
        seen: list[str] = []
        async with asyncio.timeout(50):
            for nap in (5, 30, 10):
                try:
                    async with asyncio.timeout(20):
                        await asyncio.sleep(nap)
                        seen.append("done")
                except TimeoutError:
                    seen.append("gave up")
        return seen

    result = await virtual.execute(careful)
    assert (result.output, result.duration) == (["done", "gave up", "done"], 35)


async def test_members_of_a_group_finish_in_the_order_of_their_times(virtual: VirtualEngine) -> None:
    finished: list[float] = []

    @task
    async def nap(hours: float) -> float:
        await asyncio.sleep(3600 * hours)
        finished.append(hours)
        return hours

    result = await virtual.execute(nap.map([3, 1, 2.5, 1, 0]))
    assert (result.output, finished, result.duration) == ([3, 1, 2.5, 1, 0], [0, 1, 1, 2.5, 3], 3 * 3600)


async def test_waiting_for_a_handle_times_out_and_the_run_goes_on(virtual: VirtualEngine) -> None:
    @task
    async def nap() -> str:
        await asyncio.sleep(100)
        return "rested"

    handle = await virtual.submit(nap)
    with pytest.raises(TimeoutError):
        await handle.result(timeout=99)
    assert await handle.status() is RunStatus.RUNNING
    assert (await handle.result(timeout=1.5)).output == "rested"


# ---- channels ----


async def test_a_channel_value_lives_as_long_as_its_ttl(virtual: VirtualEngine) -> None:
    @task
    async def lives(ctx: TaskContext) -> list[str | None]:
        await ctx.channel.set("token", "t-1", ttl=3600)
        await asyncio.sleep(3599)
        before = await ctx.channel.get("token")
        await asyncio.sleep(1)
        return [before, await ctx.channel.get("token")]

    assert (await virtual.execute(lives)).output == ["t-1", None]


async def test_a_lock_is_lost_when_its_ttl_is_over_and_waited_for_no_longer_than_asked(virtual: VirtualEngine) -> None:
    @task
    async def holder(ctx: TaskContext) -> None:
        async with ctx.channel.lock("door", ttl=600):
            await asyncio.sleep(500)
            await asyncio.sleep(200)

    @task
    async def patient(ctx: TaskContext) -> float:
        await asyncio.sleep(1)
        async with ctx.channel.lock("door"):
            return ctx.elapsed()

    @task
    async def impatient(ctx: TaskContext) -> float:
        await asyncio.sleep(1)
        with pytest.raises(TimeoutError):
            async with ctx.channel.lock("door", wait=10):
                pass
        return ctx.elapsed()

    result = await virtual.execute(holder | patient | impatient)
    assert (result[patient], result[impatient]) == (600, 11)


async def test_a_key_is_waited_for_until_it_is_set_or_the_time_is_up(virtual: VirtualEngine) -> None:
    @task
    async def giver(ctx: TaskContext) -> None:
        await asyncio.sleep(3600)
        await ctx.channel.set("key", 1)

    @task
    async def taker(ctx: TaskContext) -> list[float]:
        with pytest.raises(TimeoutError):
            await ctx.channel.wait("key", timeout=1000)
        early = ctx.elapsed()
        await ctx.channel.wait("key")
        return [early, ctx.elapsed()]

    assert (await virtual.execute(giver | taker))[taker] == [1000, 3600]


# ---- threads ----


async def test_a_def_that_really_takes_a_while_does_not_time_out(virtual: VirtualEngine) -> None:
    @task(timeout=10)
    def thorough() -> str:
        time.sleep(0.05)
        return "done"

    result = await virtual.execute(thorough)
    assert (result.output, result.duration) == ("done", 0)


async def test_a_def_would_time_out_if_its_handler_did_not_say_that_it_is_at_work(
    virtual: VirtualEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ThreadHandler, "at_work", 0)
    end = threading.Event()

    @task(timeout=10)
    def thorough() -> None:
        end.wait()

    with pytest.raises(TaskFailedError):
        await virtual.execute(thorough)
    end.set()


async def test_timers_beside_a_def_wait_for_it(virtual: VirtualEngine) -> None:
    finished: list[str] = []

    @task
    def thorough() -> None:
        time.sleep(0.05)
        finished.append("thread")

    @task
    async def nap() -> None:
        await asyncio.sleep(0.01)
        finished.append("nap")

    await virtual.execute(nap | thorough)
    assert finished == ["thread", "nap"]


async def test_a_def_that_does_not_end_times_out_as_it_would_in_reality(virtual: VirtualEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(looptime, "TICK", 0.02)

    @task(timeout=0.1)
    def stuck(ctx: SyncTaskContext) -> None:
        while not ctx.is_cancelled:
            ctx.channel.get("key")  # goes to the loop and back, which is no end of the work
            time.sleep(0.001)

    with pytest.raises(TaskFailedError) as caught:
        await virtual.execute(stuck)
    assert isinstance(caught.value.__cause__, TaskTimeoutError)


async def test_a_def_that_waits_for_the_loop_does_not_keep_time_from_passing(virtual: VirtualEngine) -> None:
    @task
    async def giver(ctx: TaskContext) -> None:
        await asyncio.sleep(3600)
        await ctx.channel.set("key", 1)

    @task
    def taker(ctx: SyncTaskContext) -> float:
        ctx.channel.wait("key")
        with ctx.channel.lock("door", ttl=10), pytest.raises(TimeoutError), ctx.channel.lock("door", wait=5):
            pass
        return ctx.elapsed()

    assert (await virtual.execute(giver | taker))[taker] == 3605


async def test_a_thread_of_a_handler_under_another_name_has_all_its_time_too() -> None:
    @task(handler="files", timeout=10)
    def thorough() -> None:
        time.sleep(0.05)

    @task
    async def in_a_thread() -> None:
        async with asyncio.timeout(10):
            await asyncio.to_thread(time.sleep, 0.05)

    async with engine(handlers={"files": ThreadHandler(threads=1)}) as virtual:
        assert (await virtual.execute(thorough >> in_a_thread)).duration == 0


async def test_a_handler_says_itself_whether_it_is_at_work() -> None:
    class Elsewhere(Handler):
        at_work = 0

        async def run(self, call: TaskCall) -> object:
            self.at_work += 1
            loop, done = asyncio.get_running_loop(), asyncio.Event()

            def work() -> None:
                time.sleep(0.05)
                loop.call_soon_threadsafe(done.set)

            loop.run_in_executor(None, work).cancel()  # nobody awaits it, so the loop does not know of it
            await done.wait()
            self.at_work -= 1
            return await call.invoke()

    @task(handler="elsewhere", timeout=10)
    async def remote() -> str:
        return "done"

    async with engine(handlers={"elsewhere": Elsewhere()}) as virtual:
        assert (await virtual.execute(remote)).output == "done"


# ---- the engine itself ----


async def test_its_clock_is_the_clock_of_its_backend_and_of_events(virtual: VirtualEngine) -> None:
    @task
    async def nap() -> None:
        await asyncio.sleep(3600)

    began = virtual.backend.clock.monotonic()
    handle = await virtual.submit(nap)
    times = [event.time async for event in handle.events()]
    assert (times[-1] - times[0]).total_seconds() == 3600
    assert virtual.backend.clock is virtual.clock
    assert virtual.clock.monotonic() - began == 3600
    assert times[-1].timestamp() == virtual.clock.now()


async def test_it_takes_what_an_engine_takes() -> None:
    left: list[float] = []

    @asynccontextmanager
    async def lifespan() -> AsyncIterator[dict[str, int]]:
        await asyncio.sleep(5)
        yield {"limit": 2}
        await asyncio.sleep(5)
        left.append(virtual.clock.monotonic() - began)

    @task
    async def limit(ctx: TaskContext) -> int:
        await asyncio.sleep(1)
        return ctx.resources["limit"]

    virtual = engine(lifespan=lifespan, concurrency=2)
    began: float = 0.0
    async with virtual:
        began = virtual.clock.monotonic()
        result = await virtual.execute(parallel(*(limit.clone(f"l{n}") for n in range(6)), name="all"))
        assert isinstance(virtual, WorkflowEngine)
    assert (result["all"], result.duration) == ([2] * 6, 3)
    assert left == [8]


async def test_strict_refuses_what_could_not_travel() -> None:
    @task
    async def secret() -> object:
        return object()

    async with engine() as virtual:
        await virtual.execute(secret)
    async with engine(strict=True) as virtual:
        with pytest.raises(TaskFailedError) as caught:
            await virtual.execute(secret)
    assert isinstance(caught.value.__cause__, SerializationError)


async def test_two_engines_at_once_share_the_time_of_their_loop() -> None:
    @task
    async def nap(seconds: float) -> float:
        await asyncio.sleep(seconds)
        return asyncio.get_running_loop().time()

    async with engine() as one, engine() as other:
        began = one.clock.monotonic()
        short, long = await asyncio.gather(one.execute(nap, inputs={"seconds": 60}), other.execute(nap, inputs={"seconds": 90}))
        assert (short.output - began, long.output - began) == (60, 90)
        assert one.clock.monotonic() == other.clock.monotonic() == began + 90


async def test_an_engine_that_is_left_first_does_not_stop_the_time_of_the_other() -> None:
    @task
    async def nap() -> None:
        await asyncio.sleep(3600)

    one, other = engine(), engine()
    await one.__aenter__()
    await other.__aenter__()
    await one.__aexit__(None, None, None)
    assert (await other.execute(nap)).duration == 3600
    await other.__aexit__(None, None, None)
    assert "time" not in vars(asyncio.get_running_loop())


async def test_the_loop_has_its_own_time_back_whatever_happens() -> None:
    loop = asyncio.get_running_loop()

    @asynccontextmanager
    async def broken() -> AsyncIterator[dict[str, int]]:
        raise ConnectionError("no database")
        yield {}

    with pytest.raises(ConnectionError):
        async with engine(lifespan=broken):
            pass
    assert "time" not in vars(loop)
    with pytest.raises(ZeroDivisionError):
        async with engine():
            _ = 1 / 0
    assert "time" not in vars(loop)
    virtual = engine()
    async with virtual:
        with pytest.raises(ConfigurationError, match="in use already"):
            await virtual.__aenter__()
        assert "time" in vars(loop)
    assert "time" not in vars(loop)
    await virtual.__aexit__(None, None, None)


async def test_leaving_it_cancels_what_sleeps_at_once(virtual: VirtualEngine) -> None:
    @task
    async def nap() -> None:
        await asyncio.sleep(3600)

    async with engine() as other:
        began = other.clock.monotonic()
        handle = await other.submit(nap)
    assert await handle.status() is RunStatus.CANCELLED
    assert virtual.clock.monotonic() == began


async def test_a_thousand_runs_that_sleep_through_the_night_are_done_in_a_moment(virtual: VirtualEngine) -> None:
    @task(timeout=9 * 3600)
    async def night(hours: float) -> float:
        await asyncio.sleep(3600 * hours)
        return hours

    results = await asyncio.gather(*(virtual.execute(night, inputs={"hours": n % 8}) for n in range(1000)))
    assert [result.output for result in results] == [n % 8 for n in range(1000)]


async def test_a_lenient_group_can_be_watched_losing_its_members_one_by_one(virtual: VirtualEngine) -> None:
    @task(timeout=60)
    async def nap(seconds: float) -> float:
        await asyncio.sleep(seconds)
        return seconds

    handle = await virtual.submit(nap.map([30, 90, 45]).with_policy(best_effort))
    ends = [event.task_id async for event in handle.events() if event.type in ("task_succeeded", "task_failed")]
    assert ends[:3] == ["nap[0]", "nap[2]", "nap[1]"]
    assert (await handle.result()).output == [30, 45]


def test_pytest_and_its_event_loops_do_not_notice(pytester: pytest.Pytester) -> None:
    pytester.makeini("[pytest]\nasyncio_mode = auto\nasyncio_default_fixture_loop_scope = function\nfilterwarnings = error\n")
    pytester.makepyfile(
        """
        import asyncio

        import pytest

        from graflow import task, testing

        @task
        async def nap():
            await asyncio.sleep(3600)

        @pytest.fixture
        async def engine():
            async with testing.engine() as engine:
                yield engine
                await asyncio.sleep(3600)

        async def background():
            await asyncio.sleep(10_000)

        async def test_in_a_fixture(engine):
            assert (await engine.execute(nap)).duration == 3600
            engine.left_behind = asyncio.create_task(background())

        async def test_fails_inside(engine):
            asyncio.create_task(background())
            await engine.submit(nap)
            assert False

        async def test_after_it():
            loop = asyncio.get_running_loop()
            assert not {"time", "call_at", "run_in_executor"} & vars(loop).keys()
            await asyncio.sleep(0.001)

        @pytest.mark.parametrize("n", range(3))
        async def test_again(engine, n):
            await asyncio.to_thread(int)
            assert (await engine.execute(nap)).duration == 3600
        """
    )
    outcomes = pytester.runpytest_inprocess("-p", "no:randomly", "-p", "no:cacheprovider").parseoutcomes()
    assert outcomes == {"passed": 5, "failed": 1}
