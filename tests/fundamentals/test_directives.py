"""Rules 16 to 21: what else a task may ask of its run.

A task says where the run goes next by calling methods of its context: ``goto`` (see ``test_goto.py``), ``end_loop`` (see
``test_loops.py``), ``next_task`` to add a task that is not in the graph, ``next_iteration`` to be visited again,
``terminate_workflow`` and ``cancel_workflow`` to end the run. They are noted while the task runs and obeyed when it
has succeeded.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from graflow import RetryPolicy, RunStatus, TaskContext, WorkflowEngine, best_effort, parallel, task, workflow
from graflow.core.suspension import SuspendStep
from graflow.errors import (
    DuplicateTaskError,
    MissingArgumentError,
    ParallelGroupError,
    TaskFailedError,
    UnknownTaskError,
    WorkflowCancelledError,
)
from tests.fundamentals.conftest import Steps

# ---- rule 16: the stronger silences the weaker ---------------------------------------------------------------------


async def test_cancel_silences_all_else(engine: WorkflowEngine, steps: Steps, log: list[str]) -> None:
    """Rule 16: whatever else the task asked for, the run is cancelled, and says by whom and why."""
    usual, elsewhere, extra = steps("usual elsewhere extra")

    @task
    async def check(ctx: TaskContext) -> None:
        ctx.cancel_workflow("out of stock")
        ctx.terminate_workflow("done")
        ctx.goto(elsewhere)
        ctx.next_task(extra)
        ctx.next_iteration()

    with pytest.raises(WorkflowCancelledError) as cancelled:
        await engine.execute(check >> usual >> elsewhere)
    assert (cancelled.value.task_id, cancelled.value.reason) == ("check", "out of stock")
    assert cancelled.value.result.status == RunStatus.CANCELLED
    assert log == []


async def test_terminate_silences_all_but_a_cancel(engine: WorkflowEngine, steps: Steps, log: list[str]) -> None:
    """Rule 16: the run ends here, with success; gotos, new tasks and iterations are forgotten."""
    usual, elsewhere, extra = steps("usual elsewhere extra")

    @task
    async def check(ctx: TaskContext) -> str:
        ctx.goto(elsewhere)
        ctx.next_task(extra)
        ctx.next_iteration()
        ctx.terminate_workflow("nothing to do")
        return "checked"

    result = await engine.execute(check >> usual >> elsewhere)
    assert (result.status, result.output, log) == (RunStatus.SUCCEEDED, "checked", [])


async def test_a_goto_silences_successors_iterations_and_the_end_of_the_loop(engine: WorkflowEngine, steps: Steps, log: list[str]) -> None:
    """Rule 16: in the first round the agent goes to tool_b: tool_a is skipped, and neither does it iterate nor the loop end."""
    tool_a, tool_b, after = steps("tool_a tool_b after")

    @task
    async def agent(ctx: TaskContext) -> None:
        log.append("agent")
        ctx.end_loop()
        if ctx.cycle == 1:
            ctx.goto(tool_b)
            ctx.next_iteration()

    with workflow("agent") as wf:
        agent >> tool_a >> agent
        agent >> tool_b >> agent
        agent >> after
    await engine.execute(wf)
    assert log == ["agent", "tool_b", "agent", "after"]


ALONGSIDE: dict[str, tuple[Callable[[TaskContext], object], list[str]]] = {
    "the successors": (lambda ctx: None, ["agent", "tool", "agent", "after"]),
    "an iteration": (lambda ctx: ctx.next_iteration(), ["agent", "agent", "after"]),
    "the end of the loop": (lambda ctx: ctx.end_loop(), ["agent", "after"]),
}


@pytest.mark.parametrize("alongside", ALONGSIDE)
async def test_a_new_task_adds_to_what_else_is_asked_for(engine: WorkflowEngine, steps: Steps, log: list[str], alongside: str) -> None:
    """Rule 16: ``next_task`` with a new task adds it to the successors, to an iteration, or to the end of the loop."""
    tool, after, extra = steps("tool after extra")
    ask, expected = ALONGSIDE[alongside]

    @task
    async def agent(ctx: TaskContext) -> None:
        log.append("agent")
        if ctx.cycle == 2:
            ctx.end_loop()
        else:
            ctx.next_task(extra)
            ask(ctx)

    with workflow("agent") as wf:
        agent >> tool >> agent
        agent >> after
    await engine.execute(wf)
    assert log.count("extra") == 1
    assert [step for step in log if step != "extra"] == expected


async def test_of_several_iterations_the_last_counts(engine: WorkflowEngine) -> None:
    """Rule 16: the last ``next_iteration`` replaces the earlier ones."""

    @task
    async def page(ctx: TaskContext, number: int = 0) -> int:
        if ctx.cycle == 1:
            ctx.next_iteration(1)
            ctx.next_iteration(number=2)
        return number

    assert (await engine.execute(page)).output == 2


# ---- rule 17: only what succeeds is obeyed -------------------------------------------------------------------------


async def test_an_attempt_that_raises_has_asked_for_nothing(engine: WorkflowEngine, steps: Steps, log: list[str]) -> None:
    """Rule 17: directives of an attempt that raises are discarded, also before a retry; what it wrote stays written."""
    usual, elsewhere = steps("usual elsewhere")

    @task(retry=RetryPolicy(1, initial_interval=0))
    async def unlucky(ctx: TaskContext) -> int:
        written = await ctx.channel.atomic_add("attempts", 1)
        if ctx.attempt == 1:
            ctx.goto(elsewhere)
            raise ValueError("no")
        return written

    with workflow("w") as wf:
        unlucky >> usual
        unlucky >> elsewhere.clone("beside") >> elsewhere
    result = await engine.execute(wf)
    assert sorted(log) == ["elsewhere", "elsewhere", "usual"]
    assert result[unlucky] == 2


async def test_an_attempt_that_times_out_has_asked_for_nothing(engine: WorkflowEngine, steps: Steps, log: list[str]) -> None:
    """Rule 17: directives of an attempt that times out are discarded, and the failure edge is followed."""
    elsewhere, handler = steps("elsewhere handler")

    @task(timeout=0.01)
    async def slow(ctx: TaskContext) -> None:
        ctx.next_task(elsewhere)
        await asyncio.Event().wait()

    with workflow("w") as wf:
        wf.add_edge(slow, handler, on="failure")
    await engine.execute(wf)
    assert log == ["handler"]


async def test_an_attempt_that_is_fenced_has_asked_for_nothing(engine: WorkflowEngine, steps: Steps, log: list[str]) -> None:
    """Rule 17: an attempt that was stopped and returns all the same is refused, directives and all."""
    (elsewhere,) = steps("elsewhere")
    running = asyncio.Event()

    @task
    async def stubborn(ctx: TaskContext) -> str:
        if ctx.cycle == 1:
            ctx.next_task(elsewhere)
            running.set()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                return "first visit"
        return "second visit"

    @task
    async def again(ctx: TaskContext) -> None:
        await running.wait()
        ctx.goto(stubborn)

    with workflow("w") as wf:
        wf.add(stubborn, again)
    result = await engine.execute(wf)
    assert result[stubborn] == "second visit"
    assert log == []


# ---- rule 18: existing and new tasks -------------------------------------------------------------------------------


@pytest.mark.parametrize("by", ["the task", "an equal task", "its id"])
async def test_next_task_of_a_node_of_the_graph_is_a_goto(engine: WorkflowEngine, steps: Steps, log: list[str], by: str) -> None:
    """Rule 18: a task exists if the plan has it, given by id or as a Task; the successors are skipped."""
    usual, target = steps("usual target")
    given = {"the task": target, "an equal task": target.clone("target"), "its id": "target"}[by]

    @task
    async def begin(ctx: TaskContext) -> None:
        ctx.next_task(given)

    await engine.execute(begin >> usual >> target)
    assert log == ["target"]


async def test_any_other_task_is_new_and_is_added(engine: WorkflowEngine, steps: Steps, log: list[str]) -> None:
    """Rule 18: a new task is visited beside the successors, and its result is found under its id."""
    usual, page = steps("usual page")

    @task
    async def begin(ctx: TaskContext) -> None:
        for number in range(3):
            ctx.next_task(page.clone(f"page-{number}"))

    result = await engine.execute(begin >> usual)
    assert sorted(log) == ["page", "page", "page", "usual"]
    assert set(result.results) == {"begin", "usual", "page-0", "page-1", "page-2"}


async def test_an_unknown_id_is_no_new_task(engine: WorkflowEngine) -> None:
    """Rule 18: what is given by id must exist."""

    @task
    async def begin(ctx: TaskContext) -> None:
        ctx.next_task("nobody")

    with pytest.raises(TaskFailedError) as failed:
        await engine.execute(begin)
    assert isinstance(failed.value.__cause__, UnknownTaskError)


async def test_its_maker_may_add_it_again(engine: WorkflowEngine, log: list[str]) -> None:
    """Rule 18: it is visited once more after its visits so far have ended, so that its visits never overlap."""
    all_asked = asyncio.Event()

    @task
    async def extra(ctx: TaskContext) -> None:
        log.append(f"extra {ctx.cycle} begins")
        await all_asked.wait()
        log.append(f"extra {ctx.cycle} ends")

    @task
    async def maker(ctx: TaskContext) -> None:
        ctx.next_task(extra)
        if ctx.cycle < 3:
            ctx.next_iteration()
        else:
            all_asked.set()

    await engine.execute(maker)
    assert log == [f"extra {cycle} {what}" for cycle in (1, 2, 3) for what in ("begins", "ends")]


async def test_another_task_may_not_add_the_same_id(engine: WorkflowEngine, steps: Steps, log: list[str]) -> None:
    """Rule 18: the step of another task that adds the id fails with DuplicateTaskError."""
    (extra,) = steps("extra")

    @task
    async def first(ctx: TaskContext) -> None:
        ctx.next_task(extra)

    @task
    async def second(ctx: TaskContext) -> None:
        ctx.next_task(extra)

    with pytest.raises(TaskFailedError) as failed:
        await engine.execute(first >> second)
    assert failed.value.task_id == "second"
    assert isinstance(failed.value.__cause__, DuplicateTaskError)
    assert failed.value.__cause__.ids == ("extra",)


async def test_a_new_task_may_not_bear_the_id_of_another(engine: WorkflowEngine, steps: Steps) -> None:
    """Rule 18: a different task with the id of a node of the plan is a duplicate as well."""
    a, b = steps("a b")

    @task
    async def maker(ctx: TaskContext) -> None:
        ctx.next_task(b.clone("a"))

    with pytest.raises(TaskFailedError) as failed:
        await engine.execute(maker >> a)
    assert isinstance(failed.value.__cause__, DuplicateTaskError)


async def test_who_does_not_mind_ignores_what_exists(engine: WorkflowEngine, steps: Steps, log: list[str]) -> None:
    """Rule 18: with ``if_exists="ignore"`` nothing happens, and the other directives hold."""
    extra, usual = steps("extra usual")

    @task
    async def visit(ctx: TaskContext) -> None:
        ctx.next_task(extra, if_exists="ignore")

    with workflow("w") as wf:
        visit.clone("first") >> visit.clone("second") >> usual
    await engine.execute(wf)
    assert sorted(log) == ["extra", "usual"]


# ---- rule 19: what a new task belongs to ---------------------------------------------------------------------------


async def test_the_run_waits_for_a_new_task_and_nothing_else_does(engine: WorkflowEngine, log: list[str]) -> None:
    """Rule 19: a dynamic task has no edges: what follows its maker goes on, and the run ends after it."""
    followed = asyncio.Event()

    @task
    async def extra() -> None:
        await followed.wait()
        log.append("extra")

    @task
    async def maker(ctx: TaskContext) -> None:
        ctx.next_task(extra)

    @task
    async def after() -> None:
        log.append("after")
        followed.set()

    await engine.execute(maker >> after)
    assert log == ["after", "extra"]


async def test_a_loop_does_not_wait_for_a_new_task(engine: WorkflowEngine, steps: Steps, log: list[str]) -> None:
    """Rule 19: rounds go on and the loop ends while a task made in it still runs."""
    (tool,) = steps("tool")
    ended = asyncio.Event()

    @task
    async def extra() -> None:
        await ended.wait()
        log.append("extra")

    @task
    async def agent(ctx: TaskContext) -> None:
        if ctx.cycle == 1:
            ctx.next_task(extra)
        else:
            ctx.end_loop()

    @task
    async def report() -> None:
        log.append("report")
        ended.set()

    with workflow("agent") as wf:
        agent >> tool >> agent
        agent >> report
    await engine.execute(wf)
    assert log == ["tool", "report", "extra"]


async def test_going_back_leaves_new_tasks_alone(engine: WorkflowEngine, log: list[str]) -> None:
    """Rule 19: the maker is visited again, and what it made the first time runs on."""
    gone_back = asyncio.Event()

    @task
    async def extra() -> None:
        await gone_back.wait()
        log.append("extra")

    @task
    async def maker(ctx: TaskContext) -> None:
        log.append("maker")
        if ctx.cycle == 1:
            ctx.next_task(extra)
        else:
            gone_back.set()

    @task
    async def back(ctx: TaskContext) -> None:
        if ctx.cycle == 1:
            ctx.goto(maker)

    await engine.execute(maker >> back)
    assert log == ["maker", "maker", "extra"]


async def test_a_new_task_belongs_to_the_group_and_branch_of_its_maker(engine: WorkflowEngine, log: list[str]) -> None:
    """Rule 19: the group waits for it, and if it fails, its maker's branch has failed."""

    @task
    async def extra() -> None:
        raise ValueError("no")

    @task
    async def maker(ctx: TaskContext) -> str:
        ctx.next_task(extra)
        return "made"

    @task
    async def other() -> str:
        return "other"

    with pytest.raises(ParallelGroupError) as failed:
        await engine.execute(parallel(maker, other, name="strict"))
    assert set(failed.value.failed) == {"maker"}
    lenient = await engine.execute(parallel(maker, other, name="lenient", policy=best_effort))
    assert lenient["lenient"] == ["other"]


