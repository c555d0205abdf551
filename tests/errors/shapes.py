"""The tasks that the tests of messages make their mistakes with, and what a mistake is checked by."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NamedTuple

from graflow import TaskGraph, WorkflowEngine, task
from graflow.backends.memory import MemoryBackend
from graflow.core.node import Node


class Mistake(NamedTuple):
    """Something that is wrong, and all that its error says."""

    make: Callable[[], Any]
    error: type[Exception]
    text: str
    fields: Mapping[str, Any] = {}


@task
async def fetch() -> int:
    return 1


@task
async def clean(n: int) -> int:
    return n


@task
async def report(a: int, b: int) -> int:
    return a + b


def graph(*nodes: Node[Any], edge: tuple[Any, Any] | None = None) -> TaskGraph:
    """A graph called numbers."""
    drawn = TaskGraph("numbers")
    drawn.add(*nodes)
    if edge is not None:
        drawn.add_edge(*edge)
    return drawn


def run(what: Any, *, strict: bool = False, **options: Any) -> Callable[[], Awaitable[Any]]:
    """Run something on an engine of its own, when called."""

    async def execute() -> Any:
        async with WorkflowEngine(MemoryBackend(strict=strict)) as engine:
            return await engine.execute(what, **{"run_id": "r", **options})

    return execute


def check(mistake: Mistake, error: BaseException) -> None:
    """The error is of that very type, says that very text, and has those fields and no others."""
    assert type(error) is mistake.error
    assert str(error) == mistake.text
    assert {name: value for name, value in vars(error).items() if value not in ((), "")} == dict(mistake.fields)
