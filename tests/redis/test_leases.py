"""A worker's lease: kept for as long as the worker lives, and no longer."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from urllib.parse import quote

import pytest
from blockbuster import BlockBuster

from graflow import TaskWorker, WorkflowEngine
from graflow.backends.redis.backend import RedisBackend
from graflow.backends.redis.blobs import encode
from graflow.backends.redis.client import RedisClient
from graflow.backends.redis.leases import Heart, LoopHeart, ProcessHeart, make_heart
from tests.conftest import Servers
from tests.redis import jobs
from tests.redis.fleet import is_running, status
from tests.redis.proxy import FaultProxy
from tests.redis.server import RedisServer, servers
from tests.redis.test_connecting import certificates as certificates
from tests.redis.test_connecting import encrypted as encrypted

SOON = 5.0
INFO = encode({"name": "w"})
QUICK = {"lease": 2.0, "every": 0.2, "margin": 0.6}
ROOT = Path(__file__).parents[2]

Make = Callable[..., Heart]


@pytest.fixture(autouse=True)
def may_block(blockbuster: BlockBuster) -> None:
    """The tests look at processes in ways that block for a moment; that the hearts do not is tested by a test of its own."""
    blockbuster.deactivate()


@pytest.fixture
def redis_server(running_servers: Servers) -> RedisServer:
    """One version: the server has no part in what is tested here."""
    if not servers():
        pytest.skip("no redis-server on this machine")
    return running_servers.get(min(servers(), key=lambda name: name.startswith("redis-6")))


@pytest.fixture(params=["process", "loop"])
def make(request: pytest.FixtureRequest) -> Make:
    """Each kind of heart, in a hurry."""
    kind = ProcessHeart if request.param == "process" else LoopHeart
    return lambda client, lost=lambda: None, **options: kind(client, lost, **(QUICK | options))


async def until(true: Callable[[], Awaitable[object] | object], within: float = SOON) -> None:
    async with asyncio.timeout(within):
        while True:
            answer = true()
            if await answer if isinstance(answer, Awaitable) else answer:
                return
            await asyncio.sleep(0.01)


async def expiry(client: RedisClient, consumer: str) -> float | None:
    return await client.commands.zscore(client.keys.leases, consumer)


async def renewed(client: RedisClient, consumer: str, times: int = 2) -> None:
    """Until the lease has been renewed so many times."""
    for _ in range(times):
        before = await expiry(client, consumer)

        async def later(before: float | None = before) -> bool:
            return (await expiry(client, consumer) or 0.0) > (before or 0.0)

        await until(later)


# ---- keeping it -----------------------------------------------------------------------------------------------------


async def test_a_lease_is_renewed_until_it_is_given_up(make: Make, redis_client: RedisClient) -> None:
    heart = make(redis_client)
    await heart.start("w", INFO)
    assert await redis_client.commands.hget(redis_client.keys.workers, "w") == INFO
    await renewed(redis_client, "w", 6)
    await heart.stop()
    assert await expiry(redis_client, "w") is None
    assert not await redis_client.commands.exists(redis_client.keys.workers)
    await heart.stop()  # which changes nothing


async def test_a_lease_that_has_lapsed_is_told_of_once_and_another_may_be_taken(make: Make, redis_client: RedisClient) -> None:
    lost: list[str] = []
    heart = make(redis_client, lambda: lost.append("lost"))
    await heart.start("w1", INFO)
    await renewed(redis_client, "w1")
    await redis_client.commands.zrem(redis_client.keys.leases, "w1")
    await until(lambda: lost)
    await heart.start("w2", INFO)
    await renewed(redis_client, "w2", 6)
    assert lost == ["lost"]
    assert await expiry(redis_client, "w1") is None
    await heart.stop()
    assert await expiry(redis_client, "w2") is None


async def test_a_lease_that_was_lost_and_not_taken_again_leaves_nothing_behind(make: Make, redis_client: RedisClient) -> None:
    lost = asyncio.Event()
    heart = make(redis_client, lost.set)
    await heart.start("w", INFO)
    await redis_client.commands.delete(redis_client.keys.leases)
    await asyncio.wait_for(lost.wait(), SOON)
    pid = heart.pid if isinstance(heart, ProcessHeart) else None
    await heart.stop()
    assert pid is None or not is_running(pid)


@pytest.mark.parametrize("strike", ["black_hole", "refuse"])
async def test_a_worker_that_is_cut_off_stops_before_its_lease_ends_and_goes_on_later(
    make: Make, redis_server: RedisServer, redis_client: RedisClient, strike: str
) -> None:
    async with FaultProxy(redis_server.port) as proxy:
        client = RedisClient(proxy.url + "?socket_timeout=0.3&socket_connect_timeout=0.3")
        await client.open()
        lost = asyncio.Event()
        heart = make(client, lost.set)
        await heart.start("w1", INFO)
        await renewed(redis_client, "w1")
        if strike == "black_hole":
            proxy.black_hole()
        else:
            await proxy.refuse()
            proxy.reset()
        began = asyncio.get_running_loop().time()
        await asyncio.wait_for(lost.wait(), SOON)
        assert asyncio.get_running_loop().time() - began < QUICK["lease"]
        starting = asyncio.create_task(heart.start("w2", INFO))
        if strike == "black_hole":
            proxy.mend()
        else:
            await proxy.accept()
        await asyncio.wait_for(starting, SOON)
        await renewed(redis_client, "w2")
        await heart.stop()
        await client.close()


# ---- the process ----------------------------------------------------------------------------------------------------


@pytest.fixture
async def heart(redis_client: RedisClient) -> AsyncIterator[ProcessHeart]:
    heart = ProcessHeart(redis_client, lambda: pytest.fail("the lease was lost"), **QUICK)
    await heart.start("w", INFO)
    await renewed(redis_client, "w")
    yield heart
    await heart.stop()


def pid_of(heart: ProcessHeart) -> int:
    assert heart.pid is not None
    return heart.pid


async def test_the_process_ends_with_the_lease_and_leaves_neither_zombie_nor_descriptor(redis_client: RedisClient) -> None:
    open_before: list[str] = []
    for _ in range(3):
        heart = ProcessHeart(redis_client, lambda: None, **QUICK)
        await heart.start("w", INFO)
        await until(lambda heart=heart: heart.pid)
        pid = pid_of(heart)
        await heart.stop()
        assert status(pid) == ("", 0)
        open_before = open_before or sorted(os.listdir("/proc/self/fd"))  # once the client has its connections
    assert sorted(os.listdir("/proc/self/fd")) == open_before


async def test_a_process_that_dies_is_replaced_at_once(heart: ProcessHeart, redis_client: RedisClient) -> None:
    for _ in range(2):
        pid = pid_of(heart)
        os.kill(pid, signal.SIGKILL)
        await until(lambda pid=pid: heart.pid not in (None, pid))
        await renewed(redis_client, "w")


async def test_a_process_that_is_stuck_is_replaced(heart: ProcessHeart, redis_client: RedisClient) -> None:
    pid = pid_of(heart)
    os.kill(pid, signal.SIGSTOP)
    await until(lambda: heart.pid not in (None, pid))
    await renewed(redis_client, "w")


async def test_signals_that_are_meant_for_the_worker_do_not_end_it(heart: ProcessHeart, redis_client: RedisClient) -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        os.kill(pid_of(heart), number)
    assert os.getpgid(pid_of(heart)) != os.getpgid(0)
    await renewed(redis_client, "w", 3)


def visible(pid: int) -> bytes:
    return Path(f"/proc/{pid}/cmdline").read_bytes() + Path(f"/proc/{pid}/environ").read_bytes()


async def keeps_a_lease(url: str) -> bytes:
    """Whether the process reaches the server by that URL; what everybody on this machine can see of it."""
    client = RedisClient(url)
    await client.open()
    heart = ProcessHeart(client, lambda: None, **QUICK)
    await heart.start("w", INFO)
    await renewed(client, "w", 3)
    seen = visible(pid_of(heart))
    await heart.stop()
    await client.close()
    return seen


async def test_it_logs_in_and_chooses_the_database_and_nothing_secret_is_on_its_command_line() -> None:
    with RedisServer(settings={"requirepass": "se:cr@t"}) as server:
        seen = await keeps_a_lease(f"redis://:{quote('se:cr@t')}@127.0.0.1:{server.port}/3")
        assert b"cr@t" not in seen
        assert b"cr%40t" not in seen


async def test_it_reaches_the_server_through_a_socket_file(redis_server: RedisServer) -> None:
    await keeps_a_lease(f"unix://{redis_server.socket}?db=2")


async def test_its_connection_is_encrypted_where_the_workers_is(
    encrypted: RedisServer,
    certificates: Path,
) -> None:
    port = encrypted.settings["tls-port"]
    await keeps_a_lease(f"rediss://localhost:{port}?ssl_ca_certs={certificates / 'ca.crt'}")
    await keeps_a_lease(f"rediss://localhost:{port}?ssl_cert_reqs=none")


async def test_a_worker_whose_loop_stands_still_for_too_long_loses_its_lease(
    redis_client: RedisClient, caplog: pytest.LogCaptureFixture
) -> None:
    lost = asyncio.Event()
    heart = ProcessHeart(redis_client, lost.set, **QUICK, stall_limit=0.5)
    await heart.start("w", INFO)
    await renewed(redis_client, "w")
    assert heart._timer is not None
    heart._timer.cancel()  # as if the loop stood still, but for what the test does on it
    await until(lambda: lost.is_set() or "has not turned" in caplog.text)
    seconds, micros = await redis_client.commands.time()
    end = await expiry(redis_client, "w")
    assert end is not None
    while end >= seconds * 1000 + micros // 1000:
        await asyncio.sleep(0.05)
        seconds, micros = await redis_client.commands.time()
    assert await expiry(redis_client, "w") == end, "it was renewed"
    assert not lost.is_set()
    heart._turned = 0.0  # the loop turns again: what was missed meanwhile does not count against the process
    heart._tick()
    await asyncio.wait_for(lost.wait(), SOON)
    await heart.stop()


ALONE = """
import asyncio, os, signal, sys
from graflow.backends.redis.client import RedisClient
from graflow.backends.redis.leases import ProcessHeart
import {loop}