async def test_the_stop_of_its_group_ends_a_new_task(engine: WorkflowEngine, log: list[str]) -> None:
    """Rule 19: when its group is decided early, a dynamic task is cancelled like any other member."""
    running = asyncio.Event()

    @task
    async def extra() -> None:
        running.set()
        try:
            await asyncio.Event().wait()
        finally:
            log.append("extra was stopped")

    @task
    async def maker(ctx: TaskContext) -> None:
        ctx.next_task(extra)

    @task
    async def fails() -> None:
        await running.wait()
        raise ValueError("no")

    with pytest.raises(ParallelGroupError):
        await engine.execute(maker | fails)
    assert log == ["extra was stopped"]


async def test_a_new_visit_of_its_group_ends_a_new_task(engine: WorkflowEngine, steps: Steps, log: list[str]) -> None:
    """Rule 19: what was made in the last visit of the group does not reach into the next."""
    (other,) = steps("other")
    running = asyncio.Event()

    @task
    async def extra() -> None:
        running.set()
        try:
            await asyncio.Event().wait()
        finally:
            log.append("extra was stopped")

    @task
    async def maker(ctx: TaskContext) -> None:
        if ctx.cycle == 1:
            ctx.next_task(extra)

    @task
    async def back(ctx: TaskContext) -> None:
        await running.wait()
        ctx.goto("both")

    with workflow("w") as wf:
        parallel(maker, other, name="both")
        wf.add(back)
    result = await engine.execute(wf)
    assert sorted(log) == ["extra was stopped", "other", "other"]
    assert "extra" not in result


