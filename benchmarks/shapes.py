"""The graphs that are measured, each with the same work done by hand."""

from __future__ import annotations

import asyncio
import itertools
from typing import TYPE_CHECKING, NamedTuple

from graflow import TaskContext, TaskGraph, chain, parallel, task

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


async def noop() -> None:
    """A step that costs nothing, so that only what is around it is measured."""


step = task(noop)


@task(max_cycles=10_000_000)
async def turn(ctx: TaskContext, rounds: int) -> None:
    """One of the two steps of a loop; ends it in its last round."""
    if ctx.cycle >= rounds:
        ctx.end_loop()


class Shape(NamedTuple):
    """A kind of graph: how it is drawn for so many steps, and how bare asyncio does the same."""

    name: str
    draw: Callable[[int], TaskGraph]
    bare: Callable[[int], Awaitable[None]]


def draw_chain(steps: int) -> TaskGraph:
    """One after the other."""
    graph = TaskGraph("chain")
    graph.add(chain(*(step.clone(f"t{number}") for number in range(steps))))
    return graph


async def bare_chain(steps: int) -> None:
    """One asyncio task after the other."""
    for _ in range(steps):
        await asyncio.create_task(noop())


def draw_fan(steps: int) -> TaskGraph:
    """All side by side, in one group."""
    graph = TaskGraph("fan")
    graph.add(parallel(*(step.clone(f"t{number}") for number in range(steps)), name="fan"))
    return graph


async def bare_fan(steps: int) -> None:
    """All asyncio tasks at once."""
    await asyncio.gather(*(asyncio.create_task(noop()) for _ in range(steps)))


def draw_lattice(steps: int) -> TaskGraph:
    """Rows of ten; each node waits for the two above it, so that half of all joins wait."""
    graph = TaskGraph("lattice")
    rows = [[step.clone(f"t{row}-{place}") for place in range(10)] for row in range(steps // 10)]
    for node in rows[0]:
        graph.add_task(node)
    for above, row in itertools.pairwise(rows):
        for place, node in enumerate(row):
            graph.add_edge(above[place], node)
            graph.add_edge(above[(place + 1) % 10], node)
    return graph


async def bare_lattice(steps: int) -> None:
    """One asyncio task per node, awaiting the two above it."""

    async def node(*above: asyncio.Task[None]) -> None:
        for other in above:
            await other
        await noop()

    row = [asyncio.create_task(node()) for _ in range(10)]
    for _ in range(steps // 10 - 1):
        row = [asyncio.create_task(node(row[place], row[(place + 1) % 10])) for place in range(10)]
    await asyncio.gather(*row)


def draw_loop(steps: int) -> TaskGraph:
    """Two tasks going round and round."""
    graph = TaskGraph("loop")
    first, second = step.clone("first"), turn.clone("second", rounds=steps // 2)
    graph.add(first >> second >> first)
    return graph


async def bare_loop(steps: int) -> None:
    """Two asyncio tasks in turn."""
    for _ in range(steps // 2):
        await asyncio.create_task(noop())
        await asyncio.create_task(noop())


SHAPES = {
    shape.name: shape
    for shape in (
        Shape("chain", draw_chain, bare_chain),
        Shape("fan", draw_fan, bare_fan),
        Shape("lattice", draw_lattice, bare_lattice),
        Shape("loop", draw_loop, bare_loop),
    )
}
