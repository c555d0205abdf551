"""A run has an id: submitting it twice is submitting it once."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from graflow import TaskContext, TaskGraph, WorkflowEngine, task, workflow
from graflow.errors import RunConflictError, TaskFailedError, WorkflowCancelledError
from tests.engine.support import Gate, collected, turns


@task
async def one() -> int:
    return 1


@task
async def other() -> int:
    return 2


# ---- the same again ------------------------------------------------------------------------------------------------


async def test_submitting_a_run_twice_begins_it_once() -> None:
    gate, visits = Gate(), list[int]()

    @task
    async def slow() -> str:
        visits.append(1)
        await gate.wait()
        return "done"

    async with WorkflowEngine() as engine:
        first = await engine.submit(slow, run_id="nightly")
        second = await engine.submit(slow, run_id="nightly")
        assert (first.created, second.created) == (True, False)
        assert first.run_id == second.run_id == "nightly"
        gate.open()
        assert (await first.result()).output == (await second.result()).output == "done"
        third = await engine.submit(slow, run_id="nightly")
        assert (third.created, (await third.result()).output) == (False, "done")
        assert (await engine.execute(slow, run_id="nightly")).output == "done"
    assert visits == [1]


async def test_many_submitters_at_once_begin_one_run() -> None:
    visits: list[int] = []

    @task
    async def counted() -> int:
        visits.append(1)
        await turns(3)
        return len(visits)

    async with WorkflowEngine() as engine:
        results = await asyncio.gather(*(engine.execute(counted, run_id="r") for _ in range(50)))
    assert [result.output for result in results] == [1] * 50


async def test_the_same_graph_drawn_anew_is_the_same_run() -> None:
    def draw() -> TaskGraph:
        graph = TaskGraph("g")
        graph.add_edge(one, other)
        return graph

    async with WorkflowEngine() as engine:
        assert (await engine.submit(draw(), run_id="r", inputs={"a": [1]})).created
        assert not (await engine.submit(draw(), run_id="r", inputs={"a": [1]})).created
        assert (await engine.submit(one, run_id="s")).created
        assert not (await engine.submit(one, run_id="s")).created


async def test_without_an_id_every_submission_is_a_run_of_its_own() -> None:
    async with WorkflowEngine() as engine:
        handles = [await engine.submit(one) for _ in range(3)]
        assert len({handle.run_id for handle in handles}) == 3
        assert all(handle.created for handle in handles)


# ---- conflicts -----------------------------------------------------------------------------------------------------


async def test_the_same_id_with_another_graph_is_a_conflict() -> None:
    with workflow("first") as wf:
        one >> other
    async with WorkflowEngine() as engine:
        await engine.submit(wf, run_id="r")
        for graph in (one, one >> other >> one.clone("last")):
            with pytest.raises(RunConflictError) as caught:
                await engine.submit(graph, run_id="r")
            assert str(caught.value) == "run 'r' exists with another plan (workflow 'first'); choose another run_id"
            assert caught.value.run_id == "r"


async def test_the_same_id_with_another_start_is_a_conflict() -> None:
    async with WorkflowEngine() as engine:
        await engine.submit(one >> other, run_id="r")
        with pytest.raises(RunConflictError, match="another plan"):
            await engine.submit(one >> other, run_id="r", start="other")


@pytest.mark.parametrize("inputs", [None, {}, {"a": 2}, {"a": 1, "b": 1}, {"a": 1.0}, {"a": True}])
async def test_the_same_id_with_other_inputs_is_a_conflict(inputs: Any) -> None:
    async with WorkflowEngine() as engine:
        await engine.submit(one, run_id="r", inputs={"a": 1})
        with pytest.raises(RunConflictError) as caught:
            await engine.submit(one, run_id="r", inputs=inputs)
        assert str(caught.value) == "run 'r' exists with other inputs; choose another run_id"


async def test_inputs_that_refuse_to_be_compared_are_other_inputs_unless_they_are_the_same_object() -> None:
    class Table:
        def __eq__(self, other: object) -> Any:
            raise ValueError("the truth value of a table is ambiguous")

        __hash__ = None  # type: ignore[assignment]

    table = Table()
    async with WorkflowEngine() as engine:
        await engine.submit(one, run_id="r", inputs={"table": table})
        assert not (await engine.submit(one, run_id="r", inputs={"table": table})).created
        with pytest.raises(RunConflictError):
            await engine.submit(one, run_id="r", inputs={"table": Table()})


async def test_an_existing_run_is_an_error_where_that_is_asked_for() -> None:
    async with WorkflowEngine() as engine:
        assert (await engine.submit(one, run_id="r", if_exists="error")).created
        with pytest.raises(RunConflictError) as caught:
            await engine.submit(one, run_id="r", if_exists="error")
        assert str(caught.value) == "run 'r' exists; choose another run_id, or submit with if_exists=\"attach\""


# ---- once more -----------------------------------------------------------------------------------------------------


async def test_a_run_that_failed_is_run_again_where_that_is_asked_for() -> None:
    outcomes = ["bad", "good"]

    @task
    async def flaky() -> str:
        outcome = outcomes.pop(0)
        if outcome == "bad":
            raise ValueError(outcome)
        return outcome

    async with WorkflowEngine() as engine:
        first = await engine.submit(flaky, run_id="r")
        with pytest.raises(TaskFailedError):
            await first.result()
        attached = await engine.submit(flaky, run_id="r")
        assert not attached.created
        with pytest.raises(TaskFailedError):
            await attached.result()
        again = await engine.submit(flaky, run_id="r", if_exists="rerun_failed")
        assert (again.created, (await again.result()).output) == (True, "good")
        once_more = await engine.submit(flaky, run_id="r", if_exists="rerun_failed")
        assert (once_more.created, (await once_more.result()).output) == (False, "good")
        assert (await first.result()).output == "good"  # a handle is on the id
        assert [event.type for event in await collected(first)][-1] == "run_finished"


async def test_a_run_that_was_cancelled_is_run_again_and_one_that_goes_on_is_not() -> None:
    gate = Gate()

    @task
    async def slow() -> str:
        await gate.wait()
        return "done"

    async with WorkflowEngine() as engine:
        handle = await engine.submit(slow, run_id="r")
        assert not (await engine.submit(slow, run_id="r", if_exists="rerun_failed")).created
        await gate.arrived()
        await handle.cancel()
        again = await engine.submit(slow, run_id="r", if_exists="rerun_failed")
        assert again.created
        gate.open()
        assert (await again.result()).output == "done"


async def test_a_run_is_not_run_again_before_its_tasks_have_unwound() -> None:
    """Else two runs would use one channel, and the first run's tasks would clean up in the second's."""
    gate, steps = Gate(), list[str]()

    @task
    async def slow(ctx: TaskContext) -> str:
        steps.append("begin")
        try:
            await gate.wait()
        finally:
            await turns(10)
            await ctx.channel.set("who", "the first")
            steps.append("end")
        return "done"

    async with WorkflowEngine() as engine:
        handle = await engine.submit(slow, run_id="r")
        await gate.arrived()
        cancelling = asyncio.create_task(handle.cancel())
        await turns(2)
        again = await engine.submit(slow, run_id="r", if_exists="rerun_failed")
        assert again.created
        assert steps == ["begin", "end"]
        assert await engine.backend.coordinator.channel("r").get("who") is None
        await cancelling
        gate.open()
        assert (await again.result()).output == "done"


async def test_several_who_ask_at_once_for_a_run_to_be_run_again_get_one() -> None:
    gate, visits = Gate(), list[int]()

    @task
    async def slow() -> int:
        visits.append(1)
        await gate.wait()
        return len(visits)

    async with WorkflowEngine() as engine:
        handle = await engine.submit(slow, run_id="r")
        await gate.arrived()
        cancelling = asyncio.create_task(handle.cancel())
        await turns(1)
        handles = await asyncio.gather(*(engine.submit(slow, run_id="r", if_exists="rerun_failed") for _ in range(5)))
        await cancelling
        assert sorted(handle.created for handle in handles) == [False] * 4 + [True]
        gate.open()
        assert [(await handle.result()).output for handle in handles] == [2] * 5


async def test_whoever_waits_for_a_run_that_is_run_again_gets_the_end_of_the_one_or_the_other() -> None:
    """In the moment in which the first has unwound, the second begins: nobody is told of a run that is going on."""
    gate = Gate()

    @task
    async def slow() -> str:
        try:
            await gate.wait()
        finally:
            await turns(3)
        return "done"

    async with WorkflowEngine() as engine:
        handle = await engine.submit(slow, run_id="r")
        await gate.arrived()
        cancelling = asyncio.create_task(handle.cancel())
        await turns(1)
        waiting = [asyncio.create_task(handle.result()) for _ in range(10)]
        again = asyncio.create_task(engine.submit(slow, run_id="r", if_exists="rerun_failed"))
        waiting += [asyncio.create_task(handle.result()) for _ in range(10)]
        assert (await again).created
        await gate.arrived()
        gate.open()
        await cancelling
        for result in await asyncio.gather(*waiting, return_exceptions=True):
            assert isinstance(result, WorkflowCancelledError) or result.output == "done"  # type: ignore[union-attr]


async def test_what_the_first_run_left_in_line_is_not_taken_for_the_seconds() -> None:
    blocked, counting, visits = Gate(), Gate(), list[int]()

    @task
    async def blocker(n: int) -> None:
        await blocked.wait()

    @task(priority="low")
    async def counted(n: int) -> None:
        visits.append(n)
        await counting.wait()

    async with WorkflowEngine(concurrency=20) as engine:
        blocking = await engine.submit(blocker.map(range(20)))
        await blocked.arrived(20)
        first = await engine.submit(counted.map(range(5)), run_id="r")
        await first.cancel()  # its attempts stay in line, as nobody has a slot to look at them
        assert (await engine.backend.queue.metrics()).depth == 5
        again = await engine.submit(counted.map(range(5)), run_id="r", if_exists="rerun_failed")
        blocked.open()
        await blocking.result()
        await counting.arrived(5)
        await turns()
        assert sorted(visits) == list(range(5))
        counting.open()
        await again.result()
