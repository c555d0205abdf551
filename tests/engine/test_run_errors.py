"""A run that did not succeed raises, and its error holds what had been completed."""

from __future__ import annotations

import asyncio

import pytest

from graflow import RunStatus, TaskContext, TaskGraph, WorkflowEngine, parallel, task, testing
from graflow.errors import (
    CycleLimitExceededError,
    ParallelGroupError,
    RunError,
    StepLimitExceededError,
    TaskFailedError,
    WorkflowCancelledError,
)


@task
async def one() -> int:
    return 1


class Declined(Exception):
    pass


@task
async def failing() -> None:
    raise Declined("no funds")


async def test_a_failed_task_is_named_with_its_error_as_the_cause() -> None:
    async with WorkflowEngine() as engine:
        with pytest.raises(TaskFailedError) as caught:
            await engine.execute(one >> failing, run_id="r")
    error = caught.value
    assert (error.run_id, error.task_id, error.attempt) == ("r", "failing", 1)
    assert error.error_type == "tests.engine.test_run_errors.Declined"
    assert str(error) == "task 'failing' failed (attempt 1): tests.engine.test_run_errors.Declined: no funds"
    assert isinstance(error.__cause__, Declined)
    assert 'raise Declined("no funds")' in error.remote_traceback
    assert error.result.status == RunStatus.FAILED
    assert dict(error.result.results) == {"one": 1}
    assert list(error.result.errors) == ["failing"]
    assert error.result.output is None


async def test_every_wait_raises_an_error_of_its_own() -> None:
    async with WorkflowEngine() as engine:
        handle = await engine.submit(failing)
        errors: list[RunError] = []
        for _ in range(2):
            with pytest.raises(TaskFailedError) as caught:
                await handle.result()
            errors.append(caught.value)
    assert errors[0] is not errors[1]
    assert errors[0].__cause__ is errors[1].__cause__


async def test_the_first_failure_ends_the_run() -> None:
    steps: list[str] = []

    @task
    async def slow() -> None:
        await asyncio.sleep(60)
        steps.append("never")

    async with testing.engine() as engine:
        graph = TaskGraph("g")
        graph.add(slow, failing)
        with pytest.raises(TaskFailedError) as caught:
            await engine.execute(graph)
        assert caught.value.result.duration == 0
        assert dict(caught.value.result.others) == {"slow": "cancelled"}
    assert steps == []


async def test_with_continue_independent_branches_finish_and_the_first_error_is_raised_with_all_at_hand() -> None:
    @task
    async def slow() -> str:
        await asyncio.sleep(60)
        return "slow"

    @task
    async def failing_later() -> None:
        await asyncio.sleep(30)
        raise Declined("later")

    graph = TaskGraph("g")
    graph.add(failing_later >> one.clone("never"), failing >> one.clone("never-either"), slow >> one)
    async with testing.engine() as engine:
        with pytest.raises(TaskFailedError) as caught:
            await engine.execute(graph, on_failure="continue")
    error = caught.value
    assert error.task_id == "failing"
    assert dict(error.result.results) == {"slow": "slow", "one": 1}
    assert list(error.result.errors) == ["failing", "failing_later"]
    assert str(error.result.errors["failing_later"].__cause__) == "later"
    assert set(error.result.others) == {"never", "never-either"}
    assert error.result.others["never"] == "not run, because an earlier task failed"
    assert error.result.duration == 60


async def test_a_group_whose_policy_is_not_met_lists_its_branches() -> None:
    @task
    async def slow() -> None:
        await asyncio.sleep(60)

    @task
    async def quick() -> str:
        return "quick"

    async with testing.engine() as engine:
        with pytest.raises(ParallelGroupError) as caught:
            await engine.execute(parallel(quick, failing, slow, name="g"))
    error = caught.value
    assert (error.group_id, error.task_id, error.error_type) == ("g", "g", "ParallelGroupError")
    assert (error.succeeded, error.cancelled, list(error.failed)) == (["quick"], ["slow"], ["failing"])
    assert isinstance(error.failed["failing"], TaskFailedError)
    assert isinstance(error.failed["failing"].__cause__, Declined)
    assert error.__cause__ is error.failed["failing"]
    assert str(error) == "group 'g': 1 of 3 branches failed (failing: tests.engine.test_run_errors.Declined: no funds)"
    assert set(error.result.errors) == {"failing", "g"}
    assert dict(error.result.results) == {"quick": "quick"}


