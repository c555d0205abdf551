"""From whatever can be executed to its plan."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from graflow.core.compiler import compile_plan
from graflow.core.graph import TaskGraph
from graflow.core.node import Node
from graflow.core.task import Task
from graflow.core.workflow import Workflow
from graflow.errors import ConfigurationError, GraphError

if TYPE_CHECKING:
    from graflow.core.plan import Plan


def plan_of(graph: Node[Any] | Workflow[Any] | TaskGraph, start: Node[Any] | str | None) -> Plan:
    """The plan of whatever can be executed."""
    start_id = start.id if isinstance(start, Node) else start
    if start_id is not None and (not isinstance(start_id, str) or not start_id):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ConfigurationError(f"start={start!r}: give a node of the graph or its id, or None", setting="start")
    if isinstance(graph, Workflow):
        return compile_plan(graph.graph, start=start_id or graph.start, output=graph.output)
    if isinstance(graph, TaskGraph):
        return compile_plan(graph, start=start_id)
    if isinstance(graph, Node):  # pyright: ignore[reportUnnecessaryIsInstance]
        return compile_plan(_drawn(graph), start=start_id)
    raise GraphError(f"cannot run {_named(graph)}; give a workflow, a TaskGraph, a task (made by @task), a chain or a group")


def _drawn(node: Node[Any]) -> TaskGraph:
    """A graph of what was drawn without one. A task keeps its own, and with it the plan: one that is executed again and again is compiled and
    encoded once. Not so a task with arguments, which may have changed in themselves since."""
    task = node if isinstance(node, Task) and not node.bound else None
    known: TaskGraph | None = None if task is None else task.alone
    if known is not None:
        return known
    graph = TaskGraph(node.id)
    graph.add(node)
    if task is not None:
        task.keep_alone(graph)
    return graph


def _named(other: Any) -> str:
    if asyncio.iscoroutine(other):
        other.close()  # it will never be awaited, and the warning about that would hide the real mistake
        name = getattr(other, "__name__", "task")
        return f"the coroutine {name}(...), which would be {name} without parentheses"
    if callable(other) and not isinstance(other, type):
        return f"the plain function {getattr(other, '__name__', repr(other))}"
    text = repr(other)
    return f"{text if len(text) <= 60 else text[:57] + '...'} of type {type(other).__name__}"
