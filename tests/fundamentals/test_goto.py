"""Rules 11 to 15: going elsewhere.

``ctx.goto(node)`` leads the run to a node of the graph instead of along the edges drawn from the task. Where that node
is decides what it means: along an edge it is a choice, to something still to come it is one more edge, to the head of a
loop it is one more round, and to something that has already run it is a way back, as in a wizard's *previous* button.
"""

from __future__ import annotations

import asyncio

import pytest

from graflow import RetryPolicy, RunStatus, TaskContext, WorkflowEngine, best_effort, parallel, task, workflow
from graflow.core.suspension import SuspendStep
from graflow.errors import TaskFailedError, UnknownTaskError
from tests.fundamentals.conftest import Steps

# ---- rule 11: along an edge, or to what is still to come -----------------------------------------------------------


async def test_a_goto_along_an_edge_skips_the_tasks_other_edges(engine: WorkflowEngine, steps: Steps, log: list[str]) -> None:
    """Rule 11: a goto along an edge fires it and skips the task's others."""
    by_ship, by_air, deliver = steps("by_ship by_air deliver")

    @task
    async def choose(ctx: TaskContext) -> None:
        ctx.goto(by_air)

    with workflow("parcel") as wf:
        choose >> by_ship >> deliver
        choose >> by_air >> deliver
    await engine.execute(wf)
    assert log == ["by_air", "deliver"]


async def test_a_goto_to_what_is_still_to_come_is_one_more_fired_edge(engine: WorkflowEngine, steps: Steps, log: list[str]) -> None:
    """Rule 11: the target is not skipped along with what lies between: the goto is recorded before any skip."""
    second, third = steps("second third")

    @task
    async def first(ctx: TaskContext) -> None:
        log.append("first")
        ctx.goto(third)

    await engine.execute(first >> second >> third)
    assert log == ["first", "third"]


async def test_the_target_of_a_goto_still_waits_for_its_own_edges(engine: WorkflowEngine, steps: Steps, log: list[str]) -> None:
    """Rule 11: a goto to an undecided node is one more edge into it, and a join waits for all."""
    (join,) = steps("join")
    went = asyncio.Event()

    @task
    async def hasty(ctx: TaskContext) -> None:
        ctx.goto(join)
        went.set()

    @task
    async def slow() -> None:
        await went.wait()
        log.append("slow")

    with workflow("w") as wf:
        slow >> join
        wf.add(hasty)
    await engine.execute(wf)
    assert log == ["slow", "join"]


async def test_several_gotos_add_up(engine: WorkflowEngine, steps: Steps, log: list[str]) -> None:
    """Rule 11: each goto of a task is an edge that fires; those it does not name are skipped."""
    a, b, c, join = steps("a b c join")

    @task
    async def choose(ctx: TaskContext) -> None:
        ctx.goto(a)
        ctx.goto("c")

    with workflow("two of three") as wf:
        for chosen in (a, b, c):
            choose >> chosen >> join
    await engine.execute(wf)
    assert sorted(log[:2]) == ["a", "c"]
    assert log[2:] == ["join"]


# ---- rule 12: to the header of a loop ------------------------------------------------------------------------------


async def test_a_goto_to_the_header_is_one_more_edge_back(engine: WorkflowEngine, steps: Steps, log: list[str]) -> None:
    """Rule 12: a goto to the header of a loop around the task is one more back edge of that loop."""
    (polish,) = steps("polish")
    asked = asyncio.Event()

    @task
    async def draft(ctx: TaskContext) -> None:
        log.append("draft")
        if ctx.cycle == 2:
            ctx.end_loop()

    @task
    async def check(ctx: TaskContext) -> None:
        asked.set()
        ctx.goto(draft)

    @task
    async def proofread() -> None:
        await asked.wait()
        log.append("proofread")

    with workflow("letter") as wf:
        draft >> check >> polish >> draft
        draft >> proofread >> draft
    await engine.execute(wf)
    assert log == ["draft", "proofread", "draft"]


