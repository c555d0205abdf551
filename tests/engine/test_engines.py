"""Engines: entered and left, used again, several on one loop."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from graflow import Task, TaskGraph, WorkflowEngine, chain, task, testing, workflow
from graflow.backends.memory import MemoryBackend
from graflow.errors import ConfigurationError, GraflowError, QueueFullError
from tests.engine.support import Gate, nothing_left, turns


@task
async def one() -> int:
    return 1


@task
def plus(one: int) -> int:
    return one + 1


async def test_an_engine_runs_whatever_can_be_drawn() -> None:
    with workflow("drawn") as wf:
        one >> plus
    graph = TaskGraph("built")
    graph.add_edge(one, plus)
    async with WorkflowEngine() as engine:
        assert (await engine.execute(one)).output == 1
        assert (await engine.execute(one >> plus)).output == 2
        assert (await engine.execute(chain(one, plus))).output == 2
        assert (await engine.execute(one | one.clone("two"))).output == [1, 1]
        assert (await engine.execute(wf)).output == 2
        assert (await engine.execute(graph)).output == 2


async def test_an_engine_can_be_entered_again_after_it_was_left() -> None:
    engine = WorkflowEngine()
    async with nothing_left():
        for _ in range(3):
            async with engine:
                assert (await engine.execute(one >> plus)).output == 2


async def test_an_engine_cannot_be_entered_twice_at_once() -> None:
    async with WorkflowEngine() as engine:
        with pytest.raises(ConfigurationError, match=r"this engine is in use already; make another WorkflowEngine\(\)"):
            await engine.__aenter__()
        assert (await engine.execute(one)).output == 1


def test_an_engine_can_be_used_on_one_loop_after_another() -> None:
    engine = WorkflowEngine()

    async def use() -> int:
        async with engine:
            return (await engine.execute(one >> plus)).output

    assert [asyncio.run(use()) for _ in range(3)] == [2, 2, 2]


async def test_an_engine_that_was_not_entered_or_is_left_says_so() -> None:
    engine = WorkflowEngine()
    text = "the engine is not running; use it inside: async with WorkflowEngine() as engine"
    for call in (engine.execute(one), engine.submit(one), engine.attach("r")):
        with pytest.raises(ConfigurationError) as caught:
            await call
        assert (str(caught.value), caught.value.setting) == (text, "engine")
    async with engine:
        pass
    with pytest.raises(ConfigurationError):
        await engine.submit(one)


async def test_an_engine_is_used_on_the_loop_that_it_was_entered_on() -> None:
    async with WorkflowEngine() as engine:

        @task
        def from_thread() -> str:
            with pytest.raises(ConfigurationError, match="the engine was entered on another event loop than this one") as caught:
                asyncio.run(engine.execute(one))
            return caught.value.setting

        assert (await engine.execute(from_thread)).output == "engine"


async def test_two_engines_on_one_loop_know_nothing_of_each_other() -> None:
    gate = Gate()

    @task
    async def slow() -> str:
        await gate.wait()
        return "done"

    async with WorkflowEngine() as first:
        async with WorkflowEngine() as second:
            mine = await first.submit(slow, run_id="r")
            theirs = await second.submit(slow, run_id="r")
            assert mine.created
            assert theirs.created
            await gate.arrived(2)
        assert gate.unwound == 1
        gate.open()
        assert (await mine.result()).output == "done"


async def test_an_engine_may_run_within_a_task_of_another() -> None:
    @task
    async def nested() -> int:
        async with WorkflowEngine() as engine:
            return (await engine.execute(one >> plus)).output

    async with WorkflowEngine() as engine:
        assert (await engine.execute(nested)).output == 2


async def test_a_task_may_run_a_graph_on_its_own_engine() -> None:
    async with WorkflowEngine() as engine:

        @task
        async def outer() -> int:
            return (await engine.execute(one >> plus)).output

        assert (await engine.execute(outer)).output == 2


async def test_one_graph_may_be_run_many_times_at_once() -> None:
    @task
    async def echo(n: int) -> int:
        await turns(2)
        return n

    @task
    async def double(echo: int) -> int:
        return echo * 2

    with workflow("w") as wf:
        echo >> double
    async with WorkflowEngine() as engine:
        results = await asyncio.gather(*(engine.execute(wf, inputs={"n": n}) for n in range(100)))
    assert [result.output for result in results] == [2 * n for n in range(100)]


async def test_a_graph_that_is_changed_during_a_run_changes_the_next_run_only() -> None:
    gate = Gate()

    @task
    async def slow() -> int:
        await gate.wait()
        return 1

    graph = TaskGraph("g")
    graph.add(slow)
    async with WorkflowEngine() as engine:
        handle = await engine.submit(graph)
        await gate.arrived()
        graph.add_edge(slow, one)
        gate.open()
        assert list((await handle.result()).results) == ["slow"]
        assert list((await engine.execute(graph)).results) == ["slow", "one"]


async def test_a_workflow_brings_its_own_engine() -> None:
    with workflow("w") as wf:
        one >> plus
    async with nothing_left():
        assert (await wf.execute()).output == 2


def test_a_script_runs_a_workflow_without_any_loop() -> None:
    with workflow("w") as wf:
        one >> plus
    assert wf.run().output == 2
    assert wf.run(run_id="r", inputs={"x": 1}).run_id == "r"


async def test_running_a_workflow_like_a_script_inside_a_loop_says_what_to_write() -> None:
    with workflow("w") as wf:
        one >> plus
    with pytest.raises(GraflowError) as caught:
        wf.run()
    assert str(caught.value) == "wf.run() starts an event loop of its own, and one is running here already; use: await wf.execute(...)"


async def test_no_run_is_begun_while_as_many_attempts_wait_as_may() -> None:
    gate = Gate()

    @task
    async def slow(n: int) -> int:
        await gate.wait()
        return n

    async with WorkflowEngine(MemoryBackend(queue_limit=5), concurrency=2) as engine:
        handle = await engine.submit(slow.map(range(10)))  # what a run puts in itself is never refused
        await gate.arrived(2)
        with pytest.raises(QueueFullError) as caught:
            await engine.submit(one)
        assert str(caught.value) == (
            "queue 'default' takes nothing more: 5 attempts wait in all queues together, as many as may; "
            "let workers catch up, or raise the limit"
        )
        assert (caught.value.queue, caught.value.limit) == ("default", 5)
        assert (await engine.attach(handle.run_id)).run_id == handle.run_id
        gate.open()
        assert (await handle.result()).output == list(range(10))
        assert (await engine.execute(one)).output == 1


async def test_tasks_of_every_queue_run_in_the_engine_and_share_its_slots_in_turn() -> None:
    order: list[str] = []

    @task(queue="a")
    async def in_a(n: int) -> None:
        order.append("a")

    @task(queue="b")
    async def in_b(n: int) -> None:
        order.append("b")

    gate = Gate()

    @task
    async def blocker() -> None:
        await gate.wait()

    async with WorkflowEngine(concurrency=1) as engine:
        await engine.submit(blocker)
        await gate.arrived()
        handle = await engine.submit(in_a.map(range(10)) | in_b.map(range(10)))
        gate.open()
        await handle.result()
    assert "".join(order) == "ab" * 10


async def test_urgent_tasks_come_first_and_starve_nobody() -> None:
    order: list[str] = []
    gate = Gate()

    @task
    async def blocker() -> None:
        await gate.wait()

    def note(priority: Any) -> Task[..., None]:
        @task(priority, priority=priority)
        async def noted(n: int) -> None:
            order.append(priority)

        return noted

    async with WorkflowEngine(concurrency=1) as engine:
        await engine.submit(blocker)
        await gate.arrived()
        handles = [await engine.submit(note(priority).map(range(20))) for priority in ("low", "normal", "high", "critical")]
        gate.open()
        for handle in handles:
            await handle.result()
    assert order[:6] == ["critical"] * 6
    assert [priority for priority in order[:23] if priority != "critical"] == ["low", "normal", "high"]


async def test_an_engine_of_virtual_time_is_an_engine() -> None:
    async with testing.engine() as engine:
        assert (await engine.execute(one >> plus)).output == 2
