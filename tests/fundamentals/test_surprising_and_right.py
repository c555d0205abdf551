"""What may surprise at first, and follows from the rules all the same; and the one thing that depends on luck."""

from __future__ import annotations

import asyncio

import pytest

from graflow import TaskContext, WorkflowEngine, task, workflow
from tests.fundamentals.conftest import Steps


async def test_a_goto_says_where_its_task_leads_and_not_what_others_may_do(engine: WorkflowEngine, steps: Steps, log: list[str]) -> None:
    """Rules 1 and 11: with ``r >> x``, ``r >> y``, ``c >> x``, r goes to y, and x still runs, because c leads there."""
    x, y, c = steps("x y c")

    @task
    async def r(ctx: TaskContext) -> None:
        ctx.goto(y)

    with workflow("w") as wf:
        r >> x
        r >> y
        c >> x
    await engine.execute(wf)
    assert sorted(log) == ["c", "x", "y"]


async def test_an_arrow_binds_more_tightly_than_a_bar(engine: WorkflowEngine, steps: Steps) -> None:
    """Rule 22: ``a >> b | c >> d`` is ``(a >> b) | (c >> d)``: two branches of two tasks each."""
    a, b, c, d = steps("a b c d")
    assert (await engine.execute(a >> b | c >> d)).output == ["b", "d"]


async def test_a_group_in_a_chain_is_waited_for_as_a_whole(engine: WorkflowEngine, steps: Steps, log: list[str]) -> None:
    """Rule 22: in ``(a | b) >> c``, c leads from the group and not from each member: it runs once."""
    a, b, c = steps("a b c")
    await engine.execute((a | b) >> c)
    assert log.count("c") == 1


async def test_an_edge_to_what_a_loop_goes_round_waits_for_its_end(engine: WorkflowEngine, steps: Steps, log: list[str]) -> None:
    """Rule 8: ``agent >> tool`` fires in every round, ``agent >> report`` only after the last one, though both are drawn alike."""
    tool, report = steps("tool report")

    @task
    async def agent(ctx: TaskContext) -> None:
        if ctx.cycle == 3:
            ctx.end_loop()

    with workflow("agent") as wf:
        agent >> report
        agent >> tool >> agent
    await engine.execute(wf)
    assert log == ["tool", "tool", "report"]


@pytest.mark.parametrize("target_is", ["still to come", "already done"])
async def test_a_goto_to_something_running_alongside_depends_on_luck(
    engine: WorkflowEngine, steps: Steps, log: list[str], target_is: str
) -> None:
    """Rules 11 and 13: it finds its target in one state or another: once it is one more edge, once the way back."""
    (target,) = steps("target")
    went = asyncio.Event()

    @task
    async def before() -> None:
        if target_is == "still to come":
            await went.wait()

    @task
    async def after() -> None:
        went.set()

    @task
    async def goes(ctx: TaskContext) -> None:
        if target_is == "already done":
            await went.wait()
        ctx.goto(target)
        went.set()

    with workflow("w") as wf:
        before >> target >> after
        wf.add(goes)
    await engine.execute(wf)
    assert log == (["target"] if target_is == "still to come" else ["target", "target"])
