"""Rules 31 to 34: what a run leaves behind, and when it is over.

``result[task]`` is what a task returned the last time, ``result.output`` what the last task of the graph did. A run ends
when nothing is left to do, or when its time is up.
"""

from __future__ import annotations

import asyncio

import pytest

from graflow import RetryPolicy, RunStatus, TaskContext, WorkflowEngine, parallel, task, testing, workflow
from graflow.errors import RunTimeoutError, TaskFailedError, TaskTimeoutError
from tests.fundamentals.conftest import Steps


@task
async def visit(ctx: TaskContext) -> int:
    return ctx.cycle


# ---- rule 31: results come and go ----------------------------------------------------------------------------------


async def test_a_result_is_replaced_when_its_node_completes_again(engine: WorkflowEngine) -> None:
    """Rule 31: what counts is the last visit."""

    @task
    async def twice(ctx: TaskContext) -> None:
        if ctx.cycle == 1:
            ctx.goto(visit)

    assert (await engine.execute(visit >> twice))[visit] == 2


async def test_a_result_is_removed_when_its_node_is_skipped(engine: WorkflowEngine, steps: Steps) -> None:
    """Rule 31: tool ran in the first round, and is skipped in the last."""
    (tool,) = steps("tool")

    @task
    async def agent(ctx: TaskContext) -> None:
        if ctx.cycle == 2:
            ctx.end_loop()

    result = await engine.execute(agent >> tool >> agent)
    assert tool not in result
    with pytest.raises(KeyError, match="tool"):
        result[tool]


async def test_a_result_is_removed_when_its_node_is_broken(engine: WorkflowEngine, steps: Steps) -> None:
    """Rule 31: tool ran in the first round, and has nothing to start from in the last."""
    (tool,) = steps("tool")

    @task
    async def agent(ctx: TaskContext) -> None:
        if ctx.cycle == 2:
            raise ValueError("I am lost")

    with pytest.raises(TaskFailedError) as failed:
        await engine.execute(agent >> tool >> agent, on_failure="continue")
    assert tool not in failed.value.result


async def test_a_result_is_removed_when_its_node_fails(engine: WorkflowEngine, steps: Steps) -> None:
    """Rule 31: a task has a result or an error, that of its last visit."""
    (tool, handler) = steps("tool handler")

    @task
    async def agent(ctx: TaskContext) -> str:
        if ctx.cycle == 2:
            raise ValueError("I am lost")
        return "found"

    with workflow("agent") as wf:
        agent >> tool >> agent
        wf.add_edge(agent, handler, on="failure")
    result = await engine.execute(wf)
    assert agent not in result
    assert list(result.errors) == ["agent"]


async def test_an_error_is_removed_when_its_node_completes(engine: WorkflowEngine) -> None:
    """Rule 31: the other way round as well."""

    @task
    async def unlucky(ctx: TaskContext) -> str:
        if ctx.cycle == 1:
            raise ValueError("no")
        return "yes"

    @task
    async def repair(ctx: TaskContext) -> None:
        ctx.goto(unlucky)

    with workflow("w") as wf:
        wf.add_edge(unlucky, repair, on="failure")
    result = await engine.execute(wf)
    assert result[unlucky] == "yes"
    assert not result.errors


async def test_a_result_is_kept_while_its_node_is_undecided_again(engine: WorkflowEngine) -> None:
    """Rule 31: until the next visit has ended, the last result can be read."""

    @task
    async def first(ctx: TaskContext) -> str:
        if ctx.cycle == 1:
            return "nothing yet"
        return f"in the last round, second was {await ctx.result_of('second')!r}"

    @task
    async def second(ctx: TaskContext) -> str:
        if ctx.cycle == 1:
            ctx.goto(first)
        return f"visit {ctx.cycle}"

    result = await engine.execute(first >> second)
    assert result[first] == "in the last round, second was 'visit 1'"


# ---- rule 32: the output -------------------------------------------------------------------------------------------


async def test_the_output_is_the_result_of_the_last_node(engine: WorkflowEngine, steps: Steps) -> None:
    """Rule 32: that of the one top-level node without an outgoing forward edge."""
    a, b, c = steps("a b c")
    assert (await engine.execute(a >> b >> c)).output == "c"
    assert (await engine.execute(a)).output == "a"
    assert (await engine.execute(a >> (b | c))).output == ["b", "c"]


