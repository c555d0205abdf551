"""What every test of this folder is given: an engine on each backend, a log of visits, and tasks that fill it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager

import pytest

from graflow import Task, WorkflowEngine, task

Steps = Callable[[str], list[Task[..., str]]]

ENGINES: dict[str, Callable[[], AbstractAsyncContextManager[WorkflowEngine]]] = {
    "memory": lambda: WorkflowEngine("memory://"),
    "memory-strict": lambda: WorkflowEngine("memory://?strict=1"),
}
"""The backends that these tests run on. A further one is one more entry."""


@pytest.fixture(params=list(ENGINES))
async def engine(request: pytest.FixtureRequest) -> AsyncIterator[WorkflowEngine]:
    """An engine on each backend in turn."""
    async with ENGINES[request.param]() as engine:
        yield engine


@pytest.fixture
def log() -> list[str]:
    """What was visited, in order."""
    return []


@pytest.fixture
def steps(log: list[str]) -> Steps:
    """``a, b = steps("a b")``: tasks that write their id into ``log`` and return it."""

    def make(ids: str) -> list[Task[..., str]]:
        return [step(name) for name in ids.split()]

    def step(name: str) -> Task[..., str]:
        @task(name)
        async def visit() -> str:
            log.append(name)
            return name

        return visit

    return make
