"""What Graflow's workers are given to do: tasks that do nothing, drawn as a fan and as a chain."""

from __future__ import annotations

from graflow import TaskGraph, chain, parallel, task


@task
async def noop() -> None:
    """Nothing."""


def draw_many(name: str, count: int) -> TaskGraph:
    """So many tasks side by side. The name makes it a plan of its own, that no server has seen."""
    graph = TaskGraph(name)
    graph.add(parallel(*_tasks(name, count), name=name))
    return graph


def draw_fan(name: str, count: int) -> TaskGraph:
    """So many tasks side by side, and one after all of them."""
    graph = TaskGraph(name)
    graph.add(parallel(*_tasks(name, count), name=name) >> noop.clone(f"{name}-join"))
    return graph


def draw_chain(name: str, length: int) -> TaskGraph:
    """So many tasks, one after the other."""
    graph = TaskGraph(name)
    graph.add(chain(*_tasks(name, length)))
    return graph


def _tasks(name: str, count: int) -> list:
    return [noop.clone(f"{name}-{number}") for number in range(count)]