async def test_a_new_task_may_go_where_its_maker_may(engine: WorkflowEngine, steps: Steps, log: list[str]) -> None:
    """Rule 19: it belongs to its maker's scope, and can go to the nodes there, or make tasks in turn."""
    target, grandchild = steps("target grandchild")

    @task
    async def child(ctx: TaskContext) -> None:
        ctx.next_task(grandchild)
        ctx.goto(target)

    @task
    async def maker(ctx: TaskContext) -> None:
        ctx.next_task(child)

    with workflow("w") as wf:
        wf.add(maker, target)
    await engine.execute(wf, start=maker)
    assert sorted(log) == ["grandchild", "target"]


# ---- rule 20: iterations -------------------------------------------------------------------------------------------


async def test_only_the_last_iteration_has_a_result_and_successors(engine: WorkflowEngine, steps: Steps, log: list[str]) -> None:
    """Rule 20: iterations before the last one store no result and fire nothing."""

    @task
    async def count(ctx: TaskContext, n: int = 1) -> int:
        log.append(f"count {n}")
        if n < 3:
            ctx.next_iteration(n + 1)
        return n

    @task
    async def after(count: int) -> None:
        log.append(f"after {count}")

    await engine.execute(count >> after)
    assert log == ["count 1", "count 2", "count 3", "after 3"]


