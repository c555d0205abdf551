"""Rules 28 and 29: going on after a failure, and waiting for an answer from outside.

A task that raises is tried again as its retry policy says, and then has failed. The first failure ends the run, unless
an edge handles it (rule 2), its group's policy allows for it (rule 24), or the run was told to finish what it can. A task
that needs an answer suspends itself: it holds no worker, and its run waits, for days if need be.
"""

from __future__ import annotations

import asyncio

import pytest

from graflow import (
    RetryLater,
    RetryPolicy,
    RunStatus,
    TaskContext,
    WorkflowEngine,
    at_least_n,
    best_effort,
    parallel,
    task,
    testing,
    workflow,
)
from graflow.core.suspension import SuspendStep
from graflow.errors import ParallelGroupError, TaskFailedError, WorkflowCancelledError
from tests.fundamentals.conftest import Steps

# ---- rule 28: failure ----------------------------------------------------------------------------------------------


async def test_the_first_failure_ends_the_run(engine: WorkflowEngine, steps: Steps, log: list[str]) -> None:
    """Rule 28: unless told otherwise: what runs is cancelled, and the error holds its cause and what was completed."""
    done, never = steps("done never")
    long_runs = asyncio.Event()

    @task
    async def long() -> None:
        long_runs.set()
        try:
            await asyncio.Event().wait()
        finally:
            log.append("long was stopped")

    @task
    async def fails() -> None:
        await long_runs.wait()
        raise ValueError("no")

    with workflow("w") as wf:
        done >> fails >> never
        long >> never
    with pytest.raises(TaskFailedError, match=r"task 'fails' failed \(attempt 1\): ValueError: no") as failed:
        await engine.execute(wf)
    error = failed.value
    assert (error.task_id, error.attempt, error.error_type) == ("fails", 1, "ValueError")
    assert isinstance(error.__cause__, ValueError)
    assert 'raise ValueError("no")' in error.remote_traceback
    assert dict(error.result.results) == {"done": "done"}
    assert log == ["done", "long was stopped"]


async def test_a_run_may_finish_what_it_can_first(engine: WorkflowEngine, steps: Steps, log: list[str]) -> None:
    """Rule 28: under ``on_failure="continue"`` the run drains, then fails with the first error; ``errors`` has all."""
    independent, last, never = steps("independent last never")
    first_failed = asyncio.Event()

    @task
    async def fails_first() -> None:
        first_failed.set()
        raise ValueError("first")

    @task
    async def fails_second() -> None:
        await first_failed.wait()
        raise KeyError("second")

    with workflow("w") as wf:
        fails_second >> never
        fails_first >> never
        independent >> last
    with pytest.raises(TaskFailedError) as failed:
        await engine.execute(wf, on_failure="continue")
    assert failed.value.task_id == "fails_first"
    result = failed.value.result
    assert (result.status, list(result.errors)) == (RunStatus.FAILED, ["fails_first", "fails_second"])
    assert log == ["independent", "last"]


async def test_a_loop_with_a_failed_node_ends_and_breaks_what_follows(engine: WorkflowEngine, steps: Steps, log: list[str]) -> None:
    """Rule 28: there is no next round, although a back edge fired; and every edge that leaves the loop is broken."""
    fine, after_fine, alone = steps("fine after_fine alone")

    @task
    async def header(ctx: TaskContext) -> None:
        log.append("header")

    @task
    async def fails(ctx: TaskContext) -> None:
        if ctx.cycle == 2:
            raise ValueError("no")

    with workflow("w") as wf:
        header >> fine >> header
        header >> fails >> header
        fine >> after_fine
        wf.add(alone)
    with pytest.raises(TaskFailedError):
        await engine.execute(wf, on_failure="continue")
    assert [step for step in log if step != "alone"] == ["header", "fine", "header", "fine"]


async def test_a_loop_with_a_broken_node_ends_too(engine: WorkflowEngine, steps: Steps, log: list[str]) -> None:
    """Rule 28: whether the failure was inside of the loop or led into it."""
    start, header, joined, after = steps("start header joined after")

    @task
    async def fails() -> None:
        raise ValueError("no")

    with workflow("w") as wf:
        start >> header >> joined >> header
        fails >> joined
        header >> after
    with pytest.raises(TaskFailedError):
        await engine.execute(wf, on_failure="continue")
    assert log == ["start", "header"]


