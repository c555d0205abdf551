"""In strict mode nothing is shared: each step gets values as another process would, and what cannot travel fails where it is given away."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from graflow import TaskContext, TaskGraph, WorkflowEngine, parallel, task
from graflow.backends.memory import MemoryBackend
from graflow.errors import SerializationError


@dataclass
class Point:
    x: int
    y: int


async def output(graph: Any, *, strict: bool = True, **options: Any) -> Any:
    async with WorkflowEngine(MemoryBackend(strict=strict)) as engine:
        return (await engine.execute(graph, **options)).output


def changer(name: str) -> Any:
    """A task that changes the list it is given, and says what it found."""

    @task(name)
    async def change(items: list[Any]) -> list[Any]:
        found = list(items)
        items.append(name)
        return found

    return change


@pytest.mark.parametrize("url", ["memory://?strict=1", "memory://?strict=0", "memory://"])
async def test_the_url_says_whether_values_are_shared(url: str) -> None:
    held: list[list[int]] = []

    @task
    async def make() -> list[int]:
        held.append([1])
        return held[0]

    @task
    async def take(make: Any) -> bool:  # an annotation such as list[int] would have it checked and so rebuilt
        return make is held[0]

    async with WorkflowEngine(url) as engine:
        assert (await engine.execute(make >> take)).output is (not url.endswith("1"))


async def test_a_result_is_handed_to_each_follower_anew() -> None:
    @task
    async def make() -> list[Any]:
        return [0]

    followers = parallel(*(changer(f"c{n}") for n in range(3)), limit=1)
    assert await output(make >> followers) == [[0]] * 3


async def test_what_a_task_does_to_its_result_after_it_returned_is_its_own_affair() -> None:
    kept: list[list[int]] = []

    @task
    async def make() -> list[int]:
        kept.append([1])
        return kept[0]

    @task
    async def spoil() -> None:
        kept[0].append(2)

    @task
    async def look(make: list[int]) -> list[int]:
        return make

    graph = TaskGraph("g")
    graph.add(make >> spoil >> look, make >> look)
    assert await output(graph) == [1]


async def test_bound_arguments_and_items_are_handed_out_anew_for_every_visit_and_run() -> None:
    change = changer("c")
    bound = change.bind(items=[0])
    engine = WorkflowEngine(MemoryBackend(strict=True))
    async with engine:
        for _ in range(2):
            assert (await engine.execute(bound)).output == [0]
            assert (await engine.execute(change.map([[0], [1]]))).output == [[0], [1]]


async def test_inputs_and_channel_values_are_handed_out_anew() -> None:
    inputs = {"items": [0]}
    first, second = changer("first"), changer("second")
    assert await output(first >> second, inputs=inputs) == [0]
    assert inputs == {"items": [0]}


async def test_iteration_data_is_what_it_was_when_the_task_returned() -> None:
    kept: list[list[int]] = []

    @task(max_cycles=3)
    async def loop(ctx: TaskContext, items: list[int]) -> list[int]:
        for other in kept:
            other.append(0)
        kept.append(items)
        if ctx.can_iterate():
            ctx.next_iteration(items)
            items.append(ctx.cycle)
        return items

    assert await output(loop, inputs={"items": []}) == [1, 2]


async def test_the_result_of_another_task_is_handed_out_anew() -> None:
    @task
    async def make() -> list[int]:
        return [1]

    @task
    async def spoil(ctx: TaskContext) -> None:
        (await ctx.result_of(make)).append(2)

    @task
    async def look(ctx: TaskContext) -> list[int]:
        return await ctx.result_of(make)

    assert await output(make >> spoil >> look) == [1]


async def test_types_survive() -> None:
    @task
    async def make() -> Point:
        return Point(1, 2)

    @task
    async def look(make: Point) -> tuple[str, int]:
        return type(make).__name__, make.x

    assert await output(make >> look) == ("Point", 1)


async def test_nothing_begins_when_an_input_cannot_travel() -> None:
    ran: list[int] = []

    @task
    async def one() -> None:
        ran.append(1)

    async with WorkflowEngine(MemoryBackend(strict=True)) as engine:
        with pytest.raises(SerializationError):
            await engine.submit(one, run_id="r", inputs={"f": lambda: 1})
        assert (await engine.submit(one, run_id="r")).created
    assert ran == []


async def test_without_strict_mode_values_are_the_objects_that_they_are() -> None:
    made = object()

    @task
    async def make(ctx: TaskContext) -> object:
        await ctx.channel.set("k", made)
        ctx.emit(made)
        return made

    @task
    async def look(make: object, k: object) -> bool:
        return make is k is made

    assert await output(make >> look, strict=False) is True
