"""What the tasks of a run share: its channel.

``ctx.channel`` is a key-value space of the run. Every operation is atomic, however many tasks there are and wherever
they run; ``inputs=`` are its first values.
"""

from __future__ import annotations

import asyncio

import pytest

from graflow import SyncTaskContext, TaskContext, TypedChannel, WorkflowEngine, task, testing
from graflow.errors import ChannelTypeError, TaskFailedError

MANY = 500
EACH = 100


async def test_what_one_task_writes_another_reads(engine: WorkflowEngine) -> None:
    """Channels: types survive, a missing key gives the default, and a def has the same with blocking methods."""

    @task
    async def write(ctx: TaskContext) -> None:
        await ctx.channel.set("point", (1, 2))
        await ctx.channel.append("names", "a", "b")
        await ctx.channel.prepend("names", "z")

    @task
    def read(ctx: SyncTaskContext) -> tuple[object, ...]:
        channel = ctx.channel
        return channel.get("point"), channel.get("names"), channel.get("nothing", "default"), channel.exists("nothing"), channel.keys()

    result = await engine.execute(write >> read, inputs={"limit": 10})
    assert result.output == ((1, 2), ["z", "a", "b"], "default", False, ["limit", "names", "point"])


async def test_a_value_may_be_given_a_time_to_live() -> None:
    """Channels: after its time it is gone; here in a test's virtual time."""

    @task
    async def remember(ctx: TaskContext) -> list[object]:
        await ctx.channel.set("token", "secret", ttl=60)
        seen = [await ctx.channel.get("token")]
        await asyncio.sleep(61)
        return [*seen, await ctx.channel.get("token")]

    async with testing.engine() as engine:
        assert (await engine.execute(remember)).output == ["secret", None]


async def test_the_wrong_type_is_an_error(engine: WorkflowEngine) -> None:
    """Channels: there is no adding to a text, and a typed channel checks what is put in."""

    @task
    async def typed(ctx: TaskContext) -> int:
        scores = TypedChannel(ctx.channel, int)
        await scores.set("best", 3)
        with pytest.raises(ChannelTypeError, match="'name'"):
            await scores.get("name")
        return await ctx.channel.atomic_add("name", 1)

    with pytest.raises(TaskFailedError) as failed:
        await engine.execute(typed, inputs={"name": "Ann"})
    assert isinstance(failed.value.__cause__, ChannelTypeError)
    assert failed.value.__cause__.key == "name"


async def test_no_addition_is_lost(engine: WorkflowEngine) -> None:
    """Channels: 500 tasks in parallel, each adding 100 to a counter, leave 50 000."""

    @task
    async def add(ctx: TaskContext, member: int) -> None:
        for _ in range(EACH):
            await ctx.channel.atomic_add("count", 1)
            if member % 10 == 0:
                await asyncio.sleep(0)  # let others in between

    @task
    async def total(count: int) -> int:
        return count

    assert (await engine.execute(add.map(range(MANY)) >> total)).output == MANY * EACH


async def test_no_addition_of_a_thread_is_lost(engine: WorkflowEngine) -> None:
    """Channels: so it is with threads."""

    @task
    def add(ctx: SyncTaskContext, member: int) -> None:
        for _ in range(10):
            ctx.channel.atomic_add("count", 1)

    @task
    async def total(count: int) -> int:
        return count

    assert (await engine.execute(add.map(range(64)) >> total)).output == 640


async def test_no_appended_value_is_lost(engine: WorkflowEngine) -> None:
    """Channels: each value arrives once, and those of one task in their order."""

    @task
    async def append(ctx: TaskContext, member: int) -> None:
        for number in range(10):
            await ctx.channel.append("values", (member, number))
            await asyncio.sleep(0)

    @task
    async def collect(values: list[tuple[int, int]]) -> list[tuple[int, int]]:
        return values

    values = (await engine.execute(append.map(range(MANY)) >> collect)).output
    assert sorted(values) == [(member, number) for member in range(MANY) for number in range(10)]
    assert [number for member, number in values if member == 7] == list(range(10))


async def test_a_lock_keeps_others_out(engine: WorkflowEngine) -> None:
    """Channels: 500 tasks read, pause, and write back; under a lock none overwrites what another has written."""

    @task
    async def add(ctx: TaskContext, member: int) -> None:
        async with ctx.channel.lock("count"):
            count = await ctx.channel.get("count", 0)
            await asyncio.sleep(0)
            await ctx.channel.set("count", count + 1)

    @task
    async def total(count: int) -> int:
        return count

    assert (await engine.execute(add.map(range(MANY)) >> total)).output == MANY


async def test_a_lock_is_not_waited_for_longer_than_said(engine: WorkflowEngine) -> None:
    """Channels: ``wait=`` bounds the waiting, and running out of it is a TimeoutError."""
    tried = asyncio.Event()

    @task
    async def holder(ctx: TaskContext) -> None:
        async with ctx.channel.lock("door"):
            await ctx.channel.set("held", True)
            await tried.wait()

    @task
    async def other(ctx: TaskContext) -> str:
        await ctx.channel.wait("held")
        try:
            async with ctx.channel.lock("door", wait=0.01):
                return "in"
        except TimeoutError:
            return "kept out"
        finally:
            tried.set()

    assert (await engine.execute(holder | other))["holder|other"] == [None, "kept out"]


async def test_waiting_for_a_value_misses_none(engine: WorkflowEngine, log: list[str]) -> None:
    """Channels: 500 tasks hand a baton on, each waiting for the one before it."""

    @task
    async def run(ctx: TaskContext, member: int) -> int:
        baton: int = await ctx.channel.wait(f"baton-{member}")
        await ctx.channel.set(f"baton-{member + 1}", baton + 1)
        return baton

    @task
    async def begin(ctx: TaskContext) -> None:
        await ctx.channel.set("baton-0", 0)

    result = await engine.execute(run.map(range(MANY)) | begin)
    assert result["run"] == list(range(MANY))


async def test_one_value_wakes_all_that_wait_for_it(engine: WorkflowEngine) -> None:
    """Channels: waiting takes nothing away."""

    @task
    async def listen(ctx: TaskContext, member: int) -> str:
        news: str = await ctx.channel.wait("news")
        return news

    @task
    async def tell(ctx: TaskContext) -> None:
        await ctx.channel.set("news", "it rains")

    assert (await engine.execute(listen.map(range(50)) | tell))["listen"] == ["it rains"] * 50