async def test_a_goto_to_the_header_of_the_outer_loop_ends_the_inner_one(engine: WorkflowEngine, steps: Steps, log: list[str]) -> None:
    """Rule 12: to the header of an outer loop, it is one more back edge of the outer, and leaves the inner."""
    again, after = steps("again after")

    @task
    async def outer(ctx: TaskContext) -> None:
        log.append("outer")
        if ctx.cycle == 3:
            ctx.end_loop()

    @task
    async def inner(ctx: TaskContext) -> None:
        log.append("inner")
        if ctx.cycle > 1:
            ctx.goto(outer)

    with workflow("nested") as wf:
        outer >> inner >> again >> inner
        again >> outer >> after
    await engine.execute(wf)
    assert log == ["outer", "inner", "again", "inner", "outer", "inner", "outer", "after"]


# ---- rule 13: going back -------------------------------------------------------------------------------------------


async def test_a_goto_to_what_has_run_goes_back(engine: WorkflowEngine, steps: Steps, log: list[str]) -> None:
    """Rule 13: the target and all that forward edges lead to from there become undecided, and run again."""
    address, payment = steps("address payment")

    @task
    async def confirm(ctx: TaskContext) -> None:
        log.append("confirm")
        if ctx.cycle == 1:
            ctx.goto(address)

    @task
    async def begin() -> None:
        log.append("begin")

    await engine.execute(begin >> address >> payment >> confirm)
    assert log == ["begin", "address", "payment", "confirm", "address", "payment", "confirm"]


async def test_a_task_may_go_back_to_itself(engine: WorkflowEngine, steps: Steps, log: list[str]) -> None:
    """Rule 13: the task that goes has just been decided, and so is a node to go back to."""
    (after,) = steps("after")

    @task
    async def again(ctx: TaskContext) -> None:
        log.append("again")
        if ctx.cycle < 3:
            ctx.goto("again")

    await engine.execute(again >> after)
    assert log == ["again", "again", "again", "after"]


async def test_going_back_leaves_other_paths_alone(engine: WorkflowEngine, steps: Steps, log: list[str]) -> None:
    """Rule 13: what does not lie behind the target is neither stopped nor run again, and what it decided still counts."""
    target, beside, join = steps("target beside join")

    @task
    async def undecided(ctx: TaskContext) -> None:
        if ctx.cycle == 1:
            ctx.goto(target)

    with workflow("w") as wf:
        target >> undecided >> join
        beside >> join
    await engine.execute(wf)
    assert sorted(log) == ["beside", "join", "target", "target"]
    assert log[-1] == "join"


async def test_what_runs_there_is_stopped_and_its_result_refused(engine: WorkflowEngine, log: list[str]) -> None:
    """Rule 13: what runs behind the target is stopped and fenced; the target is visited at once."""
    running = asyncio.Event()

    @task
    async def target(ctx: TaskContext) -> int:
        log.append(f"target {ctx.cycle}")
        return ctx.cycle

    @task
    async def long(ctx: TaskContext) -> str:
        if ctx.cycle == 2:
            return "second"
        running.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            log.append("long was stopped")
        return "first"

    @task
    async def back(ctx: TaskContext) -> None:
        await running.wait()
        ctx.goto(target)

    with workflow("w") as wf:
        target >> long
        wf.add(back)
    result = await engine.execute(wf)
    assert result[long] == "second"
    assert sorted(log) == ["long was stopped", "target 1", "target 2"]


async def test_what_is_suspended_there_is_withdrawn(engine: WorkflowEngine) -> None:
    """Rule 13: what waits for an answer behind the target is withdrawn; the new visit asks anew, or need not ask."""
    asked = asyncio.Event()

    @task
    async def target() -> None: ...

    @task
    async def approval(ctx: TaskContext) -> str:
        if ctx.cycle == 1:
            raise SuspendStep("approve?")
        return "not needed any more"

    @task
    async def back(ctx: TaskContext) -> None:
        await asked.wait()
        ctx.goto(target)

    with workflow("w") as wf:
        target >> approval
        wf.add(back)
    handle = await engine.submit(wf)
    async for event in handle.events():
        if event.type == "task_suspended":
            asked.set()
    assert (await handle.result())[approval] == "not needed any more"
    assert await handle.status() == RunStatus.SUCCEEDED


