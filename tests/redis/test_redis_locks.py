"""Locks on Redis: fair, whatever becomes of holders, of those in line and of what is sent."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from typing import Any

import pytest

from graflow.backends.redis import locks as locks_module
from graflow.backends.redis.channel import RedisChannel
from graflow.backends.redis.looking import end_looks
from graflow.backends.redis.scripts import Script, locks
from graflow.backends.redis.scripts.locks import Answer
from graflow.errors import BackendUnavailableError, GraflowError
from tests.redis.channels import Shop, open_shop
from tests.redis.proxy import Fault, FaultProxy, named
from tests.redis.server import RedisServer

SCRIPTS = named("EVALSHA", "EVAL")
OFFERED = 3.0
"""Seconds that the next one has to say that it is there."""


@pytest.fixture
async def shop(redis_url: str) -> AsyncIterator[Shop]:
    async with open_shop(redis_url) as shop:
        yield shop


@pytest.fixture
def channel(shop: Shop) -> RedisChannel:
    return shop.channel


async def take(channel: RedisChannel, log: list[Any], who: Any, **options: float | None) -> None:
    async with channel.lock("k", **options):  # type: ignore[arg-type]
        log.append(who)


async def stand(shop: Shop, token: str) -> bytes:
    """Stand in line as some other process would; the ticket."""
    first = await locks.take(shop.client, "r", b"k", token, 1000)
    assert first is not None
    assert first.ticket
    assert await locks.take(shop.client, "r", b"k", token, 1000, first.ticket)
    return first.ticket


# ---- what is left --------------------------------------------------------------------------------------------------


async def test_a_lock_leaves_nothing(shop: Shop, channel: RedisChannel) -> None:
    async with channel.lock("k", ttl=100):
        assert await shop.keys() == {"lock:1:r:k"}
        late, cancelled, patient = await shop.start(take(channel, [], 1, wait=5), take(channel, [], 2, wait=500), take(channel, [], 3))
        cancelled.cancel()
        await shop.pass_time(6)
        assert await shop.client.commands.zcard(f"{shop.client.keys.prefix}line:1:r:k") == 1
    await asyncio.gather(late, cancelled, patient, return_exceptions=True)
    assert await shop.keys() == set()
    assert shop.waiting.listeners == 1  # for signs of life, from the first wait on


async def test_what_dead_holders_and_waiters_leave_goes_by_itself(shop: Shop, channel: RedisChannel) -> None:
    await channel.lock("k", ttl=100).__aenter__()
    await stand(shop, "dead/1")
    for name in ("lock:1:r:k", "line:1:r:k"):
        assert 100 < await shop.client.commands.ttl(f"{shop.client.keys.prefix}{name}") <= 160


async def test_a_lock_is_no_key_of_the_channel_and_survives_its_clearing(shop: Shop, channel: RedisChannel) -> None:
    async with channel.lock("k"):
        await channel.set("k", 1)
        await channel.clear()
        assert await channel.keys() == []
        with pytest.raises(TimeoutError, match="held by another task"):
            await take(channel, [], 1, wait=0)


async def test_a_lock_object_is_not_entered_twice_at_once(channel: RedisChannel) -> None:
    lock = channel.lock("k")
    async with lock:
        with pytest.raises(RuntimeError, match="anew"):
            await lock.__aenter__()
    async with lock:
        pass


# ---- whose turn it is ----------------------------------------------------------------------------------------------


async def test_two_hundred_get_it_in_the_order_in_which_they_came(shop: Shop, channel: RedisChannel) -> None:
    log: list[int] = []
    holder = channel.lock("k")
    await holder.__aenter__()
    waiting = await shop.start(*(take(channel, log, n) for n in range(200)))
    await holder.__aexit__(None, None, None)
    await asyncio.gather(*waiting)
    assert log == list(range(200))


async def test_who_comes_just_when_a_lock_lapses_does_not_overtake_who_waits(shop: Shop, channel: RedisChannel) -> None:
    log: list[str] = []
    await channel.lock("k", ttl=5).__aenter__()
    (patient,) = await shop.start(take(channel, log, "patient"))
    shop.client.shift += 6000  # on the server: nobody here has noticed yet
    with pytest.raises(TimeoutError):
        await take(channel, log, "hasty", wait=0)
    await patient
    assert log == ["patient"]


async def test_who_is_told_of_a_shorter_holding_looks_sooner(shop: Shop, channel: RedisChannel) -> None:
    """The first holder's ttl is long; the second dies with a short one: the third must not sleep by the first's clock."""
    log: list[int] = []
    holder, second = channel.lock("k", ttl=1000), channel.lock("k", ttl=5)
    await holder.__aenter__()
    (entering,) = await shop.start(second.__aenter__())
    (third,) = await shop.start(take(channel, log, 3))
    await holder.__aexit__(None, None, None)
    await entering
    await shop.pass_time(6)
    await asyncio.wait_for(third, 10)
    assert log == [3]


async def test_who_is_told_of_a_longer_holding_sends_nothing(shop: Shop, channel: RedisChannel) -> None:
    holder, second = channel.lock("k", ttl=5), channel.lock("k", ttl=1000)
    await holder.__aenter__()
    (entering,) = await shop.start(second.__aenter__())
    (third,) = await shop.start(take(channel, [], 3))
    await holder.__aexit__(None, None, None)
    await entering
    await shop.settle()
    await shop.client.commands.config_resetstat()
    shop.put_forward(12)
    for _ in range(20):
        await asyncio.sleep(0)
    assert "cmdstat_evalsha" not in await shop.client.commands.info("commandstats")
    assert not third.done()
    await second.__aexit__(None, None, None)
    await third


# ---- those who have died -------------------------------------------------------------------------------------------

IN_LINE = """
import asyncio, sys
from graflow.backends.redis.channel import RedisChannel
from graflow.backends.redis.client import RedisClient
from graflow.backends.redis.waiting import Waiting

