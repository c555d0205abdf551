"""Barriers on Redis: what every barrier does, and what is particular to these."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from graflow.backends.redis import barriers as barriers_module
from graflow.backends.redis.barriers import RedisBarriers
from graflow.backends.redis.looking import end_looks
from graflow.backends.redis.scripts import Script
from graflow.backends.redis.scripts import barriers as scripts
from graflow.errors import BackendUnavailableError, ConfigurationError
from tests.conformance import test_barriers as conformance
from tests.redis.channels import Shop, open_shop
from tests.redis.proxy import Fault, FaultProxy, named
from tests.redis.server import RedisServer

SCRIPTS = named("EVALSHA", "EVAL")

# What every barrier does. What takes real time there is here once more.
test_it_opens_when_the_last_party_has_arrived = conformance.test_it_opens_when_the_last_party_has_arrived
test_it_stays_open = conformance.test_it_stays_open
test_a_party_that_arrives_twice_counts_once = conformance.test_a_party_that_arrives_twice_counts_once
test_exactly_one_of_many_who_arrive_at_once_opens_it = conformance.test_exactly_one_of_many_who_arrive_at_once_opens_it
test_creating_it_again_changes_nothing = conformance.test_creating_it_again_changes_nothing
test_a_wait_can_be_cancelled = conformance.test_a_wait_can_be_cancelled
test_one_that_was_never_made_is_an_error = conformance.test_one_that_was_never_made_is_an_error
test_one_for_nobody_is_an_error = conformance.test_one_for_nobody_is_an_error


@pytest.fixture
async def shop(redis_url: str) -> AsyncIterator[Shop]:
    async with open_shop(redis_url) as shop:
        yield shop


@pytest.fixture
def barriers(shop: Shop) -> RedisBarriers:
    return RedisBarriers(shop.client, shop.waiting)


async def test_whoever_waits_too_long_is_told_so_and_may_wait_again(shop: Shop, barriers: RedisBarriers) -> None:
    await barriers.create_barrier("g", 1)
    (waiting,) = await shop.start(barriers.wait_barrier("g", timeout=5))
    await shop.pass_time(4)
    assert not waiting.done()
    await shop.pass_time(2)
    assert await waiting is False
    (waiting,) = await shop.start(barriers.wait_barrier("g", timeout=5))
    await shop.pass_time(1)
    await barriers.signal_barrier("g", "a")
    assert await waiting is True


async def test_barriers_know_nothing_of_each_other(shop: Shop, barriers: RedisBarriers) -> None:
    for group in ("g", "h"):
        await barriers.create_barrier(group, 1)
    (waiting,) = await shop.start(barriers.wait_barrier("h", timeout=5))
    await barriers.signal_barrier("g", "a")
    await shop.pass_time(6)
    assert await waiting is False


async def test_one_that_is_removed_lets_nobody_wait_for_ever(barriers: RedisBarriers) -> None:
    """Also if it goes just when somebody begins to wait."""
    await barriers.create_barrier("g", 2)
    waiting = asyncio.create_task(barriers.wait_barrier("g"))
    await asyncio.sleep(0)
    await barriers.cleanup_barrier("g")
    assert await waiting is False
    await barriers.cleanup_barrier("g")  # again, and nothing happens
    await barriers.create_barrier("g", 1)
    assert await barriers.wait_barrier("g", timeout=0) is False
    assert await barriers.signal_barrier("g", "a") is True


async def test_closing_the_backend_lets_nobody_wait_for_ever(shop: Shop, barriers: RedisBarriers) -> None:
    await barriers.create_barrier("g", 2)
    (waiting,) = await shop.start(barriers.wait_barrier("g"))
    end_looks(shop.waiting)
    with pytest.raises(BackendUnavailableError):
        await waiting


async def test_one_that_was_made_anew_meanwhile_is_another(shop: Shop, barriers: RedisBarriers) -> None:
    await barriers.create_barrier("g", 1)
    (waiting,) = await shop.start(barriers.wait_barrier("g"))
    await barriers.cleanup_barrier("g")
    await barriers.create_barrier("g", 1)
    await barriers.signal_barrier("g", "a")
    assert await waiting is False
    assert await barriers.wait_barrier("g") is True


async def test_more_than_were_expected_do_not_close_it_again(barriers: RedisBarriers) -> None:
    await barriers.create_barrier("g", 1)
    assert await barriers.signal_barrier("g", "a") is True
    assert await barriers.signal_barrier("g", "b") is False
    assert await barriers.wait_barrier("g") is True


async def test_a_wait_of_no_time_is_a_look(barriers: RedisBarriers) -> None:
    await barriers.create_barrier("g", 1)
    assert await barriers.wait_barrier("g", timeout=0) is False
    await barriers.signal_barrier("g", "a")
    assert await barriers.wait_barrier("g", timeout=0) is True


async def test_what_nobody_cleans_up_goes_by_itself(
    shop: Shop, barriers: RedisBarriers, no_key_leaks: None, allowed_keys: set[str]
) -> None:
    allowed_keys.add("*run:r")
    await barriers.create_barrier("g", 2)
    await barriers.signal_barrier("g", "a")
    assert 86_000 < await shop.client.commands.ttl(shop.client.keys.barrier("g")) <= 86_400


async def test_one_of_a_run_goes_with_the_run(shop: Shop, barriers: RedisBarriers) -> None:
    await barriers.create_barrier("g", 2, run_id=shop.run)
    await barriers.signal_barrier("g", "a", run_id=shop.run)
    key = shop.client.keys.barrier("g", shop.run)
    assert await shop.client.commands.ttl(key) == -1
    (waiting,) = await shop.start(barriers.wait_barrier("g", run_id=shop.run))
    await shop.end(kept=60)
    assert await waiting is False
    assert 0 < await shop.client.commands.ttl(key) <= 60


async def test_who_waits_for_one_of_a_run_is_told_by_the_message_alone(shop: Shop, barriers: RedisBarriers) -> None:
    """And a key, a lock and a barrier of one name know nothing of each other, though one channel tells of all."""
    await barriers.create_barrier("g", 2, run_id=shop.run)
    (waiting,) = await shop.start(barriers.wait_barrier("g", run_id=shop.run))
    await barriers.signal_barrier("g", "b", run_id=shop.run)  # the server knows the script from now on
    await shop.channel.set("g", "1")
    async with shop.channel.lock("g"):
        await shop.settle()
    await shop.client.commands.config_resetstat()
    assert await barriers.signal_barrier("g", "a", run_id=shop.run) is True
    assert await waiting is True
    sent = await shop.client.commands.info("commandstats")
    assert sum(sent[name]["calls"] for name in sent if name in ("cmdstat_evalsha", "cmdstat_eval")) == 1


async def test_one_of_a_run_that_opens_while_the_connection_is_lost_is_seen(redis_server: RedisServer) -> None:
    async with open_shop(redis_server.url) as other, FaultProxy(redis_server.port) as proxy, open_shop(proxy.url) as shop:
        here, there = RedisBarriers(shop.client, shop.waiting), RedisBarriers(other.client, other.waiting)
        await here.create_barrier("g", 1, run_id="r")
        (waiting,) = await shop.start(here.wait_barrier("g", run_id="r"))
        await proxy.refuse()
        proxy.reset()
        assert await there.signal_barrier("g", "a", run_id="r") is True
        await proxy.accept()
        assert await asyncio.wait_for(waiting, 10) is True


async def test_who_waits_for_long_keeps_it_from_going(shop: Shop, barriers: RedisBarriers) -> None:
    await barriers.create_barrier("g", 1)
    (waiting,) = await shop.start(barriers.wait_barrier("g"))
    key = shop.client.keys.barrier("g")
    await shop.client.commands.expire(key, 100)
    await shop.pass_time(barriers_module.TOUCH + 1)
    assert await shop.client.commands.ttl(key) > 86_000
    await barriers.signal_barrier("g", "a")
    assert await waiting is True


async def test_ten_thousand_who_wait_share_one_connection_and_send_nothing(shop: Shop, barriers: RedisBarriers) -> None:
    commands = shop.client.commands
    await barriers.create_barrier("g", 1)
    async with await shop.waiting.listen("something", lambda _: None):
        before = len(await commands.client_list())
        for group in range(100):
            await barriers.create_barrier(f"g{group}", 1)
        waiting = await shop.start(*(barriers.wait_barrier(f"g{n % 100}") for n in range(10_000)))
        async with asyncio.timeout(30):
            while shop.waiting.listeners < 10_002:  # with "something", and the signs of life of workers
                await shop.settle()
        await shop.settle()
        assert len(await commands.client_list()) == before
        await commands.config_resetstat()
        shop.put_forward(14)
        for _ in range(20):
            await asyncio.sleep(0)
        assert set(await commands.info("commandstats")) <= {"cmdstat_config|resetstat", "cmdstat_config", "cmdstat_info"}
        for group in range(100):
            assert await barriers.signal_barrier(f"g{group}", "a") is True
        assert await asyncio.gather(*waiting) == [True] * 10_000


async def test_one_that_opens_while_the_connection_is_lost_is_seen(redis_server: RedisServer) -> None:
    async with open_shop(redis_server.url) as other, FaultProxy(redis_server.port) as proxy, open_shop(proxy.url) as shop:
        here, there = RedisBarriers(shop.client, shop.waiting), RedisBarriers(other.client, other.waiting)
        await here.create_barrier("g", 1)
        await here.create_barrier("h", 1)
        waiting = await shop.start(here.wait_barrier("g"), here.wait_barrier("h"))
        await proxy.refuse()
        proxy.reset()
        assert await there.signal_barrier("g", "a") is True
        await there.cleanup_barrier("h")
        await proxy.accept()
        assert await asyncio.wait_for(asyncio.gather(*waiting), 10) == [True, False]


async def test_two_processes_meet(redis_server: RedisServer) -> None:
    async with open_shop(redis_server.url) as one, open_shop(redis_server.url) as two:
        here, there = RedisBarriers(one.client, one.waiting), RedisBarriers(two.client, two.waiting)
        await asyncio.gather(here.create_barrier("g", 2), there.create_barrier("g", 2))
        waiting = await one.start(here.wait_barrier("g"), there.wait_barrier("g"))
        opened = await asyncio.gather(here.signal_barrier("g", "a"), there.signal_barrier("g", "b"))
        assert sorted(opened) == [False, True]
        assert await asyncio.gather(*waiting) == [True, True]


# ---- answers that are lost -----------------------------------------------------------------------------------------


async def outcome(call: Awaitable[object]) -> object:
    try:
        return await call
    except ConfigurationError as error:
        return str(error)


Operation = Callable[[RedisBarriers], Awaitable[object]]
LOST: dict[str, Operation] = {
    "create": lambda b: b.create_barrier("new", 2),
    "create one of a run": lambda b: b.create_barrier("new", 2, run_id="r"),
    "signal one of a run": lambda b: b.signal_barrier("g", "b", run_id="r"),
    "clean up one of a run": lambda b: b.cleanup_barrier("g", run_id="r"),
    "signal": lambda b: b.signal_barrier("g", "b"),
    "signal again": lambda b: b.signal_barrier("g", "a"),
    "open": lambda b: b.signal_barrier("h", "b"),
    "signal nothing": lambda b: outcome(b.signal_barrier("nothing", "a")),
    "look": lambda b: b.wait_barrier("h", timeout=0),
    "clean up": lambda b: b.cleanup_barrier("h"),
}


async def prepare(barriers: RedisBarriers) -> None:
    for group, parties in (("g", 3), ("h", 2)):
        await barriers.create_barrier(group, parties)
        await barriers.signal_barrier(group, "a")
    await barriers.create_barrier("g", 2, run_id="r")
    await barriers.signal_barrier("g", "a", run_id="r")


async def state_of(shop: Shop) -> dict[str, dict[bytes, bytes]]:
    state = {key: await shop.client.commands.hgetall(shop.client.keys.prefix + key) for key in await shop.keys() if key != "chx:r"}
    for fields in state.values():
        fields.pop(b"birth", None)
    listed = await shop.client.commands.smembers(f"{shop.client.keys.prefix}chx:r")
    return {**state, "chx:r": {key.removeprefix(shop.client.keys.prefix.encode()): b"" for key in listed}}


@pytest.mark.parametrize("operation", LOST.values(), ids=LOST)
async def test_an_operation_whose_answer_is_lost_happens_once(redis_server: RedisServer, operation: Operation) -> None:
    async with open_shop(redis_server.url, namespace="calm") as calm:
        barriers = RedisBarriers(calm.client, calm.waiting)
        await prepare(barriers)
        expected = await operation(barriers), await state_of(calm)
    async with FaultProxy(redis_server.port) as proxy, open_shop(proxy.url) as shop:
        barriers = RedisBarriers(shop.client, shop.waiting)
        await prepare(barriers)
        await barriers.wait_barrier("g", timeout=0)
        await barriers.cleanup_barrier("nothing")
        proxy.seen.clear()
        rule = proxy.when(Fault.DROP_REPLY, command=SCRIPTS, times=2)
        answer = await operation(barriers)
        assert rule.hits == 2
        await shop.client.commands.delete(*await shop.client.commands.keys("{calm:0}*"))
        assert (answer, await state_of(shop)) == expected
        for command in filter(SCRIPTS, tuple(proxy.seen)):
            await shop.client.commands.execute_command(*command)
        assert await state_of(shop) == expected[1]


async def test_the_one_that_opened_it_hears_so_even_if_it_is_gone_by_then(redis_server: RedisServer) -> None:
    async with FaultProxy(redis_server.port) as proxy, open_shop(proxy.url) as shop, open_shop(redis_server.url) as other:
        here, there = RedisBarriers(shop.client, shop.waiting), RedisBarriers(other.client, other.waiting)
        await prepare(here)
        (waiting,) = await other.start(there.wait_barrier("h"))
        proxy.when(Fault.DROP_REPLY, command=SCRIPTS)
        await proxy.refuse()  # so that the second time has to wait
        opening = asyncio.create_task(here.signal_barrier("h", "b"))
        assert await asyncio.wait_for(waiting, 10) is True
        await there.cleanup_barrier("h")
        await proxy.accept()
        assert await asyncio.wait_for(opening, 10) is True


async def test_without_what_a_script_remembers_it_would_not(redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    text = scripts.SIGNAL.text.replace("local before = answered(op)", "local before = false")
    assert text != scripts.SIGNAL.text
    monkeypatch.setattr(scripts, "SIGNAL", Script("forgetful", text=text))
    async with FaultProxy(redis_server.port) as proxy, open_shop(proxy.url) as shop:
        barriers = RedisBarriers(shop.client, shop.waiting)
        await prepare(barriers)
        proxy.when(Fault.DROP_REPLY, command=SCRIPTS)
        assert await barriers.signal_barrier("h", "b") is False
