"""An engine for the tests of this directory, an image on it, and proof that nothing is left on it afterwards."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from graflow import WorkflowEngine
from graflow.backends.memory import MemoryBackend
from graflow.handlers import DockerHandler
from tests.conftest import Servers
from tests.docker import engines
from tests.redis.server import servers

SOON = 20.0
"""Seconds within which what goes on in the background has happened, on a machine that is busy."""


@pytest.fixture(scope="session")
def docker() -> Iterator[engines.Engine]:
    """The engine of this machine; one of our own where it has none."""
    found = engines.here()
    if found is not None:
        yield found
        return
    if (reason := engines.why_none_of_our_own()) is not None:
        pytest.skip(f"no Docker engine answers, and {reason}")
    own = engines.OwnEngine()
    try:
        own.start()
        yield own
    finally:
        own.stop()


@pytest.fixture(scope="session")
def image(docker: engines.Engine) -> str:
    """An image with Python."""
    return docker.image()


@pytest.fixture
async def nothing_left(docker: engines.Engine) -> AsyncIterator[None]:
    """Fail a test that leaves a container, a volume or a socket behind."""

    def there() -> tuple[set[str], set[str], Counter[str]]:
        return set(docker.containers()), docker.volumes(), open_files()

    before = await asyncio.to_thread(there)
    yield
    until = time.monotonic() + 5
    while (after := await asyncio.to_thread(there)) != before and time.monotonic() < until:  # noqa: ASYNC110 - sockets close by themselves
        await asyncio.sleep(0.02)
    assert after[0] - before[0] == set(), "containers are left"
    assert after[1] - before[1] == set(), "volumes are left"
    assert after[2] - before[2] == Counter(), "files are left open"


def open_files() -> Counter[str]:
    """What this process has open, by kind."""
    kinds: Counter[str] = Counter()
    for each in Path("/proc/self/fd").iterdir():
        try:
            kinds[str(each.readlink()).partition("[")[0]] += 1
        except FileNotFoundError:  # the directory that is being read
            continue
    return kinds


@pytest.fixture
async def handler(image: str, docker: engines.Engine, nothing_left: None) -> AsyncIterator[Callable[..., DockerHandler]]:
    """Makes handlers for the engine of the tests. After the test they are stopped, and at rest."""
    made: list[DockerHandler] = []

    def make(**settings: Any) -> DockerHandler:
        made.append(DockerHandler(**{"image": image, "host": docker.url, "pull": "never", "memory": "96m", **settings}))
        return made[-1]

    yield make
    assert [each.at_work for each in made] == [0] * len(made)


@pytest.fixture
def redis_url(running_servers: Servers) -> str:
    """An empty server, of the newest version that is here."""
    if not servers():
        pytest.skip("no redis-server on this machine")
    return running_servers.get(max(servers())).url


@pytest.fixture
async def engine(handler: Callable[..., DockerHandler]) -> AsyncIterator[WorkflowEngine]:
    """An engine whose docker tasks each have a container of their own."""
    async with WorkflowEngine(MemoryBackend(strict=True), handlers={"docker": handler()}) as engine:
        yield engine


@pytest.fixture
def eventually() -> Callable[[Callable[[], Any]], Any]:
    """Waits in the background for what a function, called in a thread, gives that is true."""

    async def wait(look: Callable[[], Any], within: float = SOON) -> Any:
        until = time.monotonic() + within
        while not (found := await asyncio.to_thread(look)):
            assert time.monotonic() < until, "it did not happen in time"
            await asyncio.sleep(0.02)
        return found

    return wait


@pytest.fixture
def foreign(docker: engines.Engine, image: str) -> Iterator[Callable[..., str]]:
    """Makes containers with labels as others put them on theirs."""
    made: list[str] = []

    def make(*, host: str, place: str, worker: str, process: str = "1/0/x", token: str = "t") -> str:
        labels = {
            "graflow.host": host,
            "graflow.place": place,
            "graflow.worker": worker,
            "graflow.process": process,
            "graflow.token": token,
        }
        made.append(docker.make(image, labels))
        return made[-1]

    yield make
    for each in set(made) & docker.containers("graflow.token").keys():
        docker.remove(each)
