"""What an earlier, synchronous Graflow got wrong. Each test names the fault, so that it never comes back unnoticed."""

from __future__ import annotations

import asyncio
from pathlib import Path

import anyio
import pytest

from graflow import RetryPolicy, TaskContext, WorkflowEngine, parallel, task, workflow
from graflow.errors import GraflowError, StepLimitExceededError, TaskFailedError, UnknownTaskError
from tests.fundamentals.conftest import Steps


async def test_branches_share_one_channel(engine: WorkflowEngine) -> None:
    """Fault 2: branches got copies of the channel, so that additions, appends and locks lost updates."""

    @task
    async def work(ctx: TaskContext) -> None:
        await ctx.channel.atomic_add("sum", 1)
        await ctx.channel.append("list", ctx.task_id)
        async with ctx.channel.lock("lock"):
            total = await ctx.channel.get("total", 0)
            await asyncio.sleep(0)
            await ctx.channel.set("total", total + 1)

    @task
    async def read(ctx: TaskContext) -> list[object]:
        return [await ctx.channel.get("sum"), sorted(await ctx.channel.get("list")), await ctx.channel.get("total")]

    branches = parallel(*(work.clone(name) for name in "abc"))
    assert (await engine.execute(branches >> read)).output == [3, ["a", "b", "c"], 3]


async def test_a_diamond_runs_its_join_once(engine: WorkflowEngine, steps: Steps, log: list[str]) -> None:
    """Fault 7: plain diamonds ran the join twice."""
    top, left, right, join, after = steps("top left right join after")
    with workflow("diamond") as wf:
        top >> left >> join >> after
        top >> right >> join
    await engine.execute(wf)
    assert log[-2:] == ["join", "after"]
    assert len(log) == 5


@pytest.mark.parametrize("declared", ["inside", "outside"])
async def test_a_task_means_the_same_inside_and_outside_of_the_block(engine: WorkflowEngine, log: list[str], declared: str) -> None:
    """Fault 8: ``next_task`` and ``next_iteration`` meant different things inside and outside the ``with`` block."""

    def draw() -> tuple[object, ...]:
        @task
        async def extra() -> None:
            log.append("extra")

        @task
        async def begin(ctx: TaskContext, number: int = 1) -> None:
            log.append(f"begin {number}")
            if number == 1:
                ctx.next_task(extra)
                ctx.next_iteration(2)

        @task
        async def end() -> None:
            log.append("end")

        return begin, end

    outside = draw()
    with workflow("w") as wf:
        begin, end = outside if declared == "outside" else draw()
        begin >> end  # type: ignore[operator]
        if declared == "inside":
            await engine.execute(wf)
    if declared == "outside":
        await engine.execute(wf)
    assert log[0] == "begin 1"
    assert sorted(log[1:]) == ["begin 2", "end", "extra"]
    assert log.index("begin 2") < log.index("end")


async def test_what_follows_a_loop_runs_once_and_after_it(engine: WorkflowEngine, log: list[str]) -> None:
    """Fault 9: in ``loop >> fin``, fin ran early or never."""

    @task
    async def by_iterations(ctx: TaskContext) -> None:
        log.append("loop")
        if ctx.cycle < 3:
            ctx.next_iteration()

    @task(max_cycles=3)
    async def by_an_edge(ctx: TaskContext) -> None:
        log.append("loop")
        if not ctx.can_iterate():
            ctx.end_loop()

    @task
    async def fin() -> None:
        log.append("fin")

    for loop in (by_iterations >> fin, by_an_edge >> by_an_edge >> fin):
        log.clear()
        await engine.execute(loop)
        assert log == ["loop", "loop", "loop", "fin"]


async def test_an_unknown_start_is_an_error(engine: WorkflowEngine, steps: Steps, log: list[str]) -> None:
    """Fault 12: an unknown start returned None."""
    a, b = steps("a b")
    with pytest.raises(UnknownTaskError) as unknown:
        await engine.execute(a >> b, start="c")
    assert unknown.value.known == ("a", "b")
    assert log == []