async def test_an_edge_back_does_not_keep_a_node_from_being_the_last(engine: WorkflowEngine) -> None:
    """Rule 32: only forward edges count: in ``ask >> answer >> ask``, answer is the last."""

    @task
    async def ask() -> None: ...

    @task
    async def answer(ctx: TaskContext) -> str:
        if ctx.cycle == 2:
            ctx.end_loop()
        return f"answer {ctx.cycle}"

    assert (await engine.execute(ask >> answer >> ask)).output == "answer 2"


async def test_the_output_of_a_last_node_that_was_skipped_is_none(engine: WorkflowEngine, steps: Steps) -> None:
    """Rule 32: one last node: its result, or None."""
    middle, last = steps("middle last")

    @task
    async def begin(ctx: TaskContext) -> None:
        ctx.next_task(middle.clone("instead"), goto=True)

    assert (await engine.execute(begin >> middle >> last)).output is None


async def test_the_output_of_several_last_nodes_is_a_dict_of_those_that_completed(engine: WorkflowEngine, steps: Steps) -> None:
    """Rule 32: by id; what was skipped is left out, and dynamic tasks are no last nodes."""
    ship, mail, refund, extra = steps("ship mail refund extra")

    @task
    async def order(ctx: TaskContext) -> None:
        ctx.goto(ship)
        ctx.goto(mail)
        ctx.next_task(extra)

    with workflow("order") as wf:
        for outcome in (ship, mail, refund):
            order >> outcome
    assert (await engine.execute(wf)).output == {"ship": "ship", "mail": "mail"}


async def test_the_output_of_a_terminated_run_is_that_of_the_task_that_did_it(engine: WorkflowEngine, steps: Steps) -> None:
    """Rule 32: also when that is not the last node."""
    begin, never = steps("begin never")

    @task
    async def enough(ctx: TaskContext) -> str:
        ctx.terminate_workflow()
        return "enough"

    assert (await engine.execute(begin >> enough >> never)).output == "enough"


@pytest.mark.parametrize("terminates", [False, True])
async def test_a_workflow_may_name_its_output(engine: WorkflowEngine, steps: Steps, terminates: bool) -> None:
    """Rule 32: ``workflow(output=t)`` overrides all this, also for a run that was terminated."""
    total, mail = steps("total mail")

    @task
    async def check(ctx: TaskContext) -> None:
        if terminates:
            ctx.terminate_workflow()

    with workflow("w", output=total) as wf:
        total >> check >> mail
    assert (await engine.execute(wf)).output == "total"


# ---- rule 33: timeouts ---------------------------------------------------------------------------------------------


async def test_a_timeout_is_for_one_attempt_and_retried_like_a_failure(engine: WorkflowEngine) -> None:
    """Rule 33: the second attempt has all the time anew."""

    @task(timeout=0.01, retry=RetryPolicy(1, initial_interval=0))
    async def hangs_once(ctx: TaskContext) -> int:
        if ctx.attempt == 1:
            await asyncio.Event().wait()
        return ctx.attempt

    assert (await engine.execute(hangs_once)).output == 2


async def test_an_attempt_that_takes_too_long_says_how_long_it_had(engine: WorkflowEngine) -> None:
    """Rule 33: the cause is a TaskTimeoutError; a TimeoutError of the task's own is a failure like any other."""

    @task(timeout=0.01)
    async def hangs() -> None:
        await asyncio.Event().wait()

    @task(timeout=60)
    async def gives_up() -> None:
        raise TimeoutError("no answer from the server")

    with pytest.raises(TaskFailedError) as failed:
        await engine.execute(hangs)
    assert isinstance(failed.value.__cause__, TaskTimeoutError)
    assert (failed.value.__cause__.task_id, failed.value.__cause__.timeout) == ("hangs", 0.01)
    with pytest.raises(TaskFailedError) as failed:
        await engine.execute(gives_up)
    assert type(failed.value.__cause__) is TimeoutError


