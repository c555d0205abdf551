"""A plan is put on the server once, however often it is run and by whom; what differs in any way is another plan."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from graflow import TaskContext, WorkflowEngine, parallel, task, workflow
from graflow.backends.redis.backend import RedisBackend


@pytest.fixture
async def engine(redis_url: str) -> AsyncIterator[WorkflowEngine]:
    """An engine with a worker."""
    async with WorkflowEngine(RedisBackend(redis_url, local_code=True, heart="loop"), embedded_worker=True) as engine:
        yield engine


async def plans_of(engine: WorkflowEngine) -> list[bytes]:
    """The keys of the plans that are on the server."""
    backend = engine.backend
    assert isinstance(backend, RedisBackend)
    return [key async for key in backend.client.commands.scan_iter(f"{backend.client.keys.plan('*')}", count=1000)]


def uploads(engine: WorkflowEngine) -> int:
    """How often this engine has put one there."""
    assert isinstance(engine.backend, RedisBackend)
    return engine.backend.plans.uploads


@task
async def first(x: int = 1) -> int:
    return x


@task
async def second(first: int) -> int:
    return first + 1


def drawn() -> Any:
    """The same workflow, drawn anew."""
    with workflow("once") as wf:
        first >> parallel(second.clone("a"), second.clone("b")) >> second
    return wf


async def test_20_runs_of_a_workflow_upload_it_once(engine: WorkflowEngine) -> None:
    wf = drawn()
    for number in range(20):
        assert (await engine.execute(wf, inputs={"x": number})).results["second"] == number + 1
    assert uploads(engine) == 1
    assert len(await plans_of(engine)) == 1


async def test_the_same_workflow_drawn_anew_is_the_same_plan(engine: WorkflowEngine, redis_url: str) -> None:
    for _ in range(5):
        await engine.execute(drawn())
    async with WorkflowEngine(RedisBackend(redis_url, local_code=True, heart="loop"), embedded_worker=True) as other:
        await other.execute(drawn())
        assert uploads(engine) + uploads(other) == 1
        assert len(await plans_of(engine)) == 1


async def test_runs_side_by_side_share_it(engine: WorkflowEngine) -> None:
    handles = [await engine.submit(drawn(), inputs={"x": number}) for number in range(10)]
    assert [(await handle.result(timeout=10)).results["first"] for handle in handles] == list(range(10))
    assert uploads(engine) == 1


def edited(answer: int) -> Any:
    """A task whose function says something else than it did."""
    namespace: dict[str, Any] = {}
    exec(compile(f"async def step() -> int:\n    return {answer}\n", "edited", "exec"), namespace)
    namespace["step"].__module__ = __name__
    return task(namespace["step"])


async def test_an_edited_function_is_another_plan_and_both_give_their_own_answer(engine: WorkflowEngine) -> None:
    old, new = edited(1), edited(2)
    assert [(await engine.execute(step)).output for step in (old, new, old, new)] == [1, 2, 1, 2]
    assert uploads(engine) == 2
    assert len(await plans_of(engine)) == 2


async def test_other_options_are_another_plan(engine: WorkflowEngine) -> None:
    async def step() -> int:
        return 1

    await engine.execute(task(max_cycles=7)(step))
    await engine.execute(task(max_cycles=8)(step))
    assert uploads(engine) == 2


async def test_other_bound_arguments_are_another_plan(engine: WorkflowEngine) -> None:
    assert (await engine.execute(first.clone("first", x=3))).output == 3
    assert (await engine.execute(first.clone("first", x=4))).output == 4
    assert uploads(engine) == 2


async def test_what_a_function_closes_over_is_its_own(engine: WorkflowEngine) -> None:
    """Two closures of the same code are two functions."""

    def make(answer: int) -> Any:
        @task("step")
        async def step(ctx: TaskContext) -> int:
            return answer

        return step

    assert [(await engine.execute(make(number))).output for number in range(3)] == [0, 1, 2]
    assert uploads(engine) == 3