async def test_too_many_steps_are_an_error(engine: WorkflowEngine, steps: Steps) -> None:
    """Fault 12: max_steps truncated in silence."""
    a, b, c = steps("a b c")
    with pytest.raises(StepLimitExceededError) as exceeded:
        await engine.execute(a >> b >> c, max_steps=2)
    assert dict(exceeded.value.result.results) == {"a": "a", "b": "b"}


async def test_the_story_of_a_failed_run_has_an_end(engine: WorkflowEngine) -> None:
    """Fault 12: traces stayed open after an error."""

    @task
    async def fails() -> None:
        raise ValueError("no")

    handle = await engine.submit(fails)
    told = [(event.type, event.task_id) async for event in handle.events()]
    assert told == [("run_started", None), ("task_started", "fails"), ("task_failed", "fails"), ("run_finished", None)]


async def test_a_task_before_a_group_needs_no_start(engine: WorkflowEngine, steps: Steps, log: list[str]) -> None:
    """Fault 13: ``a >> (b | c)`` without a start was refused."""
    a, b, c = steps("a b c")
    await engine.execute(a >> (b | c))
    assert log[0] == "a"
    assert sorted(log[1:]) == ["b", "c"]


async def test_the_result_of_an_async_def_is_what_it_returns(engine: WorkflowEngine) -> None:
    """Fault 15: ``async def`` tasks returned an un-awaited coroutine; and so might a def, which is told so."""

    @task
    async def answer() -> int:
        await asyncio.sleep(0)
        return 42

    @task
    def forgot_to_await() -> object:
        return answer()

    assert (await engine.execute(answer)).output == 42
    with pytest.raises(TaskFailedError, match="declare it async def") as failed:
        await engine.execute(forgot_to_await)
    assert isinstance(failed.value.__cause__, GraflowError)


async def test_a_retry_repeats_one_task_and_not_its_group(engine: WorkflowEngine, steps: Steps, log: list[str]) -> None:
    """Fault 17: with retries on, a group re-ran its finished members."""
    finished, after = steps("finished after")

    @task(retry=RetryPolicy(2, initial_interval=0))
    async def unlucky(ctx: TaskContext) -> None:
        log.append("unlucky")
        if ctx.attempt < 3:
            raise ValueError("no")

    await engine.execute(finished >> after | unlucky)
    assert sorted(log) == ["after", "finished", "unlucky", "unlucky", "unlucky"]


async def test_results_and_channel_values_do_not_collide(engine: WorkflowEngine) -> None:
    """Fault 19: reading a task's parameter by position collided with a channel key of that name."""

    @task
    async def page(ctx: TaskContext, cursor: str) -> str:
        if ctx.cycle == 1:
            await ctx.channel.set("cursor", "from the channel")
            await ctx.channel.set("page", "from the channel")
            ctx.next_iteration("by position")
        return cursor

    @task
    async def read(ctx: TaskContext, page: str) -> list[object]:
        return [page, await ctx.channel.get("page"), await ctx.channel.keys()]

    result = await engine.execute(page >> read, inputs={"cursor": "first"})
    assert result.output == ["by position", "from the channel", ["cursor", "page"]]


@pytest.fixture
def working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> anyio.Path:
    monkeypatch.chdir(tmp_path)
    return anyio.Path(tmp_path)


async def test_a_run_leaves_nothing_in_the_working_directory(engine: WorkflowEngine, steps: Steps, working_directory: anyio.Path) -> None:
    """Fault 20: every context created folders in the working directory."""

    @task
    async def look(ctx: TaskContext) -> str:
        ctx.logger.info("looking")
        return ctx.task_id

    await engine.execute(look >> steps("a")[0])
    assert [entry async for entry in working_directory.iterdir()] == []
