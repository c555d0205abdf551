"""Scripts and the connections that they go over, on real servers, through a proxy that breaks things."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections import deque
from typing import Any

import pytest
from redis import exceptions as redis

from graflow.backends.redis import client as client_module
from graflow.backends.redis import link as link_module
from graflow.backends.redis.client import RedisClient
from graflow.backends.redis.link import pack
from graflow.backends.redis.scripts import Script
from graflow.backends.redis.waiting import Waiting
from graflow.errors import BackendUnavailableError
from tests.redis.fake import FakeServer
from tests.redis.proxy import Fault, FaultProxy, named
from tests.redis.server import RedisServer

ECHO = Script("echo", text="return ARGV[1]")
COUNT = Script("count", text="redis.call('RPUSH', KEYS[1] .. 'calls', ARGV[1]) return ARGV[1]")
SPIN = Script("spin", text="local n = 0 for i = 1, tonumber(ARGV[1]) do n = n + i end return ARGV[2]")
SCRIPTS = named("EVALSHA", "EVAL")
SOON = 5.0
"""Seconds after which something that should happen at once counts as not having happened."""


async def calls(client: RedisClient) -> list[bytes]:
    """What the script COUNT was called with, in order."""
    return await client.commands.lrange(client.keys.prefix + "calls", 0, -1)


# ---- what a call is ---------------------------------------------------------------------------------------------


async def test_a_script_is_given_the_prefix_and_its_arguments(redis_client: RedisClient) -> None:
    script = Script("all", text="return {KEYS[1], #KEYS, ARGV[1], ARGV[2], ARGV[3], ARGV[4]}")
    reply = await redis_client.call(script, [b"\x00\xff", "ü", 12, 1.5])
    assert reply == [b"{graflow:0}:", 1, b"\x00\xff", "ü".encode(), b"12", b"1.5"]


async def test_a_reply_may_be_large_and_come_in_pieces(redis_client: RedisClient) -> None:
    big = random.randbytes(5_000_000)
    assert await redis_client.call(ECHO, [big]) == big


async def test_a_script_that_the_server_has_forgotten_is_given_to_it_again(redis_server: RedisServer, redis_client: RedisClient) -> None:
    for _ in range(3):
        assert await redis_client.call(ECHO, ["x"]) == b"x"
        await redis_client.commands.script_flush()
    assert await redis_client.commands.script_exists(ECHO.sha) == [False]


async def test_calls_that_overlap_get_their_own_replies(redis_client: RedisClient) -> None:
    replies = await asyncio.gather(*(redis_client.call(ECHO, [number]) for number in range(2000)))
    assert replies == [str(number).encode() for number in range(2000)]


async def test_a_line_is_one_connection_and_named_lines_are_several(redis_client: RedisClient) -> None:
    async def connections() -> int:
        return len(await redis_client.commands.client_list())

    before = await connections()
    await asyncio.gather(*(redis_client.call(ECHO, [1]) for _ in range(100)))
    assert await connections() == before + 1
    assert redis_client.line("settle") is redis_client.line("settle")
    await redis_client.call(ECHO, [1], line=redis_client.line("settle"))
    await redis_client.call(ECHO, [1], line=redis_client.line("view"))
    assert await connections() == before + 3


# ---- what goes wrong ----------------------------------------------------------------------------------------------


async def test_a_script_whose_reply_was_lost_is_sent_again_as_it_was(redis_server: RedisServer) -> None:
    async with FaultProxy(redis_server.port) as proxy:
        client = RedisClient(proxy.url)
        await client.call(COUNT, ["warm"])
        rule = proxy.when(Fault.DROP_REPLY, command=SCRIPTS)
        assert await client.call(COUNT, ["mine"]) == b"mine"
        assert rule.hits == 1
        # Carried out twice: that is why only scripts may be called that stand it.
        assert await calls(client) == [b"warm", b"mine", b"mine"]
        await client.close()


async def test_a_script_that_never_arrived_is_sent_again(redis_server: RedisServer) -> None:
    async with FaultProxy(redis_server.port) as proxy:
        client = RedisClient(proxy.url)
        proxy.when(Fault.RESET, command=SCRIPTS, times=3)
        assert await client.call(COUNT, ["mine"]) == b"mine"
        assert await calls(client) == [b"mine"]
        await client.close()


@pytest.mark.parametrize("fault", [Fault.SWALLOW, Fault.BLACK_HOLE])
async def test_a_reply_that_does_not_come_is_not_waited_for_for_ever(redis_server: RedisServer, fault: Fault) -> None:
    async with FaultProxy(redis_server.port) as proxy:
        client = RedisClient(proxy.url + "?socket_timeout=0.2")
        await client.call(ECHO, ["warm"])
        proxy.when(fault, command=SCRIPTS)
        started = time.monotonic()
        assert await client.call(ECHO, ["x"]) == b"x"
        assert 0.2 <= time.monotonic() - started < SOON
        await client.close()


async def connections_for_slow_calls(server: RedisServer) -> int:
    """Ninety calls take the server longer altogether than a reply is waited for: how many connections are made in that time?"""
    async with FaultProxy(server.port) as proxy:
        client = RedisClient(proxy.url + "?socket_timeout=0.8")
        quickest = SOON
        for _ in range(5):
            started = time.monotonic()
            await client.call(SPIN, [1_000_000, "measured"])
            quickest = min(quickest, time.monotonic() - started)
        # By counting and not by the clock: TIME stands still while a script runs, from Redis 7.2 on.
        turns = int(1_000_000 * 0.02 / quickest)
        together = asyncio.gather(*(client.call(SPIN, [turns, number]) for number in range(90)), return_exceptions=True)
        await asyncio.wait([together], timeout=3.0)
        accepted = proxy.accepted
        await client.close()
        replies = await together
        assert accepted > 1 or replies == [str(number).encode() for number in range(90)]
        return accepted


async def test_a_server_that_takes_its_time_for_each_of_many_is_not_given_up(redis_server: RedisServer) -> None:
    assert await connections_for_slow_calls(redis_server) == 1


async def test_without_a_bound_on_what_is_under_way_it_would_be(redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link_module, "DEPTH", 1000)
    assert await connections_for_slow_calls(redis_server) > 1


async def test_when_the_link_breaks_every_call_on_it_is_sent_again(redis_server: RedisServer) -> None:
    async with FaultProxy(redis_server.port) as proxy:
        client = RedisClient(proxy.url)
        await client.call(ECHO, ["warm"])
        proxy.when(Fault.RESET, command=lambda command: command[-1] == b"50")
        replies = await asyncio.gather(*(client.call(ECHO, [number]) for number in range(100)))
        assert replies == [str(number).encode() for number in range(100)]
        assert proxy.accepted == 2, "a hundred calls make one new connection"
        await client.close()


async def reply_after_a_cancelled_call(server: RedisServer) -> Any:
    """What a call is answered that was sent right after one that was then cancelled."""
    async with FaultProxy(server.port) as proxy:
        client = RedisClient(proxy.url)
        await client.call(ECHO, ["warm"])
        proxy.delay = 0.02
        first = asyncio.create_task(client.call(ECHO, ["cancelled"]))
        await asyncio.sleep(0)
        second = asyncio.create_task(client.call(ECHO, ["kept"]))
        await asyncio.sleep(0)
        first.cancel()
        reply = await second
        assert first.cancelled()
        assert proxy.accepted == 1, "the connection need not be given up for it"
        await client.close()
        return reply


async def test_a_cancelled_call_leaves_the_connection_in_step(redis_server: RedisServer) -> None:
    assert await reply_after_a_cancelled_call(redis_server) == b"kept"


async def test_a_cancelled_call_that_gave_up_its_place_would_not(redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    class Leaving(link_module.Link):
        async def ask(self, packed: bytes) -> Any:
            try:
                return await super().ask(packed)
            except asyncio.CancelledError:
                self._asked = deque(asked for asked in self._asked if not asked[0].done())
                raise

    monkeypatch.setattr(link_module, "Link", Leaving)
    assert await reply_after_a_cancelled_call(redis_server) == b"cancelled"


async def test_a_storm_of_cancellations_mixes_up_no_replies(redis_client: RedisClient) -> None:
    dice = random.Random(7)

    async def one(number: int) -> None:
        try:
            async with asyncio.timeout(dice.choice([0.0, 0.0001, 0.001, None])):
                assert await redis_client.call(ECHO, [number]) == str(number).encode()
        except TimeoutError:
            pass

    for start in range(0, 2000, 100):
        await asyncio.gather(*(one(number) for number in range(start, start + 100)))
    assert await redis_client.call(ECHO, ["end"]) == b"end"


async def test_garbage_from_the_server_ends_the_connection_and_not_the_call() -> None:
    async with FakeServer(b"\x00garbage\r\n", b":7\r\n") as server:
        client = RedisClient(server.url)
        assert await client.call(ECHO, []) == 7
        assert server.accepted == 2
        await client.close()


async def test_patience_has_an_end(redis_server: RedisServer) -> None:
    async with FaultProxy(redis_server.port) as proxy:
        client = RedisClient(proxy.url, patience=0.3)
        await client.call(ECHO, ["warm"])
        proxy.when(Fault.RESET, command=SCRIPTS, times=1000)
        with pytest.raises(BackendUnavailableError, match=f"127.0.0.1:{proxy.port}") as caught:
            await asyncio.wait_for(client.call(ECHO, ["x"]), SOON)
        assert isinstance(caught.value.__cause__, redis.ConnectionError)
        proxy.mend()
        assert await client.call(ECHO, ["again"]) == b"again"
        await client.close()


async def test_ordinary_commands_are_never_repeated_behind_our_back(redis_server: RedisServer) -> None:
    async with FaultProxy(redis_server.port) as proxy:
        client = RedisClient(proxy.url)
        proxy.when(Fault.DROP_REPLY, command=named("INCRBY"))
        with pytest.raises(redis.ConnectionError):
            await client.commands.incr("n")
        assert await client.commands.get("n") == b"1"
        await client.close()


async def test_an_idle_connection_that_the_server_closed_is_replaced(redis_client: RedisClient) -> None:
    await redis_client.commands.ping()
    await redis_client.call(ECHO, ["warm"])
    await redis_client.commands.client_kill_filter(_type="normal", skipme=True)
    assert await redis_client.call(ECHO, ["x"]) == b"x"
    assert await redis_client.commands.ping()


# ---- the server goes, and another comes ---------------------------------------------------------------------------


async def test_a_call_outlasts_a_restart_of_the_server(redis_server: RedisServer, redis_client: RedisClient) -> None:
    met: list[str | None] = []
    redis_client.on_new_server.append(lambda: met.append(redis_client.run_id))
    before = redis_client.run_id
    await redis_client.call(ECHO, ["warm"])
    await asyncio.to_thread(redis_server.kill)
    waiting = [asyncio.create_task(redis_client.call(ECHO, [number])) for number in range(20)]
    await asyncio.sleep(0)
    await asyncio.to_thread(redis_server.start)
    assert await asyncio.wait_for(asyncio.gather(*waiting), SOON) == [str(number).encode() for number in range(20)]
    assert redis_client.run_id not in (None, before)
    assert met == [redis_client.run_id], "told once, before anything was said to the new server"


async def test_a_lost_connection_alone_is_no_new_server(redis_server: RedisServer) -> None:
    async with FaultProxy(redis_server.port) as proxy:
        client = RedisClient(proxy.url)
        await client.open()
        client.on_new_server.append(lambda: pytest.fail("it is the same server"))
        for _ in range(3):
            proxy.reset()
            await client.call(ECHO, ["x"])
        await client.close()


async def test_a_server_that_has_become_a_replica_is_left_for_the_one_that_answers_now() -> None:
    async with FakeServer(b"-READONLY You can't write against a read only replica.\r\n", b":7\r\n") as server:
        client = RedisClient(server.url)
        met: list[int] = []
        client.on_new_server.append(lambda: met.append(1))
        await client.open()
        server.run_id = "two"
        assert await client.call(ECHO, []) == 7
        assert met == [1]
        await client.close()


# ---- blocking reads -------------------------------------------------------------------------------------------------


async def test_a_blocking_read_may_block_for_longer_than_replies_are_waited_for(redis_url: str) -> None:
    client = RedisClient(redis_url + "?socket_timeout=0.1")
    reader = await client.reader(block=0.4)
    assert await reader.xread({"stream": "$"}, block=400) == []
    await client.commands.xadd("stream", {"a": "b"})
    assert await reader.xread({"stream": "0"}, block=400) != []
    await client.close()


async def test_a_blocking_read_notices_a_dead_link(redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "READER_GRACE", 0.2)
    async with FaultProxy(redis_server.port) as proxy:
        client = RedisClient(proxy.url)
        reader = await client.reader(block=0.1)
        await reader.ping()
        proxy.black_hole()
        with pytest.raises(redis.TimeoutError):
            await asyncio.wait_for(reader.xread({"stream": "$"}, block=100), SOON)
        proxy.mend()
        assert await reader.ping()
        await client.close()


# ---- health and the end -----------------------------------------------------------------------------------------------


async def test_a_healthy_server_says_how_it_is(redis_client: RedisClient) -> None:
    assert await redis_client.ping()
    health = await redis_client.health_check()
    assert health["status"] == "healthy"
    assert health["connected_clients"] >= 1
    assert health["used_memory"] > 0
    assert health["uptime_seconds"] >= 0


async def test_an_unhealthy_one_is_reported_and_logged_with_host_and_port(
    redis_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    async with FaultProxy(redis_server.port) as proxy:
        client = RedisClient(proxy.url)
        assert await client.ping()
        await proxy.refuse()
        proxy.reset()
        health = await client.health_check()
        assert not await client.ping()
        await client.close()
    assert health.keys() == {"status", "error"}
    assert health["status"] == "unhealthy"
    assert len(caplog.records) == 2
    for record in caplog.records:
        assert record.levelno == logging.ERROR
        assert f"127.0.0.1:{proxy.port}" in record.getMessage()
        assert record.__dict__["redis_host"] == "127.0.0.1"
        assert record.__dict__["redis_port"] == proxy.port
        assert record.__dict__["redis_error"]


async def test_closing_ends_what_waits_and_leaves_no_connection(redis_server: RedisServer) -> None:
    async with FaultProxy(redis_server.port) as proxy:
        client = RedisClient(proxy.url)
        await client.open()
        reader = await client.reader()
        await reader.ping()
        swallowed = proxy.when(Fault.SWALLOW, command=SCRIPTS)
        waiting = asyncio.create_task(client.call(ECHO, ["x"]))
        await swallowed.hit.wait()
        await client.close()
        with pytest.raises(BackendUnavailableError, match="closed"):
            await asyncio.wait_for(waiting, SOON)
        with pytest.raises(BackendUnavailableError, match="closed"):
            await client.call(ECHO, ["x"])
        await client.close()
        await asyncio.wait_for(proxy.deserted.wait(), SOON)


async def test_a_call_while_the_server_is_away_ends_with_the_client(redis_server: RedisServer) -> None:
    async with FaultProxy(redis_server.port) as proxy:
        client = RedisClient(proxy.url)
        await proxy.refuse()
        waiting = asyncio.create_task(client.call(ECHO, ["x"]))
        await asyncio.sleep(0.05)
        await client.close()
        with pytest.raises(BackendUnavailableError, match="closed"):
            await asyncio.wait_for(waiting, SOON)


async def test_a_closed_client_is_not_healthy(redis_url: str) -> None:
    client = RedisClient(redis_url)
    await client.close()
    assert not await client.ping()
    assert (await client.health_check())["status"] == "unhealthy"


def test_it_works_on_uvloop_too(redis_url: str) -> None:
    uvloop = pytest.importorskip("uvloop")

    async def main() -> None:
        client = RedisClient(redis_url)
        await client.open()
        assert await asyncio.gather(*(client.call(ECHO, [number]) for number in range(10))) == [b"%d" % number for number in range(10)]
        hub = Waiting(client)
        heard = asyncio.Event()
        await hub.listen("news", lambda payload: heard.set())
        await client.commands.publish("news", "x")
        await asyncio.wait_for(heard.wait(), SOON)
        await hub.close()
        await client.close()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())


async def test_a_packed_command_may_be_sent_as_it_is(redis_client: RedisClient) -> None:
    assert await redis_client.line("own").ask(pack(("ECHO", b"x"))) == b"x"
