"""Rules 5 to 10: going round.

An edge that leads back makes a loop: ``agent >> tool >> agent``. A loop is entered at its *header* and runs in rounds. A
round is over when everything in it is decided; if an edge back to the header fired, the next round begins. A task ends
the loop by ``ctx.end_loop()``, or by going elsewhere. What follows a loop runs once, after it.
"""

from __future__ import annotations

import asyncio

import pytest

from graflow import RetryPolicy, TaskContext, WorkflowEngine, best_effort, parallel, task, workflow
from graflow.errors import CycleLimitExceededError, GraphError, StepLimitExceededError
from tests.fundamentals.conftest import Steps

# ---- rule 5: what a loop is ----------------------------------------------------------------------------------------


async def test_every_round_begins_at_the_only_entry(engine: WorkflowEngine, steps: Steps, log: list[str]) -> None:
    """Rule 5: the header of a loop is the node through which it is entered."""
    start, tool = steps("start tool")

    @task
    async def agent(ctx: TaskContext) -> None:
        log.append("agent")
        if ctx.cycle == 3:
            ctx.end_loop()

    await engine.execute(start >> agent >> tool >> agent)
    assert log == ["start", "agent", "tool", "agent", "tool", "agent"]


@pytest.mark.parametrize("first", ["a", "b"])
async def test_of_several_entries_the_first_that_is_drawn_from_is_the_header(
    engine: WorkflowEngine, steps: Steps, log: list[str], first: str
) -> None:
    """Rule 5: entered through a and b, a loop begins with the one that is first the source of an edge inside it."""
    (into,) = steps("into")

    @task
    async def visit(ctx: TaskContext) -> None:
        log.append(ctx.task_id)
        if ctx.cycle == 2:
            ctx.end_loop()

    one = visit.clone(first)
    other = visit.clone("b" if first == "a" else "a")
    with workflow("two entries") as wf:
        into >> visit.clone("a")
        into >> visit.clone("b")
        one >> other >> one
    await engine.execute(wf)
    assert log == ["into", one.id, other.id, one.id, other.id]


async def test_a_loop_without_an_entry_begins_where_it_was_first_drawn_from(engine: WorkflowEngine, log: list[str]) -> None:
    """Rule 5: where nothing leads in, all nodes of the loop are asked, and the first source is the header."""

    @task
    async def visit(ctx: TaskContext) -> None:
        log.append(ctx.task_id)
        if len(log) == 4:
            ctx.end_loop()

    a, b = visit.clone("a"), visit.clone("b")
    with workflow("no entry") as wf:
        wf.add(a)
        b >> a
        a >> b
    await engine.execute(wf)
    assert log == ["b", "a", "b", "a"]


async def test_loops_nest(engine: WorkflowEngine, steps: Steps, log: list[str]) -> None:
    """Rule 5: take the back edges away, and what still forms a loop inside is an inner loop."""
    plan, write, publish = steps("plan write publish")

    @task
    async def review(ctx: TaskContext) -> None:
        log.append("review")
        if ctx.cycle == 2:
            ctx.end_loop()  # of writing and reviewing; the edge back to plan fires
        if ctx.cycle == 3:
            ctx.goto(publish)

    with workflow("nested") as wf:
        plan >> write >> review >> write
        review >> plan
        review >> publish
    await engine.execute(wf)
    assert log == ["plan", "write", "review", "write", "review", "plan", "write", "review", "publish"]


def test_the_order_of_drawing_is_a_part_of_the_graphs_digest(steps: Steps) -> None:
    """Rule 5: the plan holds which edges lead back, and so its digest covers it."""
    into, a, b = steps("into a b")
    with workflow("w") as one:
        into >> a >> b >> a
        into >> b
    with workflow("w") as other:
        into >> b >> a >> b
        into >> a
    assert one.graph.digest() != other.graph.digest()


