"""Rules 1 to 4: what runs after what.

``a >> b`` draws an edge: b runs after a. A task that several edges lead to is a *join*, and waits for all of them. An
edge is decided once: it *fires*, or it is *skipped* (its task went elsewhere), or it is *broken* (something failed). A
join runs when at least one edge fired and none is broken. So it waits for whatever may still come, and never for a
branch that was not taken.
"""

from __future__ import annotations

import asyncio

import pytest

from graflow import RetryPolicy, TaskContext, TaskError, TaskGraph, WorkflowEngine, parallel, task, workflow
from graflow.errors import GraphError, MissingArgumentError, TaskFailedError, UnknownTaskError
from tests.fundamentals.conftest import Steps

# ---- rule 1: joins -------------------------------------------------------------------------------------------------


async def test_tasks_run_one_after_the_other(engine: WorkflowEngine, steps: Steps, log: list[str]) -> None:
    """Rule 1: an edge whose task has succeeded fires."""
    a, b, c = steps("a b c")
    await engine.execute(a >> b >> c)
    assert log == ["a", "b", "c"]


async def test_a_join_waits_for_all_edges_and_runs_once(engine: WorkflowEngine, steps: Steps, log: list[str]) -> None:
    """Rule 1: when the last edge into a node has been decided, so is what becomes of it."""
    split, left, right, join = steps("split left right join")
    with workflow("diamond") as wf:
        split >> left >> join
        split >> right >> join
    await engine.execute(wf)
    assert log[0] == "split"
    assert sorted(log[1:3]) == ["left", "right"]
    assert log[3:] == ["join"]


async def test_a_join_does_not_wait_for_a_branch_that_was_not_taken(engine: WorkflowEngine, steps: Steps, log: list[str]) -> None:
    """Rule 1: if none is broken and any fired, it runs."""
    cheap, dear, ship = steps("cheap dear ship")

    @task
    async def choose(ctx: TaskContext) -> None:
        ctx.goto(cheap)

    with workflow("choice") as wf:
        choose >> cheap >> ship
        choose >> dear >> ship
    result = await engine.execute(wf)
    assert log == ["cheap", "ship"]
    assert "dear" not in result


async def test_what_follows_only_skipped_edges_is_skipped_too(engine: WorkflowEngine, steps: Steps, log: list[str]) -> None:
    """Rule 1: if all were skipped, the node is skipped and skips its own edges; that is no failure."""
    other, skipped, after, at_the_end = steps("other skipped after at_the_end")

    @task
    async def choose(ctx: TaskContext) -> None:
        ctx.goto(other)

    with workflow("dead path") as wf:
        choose >> skipped >> after >> at_the_end
        choose >> other
    result = await engine.execute(wf)
    assert log == ["other"]
    assert result.status == "succeeded"


async def test_what_a_failed_task_leads_to_is_broken_and_breaks_what_follows(engine: WorkflowEngine, steps: Steps, log: list[str]) -> None:
    """Rule 1: if any edge is broken the node does not run, whatever the others are, and breaks its own edges."""
    sound, join, after_join, alone = steps("sound join after_join alone")

    @task
    async def unsound() -> None:
        raise ValueError("cracked")

    with workflow("broken") as wf:
        unsound >> join >> after_join
        sound >> join
        wf.add(alone)
    with pytest.raises(TaskFailedError) as failed:
        await engine.execute(wf, on_failure="continue")
    assert sorted(log) == ["alone", "sound"]
    assert list(failed.value.result.errors) == ["unsound"]


async def test_broken_is_stronger_than_skipped(engine: WorkflowEngine, steps: Steps, log: list[str]) -> None:
    """Rule 1: if any edge is broken the node is broken, also where no other edge fired."""
    elsewhere, join, after_join = steps("elsewhere join after_join")

    @task
    async def leaves(ctx: TaskContext) -> None:
        ctx.goto(elsewhere)

    @task
    async def fails() -> None:
        raise ValueError("no")

    with workflow("skipped and broken") as wf:
        leaves >> elsewhere
        leaves >> join
        fails >> join
        wf.add_edge(join, after_join, on="always")
    with pytest.raises(TaskFailedError):
        await engine.execute(wf, on_failure="continue")
    assert log == ["elsewhere"]