async def test_the_result_of_an_iteration_that_is_not_the_last_is_nowhere_to_be_read(engine: WorkflowEngine) -> None:
    """Rule 20: an iteration that is followed by another stores no result."""

    @task
    async def count(ctx: TaskContext) -> str:
        if ctx.cycle == 1:
            ctx.next_iteration()
            return "half done"
        with pytest.raises(MissingArgumentError):
            await ctx.result_of("count")
        return "done"

    assert (await engine.execute(count)).output == "done"


async def test_each_iteration_has_attempts_of_its_own_and_retries_keep_its_data(engine: WorkflowEngine, log: list[str]) -> None:
    """Rule 20: each is a visit with its own attempts and retry budget, and its data travels with the retry."""

    @task(retry=RetryPolicy(1, initial_interval=0))
    async def page(ctx: TaskContext, cursor: str = "first") -> None:
        log.append(f"{cursor}, attempt {ctx.attempt}")
        if ctx.attempt == 1:
            raise ConnectionError("once on every page")
        if cursor == "first":
            ctx.next_iteration("second")

    await engine.execute(page)
    assert log == ["first, attempt 1", "first, attempt 2", "second, attempt 1", "second, attempt 2"]


# ---- rule 21: terminate --------------------------------------------------------------------------------------------


async def test_terminate_ends_the_run_with_success(engine: WorkflowEngine, steps: Steps, log: list[str]) -> None:
    """Rule 21: the task that asked is completed; what runs or waits is cancelled, and an unfinished group has no result."""
    done, never, queued = steps("done never queued")
    running = asyncio.Event()

    @task
    async def long() -> None:
        running.set()
        try:
            await asyncio.Event().wait()
        finally:
            log.append("long was stopped")

    @task
    async def found(ctx: TaskContext) -> str:
        await running.wait()
        ctx.terminate_workflow("found it")
        return "here"

    with workflow("search") as wf:
        parallel(done, long >> never, found, name="search") >> queued
    result = await engine.execute(wf)
    assert (result.status, result.output) == (RunStatus.SUCCEEDED, "here")
    assert dict(result.results) == {"done": "done", "found": "here"}
    assert "search" not in result
    assert log == ["done", "long was stopped"]