async def test_a_group_may_hold_a_loop(engine: WorkflowEngine, steps: Steps, log: list[str]) -> None:
    """Rule 5: loops are found in each scope, so a branch can go round while the others do not."""
    tool, other, after = steps("tool other after")

    @task
    async def agent(ctx: TaskContext) -> int:
        if ctx.cycle == 3:
            ctx.end_loop()
        return ctx.cycle

    group = parallel(agent >> tool >> agent, other, name="both")
    result = await engine.execute(group >> after)
    assert result["both"] == [3, "other"]
    assert sorted(log[:-1]) == ["other", "tool", "tool"]
    assert log[-1] == "after"


async def test_a_loop_may_hold_a_group(engine: WorkflowEngine, steps: Steps, log: list[str]) -> None:
    """Rule 5: a group is a node, and so it can be in a loop like a task."""
    left, right = steps("left right")

    @task
    async def decide(ctx: TaskContext) -> None:
        log.append("decide")
        if ctx.cycle == 2:
            ctx.end_loop()

    with workflow("group in a loop") as wf:
        (left | right) >> decide >> (left | right)
    await engine.execute(wf)
    assert [sorted(log[:2]), log[2], sorted(log[3:5]), log[5]] == [["left", "right"], "decide"] * 2


# ---- rule 6: rounds ------------------------------------------------------------------------------------------------


async def test_the_header_waits_for_the_whole_round_and_is_visited_once(engine: WorkflowEngine, steps: Steps, log: list[str]) -> None:
    """Rule 6: a round is over when every node in it is decided, however many back edges fired."""
    fast, slow = steps("fast slow")

    @task
    async def header(ctx: TaskContext) -> None:
        log.append("header")
        if ctx.cycle == 2:
            ctx.end_loop()

    with workflow("two back edges") as wf:
        header >> fast >> header
        header >> fast >> slow >> header
    await engine.execute(wf)
    assert log == ["header", "fast", "slow", "header"]


async def test_a_round_in_which_no_back_edge_fires_is_the_last(engine: WorkflowEngine, steps: Steps, log: list[str]) -> None:
    """Rule 6: the next round begins only if a back edge fired."""
    header, put_away, after = steps("header put_away after")

    @task
    async def body(ctx: TaskContext) -> None:
        log.append("body")
        if ctx.cycle == 2:
            ctx.next_task(put_away, goto=True)  # instead of back to the header

    with workflow("ends by itself") as wf:
        header >> body >> header
        header >> after
    await engine.execute(wf)
    assert sorted(log[4:]) == ["after", "put_away"]
    assert log[:4] == ["header", "body", "header", "body"]


# ---- rule 7: edges into the body -----------------------------------------------------------------------------------


async def test_what_comes_in_from_outside_counts_in_every_round(engine: WorkflowEngine, steps: Steps, log: list[str]) -> None:
    """Rule 7: an edge into the body keeps its state: ``configure`` ran once, and ``tool`` does not wait for it again."""
    configure, start, tool = steps("configure start tool")

    @task
    async def agent(ctx: TaskContext) -> None:
        log.append("agent")
        if ctx.cycle == 3:
            ctx.goto("report")

    @task
    async def report() -> None: ...

    with workflow("configured") as wf:
        start >> agent >> tool >> agent
        configure >> tool
        agent >> report
    await engine.execute(wf)
    assert log.count("configure") == 1
    assert [step for step in log if step in ("agent", "tool")] == ["agent", "tool", "agent", "tool", "agent", "tool"]


async def test_what_only_outside_edges_lead_to_starts_again_with_each_round(engine: WorkflowEngine, steps: Steps, log: list[str]) -> None:
    """Rule 7: starting a round sets a join to what its outside edges had decided; if that is all, it starts."""
    start, source, header, inner = steps("start source header inner")

    @task
    async def last(ctx: TaskContext) -> None:
        log.append("last")
        if ctx.cycle == 1:
            ctx.end_loop()  # of inner and last
        else:
            ctx.goto("report")

    (report,) = steps("report")
    with workflow("entered in two places") as wf:
        start >> header >> last
        source >> inner >> last >> inner
        last >> header
        last >> report
    await engine.execute(wf)
    assert log.count("source") == 1
    assert (log.count("header"), log.count("inner"), log.count("last")) == (2, 2, 2)
    assert log[-1] == "report"