async def main():
    client = RedisClient(sys.argv[1])
    await client.open()
    heart = ProcessHeart(client, lambda: print("lost", flush=True), lease=60.0, every=0.2)
    await heart.start("w", b"\\x80")
    while heart.pid is None or heart._renewed == 0.0:
        await asyncio.sleep(0.01)
    print(heart.pid, flush=True)
    {then}

{loop}.run(main())
"""


async def alone(loop: str, then: str, url: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, "-c", ALONE.format(loop=loop, then=then), url, cwd=ROOT, stdout=asyncio.subprocess.PIPE
    )


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
async def test_the_lease_of_a_worker_that_is_gone_is_taken_away_at_once(loop: str, redis_client: RedisClient) -> None:
    pytest.importorskip(loop)
    process = await alone(loop, "await asyncio.sleep(3600)", _url(redis_client))
    assert process.stdout is not None
    pid = int(await process.stdout.readline())
    await renewed(redis_client, "w")
    process.kill()
    await process.communicate()

    async def gone() -> bool:
        return await expiry(redis_client, "w") is None

    await until(gone, 1.5)
    await until(lambda: not is_running(pid), 1.5)


async def test_it_does_not_outlive_a_worker_whose_child_still_holds_the_pipe(redis_client: RedisClient) -> None:
    fork = "child = os.fork(); child or signal.pause(); print(child, flush=True); os._exit(0)"
    process = await alone("asyncio", fork, _url(redis_client))
    assert process.stdout is not None
    pid, child = int(await process.stdout.readline()), int(await process.stdout.readline())
    await until(lambda: not is_running(process.pid))
    await until(lambda: not is_running(pid), 3)
    assert is_running(child)
    os.kill(child, signal.SIGKILL)
    await process.communicate()


def _url(client: RedisClient) -> str:
    return f"redis://127.0.0.1:{client.settings.port}/0"


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
async def test_a_worker_that_ends_in_good_order_takes_it_along_on_either_loop(loop: str, redis_client: RedisClient) -> None:
    pytest.importorskip(loop)
    process = await alone(loop, "await heart.stop(); await client.close()", _url(redis_client))
    out, _ = await asyncio.wait_for(process.communicate(), SOON)
    assert process.returncode == 0
    assert not is_running(int(out))
    assert await expiry(redis_client, "w") is None


# ---- in use ---------------------------------------------------------------------------------------------------------


async def test_starting_and_stopping_it_does_not_block_the_loop(blockbuster: BlockBuster, redis_client: RedisClient) -> None:
    blockbuster.activate()
    heart = make_heart("process", redis_client, lambda: None)
    await heart.start("w", INFO)
    await until(lambda: heart.pid if isinstance(heart, ProcessHeart) else 1)
    await heart.stop()


async def test_a_worker_that_has_lost_its_lease_works_on_under_another_name(
    redis_url: str, redis_client: RedisClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(jobs.ADDRESS, redis_url)
    backend = RedisBackend(redis_url)
    backend.crew.heart = ProcessHeart(backend.client, backend.crew.lose, **QUICK)
    async with TaskWorker(backend, worker_id="w"), WorkflowEngine(backend) as engine:
        first = backend.crew.consumer
        assert first.startswith("w.")
        await backend.client.commands.delete(backend.client.keys.leases)
        await until(lambda: backend.crew.consumer not in ("", first))  # the fetch that waits begins anew by itself
        assert (await engine.execute(jobs.short)).output == 0
    await jobs.server().aclose()
    jobs.server.cache_clear()
    assert await redis_client.commands.zcard(redis_client.keys.leases) == 0