async def test_the_time_of_an_attempt_counts_from_its_start() -> None:
    """Rule 33: not from when it was ready: the third member waits for 18 of its 10 seconds, in a test's virtual time."""

    @task(timeout=10)
    async def work(n: int) -> int:
        await asyncio.sleep(9)
        return n

    async with testing.engine() as engine:
        result = await engine.execute(work.map([1, 2, 3], limit=1))
    assert result["work"] == [1, 2, 3]
    assert result.duration >= 27


async def test_groups_have_no_timeout() -> None:
    """Rule 33: a group takes as long as its members do."""

    @task
    async def slow() -> str:
        await asyncio.sleep(24 * 3600)
        return "after a day"

    async with testing.engine() as engine:
        result = await engine.execute(slow | slow.clone("other"))
    assert result.output == ["after a day", "after a day"]


async def test_the_time_of_a_run_ends_it(engine: WorkflowEngine) -> None:
    """Rule 33: ``execute(timeout=)`` ends the run with RunTimeoutError."""

    @task
    async def hangs() -> None:
        await asyncio.Event().wait()

    with pytest.raises(RunTimeoutError) as timed_out:
        await engine.execute(hangs, timeout=0.01)
    assert timed_out.value.timeout == 0.01
    assert timed_out.value.result.status == RunStatus.FAILED


async def test_what_runs_when_the_time_of_a_run_is_up_is_cancelled(log: list[str]) -> None:
    """Rule 33: and what was completed can be read from the error."""

    @task
    async def hangs() -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            log.append("stopped")

    async with testing.engine() as engine:
        with pytest.raises(RunTimeoutError) as timed_out:
            await engine.execute(visit >> hangs, timeout=60)
    assert log == ["stopped"]
    assert dict(timed_out.value.result.results) == {"visit": 1}


async def test_the_time_of_a_wait_ends_the_wait_only(engine: WorkflowEngine) -> None:
    """Rule 33: ``handle.result(timeout=)`` raises the built-in TimeoutError, and the run goes on."""
    may_end = asyncio.Event()

    @task
    async def slow() -> str:
        await may_end.wait()
        return "done"

    handle = await engine.submit(slow)
    with pytest.raises(TimeoutError):
        await handle.result(timeout=0.01)
    assert await handle.status() == RunStatus.RUNNING
    may_end.set()
    assert (await handle.result()).output == "done"


# ---- rule 34: the end ----------------------------------------------------------------------------------------------


async def test_a_run_ends_when_nothing_is_left_to_do(engine: WorkflowEngine, steps: Steps, log: list[str]) -> None:
    """Rule 34: nobody counts what remains, so skips, loops and new tasks need no correction."""
    tool, skipped, after_skipped, extra = steps("tool skipped after_skipped extra")

    @task
    async def agent(ctx: TaskContext) -> None:
        ctx.next_task(extra.clone(f"extra-{ctx.cycle}"))
        if ctx.cycle == 3:
            ctx.end_loop()

    @task
    async def choose(ctx: TaskContext) -> None:
        ctx.goto("end")

    (end,) = steps("end")
    with workflow("w") as wf:
        agent >> tool >> agent
        agent >> choose >> skipped >> after_skipped
        choose >> end
    result = await engine.execute(wf)
    assert result.status == RunStatus.SUCCEEDED
    assert sorted(log) == ["end", "extra", "extra", "extra", "tool", "tool"]


async def test_a_run_does_not_end_while_a_retry_waits() -> None:
    """Rule 34: what is delayed is outstanding, though nothing runs and nothing is queued."""

    @task(retry=RetryPolicy(1, initial_interval=3600, max_interval=3600, jitter=False))
    async def unlucky(ctx: TaskContext) -> int:
        if ctx.attempt == 1:
            raise ConnectionError("try again in an hour")
        return ctx.attempt

    async with testing.engine() as engine:
        result = await engine.execute(unlucky)
    assert result.output == 2
    assert result.duration >= 3600


async def test_a_run_does_not_end_while_a_new_task_of_a_group_runs(engine: WorkflowEngine, steps: Steps) -> None:
    """Rule 34: a task that was added to a branch is outstanding work like any other, and its group waits for it."""
    extra, other = steps("extra other")

    @task
    async def maker(ctx: TaskContext) -> str:
        ctx.next_task(extra)
        return "made"

    result = await engine.execute(parallel(maker, other, name="both"))
    assert result["both"] == ["made", "other"]
    assert result["extra"] == "extra"