# ---- rule 8: edges that leave a loop -------------------------------------------------------------------------------


async def test_what_follows_a_loop_runs_once_after_it(engine: WorkflowEngine, steps: Steps, log: list[str]) -> None:
    """Rule 8: edges that leave a loop wait until it has ended, so the report runs once."""
    tool, report = steps("tool report")

    @task
    async def agent(ctx: TaskContext) -> None:
        log.append("agent")
        if ctx.cycle == 3:
            ctx.end_loop()

    with workflow("agent") as wf:
        agent >> tool >> agent
        agent >> report
    await engine.execute(wf)
    assert log == ["agent", "tool", "agent", "tool", "agent", "report"]


async def test_an_edge_that_leaves_is_decided_by_the_last_round(engine: WorkflowEngine, steps: Steps, log: list[str]) -> None:
    """Rule 8: tool ran in the first round and is skipped in the last, so what follows tool is skipped."""
    tool, after_tool, after_agent = steps("tool after_tool after_agent")

    @task
    async def agent(ctx: TaskContext) -> None:
        log.append("agent")
        if ctx.cycle == 2:
            ctx.end_loop()

    with workflow("agent") as wf:
        agent >> tool >> agent
        tool >> after_tool
        agent >> after_agent
    await engine.execute(wf)
    assert log == ["agent", "tool", "agent", "after_agent"]


async def test_the_back_edge_of_an_outer_loop_waits_for_the_inner_one(engine: WorkflowEngine, steps: Steps, log: list[str]) -> None:
    """Rule 8: an outer loop's back edge leaves the inner loop, and waits until that has ended."""
    (outer,) = steps("outer")

    @task
    async def inner(ctx: TaskContext) -> None:
        log.append("inner")
        if ctx.cycle == 3:
            ctx.end_loop()
        if ctx.cycle == 4:
            ctx.goto("after")

    (again, after) = steps("again after")
    with workflow("nested") as wf:
        outer >> inner >> again >> inner
        inner >> outer  # fires in each round of inner and again, and is followed after the last one
        inner >> after
    await engine.execute(wf)
    assert log == ["outer", "inner", "again", "inner", "again", "inner", "outer", "inner", "after"]


# ---- rule 9: ending a loop -----------------------------------------------------------------------------------------


async def test_end_loop_skips_the_successors_inside_and_fires_those_outside(engine: WorkflowEngine, steps: Steps, log: list[str]) -> None:
    """Rule 9: ``end_loop`` ends the innermost loop; the task's other edges fire."""
    tool, report, mail = steps("tool report mail")

    @task
    async def agent(ctx: TaskContext) -> None:
        ctx.end_loop()

    with workflow("agent") as wf:
        agent >> tool >> agent
        agent >> report
        agent >> mail
    await engine.execute(wf)
    assert sorted(log) == ["mail", "report"]


async def test_a_member_of_a_group_ends_the_loop_around_the_group(engine: WorkflowEngine, steps: Steps, log: list[str]) -> None:
    """Rule 9: the group ends the loop when it settles; its other members still finish the round."""
    plan, work, report = steps("plan work report")

    @task
    async def judge(ctx: TaskContext) -> None:
        if ctx.cycle == 2:
            ctx.end_loop()

    with workflow("rounds") as wf:
        plan >> (judge | work).with_policy("strict") >> plan
        (judge | work) >> report
    await engine.execute(wf)
    assert log == ["plan", "work", "plan", "work", "report"]