async def test_a_decision_of_an_older_visit_is_ignored(engine: WorkflowEngine, steps: Steps, log: list[str]) -> None:
    """Rule 1: each edge of a visit is decided once; what an older visit decides comes too late."""
    (after,) = steps("after")
    slow_runs, slow_ended = asyncio.Event(), asyncio.Event()

    @task
    async def slow(ctx: TaskContext) -> int:
        if ctx.cycle == 1:
            slow_runs.set()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                slow_ended.set()
                return 1
        await slow_ended.wait()
        return 2

    @task
    async def impatient(ctx: TaskContext) -> None:
        await slow_runs.wait()
        ctx.goto(slow)

    with workflow("too late") as wf:
        slow >> after
        wf.add(impatient)
    result = await engine.execute(wf)
    assert log == ["after"]
    assert result[slow] == 2


# ---- rule 2: conditions --------------------------------------------------------------------------------------------


async def test_a_failure_edge_handles_the_failure(engine: WorkflowEngine, steps: Steps, log: list[str]) -> None:
    """Rule 2: failure edges fire, success edges are skipped, and the run does not fail by it."""
    ship, refund, bill = steps("ship refund bill")

    @task
    async def charge() -> None:
        raise ValueError("card declined")

    with workflow("order") as wf:
        charge >> ship >> bill
        wf.add_edge(charge, refund, on="failure")
    result = await engine.execute(wf)
    assert log == ["refund"]
    assert result.status == "succeeded"


async def test_a_success_skips_the_failure_edges(engine: WorkflowEngine, steps: Steps, log: list[str]) -> None:
    """Rule 2: on success, failure edges are skipped, and with them all that only they lead to."""
    charge, ship, refund, apologise, close = steps("charge ship refund apologise close")
    with workflow("order") as wf:
        charge >> ship >> close
        wf.add_edge(charge, refund, on="failure")
        refund >> apologise >> close
    await engine.execute(wf)
    assert log == ["charge", "ship", "close"]


@pytest.mark.parametrize("fails", [False, True])
async def test_an_always_edge_fires_either_way(engine: WorkflowEngine, steps: Steps, log: list[str], fails: bool) -> None:
    """Rule 2: an always edge fires after a success and after a failure, which it handles: ``finally``."""
    use, clean_up = steps("use clean_up")

    @task
    async def open_file() -> None:
        if fails:
            raise OSError("no such file")

    with workflow("finally") as wf:
        open_file >> use
        wf.add_edge(open_file, clean_up, on="always")
    result = await engine.execute(wf)
    assert sorted(log) == (["clean_up"] if fails else ["clean_up", "use"])
    assert result.status == "succeeded"


async def test_an_always_edge_fires_after_a_timeout(engine: WorkflowEngine, steps: Steps, log: list[str]) -> None:
    """Rule 2: always edges fire after a timeout too."""
    (clean_up,) = steps("clean_up")

    @task(timeout=0.01)
    async def hangs() -> None:
        await asyncio.Event().wait()

    with workflow("finally") as wf:
        wf.add_edge(hangs, clean_up, on="always")
    await engine.execute(wf)
    assert log == ["clean_up"]


async def test_the_target_takes_the_error_as_a_parameter(engine: WorkflowEngine) -> None:
    """Rule 2: the target may receive the error as a parameter annotated TaskError; what failed for good is the last attempt."""

    @task(retry=RetryPolicy(1, initial_interval=0))
    async def charge() -> None:
        raise ValueError("card declined")

    @task
    async def refund(error: TaskError) -> str:
        assert "card declined" in error.remote_traceback
        return f"{error.task_id}, attempt {error.attempt}: {error.error_type}: {error.message}"

    with workflow("order") as wf:
        wf.add_edge(charge, refund, on="failure")
    result = await engine.execute(wf)
    assert result.output == "charge, attempt 2: ValueError: card declined"


@pytest.mark.parametrize("fails", [False, True])
async def test_what_may_come_without_an_error_says_so(engine: WorkflowEngine, fails: bool) -> None:
    """Rule 2: the target of an always edge takes ``TaskError | None``, and None after a success."""

    @task
    async def charge() -> None:
        if fails:
            raise ValueError("card declined")

    @task
    async def finish(error: TaskError | None) -> str:
        return "well" if error is None else error.message

    with workflow("order") as wf:
        wf.add_edge(charge, finish, on="always")
    assert (await engine.execute(wf)).output == ("card declined" if fails else "well")


