"""The reaper: which containers it takes for orphans, and which it spares."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from graflow import WorkflowEngine
from graflow.handlers import DockerHandler
from graflow.handlers.docker import reaper as reaping
from graflow.handlers.docker.bin import ContainerBin
from graflow.handlers.docker.engine import Engine
from graflow.handlers.docker.labels import Owner, Process
from graflow.handlers.docker.reaper import Reaper
from tests.docker import engines

Make = Callable[..., DockerHandler]


@pytest.fixture
def reapers(docker: engines.Engine) -> Callable[..., Any]:
    """Makes a reaper of a place, to which these workers are the living ones."""

    @asynccontextmanager
    async def make(place: str, living: frozenset[str] | None) -> AsyncIterator[Reaper]:
        async def alive() -> frozenset[str] | None:
            return living

        engine = await Engine.connect(docker.url)
        bin = ContainerBin(engine)
        owner = await asyncio.to_thread(Owner.here, place, "me")
        try:
            yield Reaper(engine, owner, alive, bin)
        finally:
            await bin.empty()
            await engine.close()

    return make


@pytest.fixture
def host() -> str:
    return Owner.here("", "").host


async def test_only_containers_of_dead_workers_of_the_same_host_and_place_are_removed(
    foreign: Callable[..., str], reapers: Any, host: str, docker: engines.Engine, image: str
) -> None:
    def make() -> tuple[str, set[str]]:
        dead = foreign(host=host, place="redis-a", worker="dead")
        spared = {
            foreign(host="another-host", place="redis-a", worker="dead"),
            foreign(host=host, place="redis-b", worker="dead"),
            foreign(host=host, place="redis-a", worker="alive"),
        }
        return dead, spared

    dead, spared = await asyncio.to_thread(make)
    strange = await asyncio.to_thread(docker.make, image, {"other": "label"})
    try:
        async with reapers("redis-a", frozenset({"alive", "me"})) as reaper:
            assert await reaper.look() == frozenset()  # once is not enough: a worker may be about to begin
            assert await reaper.look() == {dead}
            assert await reaper.look() == frozenset()
        assert spared <= (await asyncio.to_thread(docker.containers, "graflow.token")).keys()
        assert strange in await asyncio.to_thread(docker.containers, "other=label")
    finally:
        await asyncio.to_thread(docker.remove, strange)


async def test_a_worker_that_is_there_at_the_second_look_keeps_its_containers(
    foreign: Callable[..., str], docker: engines.Engine, host: str
) -> None:
    await asyncio.to_thread(foreign, host=host, place="redis-a", worker="slow")
    looks = [frozenset[str](), frozenset({"slow"}), frozenset[str](), frozenset({"slow"})]

    async def living() -> frozenset[str]:
        return looks.pop(0)

    engine = await Engine.connect(docker.url)
    reaper = Reaper(engine, await asyncio.to_thread(Owner.here, "redis-a", "me"), living, ContainerBin(engine))
    assert [await reaper.look() for _ in range(4)] == [frozenset()] * 4
    await engine.close()


async def test_without_leases_the_process_decides(foreign: Callable[..., str], reapers: Any, host: str) -> None:
    mine = await asyncio.to_thread(Process.mine)

    def make() -> str:
        gone = subprocess.Popen([sys.executable, "-c", ""])
        gone.wait()
        foreign(host=host, place=f"memory:{os.getpid()}", worker="w", process=str(mine))
        foreign(host=host, place="memory:1", worker="w", process=f"{gone.pid}/1/another-namespace")
        foreign(host=host, place="redis-a", worker="w", process=f"{gone.pid}/1/{mine.namespace}")
        foreign(host=host, place="memory:1", worker="w", process="nonsense")
        return foreign(host=host, place=f"memory:{gone.pid}", worker="w", process=f"{gone.pid}/1/{mine.namespace}")

    dead = await asyncio.to_thread(make)
    async with reapers(f"memory:{os.getpid()}", None) as reaper:
        assert await reaper.look() == {dead}  # at once: what has ended does not come back


async def test_an_earlier_process_of_a_worker_that_lives_leaves_orphans(foreign: Callable[..., str], reapers: Any, host: str) -> None:
    mine = await asyncio.to_thread(Process.mine)

    def make() -> set[str]:
        gone = subprocess.Popen([sys.executable, "-c", ""])
        gone.wait()
        ended = f"{gone.pid}/1/{mine.namespace}"
        foreign(host=host, place="redis-a", worker="me", process=str(mine))
        foreign(host=host, place="redis-a", worker="alive", process=str(Process(os.getppid(), "", mine.namespace)))
        foreign(host=host, place="redis-a", worker="alive", process=f"{gone.pid}/1/another-namespace")
        foreign(host=host, place="redis-b", worker="me", process=ended)
        foreign(host="another-host", place="redis-a", worker="me", process=ended)
        return {foreign(host=host, place="redis-a", worker=worker, process=ended) for worker in ("me", "alive")}

    dead = await asyncio.to_thread(make)
    async with reapers("redis-a", frozenset({"alive", "me"})) as reaper:
        assert await reaper.look() == dead
        assert await reaper.look() == frozenset()


async def test_hosts_of_one_name_that_share_an_engine_elsewhere_spare_each_other(
    foreign: Callable[..., str], docker: engines.Engine, host: str
) -> None:
    namespace = (await asyncio.to_thread(Process.mine)).namespace

    async def living() -> frozenset[str]:
        return frozenset({"me", "alive"})

    def make() -> str:
        foreign(host=host, place="redis-a", worker="alive", process=f"999999999/1/{namespace}")
        return foreign(host=host, place="redis-a", worker="me", process=f"999999999/1/{namespace}")

    dead = await asyncio.to_thread(make)
    engine = await Engine.connect(docker.url)
    engine.host = "tcp://elsewhere:2376"
    reaper = Reaper(engine, await asyncio.to_thread(Owner.here, "redis-a", "me"), living, ContainerBin(engine))
    assert [await reaper.look(), await reaper.look()] == [{dead}, frozenset()]
    await engine.close()


async def test_a_process_that_may_not_be_looked_at_is_not_taken_for_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    mine = await asyncio.to_thread(Process.mine)
    monkeypatch.setattr("graflow.handlers.docker.labels._started", lambda pid: None)  # as /proc with hidepid= answers to others
    assert not await asyncio.to_thread(mine.is_gone)


async def test_a_process_is_told_from_a_later_one_with_its_number() -> None:
    def look() -> tuple[bool, bool, bool]:
        mine = Process.mine()
        later = Process(mine.pid, "1", mine.namespace)
        return mine.is_gone(), later.is_gone(), Process.read(str(mine)) == mine

    assert await asyncio.to_thread(look) == (False, True, True)


async def test_a_handler_reaps_by_itself(
    handler: Make,
    foreign: Callable[..., str],
    host: str,
    docker: engines.Engine,
    eventually: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(reaping, "PERIOD", 0.05)
    namespace = await asyncio.to_thread(lambda: Process.mine().namespace)
    dead = await asyncio.to_thread(lambda: foreign(host=host, place="memory:1", worker="w", process=f"999999999/1/{namespace}"))
    async with WorkflowEngine(handlers={"docker": handler()}):
        await eventually(lambda: dead not in docker.containers("graflow.token"))