async def test_a_loop_ends_only_when_its_round_has_drained(engine: WorkflowEngine, steps: Steps, log: list[str]) -> None:
    """Rule 9: ending takes effect once the round has drained: what runs beside the task is waited for."""
    (report,) = steps("report")
    asked = asyncio.Event()

    @task
    async def header() -> None: ...

    @task
    async def decider(ctx: TaskContext) -> None:
        ctx.end_loop()
        asked.set()

    @task
    async def slow() -> None:
        await asked.wait()
        log.append("slow")

    with workflow("drains") as wf:
        header >> decider >> header
        header >> slow >> header
        decider >> report
    await engine.execute(wf)
    assert log == ["slow", "report"]


async def test_a_goto_to_a_node_outside_ends_the_loop(engine: WorkflowEngine, steps: Steps, log: list[str]) -> None:
    """Rule 9: a goto out of a loop ends it; the other edges of the task are skipped."""
    tool, usual, unusual = steps("tool usual unusual")

    @task
    async def agent(ctx: TaskContext) -> None:
        log.append("agent")
        if ctx.cycle == 2:
            ctx.goto(unusual)

    with workflow("agent") as wf:
        agent >> tool >> agent
        agent >> usual
        tool >> unusual
    await engine.execute(wf)
    assert log == ["agent", "tool", "agent", "unusual"]


async def test_a_goto_ends_all_loops_that_it_leaves(engine: WorkflowEngine, steps: Steps, log: list[str]) -> None:
    """Rule 9: from the inner loop to a node after the outer one: both end."""
    outer, again, after = steps("outer again after")

    @task
    async def inner(ctx: TaskContext) -> None:
        log.append("inner")
        if ctx.cycle == 2:
            ctx.goto(after)

    with workflow("nested") as wf:
        outer >> inner >> again >> inner
        inner >> outer >> after
    await engine.execute(wf)
    assert log == ["outer", "inner", "again", "inner", "after"]


async def test_a_goto_to_the_outer_loop_ends_the_inner_one_only(engine: WorkflowEngine, steps: Steps, log: list[str]) -> None:
    """Rule 9: a goto to a node of the outer loop leaves the inner one, and the outer goes on."""
    outer, again, after = steps("outer again after")

    @task
    async def inner(ctx: TaskContext) -> None:
        log.append("inner")
        if ctx.cycle > 1:
            ctx.goto("check")

    @task
    async def check(ctx: TaskContext) -> None:
        log.append("check")
        if ctx.cycle == 2:
            ctx.end_loop()

    with workflow("nested") as wf:
        outer >> inner >> again >> inner
        again >> check >> outer
        check >> after
    await engine.execute(wf)
    assert log == ["outer", "inner", "again", "inner", "check", "outer", "inner", "check", "after"]


# ---- rule 10: limits -----------------------------------------------------------------------------------------------


def test_a_self_edge_needs_max_cycles(steps: Steps) -> None:
    """Rule 10: an edge from a task to itself is allowed only if the task has max_cycles."""
    (forever,) = steps("forever")
    with workflow("w") as wf:
        forever >> forever
    with pytest.raises(GraphError, match="max_cycles"):
        wf.graph.validate()


async def test_a_self_edge_is_a_loop_of_one(engine: WorkflowEngine, steps: Steps, log: list[str]) -> None:
    """Rule 10: with max_cycles, a task may lead to itself."""
    (after,) = steps("after")

    @task(max_cycles=3)
    async def retry_by_hand(ctx: TaskContext) -> None:
        log.append(f"{ctx.cycle} of {ctx.max_cycles}")
        if not ctx.can_iterate():
            ctx.end_loop()

    await engine.execute(retry_by_hand >> retry_by_hand >> after)
    assert log == ["1 of 3", "2 of 3", "3 of 3", "after"]