async def test_a_handled_failure_in_a_loop_breaks_nothing(engine: WorkflowEngine, steps: Steps, log: list[str]) -> None:
    """Rule 28: it is failed and broken nodes that end a loop so; a failure that an edge handles is neither."""
    tool, apologise = steps("tool apologise")

    @task
    async def agent(ctx: TaskContext) -> None:
        if ctx.cycle == 2:
            raise ValueError("I am lost")

    with workflow("agent") as wf:
        agent >> tool >> agent
        wf.add_edge(agent, apologise, on="failure")
    result = await engine.execute(wf)
    assert log == ["tool", "apologise"]
    assert result.status == RunStatus.SUCCEEDED
    assert list(result.errors) == ["agent"]


async def test_what_a_lenient_group_forgives_does_not_fail_the_run(engine: WorkflowEngine, steps: Steps, log: list[str]) -> None:
    """Rule 28: the run fails with failures of the top scope; ``errors`` has those inside groups as well."""
    fine, after = steps("fine after")

    @task
    async def fails() -> None:
        raise ValueError("no")

    result = await engine.execute(parallel(fine, fails, policy=best_effort) >> after, on_failure="continue")
    assert log == ["fine", "after"]
    assert list(result.errors) == ["fails"]


async def test_a_failed_attempt_is_tried_again(engine: WorkflowEngine, log: list[str]) -> None:
    """Rule 28: a task fails for good when its retries are spent; ``retry_on`` and ``give_up_on`` say what is worth one."""

    @task(retry=RetryPolicy(2, initial_interval=0, retry_on=(OSError,), give_up_on=(FileNotFoundError,)))
    async def read(ctx: TaskContext, raises: str) -> int:
        log.append(f"{raises} {ctx.attempt}")
        if ctx.attempt < 3:
            raise {"net": ConnectionError, "file": FileNotFoundError, "value": ValueError}[raises](raises)
        return ctx.attempt

    assert (await engine.execute(read, inputs={"raises": "net"})).output == 3
    for final in ("file", "value"):
        with pytest.raises(TaskFailedError):
            await engine.execute(read, inputs={"raises": final})
    assert log == ["net 1", "net 2", "net 3", "file 1", "value 1"]


async def test_asking_for_more_time_costs_no_retry(engine: WorkflowEngine, log: list[str]) -> None:
    """Rule 28: a task that raises RetryLater has not failed."""

    @task
    async def poll(ctx: TaskContext) -> int:
        if ctx.attempt < 4:
            raise RetryLater(after=0)
        return ctx.attempt

    assert (await engine.execute(poll)).output == 4


# ---- rule 29: suspension -------------------------------------------------------------------------------------------


async def test_a_run_with_only_suspended_steps_left_is_suspended(engine: WorkflowEngine, steps: Steps, log: list[str]) -> None:
    """Rule 29: all else goes on first; then execute returns, with what there is and what is waited for."""
    other, after_other, after_approval = steps("other after_other after_approval")

    @task
    async def approval() -> None:
        raise SuspendStep("may I buy it?")

    with workflow("w") as wf:
        approval >> after_approval
        other >> after_other
    result = await engine.execute(wf)
    assert result.status == RunStatus.SUSPENDED
    assert result.others["approval"] == "suspended: may I buy it?"
    assert log == ["other", "after_other"]


async def test_a_run_with_a_retry_still_to_come_is_not_suspended_yet() -> None:
    """Rule 29: nothing runs, and yet there is more to do than to wait for an answer; in a test's virtual time."""

    @task
    async def approval() -> None:
        raise SuspendStep("may I buy it?")

    @task(retry=RetryPolicy(1, initial_interval=3600, max_interval=3600, jitter=False))
    async def unlucky(ctx: TaskContext) -> int:
        if ctx.attempt == 1:
            raise ConnectionError("try again in an hour")
        return ctx.attempt

    async with testing.engine() as engine:
        result = await engine.execute(parallel(approval, unlucky, name="both"))
        assert (result.status, result[unlucky]) == (RunStatus.SUSPENDED, 2)


async def test_an_answer_lets_the_run_go_on(engine: WorkflowEngine, steps: Steps, log: list[str]) -> None:
    """Rule 29: the step starts again from the top, as the next attempt of the same visit."""
    (buy,) = steps("buy")

    @task
    async def approval(ctx: TaskContext) -> str:
        if ctx.attempt == 1:
            raise SuspendStep("may I buy it?")
        return f"visit {ctx.cycle}, attempt {ctx.attempt}"

    handle = await engine.submit(approval >> buy)
    assert (await handle.result()).status == RunStatus.SUSPENDED
    assert await handle.resume("approval") is True
    result = await handle.result()
    assert (result.status, result[approval]) == (RunStatus.SUCCEEDED, "visit 1, attempt 2")
    assert log == ["buy"]


