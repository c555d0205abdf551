"""Workers that a file tells what to do, as processes on a server of their own: one of them, or all under a supervisor."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from blockbuster import BlockBuster

from graflow import WorkflowEngine
from graflow.worker.config import create_worker
from tests.redis.fleet import Member, children_of, is_running
from tests.redis.server import RedisServer, find_server
from tests.worker import shop
from tests.worker.commands import PROGRAM, ROOT, environment

pytestmark = pytest.mark.skipif(find_server() is None, reason="no redis-server on this machine")


@pytest.fixture(autouse=True)
def may_block(blockbuster: BlockBuster) -> None:
    """The tests look at processes in ways that block for a moment. What is tested runs in processes of its own."""
    blockbuster.deactivate()


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


@pytest.fixture
def file(server: RedisServer, tmp_path: Path) -> Path:
    server.command("FLUSHALL")
    path = tmp_path / "workers.yaml"
    path.write_text(
        f"redis: {server.url}\napps: [tests.worker.shop]\ngrace: 5\nworkers:\n"
        "  - id: all\n"
        "    handlers:\n"
        "      coroutine:\n"
        "      thread: {threads: 2}\n"
        "      process: {processes: 1}\n"
        "      stamp: {type: 'tests.worker.shop:StampHandler', word: 'by us'}\n"
        "  - id: light\n"
        "    handler_type: inprocess\n"
        "    config: {concurrency: 3}\n"
    )
    return path


@asynccontextmanager
async def started(*arguments: str | Path, cwd: Path = ROOT, **variables: str) -> AsyncIterator[Member]:
    """The command, and nothing of it afterwards."""
    process = await asyncio.create_subprocess_exec(
        *PROGRAM, *map(str, arguments), cwd=cwd, env=environment(**variables), stderr=asyncio.subprocess.PIPE
    )
    member = Member(process)
    member.listening = asyncio.create_task(member.listen())
    try:
        yield member
    finally:
        family = tree(process.pid)
        if process.returncode is None:
            process.kill()
        await process.wait()
        await gone(family)
        await member.listening


def words_of(pid: int) -> list[str]:
    """The command line of a process."""
    return Path(f"/proc/{pid}/cmdline").read_text().split("\0")


def tree(pid: int) -> set[int]:
    children = children_of(pid)
    return set(children).union(*map(tree, children))


async def gone(pids: set[int], within: float = 20) -> None:
    async with asyncio.timeout(within):
        while any(map(is_running, pids)):  # noqa: ASYNC110 - it happens in other processes
            await asyncio.sleep(0.02)


async def ready(member: Member, name: str, times: int = 1) -> None:
    async with asyncio.timeout(20), member.heard:
        await member.heard.wait_for(lambda: sum(f"worker {name} is ready" in line for line in member.said) >= times)


async def ordered(server: RedisServer) -> object:
    graph = shop.order >> shop.weigh >> shop.pack >> shop.send
    async with WorkflowEngine(server.url) as engine, asyncio.timeout(20):
        return (await engine.execute(graph, inputs={"city": "Oslo"})).output


async def test_a_worker_of_a_file_runs_a_graph_by_every_kind_of_handler_and_one_of_ones_own(file: Path, server: RedisServer) -> None:
    async with started("--config", file, "--worker", "all") as worker:
        await ready(worker, "all")
        assert await ordered(server) == "Oslo 8 by us"
        worker.strike(signal.SIGTERM)
        assert await worker.ended() == 0


async def test_a_handler_of_ones_own_can_be_given_without_a_file(file: Path, server: RedisServer) -> None:
    own = ("--handler", "stamp=tests.worker.shop:stamp", "--worker-id", "w")
    async with started("--redis", server.url, *own) as worker:
        await ready(worker, "w")
        assert await ordered(server) == "Oslo 8 by an object"


async def test_code_runs_a_worker_of_a_file(file: Path, server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GRAFLOW_REDIS_URL", "REDIS_HOST", "REDIS_PORT", "HANDLER_TYPE"):
        monkeypatch.delenv(name, raising=False)
    async with create_worker(file, "all"):
        assert await ordered(server) == "Oslo 8 by us"


# ---- several --------------------------------------------------------------------------------------------------------


async def test_all_workers_of_a_file_work_under_one_command_and_end_with_it(file: Path, server: RedisServer) -> None:
    async with started("--config", file) as supervisor:
        await ready(supervisor, "all")
        await ready(supervisor, "light")
        family = tree(supervisor.pid)
        assert len(children_of(supervisor.pid)) == 2
        assert await ordered(server) == "Oslo 8 by us"
        supervisor.strike(signal.SIGTERM)
        assert await supervisor.ended() == 0
        await gone(family)
        assert sum("stops; running tasks have their grace" in line for line in supervisor.said) == 2


async def test_a_worker_that_is_killed_is_started_again(file: Path, server: RedisServer) -> None:
    async with started("--config", file, "--handlers", "coroutine") as supervisor:
        await ready(supervisor, "all")
        await ready(supervisor, "light")
        before = children_of(supervisor.pid)
        (victim,) = [pid for pid in before if "--worker=light" in words_of(pid)]
        os.kill(victim, signal.SIGKILL)
        await ready(supervisor, "light", times=2)
        assert any("worker light ended with signal SIGKILL; it is started again in 0.5 s" in line for line in supervisor.said)
        after = children_of(supervisor.pid)
        assert len(after) == 2
        assert set(before) & set(after) == set(before) - {victim}
        supervisor.strike(signal.SIGINT)
        assert await supervisor.ended() == 0


async def test_a_supervisor_that_is_killed_leaves_no_worker(file: Path) -> None:
    async with started("--config", file) as supervisor:
        await ready(supervisor, "all")
        await ready(supervisor, "light")
        family = tree(supervisor.pid)
        supervisor.strike(signal.SIGKILL)
        assert await supervisor.ended() == -signal.SIGKILL
        await gone(family)


async def test_a_supervisor_that_is_killed_while_its_workers_start_leaves_none(file: Path) -> None:
    async with started("--config", file) as supervisor:
        async with asyncio.timeout(20):
            while not children_of(supervisor.pid):  # noqa: ASYNC110 - it happens in another process
                await asyncio.sleep(0.005)
        family = tree(supervisor.pid)
        supervisor.strike(signal.SIGKILL)
        await gone(family)


@pytest.fixture
def file_with_a_bad_one(file: Path) -> Path:
    file.write_text(file.read_text() + "  - id: bad\n    handlers: {own: {type: 'tests.worker.shop:Unwilling'}}\n")
    return file


async def test_a_worker_that_cannot_start_stops_all(file_with_a_bad_one: Path) -> None:
    file = file_with_a_bad_one
    async with started("--config", file, "--log-level", "ERROR") as supervisor:
        assert await supervisor.ended() == 2
        (line,) = [line for line in supervisor.said if line.startswith("graflow-aworker: ")]
        assert line.endswith(".handlers.own.type: the device is taken")
        assert line.startswith(f"graflow-aworker: {file}:")
        assert any("worker bad cannot start; all are stopped" in line for line in supervisor.said)


async def test_a_second_signal_ends_all_at_once(file: Path, server: RedisServer) -> None:
    async with started("--config", file, "--grace", "600") as supervisor:
        await ready(supervisor, "all")
        await ready(supervisor, "light")
        async with WorkflowEngine(server.url) as engine:
            handle = await engine.submit(shop.endless)
            async for event in handle.events():
                if event.type == "task_started":
                    break
            supervisor.strike(signal.SIGTERM)
            await supervisor.says("stops; running tasks have their grace")
            supervisor.strike(signal.SIGTERM)
            assert await supervisor.ended() == 1
            await handle.cancel()


async def test_a_worker_that_somebody_else_told_to_stop_is_not_started_again(file: Path) -> None:
    async with started("--config", file, "--handlers", "coroutine") as supervisor:
        await ready(supervisor, "all")
        await ready(supervisor, "light")
        for child in children_of(supervisor.pid):
            os.kill(child, signal.SIGTERM)
        assert await supervisor.ended() == 0


# ---- the example ----------------------------------------------------------------------------------------------------

NIGHT = """
import asyncio, sys
from custom_handler import brightest, observe
from graflow import WorkflowEngine
from quickstart import report, wf

async def main():
    async with WorkflowEngine(sys.argv[1]) as engine:
        print((await engine.execute(observe.map(["Vega", "Mars"]) >> brightest)).output)
        print((await engine.execute(wf, inputs={"city": "Oslo"}))[report].splitlines()[0])

asyncio.run(main())
"""


async def test_the_example_is_workers_for_the_examples(server: RedisServer) -> None:
    server.command("FLUSHALL")
    examples = ROOT / "examples"
    async with started("--config", "workers.yaml", cwd=examples, GRAFLOW_REDIS_URL=server.url) as supervisor:
        for name in ("weather", "telescope", "numbers"):
            await ready(supervisor, name)
        application = await asyncio.create_subprocess_exec(
            sys.executable, "-c", NIGHT, server.url, cwd=examples, env=environment(), stdout=asyncio.subprocess.PIPE
        )
        async with asyncio.timeout(20):
            out, _ = await application.communicate()
        assert out.decode().splitlines() == ["Mars", "Oslo: 0.0 degrees on average, 3.5 at noon"]
        supervisor.strike(signal.SIGTERM)
        assert await supervisor.ended() == 0
