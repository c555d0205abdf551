"""What holds for every test: nothing blocks an event loop, and nothing is left running."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack

import pytest
import pytest_asyncio
from blockbuster import BlockBuster, blockbuster_ctx
from hypothesis import settings

from graflow.wire.keys import VARIABLE
from tests.audit import UNPICKLED
from tests.redis.server import RedisServer, servers

THREAD_GRACE = 2.0
"""Seconds for which a pool's thread that was told to stop may go on: it wakes, and ends."""

settings.register_profile("everyday", max_examples=100, deadline=None)
settings.register_profile("ci", max_examples=200, deadline=None, derandomize=True, print_blob=True)
settings.register_profile("nightly", max_examples=20_000, deadline=None, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "everyday"))


def pytest_collection_finish() -> None:
    """Thousands of tests and what they import live until the end. They are nothing for the garbage collector to look through each time: that took a
    good part of the minutes that all tests take."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def no_thread_left_behind() -> Iterator[None]:
    """Fail a test that ends with a thread of its own still running, which would keep a program from exiting."""
    before = set(threading.enumerate())
    yield
    started = [thread for thread in threading.enumerate() if thread not in before and not thread.daemon]
    for thread in started:
        thread.join(THREAD_GRACE)
    left = [thread.name for thread in started if thread.is_alive()]
    assert not left, f"the test left threads running: {left}"


@pytest.fixture(autouse=True)
def blockbuster(no_thread_left_behind: None) -> Iterator[BlockBuster]:
    """Make a blocking call on any event loop raise ``BlockingError``. A test may ask for it, to allow one."""
    with blockbuster_ctx() as detector:
        yield detector


@pytest.fixture(autouse=True)
def checked_for_tasks(request: pytest.FixtureRequest, blockbuster: BlockBuster) -> None:
    """Apply ``no_task_left_behind`` to async tests only: the others need no event loop."""
    if pytest_asyncio.is_async_test(request.node):
        request.getfixturevalue("no_task_left_behind")


@pytest.fixture
async def no_task_left_behind() -> AsyncIterator[None]:
    """Fail an async test that ends with tasks pending: the loop's closing would cancel them and say nothing.

    It is set up before the fixtures that a test asks for and so looks after they have cleaned up.
    """
    before = asyncio.all_tasks()
    yield
    # One turn, for what has been told to end and only needs to be resumed.
    await asyncio.sleep(0)
    left = [task for task in asyncio.all_tasks() - before if task is not asyncio.current_task()]
    assert not left, f"the test left tasks running: {left}"


@pytest.fixture
def unpickled() -> Iterator[list[str]]:
    """What has been looked up for a pickle since the test began, as Python's own audit tells it."""
    UNPICKLED.names, UNPICKLED.on = [], True
    yield UNPICKLED.names
    UNPICKLED.on = False


@pytest.fixture
def no_secret_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever key the tests are run with."""
    monkeypatch.delenv(VARIABLE, raising=False)


class Servers:
    """One running Redis server a version, started when it is first asked for, and again when a test has killed it."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self._running: dict[str, RedisServer] = {}

    def get(self, name: str) -> RedisServer:
        """A running server, empty."""
        if name not in self._running:
            self._running[name] = self._stack.enter_context(RedisServer(servers()[name]))
        server = self._running[name]
        if server.process is None or server.process.poll() is not None:
            server.start()
        server.command("FLUSHALL")
        return server


@pytest.fixture(scope="session")
def running_servers() -> Iterator[Servers]:
    """The Redis servers of this session, private to it."""
    with ExitStack() as stack:
        yield Servers(stack)