async def main(url):
    client = RedisClient(url)
    channel = RedisChannel(client, Waiting(client), "r")

    async def wait():
        async with channel.lock("k"):
            await asyncio.Event().wait()

    await asyncio.gather(*(wait() for _ in range(10)))

asyncio.run(main(sys.argv[1]))
"""


async def test_the_dead_of_one_process_hold_nobody_up_for_longer_than_one_would(shop: Shop, channel: RedisChannel, redis_url: str) -> None:
    log: list[str] = []
    holder = channel.lock("k", ttl=1000)
    await holder.__aenter__()
    line = f"{shop.client.keys.prefix}line:1:r:k"
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", IN_LINE, redis_url)
    async with asyncio.timeout(30):
        while await shop.client.commands.zcard(line) < 10:  # noqa: ASYNC110 - another process has no event to wait for
            await asyncio.sleep(0.01)
    (patient,) = await shop.start(take(channel, log, "patient"))
    process.kill()
    await process.wait()
    await holder.__aexit__(None, None, None)
    await shop.pass_time(OFFERED - 1)
    assert log == []
    await shop.pass_time(1.1)
    await asyncio.wait_for(patient, 10)
    assert log == ["patient"]
    assert await shop.keys() == set()


@pytest.mark.parametrize("whole", [True, False], ids=["as it is", "one by one"])
async def test_those_of_a_dead_process_are_passed_over_together(shop: Shop, whole: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    text = locks.TAKE.text if whole else locks.TAKE.text.replace("if offered then drop_process() end", "")
    assert whole or text != locks.TAKE.text
    monkeypatch.setattr(locks, "TAKE", Script("take", text=text))
    assert await locks.take(shop.client, "r", b"k", "holder/1", 1000) == Answer(held=True)
    for dead in ("dead/1", "dead/2", "dead/3"):
        await stand(shop, dead)
    ticket = await stand(shop, "alive/1")
    await locks.leave(shop.client, "r", b"k", "holder/1")
    shop.client.shift += 3500
    answer = await locks.take(shop.client, "r", b"k", "alive/1", 1000, ticket)
    assert answer is not None
    assert answer.held is whole


async def test_who_was_taken_for_dead_gets_its_old_place_back(shop: Shop) -> None:
    """A process that was frozen: it does not believe that it holds the lock, and is not put behind those who came later."""
    client = shop.client
    assert await locks.take(client, "r", b"k", "a/1", 1000) == Answer(held=True)
    frozen, later = await stand(shop, "b/1"), await stand(shop, "c/1")
    await locks.leave(client, "r", b"k", "a/1")
    shop.client.shift += 3500
    assert await locks.take(client, "r", b"k", "c/1", 1000, later) == Answer(held=True)
    answer = await locks.take(client, "r", b"k", "b/1", 1000, frozen)
    assert answer is not None
    assert (answer.held, answer.place) == (False, 0)
    newest = await stand(shop, "d/1")
    assert await locks.leave(client, "r", b"k", "c/1")
    answer = await locks.take(client, "r", b"k", "d/1", 1000, newest)
    assert answer is not None
    assert (answer.held, answer.wait > 2000) == (False, True)  # it is offered to the other
    assert await locks.take(client, "r", b"k", "b/1", 1000, frozen) == Answer(held=True)


async def test_the_living_among_those_taken_for_dead_come_back_at_once(
    shop: Shop, channel: RedisChannel, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    log: list[str] = []
    holder = channel.lock("k", ttl=1000)
    await holder.__aenter__()
    await stand(shop, "slow.1/x")
    monkeypatch.setattr(locks_module, "_program", "slow")
    monkeypatch.setattr(locks_module.os, "getpid", lambda: 1)
    (alive,) = await shop.start(take(channel, log, "alive"))
    monkeypatch.undo()
    (other,) = await shop.start(take(channel, log, "other"))
    await holder.__aexit__(None, None, None)
    await shop.pass_time(OFFERED + 0.1)
    await asyncio.wait_for(asyncio.gather(alive, other), 10)
    assert sorted(log) == ["alive", "other"]


async def test_a_place_that_is_given_up_is_passed_on_at_once(shop: Shop, channel: RedisChannel) -> None:
    """Cancelled when the lock had been offered already, before it could be taken up."""
    log: list[str] = []
    holder = channel.lock("k", ttl=1000)
    await holder.__aenter__()
    first, second = await shop.start(take(channel, log, "first"), take(channel, log, "second"))
    await holder.__aexit__(None, None, None)
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    await asyncio.wait_for(second, 10)
    assert log[-1] == "second"


# ---- ends ----------------------------------------------------------------------------------------------------------


async def test_the_end_of_a_run_turns_away_who_waits_and_lets_others_clean_up(shop: Shop, channel: RedisChannel) -> None:
    holder = channel.lock("k")
    await holder.__aenter__()
    waiting = await shop.start(take(channel, [], 1), take(channel, [], 2, wait=60))
    await shop.end()
    for result in await asyncio.gather(*waiting, return_exceptions=True):
        assert isinstance(result, GraflowError)
        assert "lock 'k' cannot be waited for: the run has ended" in str(result)
    await holder.__aexit__(None, None, None)
    async with channel.lock("k"):
        with pytest.raises(GraflowError, match="the run has ended"):
            await take(channel, [], 3)
    assert await shop.keys() == set()


async def test_who_waits_when_the_backend_closes_is_told(shop: Shop, channel: RedisChannel) -> None:
    await channel.lock("k").__aenter__()
    (waiting,) = await shop.start(take(channel, [], 1))
    end_looks(shop.waiting)
    with pytest.raises(BackendUnavailableError):
        await waiting


async def test_a_lock_that_cannot_be_freed_is_left_to_its_ttl(redis_server: RedisServer, caplog: pytest.LogCaptureFixture) -> None:
    async with FaultProxy(redis_server.port) as proxy, open_shop(proxy.url) as shop:
        shop.client.patience = 0.1
        async with shop.channel.lock("k"):
            await proxy.refuse()
            proxy.reset()
        assert "the lock 'k' could not be freed" in caplog.text


async def test_a_wait_is_bounded_even_if_the_server_is_away(redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks_module, "LEAVING", 0.05)
    async with FaultProxy(redis_server.port) as proxy, open_shop(proxy.url) as shop:
        proxy.black_hole()
        with pytest.raises(TimeoutError, match=r"held by other tasks for all of the 0\.05 s"):
            await asyncio.wait_for(take(shop.channel, [], 1, wait=0.05), 10)


# ---- answers that are lost -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("lost", ["take", "leave"])
async def test_taking_and_leaving_happen_once(redis_server: RedisServer, lost: str, caplog: pytest.LogCaptureFixture) -> None:
    script = {"take": locks.TAKE, "leave": locks.LEAVE}[lost].sha.encode()
    async with FaultProxy(redis_server.port) as proxy, open_shop(proxy.url) as shop:
        await take(shop.channel, [], 0)
        proxy.seen.clear()
        rule = proxy.when(Fault.DROP_REPLY, command=lambda command: SCRIPTS(command) and command[1] == script, times=2)
        async with shop.channel.lock("k", ttl=100):
            with pytest.raises(TimeoutError):
                await take(shop.channel, [], 1, wait=0)
        assert rule.hits == 2
        assert "held for longer" not in caplog.text
        assert await shop.keys() == set()
        # Copies that arrive when all is over take nothing, and free nothing of others.
        async with shop.channel.lock("k", ttl=100):
            for command in filter(SCRIPTS, tuple(proxy.seen)):
                if command[6:7] != [b"100000"]:
                    await shop.client.commands.execute_command(*command)
            with pytest.raises(TimeoutError):
                await take(shop.channel, [], 1, wait=0)
        seen = tuple(proxy.seen)
        for command in filter(SCRIPTS, seen):
            await shop.client.commands.execute_command(*command)
        assert await shop.keys() == set()


@pytest.mark.parametrize("number", [1, 2, 3, 4, 5])
async def test_whichever_answer_is_lost_while_the_lock_is_handed_over(redis_server: RedisServer, number: int) -> None:
    log: list[int] = []
    async with FaultProxy(redis_server.port) as proxy, open_shop(proxy.url) as shop:
        await take(shop.channel, [], 0)
        count = 0

        def chosen(command: list[bytes]) -> bool:
            nonlocal count
            count += SCRIPTS(command)
            return SCRIPTS(command) and count == number

        rule = proxy.when(Fault.DROP_REPLY, command=chosen)
        async with shop.channel.lock("k", ttl=100):
            waiting = [asyncio.create_task(take(shop.channel, log, 1)), asyncio.create_task(take(shop.channel, log, 2))]
            await asyncio.sleep(0.05)
        await asyncio.wait_for(asyncio.gather(*waiting), 20)
        assert rule.hits == 1
        assert sorted(log) == [1, 2]
        assert await shop.keys() == set()


async def test_without_what_leaving_remembers_a_late_copy_would_take_the_lock(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = locks.TAKE.text.replace("call('EXISTS', left) == 1", "false")
    assert text != locks.TAKE.text
    monkeypatch.setattr(locks, "TAKE", Script("forgetful", text=text))
    async with FaultProxy(redis_server.port) as proxy, open_shop(proxy.url) as shop:
        await take(shop.channel, [], 0)
        proxy.seen.clear()
        await take(shop.channel, [], 0)
        (taking,) = [command for command in proxy.seen if SCRIPTS(command) and command[1] == locks.TAKE.sha.encode()]
        await shop.client.commands.execute_command(*taking)
        assert await shop.keys() == {"lock:1:r:k"}