async def test_too_many_steps() -> None:
    @task
    async def again(ctx: TaskContext) -> None:
        ctx.next_iteration()

    async with WorkflowEngine() as engine:
        with pytest.raises(StepLimitExceededError) as caught:
            await engine.execute(one >> again, max_steps=5, run_id="r")
    error = caught.value
    assert (error.run_id, error.task_id, error.limit) == ("r", "again", 5)
    assert str(error) == (
        "run 'r' of 'again' was about to visit 'again' after 5 steps, which is its limit; does a loop never end? Else raise max_steps"
    )
    assert dict(error.result.results) == {"one": 1}


async def test_exactly_as_many_steps_as_are_allowed_are_fine() -> None:
    async with WorkflowEngine() as engine:
        assert (await engine.execute(one >> one.clone("two") >> one.clone("three"), max_steps=3)).output == 1


async def test_too_many_cycles() -> None:
    @task(max_cycles=3)
    async def again(ctx: TaskContext) -> None:
        ctx.next_iteration()

    async with WorkflowEngine() as engine:
        with pytest.raises(CycleLimitExceededError) as caught:
            await engine.execute(again, run_id="r")
    error = caught.value
    assert (error.run_id, error.task_id, error.limit) == ("r", "again", 3)
    assert str(error) == (
        "run 'r' of 'again' was about to visit 'again' more often than its max_cycles=3; "
        "end the loop earlier (ctx.can_iterate() tells), or raise it"
    )


async def test_a_run_cancelled_by_a_task_names_it() -> None:
    @task
    async def careful(ctx: TaskContext) -> None:
        ctx.cancel_workflow("looks wrong")

    async with WorkflowEngine() as engine:
        with pytest.raises(WorkflowCancelledError) as caught:
            await engine.execute(one >> careful, run_id="r")
    error = caught.value
    assert (error.task_id, error.reason) == ("careful", "looks wrong")
    assert str(error) == "run 'r' of 'careful' was cancelled by task 'careful': looks wrong"
    assert error.result.status == RunStatus.CANCELLED
    assert dict(error.result.results) == {"one": 1}


async def test_a_node_without_a_result_says_what_became_of_it() -> None:
    @task
    async def choose(ctx: TaskContext) -> None:
        ctx.goto("left")

    left, right, broken, lost = one.clone("left"), one.clone("right"), failing.clone("broken"), one.clone("lost")
    graph = TaskGraph("g")
    graph.add(choose >> left, choose >> right, broken >> lost)
    async with WorkflowEngine() as engine:
        with pytest.raises(TaskFailedError) as caught:
            await engine.execute(graph, on_failure="continue", run_id="r")
    result = caught.value.result
    texts = {}
    for node in (right, lost, broken, "lft", "elsewhere"):
        with pytest.raises(KeyError) as missing:
            result[node]
        texts[node if isinstance(node, str) else node.id] = missing.value.args[0]
    declined = "tests.engine.test_run_errors.Declined: no funds"
    assert texts["right"] == "'right' has no result: it was skipped"
    assert texts["lost"] == "'lost' has no result: it was not run, because an earlier task failed"
    assert texts["broken"].startswith("'broken' has no result: it failed with TaskFailedError(")
    assert declined in texts["broken"]
    assert texts["lft"] == "run 'r' (failed) has no result of 'lft': it was not completed, or is not in the graph; did you mean 'left'?"
    assert texts["elsewhere"].startswith("run 'r' (failed) has no result of 'elsewhere': ")
    assert (left in result, "right" in result) == (True, False)
