"""A run has an id: submitting it twice is submitting it once, and whoever knows it can attach."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from graflow import RunStatus, TaskContext, TaskGraph, WorkflowEngine, task, testing, workflow
from graflow.backends.memory import MemoryBackend
from graflow.errors import RunConflictError, TaskFailedError, UnknownRunError
from tests.engine.support import Gate, collected, turns


class Owned:
    """A clock that a test owns. Only what is asked of it passes: nothing here waits."""

    def __init__(self) -> None:
        self.time = 1_000.0

    def now(self) -> float:
        return self.time

    def monotonic(self) -> float:
        return self.time


@task
async def one() -> int:
    return 1


@task
async def other() -> int:
    return 2


# ---- the same again -------------------------------------------------------------------------------------------------


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


# ---- conflicts ------------------------------------------------------------------------------------------------------


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


# ---- once more ------------------------------------------------------------------------------------------------------


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


async def test_what_the_first_run_left_in_line_is_not_taken_for_the_seconds() -> None:
    visits: list[str] = []
    fail = [True]

    @task(priority="critical")
    async def first() -> None:
        if fail.pop() if fail else False:
            raise ValueError
        await turns(2)

    @task(priority="low")
    async def counted(n: int) -> None:
        visits.append(f"counted {n}")

    gate = Gate()

    @task
    async def blocker() -> None:
        await gate.wait()

    async with WorkflowEngine(concurrency=1) as engine:
        blocking = await engine.submit(blocker)
        await gate.arrived()
        handle = await engine.submit(first | counted.map(range(5)), run_id="r")
        gate.open()
        await blocking.result()
        with pytest.raises(TaskFailedError):
            await handle.result()
        fail.append(False)
        again = await engine.submit(first | counted.map(range(5)), run_id="r", if_exists="rerun_failed")
        await again.result()
    assert sorted(visits) == [f"counted {n}" for n in range(5)]


# ---- attaching and remembering --------------------------------------------------------------------------------------


async def test_attaching_finds_a_run_in_progress_and_after_its_end() -> None:
    gate = Gate()

    @task
    async def slow() -> str:
        await gate.wait()
        return "done"

    async with WorkflowEngine() as engine:
        await engine.submit(slow, run_id="r")
        handle = await engine.attach("r")
        assert (handle.created, await handle.status()) == (False, RunStatus.RUNNING)
        gate.open()
        assert (await handle.result()).output == "done"
        del handle
        later = await engine.attach("r")
        assert (await later.result()).output == "done"
        assert (await collected(later))[0].type == "run_started"


async def test_attaching_to_a_run_that_nobody_knows_says_so() -> None:
    async with WorkflowEngine() as engine:
        with pytest.raises(UnknownRunError) as caught:
            await engine.attach("r")
    assert caught.value.run_id == "r"
    assert str(caught.value) == (
        "no run 'r' here: it was never submitted to this engine, or it ended and is no longer remembered "
        "(a run with an id of its own is kept for 86400 s after its end)"
    )


async def test_a_run_without_an_id_of_its_own_is_known_while_it_runs_or_somebody_holds_it() -> None:
    gate = Gate()

    @task
    async def slow() -> int:
        await gate.wait()
        return 1

    async with WorkflowEngine() as engine:
        run_id = (await engine.submit(slow)).run_id
        handle = await engine.attach(run_id)
        gate.open()
        assert (await handle.result()).output == 1
        assert (await (await engine.attach(run_id)).result()).output == 1
        del handle
        with pytest.raises(UnknownRunError):
            await engine.attach(run_id)


async def test_a_run_is_remembered_for_so_long_after_its_end() -> None:
    clock, gate = Owned(), Gate()

    @task
    async def slow() -> int:
        await gate.wait()
        return 1

    async with WorkflowEngine(MemoryBackend(clock=clock, retention=60)) as engine:
        await engine.submit(slow, run_id="slow")
        clock.time += 1_000  # however long it takes
        gate.open()
        await (await engine.attach("slow")).result()
        clock.time += 59
        assert (await (await engine.attach("slow")).result()).output == 1
        clock.time += 2
        with pytest.raises(UnknownRunError, match="is kept for 60 s after its end"):
            await engine.attach("slow")
        assert (await engine.submit(slow, run_id="slow", inputs={"other": 1})).created  # the id is free again


async def test_a_handle_keeps_its_run_readable_beyond_that() -> None:
    clock = Owned()
    async with WorkflowEngine(MemoryBackend(clock=clock, retention=60)) as engine:
        handle = await engine.submit(one, run_id="r")
        await handle.result()
        clock.time += 1_000
        assert (await handle.result()).output == 1
        assert (await handle.peek()).output == 1


async def test_runs_are_forgotten_in_the_order_of_their_ends_also_when_one_was_run_again() -> None:
    clock, fail = Owned(), [True]

    @task
    async def flaky() -> int:
        if fail:
            raise ValueError
        return 1

    async with WorkflowEngine(MemoryBackend(clock=clock, retention=60)) as engine:
        with pytest.raises(TaskFailedError):
            await engine.execute(flaky, run_id="again")
        clock.time += 10
        await engine.execute(one, run_id="one")
        clock.time += 40
        fail.clear()
        await (await engine.submit(flaky, run_id="again", if_exists="rerun_failed")).result()
        clock.time += 30
        with pytest.raises(UnknownRunError):
            await engine.attach("one")
        assert (await (await engine.attach("again")).result()).output == 1


async def test_virtual_time_makes_runs_forgotten_too() -> None:
    async with testing.engine() as engine:
        await engine.execute(one, run_id="r")
        await asyncio.sleep(86_399)
        await engine.attach("r")
        await asyncio.sleep(2)
        with pytest.raises(UnknownRunError):
            await engine.attach("r")


async def test_leaving_the_engine_forgets_all_runs() -> None:
    engine = WorkflowEngine()
    async with engine:
        await engine.execute(one, run_id="r")
    async with engine:
        with pytest.raises(UnknownRunError):
            await engine.attach("r")
        assert (await engine.submit(other, run_id="r")).created
