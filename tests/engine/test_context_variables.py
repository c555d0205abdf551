"""Context variables: each step starts with those of the engine, and keeps what it sets to itself."""

from __future__ import annotations

import decimal
from contextvars import ContextVar
from typing import Any

import pytest

from graflow import TaskContext, WorkflowEngine, chain, task
from graflow.handlers import CoroutineHandler, TaskCall

colour: ContextVar[str] = ContextVar("colour", default="none")
shape: ContextVar[Any] = ContextVar("shape")


@task
async def look() -> str:
    return colour.get()


@task
def look_from_thread() -> str:
    return colour.get()


async def test_tasks_see_the_variables_that_were_set_when_the_engine_was_entered() -> None:
    token = colour.set("red")
    try:
        async with WorkflowEngine() as engine:
            colour.set("blue")
            assert (await engine.execute(look)).output == "red"
            assert (await engine.execute(look_from_thread)).output == "red"
            assert (await engine.execute(look >> look.clone("again"))).output == "red"
    finally:
        colour.reset(token)


@pytest.mark.parametrize("follower", [look, look_from_thread])
async def test_what_a_step_sets_is_not_seen_by_the_next(follower: Any) -> None:
    @task
    async def paint() -> None:
        colour.set("green")

    async with WorkflowEngine(concurrency=1) as engine:
        assert (await engine.execute(paint >> follower)).output == "none"
        assert (await engine.execute(follower)).output == "none"


async def test_what_a_step_sets_is_not_seen_by_any_of_many_that_follow() -> None:
    @task
    async def paint() -> None:
        colour.set("green")

    followers = look.clone("a") | look.clone("b") | look.clone("c")
    async with WorkflowEngine() as engine:
        assert (await engine.execute(paint >> followers)).output == ["none"] * 3


async def test_what_a_visit_sets_is_not_seen_by_the_next_visit_or_attempt() -> None:
    seen: list[str] = []

    @task(max_cycles=3)
    async def paint(ctx: TaskContext) -> None:
        seen.append(colour.get())
        colour.set("green")
        if ctx.can_iterate():
            ctx.next_iteration()

    @task(retry=2)
    async def fail(ctx: TaskContext) -> None:
        seen.append(colour.get())
        colour.set("green")
        raise ValueError

    async with WorkflowEngine(concurrency=1) as engine:
        await engine.execute(paint)
    assert seen == ["none"] * 3


async def test_what_a_step_sets_and_resets_is_as_if_nothing_had_been() -> None:
    @task
    async def careful() -> str:
        token = colour.set("green")
        colour.reset(token)
        return colour.get()

    async with WorkflowEngine(concurrency=1) as engine:
        assert (await engine.execute(careful >> look)).output == "none"


async def test_what_a_step_sets_in_a_thread_stays_there() -> None:
    @task
    def paint() -> str:
        colour.set("green")
        return colour.get()

    async with WorkflowEngine() as engine:
        result = await engine.execute(paint >> look >> look_from_thread)
        assert (result[paint], result[look], result[look_from_thread]) == ("green", "none", "none")


async def test_what_a_hook_sets_is_not_seen_by_the_next_step() -> None:
    class Painter(CoroutineHandler):
        async def on_task_success(self, call: TaskCall, duration: float) -> None:
            colour.set("green")

    async with WorkflowEngine(handlers={"coroutine": Painter()}, concurrency=1) as engine:
        assert (await engine.execute(look >> look.clone("again"))).output == "none"


async def test_the_decimal_context_of_a_step_is_its_own() -> None:
    @task
    async def rough() -> str:
        decimal.setcontext(decimal.Context(prec=3))
        return str(decimal.Decimal(1) / 3)

    @task
    async def fine() -> str:
        return str(decimal.Decimal(1) / 3)

    async with WorkflowEngine(concurrency=1) as engine:
        result = await engine.execute(rough >> fine)
    assert result[rough] == "0.333"
    assert len(result[fine]) > 20


class Grumpy:
    """Like an array, it refuses to say whether it is equal to another."""

    def __eq__(self, other: object) -> Any:
        raise ValueError("compare me not")

    __hash__ = None  # type: ignore[assignment]


async def test_values_that_refuse_to_be_compared_do_no_harm() -> None:
    first, second = Grumpy(), Grumpy()
    token = shape.set(first)
    try:

        @task
        async def change() -> None:
            shape.set(second)

        @task
        async def seen() -> bool:
            return shape.get() is first

        async with WorkflowEngine(concurrency=1) as engine:
            assert (await engine.execute(change >> seen)).output is True
    finally:
        shape.reset(token)


async def test_a_long_chain_of_steps_that_set_variables_ends() -> None:
    @task
    async def paint() -> str:
        before = colour.get()
        colour.set("green")
        return before

    steps = [paint.clone(f"paint-{n}") for n in range(300)]
    async with WorkflowEngine() as engine:
        result = await engine.execute(chain(*steps))
    assert set(result.results.values()) == {"none"}