async def test_terminate_withdraws_what_is_suspended_or_delayed(engine: WorkflowEngine) -> None:
    """Rule 21: neither an answer nor a retry is waited for."""
    waiting = asyncio.Event()

    @task
    async def asks() -> None:
        raise SuspendStep("may I?")

    @task(retry=RetryPolicy(1, initial_interval=3600, max_interval=3600, jitter=False))
    async def unlucky() -> None:
        raise ConnectionError("try again in an hour")

    @task
    async def ends(ctx: TaskContext) -> None:
        await waiting.wait()
        ctx.terminate_workflow()

    handle = await engine.submit(asks | unlucky | ends)
    seen = set[str]()
    async for event in handle.events():
        seen.add(event.type)
        if {"task_suspended", "task_retrying"} <= seen:
            waiting.set()
    assert (await handle.result()).status == RunStatus.SUCCEEDED
    assert await handle.resume("asks") is False


async def test_a_failure_that_comes_after_terminate_is_refused(engine: WorkflowEngine) -> None:
    """Rule 21: of terminate, failure and cancel the first to settle decides."""
    running = asyncio.Event()

    @task
    async def fails_late() -> None:
        running.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise ValueError("too late") from None

    @task
    async def ends(ctx: TaskContext) -> None:
        await running.wait()
        ctx.terminate_workflow()

    result = await engine.execute(fails_late | ends)
    assert result.status == RunStatus.SUCCEEDED
    assert not result.errors


async def test_a_terminate_that_comes_after_a_failure_is_refused(engine: WorkflowEngine) -> None:
    """Rule 21: the other way round the failure decides, whatever the others do when they are stopped."""
    running = asyncio.Event()

    @task
    async def ends_late(ctx: TaskContext) -> None:
        running.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            ctx.terminate_workflow("too late")

    @task
    async def fails() -> None:
        await running.wait()
        raise ValueError("no")

    with workflow("w") as wf:
        wf.add(ends_late, fails)
    with pytest.raises(TaskFailedError) as failed:
        await engine.execute(wf)
    assert failed.value.task_id == "fails"
    assert "ends_late" not in failed.value.result