async def test_a_retry_that_waits_there_is_withdrawn(engine: WorkflowEngine) -> None:
    """Rule 13: so is an attempt that waits for its time; the new visit begins with attempt 1, at once."""
    retry_waits = asyncio.Event()

    @task
    async def target() -> None: ...

    @task(retry=RetryPolicy(1, initial_interval=3600, max_interval=3600, jitter=False))
    async def unlucky(ctx: TaskContext) -> int:
        if ctx.cycle == 1:
            raise ConnectionError("try again in an hour")
        return ctx.attempt

    @task
    async def back(ctx: TaskContext) -> None:
        await retry_waits.wait()
        ctx.goto(target)

    with workflow("w") as wf:
        target >> unlucky
        wf.add(back)
    handle = await engine.submit(wf)
    async for event in handle.events():
        if event.type == "task_retrying":
            retry_waits.set()
    assert (await handle.result())[unlucky] == 1


async def test_exits_of_a_loop_are_entered_again(engine: WorkflowEngine, steps: Steps, log: list[str]) -> None:
    """Rule 13: going back into a loop runs its rounds again, and then what follows it."""
    (tool,) = steps("tool")

    @task
    async def agent(ctx: TaskContext) -> None:
        log.append("agent")
        if ctx.cycle in (2, 4):
            ctx.end_loop()

    @task
    async def report(ctx: TaskContext) -> None:
        log.append("report")
        if ctx.cycle == 1:
            ctx.goto(agent)

    with workflow("not good enough") as wf:
        agent >> tool >> agent
        agent >> report
    await engine.execute(wf)
    assert log == ["agent", "tool", "agent", "report"] * 2


async def test_going_back_into_the_midst_of_a_loop(engine: WorkflowEngine, steps: Steps, log: list[str]) -> None:
    """Rule 13: the loop is entered again in its midst, goes round, and what follows it waits for its end anew."""
    (agent,) = steps("agent")

    @task
    async def tool(ctx: TaskContext) -> None:
        log.append("tool")
        if ctx.cycle in (1, 3):
            ctx.end_loop()

    @task
    async def report(ctx: TaskContext) -> None:
        log.append("report")
        if ctx.cycle == 1:
            ctx.goto(tool)

    with workflow("one more time") as wf:
        agent >> tool >> agent
        tool >> report
    await engine.execute(wf)
    assert log == ["agent", "tool", "report", "tool", "agent", "tool", "report"]


async def test_what_was_asked_for_is_undone_with_the_visit(engine: WorkflowEngine, steps: Steps, log: list[str]) -> None:
    """Rule 13: like an edge, a goto that waits for its group belongs to its visit: the second visit does not ask again."""
    first, target = steps("first target")
    asked = asyncio.Event()

    @task
    async def leaves(ctx: TaskContext) -> None:
        log.append("leaves")
        if ctx.cycle == 1:
            ctx.goto(target)
            asked.set()

    @task
    async def back(ctx: TaskContext) -> None:
        await asked.wait()
        ctx.goto(first)

    with workflow("w") as wf:
        wf.add(parallel(first >> leaves, back, name="both"), target)
    await engine.execute(wf, start="both")
    assert log == ["first", "leaves", "first", "leaves"]


async def test_going_back_to_a_group_runs_all_of_it_again(engine: WorkflowEngine, steps: Steps, log: list[str]) -> None:
    """Rule 13: a goto may name a group like any other node."""
    a, b = steps("a b")
    both = parallel(a, b, name="both")

    @task
    async def check(ctx: TaskContext) -> None:
        log.append("check")
        if ctx.cycle == 1:
            ctx.goto(both)

    await engine.execute(both >> check)
    assert [sorted(log[:2]), log[2], sorted(log[3:5]), log[5]] == [["a", "b"], "check"] * 2


# ---- rule 14: out of a group ---------------------------------------------------------------------------------------


