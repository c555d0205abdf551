"""Servers for the tests of this directory: each test runs against every version that is on this machine."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator
from fnmatch import fnmatchcase

import pytest
import redis

from graflow import WorkflowEngine
from graflow.backends.redis.client import RedisClient
from tests.conftest import Servers
from tests.redis.fleet import Fleet, fleet_of
from tests.redis.server import RedisServer, servers


# A parameter of each test and not of the session: tests run in random order, and the servers of a session would be started over and over.
@pytest.fixture(params=sorted(servers(), reverse=True) or ["none"])
def redis_server(request: pytest.FixtureRequest, running_servers: Servers) -> RedisServer:
    """A running server, empty."""
    if request.param == "none":
        pytest.skip("no redis-server on this machine")
    server = running_servers.get(request.param)
    server.command("SCRIPT", "FLUSH")
    return server


@pytest.fixture
def server(redis_server: RedisServer) -> Iterator[redis.Redis]:
    """A client of an empty server, for tests without an event loop."""
    with redis.Redis.from_url(redis_server.url) as client:
        yield client


@pytest.fixture
def broken_server(running_servers: Servers) -> Iterator[redis.Redis]:
    """The same, of one version: for what is to be shown once and not of each of them."""
    if not servers():
        pytest.skip("no redis-server on this machine")
    running = running_servers.get(max(servers()))
    with redis.Redis.from_url(running.url) as client:
        yield client


@pytest.fixture
def redis_url(redis_server: RedisServer) -> str:
    """The URL of an empty server."""
    return redis_server.url


@pytest.fixture
async def fleet(redis_url: str) -> AsyncIterator[Fleet]:
    """Worker processes of that server, none to begin with."""
    async with fleet_of(redis_url) as fleet:
        yield fleet


@pytest.fixture
async def engine(redis_url: str) -> AsyncIterator[WorkflowEngine]:
    """An engine that runs nothing itself."""
    async with WorkflowEngine(redis_url) as engine:
        yield engine


@pytest.fixture
async def redis_client(redis_url: str) -> AsyncIterator[RedisClient]:
    """A client that is connected."""
    client = RedisClient(redis_url)
    await client.open()
    yield client
    await client.close()


@pytest.fixture
def allowed_keys() -> set[str]:
    """Patterns of keys that may stay for ever, for ``no_key_leaks``. A test adds to it, a suite has its own."""
    return set()


@pytest.fixture
def no_key_leaks(redis_server: RedisServer, allowed_keys: set[str]) -> Iterator[None]:
    """Fail a test that leaves keys without a time to live, other than those allowed."""
    yield
    left = lasting_keys(redis_server.url, allowed_keys)
    assert not left, f"the test left keys that never expire: {left}"


def lasting_keys(url: str, allowed: Iterable[str] = ()) -> list[str]:
    """The keys that would stay for ever and match none of the patterns. It blocks: not for use on an event loop."""
    with redis.Redis.from_url(url, decode_responses=True) as client:
        keys = [str(key) for key in client.scan_iter(count=1000)]
        lasting = [key for key in keys if client.ttl(key) == -1]
    return sorted(key for key in lasting if not any(fnmatchcase(key, pattern) for pattern in allowed))