async def test_an_error_that_there_is_not_is_a_missing_argument(engine: WorkflowEngine) -> None:
    """Rule 2: a parameter annotated TaskError without None needs a failure."""

    @task
    async def charge() -> None: ...

    @task
    async def finish(error: TaskError) -> None: ...

    with workflow("order") as wf:
        wf.add_edge(charge, finish, on="always")
    with pytest.raises(TaskFailedError) as failed:
        await engine.execute(wf)
    assert isinstance(failed.value.__cause__, MissingArgumentError)
    assert failed.value.__cause__.parameter == "error"


async def test_the_failure_of_a_group_can_be_handled(engine: WorkflowEngine, steps: Steps, log: list[str]) -> None:
    """Rule 2: a group that fails is handled like a task that does."""
    fine, undo = steps("fine undo")

    @task
    async def faulty() -> None:
        raise ValueError("no")

    @task
    async def report(error: TaskError) -> str:
        return f"{error.task_id}: {error.error_type}"

    both = parallel(fine, faulty, name="both")
    with workflow("group") as wf:
        wf.add_edge(both, report, on="failure")
        report >> undo
    result = await engine.execute(wf)
    assert result[report] == "both: ParallelGroupError"
    assert log == ["fine", "undo"]


async def test_a_handled_failure_does_not_fail_the_group_around_it(engine: WorkflowEngine, steps: Steps) -> None:
    """Rule 2: what is handled inside a group fails neither its branch nor the group."""
    (other,) = steps("other")

    @task
    async def download() -> str:
        raise ConnectionError("no net")

    @task
    async def use_cache(error: TaskError) -> str:
        return f"from cache, as there is {error.message}"

    with workflow("handled inside") as wf:
        parallel(download, use_cache, other, name="sources")
        wf.add_edge(download, use_cache, on="failure")
    result = await engine.execute(wf)
    assert result["sources"] == ["from cache, as there is no net", "other"]


async def test_a_condition_is_one_of_three(steps: Steps) -> None:
    """Rule 2: an edge is on success, on failure, or always."""
    a, b = steps("a b")
    with workflow("w") as wf, pytest.raises(GraphError, match="failure"):
        wf.add_edge(a, b, on="sometimes")  # type: ignore[arg-type]


# ---- rule 3: where a run starts ------------------------------------------------------------------------------------


async def test_all_nodes_without_an_incoming_edge_start_together(engine: WorkflowEngine, steps: Steps, log: list[str]) -> None:
    """Rule 3: a run starts at every node that nothing leads to, at all of them at once."""
    (join,) = steps("join")
    everybody = asyncio.Barrier(3)

    @task
    async def meet() -> None:
        await everybody.wait()

    with workflow("roots") as wf:
        for name in ("a", "b", "c"):
            meet.clone(name) >> join
    await engine.execute(wf)
    assert log == ["join"]


async def test_a_run_can_start_in_the_midst_of_its_graph(engine: WorkflowEngine, steps: Steps, log: list[str]) -> None:
    """Rule 3: what the forward edges of ``start=`` do not lead to begins as skipped, so no join waits for it."""
    fetch, clean, other, join = steps("fetch clean other join")
    with workflow("midst") as wf:
        fetch >> clean >> join
        other >> join
    result = await engine.execute(wf, start=clean)
    assert log == ["clean", "join"]
    assert set(result.results) == {"clean", "join"}


async def test_a_workflow_says_where_it_starts_and_execute_says_otherwise(engine: WorkflowEngine, steps: Steps, log: list[str]) -> None:
    """Rule 3: ``start=`` is given on the workflow or at execute, as a task or an id; execute has the last word."""
    a, b, c = steps("a b c")
    with workflow("midst", start=b) as wf:
        a >> b >> c
    await engine.execute(wf)
    await engine.execute(wf, start="c")
    assert log == ["b", "c", "c"]


async def test_a_goto_may_enter_what_start_left_out(engine: WorkflowEngine, steps: Steps, log: list[str]) -> None:
    """Rule 3: what begins as skipped can still be gone to, and goes on from there."""
    left_out, after = steps("left_out after")

    @task
    async def begin(ctx: TaskContext) -> None:
        ctx.goto(left_out)

    with workflow("left out") as wf:
        wf.add(begin, left_out >> after)
    await engine.execute(wf, start=begin)
    assert log == ["left_out", "after"]


async def test_a_run_that_starts_inside_a_loop_goes_round_as_ever(engine: WorkflowEngine, log: list[str]) -> None:
    """Rule 3: which edges are back edges is a property of the plan, and does not change with the start."""

    @task
    async def agent(ctx: TaskContext) -> None:
        log.append("agent")
        if ctx.cycle == 2:
            ctx.end_loop()

    @task
    async def tool() -> None:
        log.append("tool")

    with workflow("agent") as wf:
        agent >> tool >> agent
    await engine.execute(wf, start=tool)
    assert log == ["tool", "agent", "tool", "agent"]


