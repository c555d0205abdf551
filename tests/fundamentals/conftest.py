"""What every test of this folder is given: an engine on each backend, a log of visits, and tasks that fill it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from functools import partial

import pytest

from graflow import Task, WorkflowEngine, task
from graflow.backends.redis.backend import RedisBackend
from tests.conftest import Servers
from tests.redis.server import servers

OpenEngine = Callable[[], AbstractAsyncContextManager[WorkflowEngine]]


def on_redis(name: str, running: Servers) -> OpenEngine:
    """Engines over a server of that version, with a worker in this process, which alone has the functions that tests define in themselves."""
    url = running.get(name).url
    return lambda: WorkflowEngine(RedisBackend(url, local_code=True, heart="loop"), embedded_worker=True)


Steps = Callable[[str], list[Task[..., str]]]

ENGINES: dict[str, Callable[[Servers], OpenEngine]] = {
    "memory": lambda _: lambda: WorkflowEngine("memory://"),
    "memory-strict": lambda _: lambda: WorkflowEngine("memory://?strict=1"),
    **{name: partial(on_redis, name) for name in servers()},
}
"""The backends that these tests run on. A further one is one more entry."""


@pytest.fixture(params=list(ENGINES))
def open_engine(request: pytest.FixtureRequest, running_servers: Servers) -> OpenEngine:
    """How an engine is made on each backend in turn."""
    return ENGINES[request.param](running_servers)


@pytest.fixture
async def engine(open_engine: OpenEngine) -> AsyncIterator[WorkflowEngine]:
    """An engine on each backend in turn."""
    async with open_engine() as engine:
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