async def test_a_goto_out_of_a_group_waits_for_the_group(engine: WorkflowEngine, steps: Steps, log: list[str]) -> None:
    """Rule 14: the group carries it out when it settles with success; its static successors are then skipped."""
    usual, alarm = steps("usual alarm")
    asked = asyncio.Event()

    @task
    async def watch(ctx: TaskContext) -> str:
        ctx.goto(alarm)
        asked.set()
        return "smoke"

    @task
    async def measure() -> str:
        await asked.wait()
        log.append("measure")
        return "42 degrees"

    with workflow("house") as wf:
        parallel(watch, measure, name="sensors") >> usual
        usual >> alarm
    result = await engine.execute(wf)
    assert log == ["measure", "alarm"]
    assert result["sensors"] == ["smoke", "42 degrees"]


async def test_a_goto_climbs_nested_groups_level_by_level(engine: WorkflowEngine, steps: Steps, log: list[str]) -> None:
    """Rule 14: from a group inside a group, each group carries the goto out in turn."""
    beside, usual, target = steps("beside usual target")

    @task
    async def deep(ctx: TaskContext) -> None:
        ctx.goto(target)

    @task
    async def after_inner() -> None:
        log.append("after_inner")

    inner = parallel(deep, beside, name="inner")
    outer = parallel(inner >> after_inner, beside.clone("other"), name="outer")
    with workflow("nested") as wf:
        outer >> usual >> target
    await engine.execute(wf)
    assert log == ["beside", "beside", "target"]


async def test_a_failing_group_drops_the_goto(engine: WorkflowEngine, steps: Steps, log: list[str]) -> None:
    """Rule 14: if the group fails, the goto is dropped, and what handles the failure runs instead."""
    usual, target, handler = steps("usual target handler")
    asked = asyncio.Event()

    @task
    async def goes(ctx: TaskContext) -> None:
        ctx.goto(target)
        asked.set()

    @task
    async def fails() -> None:
        await asked.wait()
        raise ValueError("no")

    with workflow("w") as wf:
        parallel(goes, fails, name="both") >> usual >> target
        wf.add_edge("both", handler, on="failure")
    await engine.execute(wf)
    assert log == ["handler"]


async def test_the_member_that_goes_counts_as_a_success(engine: WorkflowEngine, steps: Steps, log: list[str]) -> None:
    """Rule 14: for the policy, and in the group's result; here only the others failed, and the group does not mind."""
    usual, target = steps("usual target")

    @task
    async def goes(ctx: TaskContext) -> str:
        ctx.goto(target)
        return "gone"

    @task
    async def fails() -> None:
        raise ValueError("no")

    with workflow("w") as wf:
        parallel(goes, fails, name="both", policy=best_effort) >> usual >> target
    result = await engine.execute(wf)
    assert result["both"] == ["gone"]
    assert log == ["target"]


# ---- rule 15: where a goto may lead --------------------------------------------------------------------------------


async def test_a_goto_may_name_a_node_beside_a_group_around_the_task(engine: WorkflowEngine, steps: Steps, log: list[str]) -> None:
    """Rule 15: beside the task, beside a group around it, or left out by ``start=``."""
    begin, left_out, other = steps("begin left_out other")

    @task
    async def inside(ctx: TaskContext) -> None:
        if ctx.cycle == 1:
            ctx.goto(left_out)

    with workflow("w") as wf:
        left_out >> begin >> (inside | other)
    await engine.execute(wf, start=begin)
    assert log == ["begin", "other", "left_out", "begin", "other"]


@pytest.mark.parametrize("target", ["nobody", "hidden", "made on the way"])
async def test_a_goto_may_name_nothing_else(engine: WorkflowEngine, steps: Steps, log: list[str], target: str) -> None:
    """Rule 15: an unknown id, a member of another group or a dynamic task fails the step with UnknownTaskError."""
    hidden, other, extra = steps("hidden other extra")

    @task
    async def begin(ctx: TaskContext) -> None:
        ctx.next_task(extra.clone("made on the way"))

    @task
    async def goes(ctx: TaskContext) -> None:
        ctx.goto(target)

    with workflow("w") as wf:
        begin >> goes
        goes >> parallel(hidden, other, name="both")
    with pytest.raises(TaskFailedError) as failed:
        await engine.execute(wf)
    assert failed.value.task_id == "goes"
    assert isinstance(failed.value.__cause__, UnknownTaskError)
    assert failed.value.__cause__.ids == (target,)
    assert failed.value.__cause__.known[:2] == ("begin", "goes")
    assert "hidden" not in log