async def test_a_run_can_start_at_a_group(engine: WorkflowEngine, steps: Steps, log: list[str]) -> None:
    """Rule 3: the start is a node of the top scope, so a group as well as a task."""
    before, a, b, after = steps("before a b after")
    both = parallel(a, b, name="both")
    with workflow("from the group") as wf:
        before >> both >> after
    await engine.execute(wf, start=both)
    assert sorted(log[:2]) == ["a", "b"]
    assert log[2:] == ["after"]


async def test_a_run_cannot_start_inside_a_group_or_nowhere(engine: WorkflowEngine, steps: Steps) -> None:
    """Rule 3: the start is a node of the top scope, and of this graph."""
    a, b = steps("a b")
    with workflow("w") as wf:
        parallel(a, b, name="both")
    with pytest.raises(GraphError, match="'a' is a member of the group 'both'"):
        await engine.execute(wf, start=a)
    with pytest.raises(UnknownTaskError, match="nowhere"):
        await engine.execute(wf, start="nowhere")


# ---- rule 4: what is in a graph ------------------------------------------------------------------------------------


async def test_declaring_a_task_adds_nothing(engine: WorkflowEngine, steps: Steps, log: list[str]) -> None:
    """Rule 4: operators and ``wf.add`` add to a graph; declaring, cloning and binding do not."""
    with workflow("w") as wf:
        a, b, lone, unused = steps("a b lone unused")
        unused.clone("unused as well")
        a >> b
        wf.add(lone)
    await engine.execute(wf)
    assert sorted(log) == ["a", "b", "lone"]


async def test_every_way_to_draw_draws_the_same(engine: WorkflowEngine, steps: Steps, log: list[str]) -> None:
    """Rule 4: operators, ``wf.add``, ``wf.add_edge``, ``add_task`` and ``add_edge`` all add."""
    a, b = steps("a b")
    with workflow("operators") as operators:
        a >> b
    with workflow("reversed") as reversed_:
        b << a
    with workflow("added") as added:
        added.add(a >> b)
    with workflow("an edge") as an_edge:
        an_edge.add_edge(a, b)
    graph = TaskGraph("by hand")
    graph.add_task(a)
    graph.add_task(b)
    graph.add_edge("a", "b")
    for drawn in (operators, reversed_, added, an_edge, graph, a >> b):
        log.clear()
        await engine.execute(drawn)
        assert log == ["a", "b"]


async def test_inside_or_outside_the_block_makes_no_difference(engine: WorkflowEngine, log: list[str]) -> None:
    """Rule 4: a task is the same wherever it was declared, also as the target of a goto."""

    @task
    async def outside() -> None:
        log.append("outside")

    with workflow("w") as wf:

        @task
        async def inside() -> None:
            log.append("inside")

        @task
        async def begin(ctx: TaskContext) -> None:
            ctx.next_task(inside)
            ctx.next_task(outside)

        wf.add(begin)
    await engine.execute(wf)
    assert sorted(log) == ["inside", "outside"]


async def test_a_task_only_gone_to_is_a_root_unless_the_start_is_given(engine: WorkflowEngine, steps: Steps, log: list[str]) -> None:
    """Rule 4: whatever stands in the graph with nothing leading to it is a root; ``start=`` keeps it waiting."""
    usual, handler = steps("usual handler")

    @task
    async def begin(ctx: TaskContext) -> None:
        log.append("begin")
        ctx.goto(handler)

    with workflow("w") as wf:
        wf.add(begin, handler)
    await engine.execute(wf, start=begin)
    assert log == ["begin", "handler"]
    log.clear()
    with workflow("without a start") as wf:
        wf.add(usual, handler)
    await engine.execute(wf)
    assert sorted(log) == ["handler", "usual"]


async def test_a_task_only_gone_to_may_stay_out_of_the_graph(engine: WorkflowEngine, steps: Steps, log: list[str]) -> None:
    """Rule 4: ``next_task(handler, goto=True)`` goes to a task that is not in the graph."""
    handler, usual = steps("handler usual")

    @task
    async def begin(ctx: TaskContext) -> None:
        ctx.next_task(handler, goto=True)

    await engine.execute(begin >> usual)
    assert log == ["handler"]