async def test_cycle_counts_all_visits_whatever_brought_them_about(engine: WorkflowEngine, log: list[str]) -> None:
    """Rule 10: rounds, gotos and iterations count on, and nothing ever resets the count."""

    @task
    async def worker(ctx: TaskContext) -> None:
        log.append(f"worker {ctx.cycle}")
        if ctx.cycle == 1:
            ctx.next_iteration()

    @task
    async def judge(ctx: TaskContext) -> None:
        log.append(f"judge {ctx.cycle}")
        if ctx.cycle >= 2:
            ctx.end_loop()

    @task
    async def last(ctx: TaskContext) -> None:
        if ctx.cycle == 1:
            ctx.goto(worker)

    with workflow("w") as wf:
        worker >> judge >> worker
        judge >> last
    await engine.execute(wf)
    assert log == ["worker 1", "worker 2", "judge 1", "worker 3", "judge 2", "worker 4", "judge 3"]


@pytest.mark.parametrize("on_failure", ["fail", "continue"])
async def test_max_cycles_fails_the_run_whatever_is_around(engine: WorkflowEngine, steps: Steps, log: list[str], on_failure: str) -> None:
    """Rule 10: n visits are allowed and the next one fails the run, also in a lenient group and under ``continue``."""
    (other,) = steps("other")

    @task(max_cycles=2)
    async def endless() -> None:
        log.append("endless")

    group = parallel(endless >> endless, other, policy=best_effort)
    with pytest.raises(CycleLimitExceededError) as exceeded:
        await engine.execute(group, on_failure=on_failure)  # type: ignore[call-overload]
    assert (exceeded.value.task_id, exceeded.value.limit) == ("endless", 2)
    assert log.count("endless") == 2


async def test_max_steps_counts_visits_of_tasks_and_groups(engine: WorkflowEngine, steps: Steps, log: list[str]) -> None:
    """Rule 10: four tasks and a group are five steps; with one fewer the last is not visited."""
    a, b, c, d = steps("a b c d")
    graph = a >> (b | c) >> d
    await engine.execute(graph, max_steps=5)
    log.clear()
    with pytest.raises(StepLimitExceededError) as exceeded:
        await engine.execute(graph, max_steps=4)
    assert (exceeded.value.task_id, exceeded.value.limit) == ("d", 4)
    assert sorted(log) == ["a", "b", "c"]


@pytest.mark.parametrize("on_failure", ["fail", "continue"])
async def test_max_steps_fails_the_run_whatever_is_around(engine: WorkflowEngine, steps: Steps, on_failure: str) -> None:
    """Rule 10: no policy forgives it, and iterations are visits as well."""
    (other,) = steps("other")

    @task
    async def endless(ctx: TaskContext) -> None:
        ctx.next_iteration()

    with pytest.raises(StepLimitExceededError) as exceeded:
        await engine.execute(parallel(endless, other, policy=best_effort), max_steps=7, on_failure=on_failure)  # type: ignore[call-overload]
    assert (exceeded.value.task_id, exceeded.value.limit) == ("endless", 7)


async def test_attempts_and_skips_are_no_steps(engine: WorkflowEngine, steps: Steps, log: list[str]) -> None:
    """Rule 10: max_steps and max_cycles count visits, not attempts and not skips."""
    taken, not_taken = steps("taken not_taken")

    @task(retry=RetryPolicy(3, initial_interval=0), max_cycles=1)
    async def stubborn(ctx: TaskContext) -> None:
        assert ctx.cycle == 1
        if ctx.attempt < 4:
            raise ValueError("not yet")
        ctx.goto(taken)

    with workflow("two steps") as wf:
        stubborn >> taken
        stubborn >> not_taken
    await engine.execute(wf, max_steps=2)
    assert log == ["taken"]


async def test_a_run_may_make_10_000_steps_more_than_it_has_nodes(engine: WorkflowEngine) -> None:
    """Rule 10: unless max_steps is given, it is 10 000 more than the plan has nodes: a loop that never ends does end."""

    @task
    async def ping() -> None: ...

    @task
    async def pong() -> None: ...

    with pytest.raises(StepLimitExceededError) as exceeded:
        await engine.execute(ping >> pong >> ping)
    assert exceeded.value.limit == 10_002
