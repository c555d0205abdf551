"""What runs do not share: anything.

A graph may be run any number of times, also at the same time. A run has its own channel, results and events, and what
happens in it (new tasks, gotos, loops) leaves the graph as it was.
"""

from __future__ import annotations

import asyncio

from graflow import RunResult, TaskContext, WorkflowEngine, parallel, task, workflow
from graflow.errors import TaskFailedError
from tests.fundamentals.conftest import Steps


async def test_two_workflows_sharing_tasks_and_names_run_100_at_a_time_and_never_mix(engine: WorkflowEngine) -> None:
    """Isolation: same tasks, same group, same workflow name, same channel keys; 200 runs and 200 different results."""

    @task
    async def begin(ctx: TaskContext, number: int) -> int:
        await ctx.channel.append("seen", number)
        return number

    @task
    async def count(ctx: TaskContext, begin: int) -> int:
        await asyncio.sleep(0)
        return await ctx.channel.atomic_add("count", begin)

    @task
    async def other(begin: int) -> int:
        return -begin

    @task
    async def end(ctx: TaskContext, both: list[int]) -> tuple[int, ...]:
        if ctx.cycle == 1:
            ctx.goto("begin")
        return (*both, *(await ctx.channel.get("seen")))

    with workflow("same name") as one:
        begin >> parallel(count, other, name="both") >> end
    with workflow("same name") as two:
        begin >> parallel(other, count, name="both") >> end
    graphs = [one, two] * 100
    limit = asyncio.Semaphore(100)

    async def run(number: int) -> RunResult[object]:
        async with limit:
            return await engine.execute(graphs[number], inputs={"number": number})

    for number, result in enumerate(await asyncio.gather(*map(run, range(200)))):
        both = (2 * number, -number) if number % 2 == 0 else (-number, 2 * number)
        assert result.output == (*both, number, number)


async def test_a_failed_run_leaves_the_others_alone(engine: WorkflowEngine) -> None:
    """Isolation: every third of 60 runs at once fails, and the others know nothing of it."""

    @task
    async def work(number: int) -> int:
        await asyncio.sleep(0)
        if number % 3 == 0:
            raise ValueError(number)
        return number

    @task
    async def after(work: int) -> int:
        return work

    wf = work >> after
    runs = [engine.execute(wf, inputs={"number": number}) for number in range(60)]
    for number, result in enumerate(await asyncio.gather(*runs, return_exceptions=True)):
        if number % 3 == 0:
            assert isinstance(result, TaskFailedError)
            assert str(result.__cause__) == str(number)
        else:
            assert isinstance(result, RunResult)
            assert result.output == number


async def test_what_happens_in_a_run_leaves_the_graph_as_it_was(engine: WorkflowEngine, steps: Steps, log: list[str]) -> None:
    """Isolation: a second run begins with cycle 1, an empty channel, and without the tasks that the first one made."""
    extra, end = steps("extra end")

    @task
    async def begin(ctx: TaskContext) -> list[object]:
        if ctx.cycle == 1:
            ctx.next_task(extra)
            ctx.next_iteration()
        return [ctx.cycle, await ctx.channel.atomic_add("visits", 1)]

    with workflow("w") as wf:
        begin >> end
    digest = wf.graph.digest()
    for _ in range(2):
        assert (await engine.execute(wf))[begin] == [2, 2]
    assert wf.graph.digest() == digest
    assert sorted(log) == ["end", "end", "extra", "extra"]


async def test_a_run_does_not_change_what_it_was_given(engine: WorkflowEngine) -> None:
    """Isolation: inputs stay the caller's, and a channel's list is nobody's to change behind its back."""

    @task
    async def change(ctx: TaskContext, names: list[str]) -> list[str]:
        names.append("b")
        await ctx.channel.append("names", "c")
        found: list[str] = await ctx.channel.get("names")
        return found

    inputs = {"names": ["a"]}
    for _ in range(2):
        assert (await engine.execute(change, inputs=inputs)).output == ["a", "c"]
    assert inputs == {"names": ["a"]}


async def test_two_engines_know_nothing_of_each_other(engine: WorkflowEngine, steps: Steps) -> None:
    """Isolation: the same run_id on another engine in memory is another run."""
    (a,) = steps("a")
    async with WorkflowEngine() as other:
        assert (await engine.submit(a, run_id="nightly")).created
        assert (await other.submit(a, run_id="nightly")).created
        assert not (await other.submit(a, run_id="nightly")).created


async def test_graphs_drawn_at_the_same_time_do_not_mix(engine: WorkflowEngine, steps: Steps, log: list[str]) -> None:
    """Isolation: two coroutines may each stand in a ``with workflow`` block of their own."""
    inside = asyncio.Barrier(2)

    async def draw(names: str) -> None:
        a, b = steps(names)
        with workflow(names) as wf:
            await inside.wait()
            a >> b
            await inside.wait()
        result = await engine.execute(wf)
        assert list(result.results) == names.split()

    await asyncio.gather(draw("a b"), draw("c d"))
    assert sorted(log) == ["a", "b", "c", "d"]