async def test_resuming_costs_neither_a_retry_nor_a_step(engine: WorkflowEngine, log: list[str]) -> None:
    """Rule 29: of one retry and one step nothing is used up by waiting twice."""

    @task(retry=RetryPolicy(1, initial_interval=0))
    async def approval(ctx: TaskContext) -> int:
        if ctx.attempt <= 2:
            raise SuspendStep("well?")
        if ctx.attempt == 3:
            raise ConnectionError("the one retry is for this")
        return ctx.attempt

    handle = await engine.submit(approval, max_steps=1)
    for _ in range(2):
        await handle.result()
        await handle.resume("approval")
    assert (await handle.result()).output == 4


async def test_each_suspended_step_waits_for_an_answer_of_its_own(engine: WorkflowEngine) -> None:
    """Rule 29: the run is suspended until the last one has been answered."""

    @task
    async def ask(ctx: TaskContext) -> str:
        if ctx.attempt == 1:
            raise SuspendStep(f"{ctx.task_id}?")
        return ctx.task_id

    handle = await engine.submit(parallel(ask.clone("one"), ask.clone("other"), name="both"))
    await handle.result()
    await handle.resume("one")
    result = await handle.result()
    assert (result.status, dict(result.results)) == (RunStatus.SUSPENDED, {"one": "one"})
    await handle.resume("other")
    assert (await handle.result())["both"] == ["one", "other"]


async def test_groups_and_loops_wait_for_a_suspended_step(engine: WorkflowEngine, steps: Steps, log: list[str]) -> None:
    """Rule 29: it is undecided, and so are its group and its round."""
    beside, body = steps("beside body")

    @task
    async def ask(ctx: TaskContext) -> None:
        if ctx.attempt == 1:
            raise SuspendStep("go on?")

    @task
    async def header(ctx: TaskContext) -> None:
        log.append("header")
        if ctx.cycle == 2:
            ctx.end_loop()

    handle = await engine.submit(header >> parallel(ask, beside, name="both") >> body >> header)
    await handle.result()
    assert log == ["header", "beside"]
    await handle.resume("ask")
    await handle.result()
    assert log == ["header", "beside", "body", "header"]


async def test_a_suspended_member_gives_up_its_place(engine: WorkflowEngine, log: list[str]) -> None:
    """Rule 29: where a limit allows one at a time, whoever waits for an answer does not keep the others from running."""

    @task
    async def ask(ctx: TaskContext, n: int) -> int:
        log.append(f"{n}")
        if ctx.attempt == 1 and n == 1:
            raise SuspendStep("well?")
        return n

    handle = await engine.submit(ask.map([1, 2, 3], name="group", limit=1))
    assert (await handle.result()).status == RunStatus.SUSPENDED
    assert log == ["1", "2", "3"]
    await handle.resume("ask[0]")
    assert (await handle.result())["group"] == [1, 2, 3]


@pytest.mark.parametrize("decided", ["by a failure", "early"])
async def test_when_its_group_is_decided_a_suspended_step_is_withdrawn(engine: WorkflowEngine, decided: str) -> None:
    """Rule 29: a stop or an early decision withdraws it, and a late answer is refused."""
    asked = asyncio.Event()

    @task
    async def ask() -> None:
        raise SuspendStep("well?")

    @task
    async def other() -> str:
        await asked.wait()
        if decided == "by a failure":
            raise ValueError("no")
        return "other"

    policy = at_least_n(1, early=True) if decided == "early" else "strict"
    handle = await engine.submit(parallel(ask, other, name="group", policy=policy))
    async for event in handle.events():
        if event.type == "task_suspended":
            asked.set()
    assert await handle.resume("ask") is False
    if decided == "early":
        assert (await handle.result())["group"] == ["other"]
    else:
        with pytest.raises(ParallelGroupError):
            await handle.result()


async def test_an_answer_that_comes_twice_or_to_nobody_is_refused(engine: WorkflowEngine, steps: Steps) -> None:
    """Rule 29: only what is suspended can be resumed."""
    (other,) = steps("other")

    @task
    async def ask(ctx: TaskContext) -> None:
        if ctx.attempt == 1:
            raise SuspendStep("well?")

    handle = await engine.submit(ask >> other)
    await handle.result()
    assert await handle.resume("other") is False
    assert await handle.resume("nobody") is False
    assert await handle.resume("ask") is True
    assert await handle.resume("ask") is False
    await handle.result()
    assert await handle.resume("ask") is False


async def test_a_suspended_run_can_be_cancelled(engine: WorkflowEngine) -> None:
    """Rule 29: there is nothing that must be answered."""

    @task
    async def ask() -> None:
        raise SuspendStep("well?")

    handle = await engine.submit(ask)
    await handle.result()
    await handle.cancel("nobody answers")
    with pytest.raises(WorkflowCancelledError, match="nobody answers"):
        await handle.result()
    assert await handle.resume("ask") is False
