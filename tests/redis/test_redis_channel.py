"""The channel on Redis: what it stores, what it leaves behind, and what it does when something is lost on the way."""

from __future__ import annotations

import asyncio
import random
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from graflow.backends.memory.channel import MemoryChannel
from graflow.backends.redis.channel import RedisChannel, write_inputs
from graflow.backends.redis.looking import end_looks
from graflow.backends.redis.scripts import Script, channels
from graflow.errors import BackendUnavailableError, ChannelTypeError, GraflowError, SerializationError, UnknownRunError
from graflow.wire.codec import encode
from tests.redis.channels import Shop, open_shop
from tests.redis.proxy import Fault, FaultProxy, named
from tests.redis.server import RedisServer
from tests.wire.shapes import same

SCRIPTS = named("EVALSHA", "EVAL")
Operation = Callable[[RedisChannel], Awaitable[Any]]


@pytest.fixture
async def shop(redis_url: str) -> AsyncIterator[Shop]:
    async with open_shop(redis_url) as shop:
        yield shop


@pytest.fixture
def channel(shop: Shop) -> RedisChannel:
    return shop.channel


async def fields(shop: Shop) -> dict[bytes, bytes]:
    return await shop.client.commands.hgetall(shop.client.keys.channel("r"))


# ---- what is stored ------------------------------------------------------------------------------------------------


async def test_a_value_is_found_by_one_command(shop: Shop, channel: RedisChannel) -> None:
    await channel.set("v", (1, "x"))
    await channel.set("i", 5)
    await channel.set("f", 5.0, ttl=60)
    await channel.set("l", [1, 2])
    assert await fields(shop) == {
        b"v": b"v" + encode((1, "x")),
        b"i": b"n" + encode(5),
        b"f": b"N" + encode(5.0),
        b"l": b"v" + encode([1, 2]),
    }


async def test_a_list_that_grows_is_kept_item_by_item(shop: Shop, channel: RedisChannel) -> None:
    await channel.set("l", [1, 2], ttl=60)
    await channel.append("l", 3, (4,))
    await channel.prepend("l", 0)
    assert (await fields(shop))[b"l"] == b"L5"
    elements = await shop.client.commands.lrange(f"{shop.client.keys.prefix}chl:1:r:l", 0, -1)
    assert elements == [encode(0), encode(1) + encode(2), encode(3) + encode((4,))]
    assert await channel.get("l") == [0, 1, 2, 3, (4,)]
    extra = await shop.client.commands.smembers(f"{shop.client.keys.prefix}chx:r")
    assert extra == {f"{shop.client.keys.prefix}{name}".encode() for name in ("chl:1:r:l", "cht:r")}


@pytest.mark.parametrize("size", [0, 1, 15, 16, 65_535, 65_536, 100_000])
async def test_lists_of_any_length_can_be_gone_on_with(channel: RedisChannel, size: int) -> None:
    items = list(range(size))
    await channel.set("l", items)
    assert await channel.append("l", "end") == size + 1
    assert await channel.prepend("l", "front") == size + 2
    assert await channel.get("l") == ["front", *items, "end"]
    await channel.set("l", [])
    assert await channel.append("l") == 0
    assert await channel.get("l") == []


async def test_fields_that_were_read_elsewhere_become_values(shop: Shop, channel: RedisChannel) -> None:
    await channel.set("v", {1, 2})
    await channel.set("n", 2.0)
    await channel.append("l", 1, 2)
    await channel.set("t", "short", ttl=5)
    before = {key.decode(): field for key, field in (await fields(shop)).items()}
    assert {key: await channel.read_field(key, field) for key, field in before.items()} == {
        "v": {1, 2},
        "n": 2.0,
        "l": [1, 2],
        "t": "short",
    }
    await shop.pass_time(6)
    assert await channel.read_field("t", before["t"]) is not await channel.read_field("v", before["v"])
    assert not await channel.exists("t")
    assert repr(await channel.read_field("t", before["t"])) == "UNSET"


async def test_inputs_are_written_as_the_channel_would(shop: Shop, channel: RedisChannel) -> None:
    inputs = {"a": [1, (2,)], "b": 3, "c": 2.5, "ü": "text"}
    words = write_inputs("r", inputs)
    await shop.client.commands.hset(shop.client.keys.channel("r"), items=words)  # type: ignore[arg-type]
    assert {key: await channel.get(key) for key in inputs} == inputs
    assert same(await channel.atomic_add("b", 4), 7)
    assert await channel.append("a", 3) == 3
    with pytest.raises(SerializationError, match="inputs"):
        write_inputs("r", {"a": object()})
    with pytest.raises(SerializationError):
        write_inputs("r", {"a": "x" * 100}, limit=50)


async def test_any_text_is_a_key(channel: RedisChannel) -> None:
    for key in ("", "\0", "ü", "a:b", "\udc80", "*", "keys"):
        await channel.append(key, key)
        assert await channel.get(key) == [key]
    assert len(await channel.keys()) == 7


async def test_runs_whose_ids_look_alike_share_nothing(shop: Shop) -> None:
    """A run's id may hold colons, and so may a key."""
    for run in ("a", "a:b", "a:b:c"):
        await shop.begin(run)
    one, two = RedisChannel(shop.client, shop.waiting, "a"), RedisChannel(shop.client, shop.waiting, "a:b")
    await one.append("b:c", 1)
    await two.append("c", 2)
    assert (await one.get("b:c"), await two.get("c")) == ([1], [2])
    async with one.lock("b:c", wait=0), two.lock("c", wait=0):
        pass


# ---- numbers -------------------------------------------------------------------------------------------------------

EDGES: tuple[float, ...] = (
    *(sign * (2**power + offset) for power in (7, 8, 16, 31, 32, 53, 63, 64, 70) for offset in (-1, 0, 1) for sign in (1, -1)),
    *(0, 1, -1, 31, -32, -33, 0.0, -0.0, 0.5, -2.25, 1e308, -1e308, 5e-324, float("inf"), float("-inf"), float("nan"), 2.0**53, 10**40),
)


async def outcome(channel: Any, key: str, *numbers: float) -> Any:
    """What comes of adding one number after the other."""
    sums: list[Any] = []
    for number in numbers:
        try:
            sums.append(await channel.atomic_add(key, number))
        except OverflowError as error:
            sums.append(str(error))
    return [(type(each), repr(each)) for each in (*sums, await channel.get(key))]


async def test_numbers_add_up_as_they_do_in_python(channel: RedisChannel) -> None:
    model = MemoryChannel()
    for n, first in enumerate(EDGES):
        rest = [*random.Random(n).sample(EDGES, 6), 10**400, 0.5]
        assert await outcome(channel, f"k{n}", first, *rest) == await outcome(model, f"k{n}", first, *rest), (first, rest)


async def test_numbers_beyond_lua_lose_nothing_when_many_add_at_once(channel: RedisChannel) -> None:
    await channel.set("k", 2**80, ttl=60)
    await asyncio.gather(*(channel.atomic_add("k") for _ in range(50)))
    assert await channel.get("k") == 2**80 + 50
    await asyncio.gather(*(channel.atomic_add("new", 2**60 + n) for n in range(20)))
    assert await channel.get("new") == 20 * 2**60 + 190


async def test_a_number_that_became_something_else_meanwhile_is_an_error(shop: Shop, channel: RedisChannel) -> None:
    await channel.set("k", "text")
    refusal = await channels.swap(shop.client, "r", "op", b"k", b"n\x01", b"n\x02")
    assert refusal == channels.Refusal(b"large", b"v" + encode("text"))
    with pytest.raises(ChannelTypeError, match="met a value of type str"):
        await channel.atomic_add("k", 2**60)


# ---- times to live -------------------------------------------------------------------------------------------------


async def test_what_has_expired_is_freed_by_the_next_operation_of_any_kind(shop: Shop, channel: RedisChannel) -> None:
    operations: list[Operation] = [
        lambda c: c.get("other"), lambda c: c.exists("other"), lambda c: c.keys(), lambda c: c.delete("other"),
        lambda c: c.append("other"),
    ]  # fmt: skip
    for operation in operations:
        await channel.set("v", 1, ttl=5)
        await channel.set("l", [1], ttl=5)
        await channel.append("l", 2)
        assert len(await shop.keys()) == 4
        await shop.pass_time(6)
        await operation(channel)
        assert await shop.keys() == set()


async def test_many_that_expire_at_once_are_all_gone_for_everyone(shop: Shop, channel: RedisChannel) -> None:
    await asyncio.gather(*(channel.set(f"k{n:04}", n, ttl=5 + n / 1000) for n in range(1700)))
    await channel.set("kept", 1)
    await shop.pass_time(10)
    assert await channel.get("k1699", "gone") == "gone"  # one call frees some 500, and what it was asked for
    assert await channel.atomic_add("k1698") == 1
    assert await channel.keys() == ["k1698", "kept"]
    assert await shop.keys() == {"ch:r"}


async def test_expiring_goes_by_the_servers_clock(shop: Shop, channel: RedisChannel) -> None:
    await channel.set("k", 1, ttl=5)
    shop.put_forward(100)
    assert await channel.get("k") == 1
    shop.client.shift += 6000
    assert await channel.get("k") is None


async def test_what_is_removed_leaves_nothing(shop: Shop, channel: RedisChannel) -> None:
    for key in ("a", "b", "c"):
        await channel.append(key, 1)
        await channel.set(f"{key} short", 1, ttl=60)
    await channel.append("d", 1)
    await channel.set("d", 1)
    assert await channel.delete("a")
    assert await channel.delete("a short")
    await channel.set("b short", 1)
    assert await shop.keys() == {"ch:r", "chx:r", "cht:r", "chl:1:r:b", "chl:1:r:c"}
    await channel.clear()
    assert await shop.keys() == set()


# ---- the run and its end -------------------------------------------------------------------------------------------

EVERYTHING: dict[str, Operation] = {
    "get": lambda c: c.get("k"),
    "exists": lambda c: c.exists("k"),
    "keys": lambda c: c.keys(),
    "set": lambda c: c.set("k", 1),
    "delete": lambda c: c.delete("k"),
    "clear": lambda c: c.clear(),
    "append": lambda c: c.append("k", 1),
    "append nothing": lambda c: c.append("k"),
    "prepend": lambda c: c.prepend("k", 1),
    "add": lambda c: c.atomic_add("k"),
    "add much": lambda c: c.atomic_add("k", 2**70),
    "wait": lambda c: c.wait("k"),
    "lock": lambda c: c.lock("k").__aenter__(),
}


@pytest.mark.parametrize("operation", EVERYTHING.values(), ids=EVERYTHING)
async def test_a_run_that_there_is_none_of_has_no_channel(shop: Shop, operation: Operation) -> None:
    with pytest.raises(UnknownRunError, match="no run 'nobody'") as caught:
        await operation(RedisChannel(shop.client, shop.waiting, "nobody"))
    assert caught.value.run_id == "nobody"
    assert await shop.keys() == set()


async def test_the_end_of_a_run_turns_away_who_waits(shop: Shop, channel: RedisChannel) -> None:
    waiting = await shop.start(channel.wait("a"), channel.wait("b", 60))
    await shop.end()
    for result in await asyncio.gather(*waiting, return_exceptions=True):
        assert isinstance(result, GraflowError)
        assert "the run has ended" in str(result)
    with pytest.raises(GraflowError, match="no value under 'c': the run has ended"):
        await channel.wait("c")


async def test_what_is_written_after_the_end_goes_with_the_run(shop: Shop, channel: RedisChannel) -> None:
    await channel.set("before", 1)
    await shop.end(kept=60)
    await channel.append("list", 1)
    await channel.set("short", 1, ttl=1000)
    await channel.atomic_add("n")
    await channel.atomic_add("n", 2**70)
    assert await channel.wait("before") == 1
    assert await channel.get("list") == [1]
    await channel.clear()
    await channel.set("after", 1)
    await channel.append("list", 1)
    commands = shop.client.commands
    keys = await commands.keys("*")
    assert len(keys) > 3
    for key in keys:
        assert 0 < await commands.ttl(key) <= 60, key


# ---- waiting -------------------------------------------------------------------------------------------------------


async def test_waiting_sends_nothing(shop: Shop, channel: RedisChannel) -> None:
    holder = channel.lock("held", ttl=3600)
    await holder.__aenter__()
    waiting = await shop.start(*(channel.wait(f"k{n}") for n in range(100)), *(channel.lock("held").__aenter__() for _ in range(20)))
    commands = shop.client.commands
    await commands.config_resetstat()
    shop.put_forward(14)
    for _ in range(20):
        await asyncio.sleep(0)
    sent = await commands.info("commandstats")
    assert set(sent) <= {"cmdstat_config|resetstat", "cmdstat_config", "cmdstat_info"}
    assert not any(task.done() for task in waiting)
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)


async def test_a_key_that_is_set_while_the_connection_is_lost_is_seen(redis_server: RedisServer) -> None:
    async with open_shop(redis_server.url) as other, FaultProxy(redis_server.port) as proxy, open_shop(proxy.url) as shop:
        (waiter,) = await shop.start(shop.channel.wait("k"))
        await proxy.refuse()
        proxy.reset()
        await other.channel.set("k", 7)
        await proxy.accept()
        assert await asyncio.wait_for(waiter, 10) == 7


async def test_who_waits_when_the_backend_closes_is_told(shop: Shop, channel: RedisChannel) -> None:
    waiting = await shop.start(channel.wait("k"), channel.wait("k", 60))
    end_looks(shop.waiting)
    for result in await asyncio.gather(*waiting, return_exceptions=True):
        assert isinstance(result, BackendUnavailableError)
    assert shop.waiting.listeners == 1  # for signs of life, from the first wait on


async def test_a_wait_is_bounded_even_if_the_server_is_away(redis_server: RedisServer) -> None:
    async with FaultProxy(redis_server.port) as proxy, open_shop(proxy.url) as shop:
        proxy.black_hole()
        with pytest.raises(TimeoutError, match=r"within 0\.05"):
            await asyncio.wait_for(RedisChannel(shop.client, shop.waiting, "r").wait("k", 0.05), 10)
        proxy.mend()
        proxy.reset()


# ---- many at once --------------------------------------------------------------------------------------------------

ADDING = """
import asyncio, sys
from graflow.backends.redis.channel import RedisChannel
from graflow.backends.redis.client import RedisClient
from graflow.backends.redis.waiting import Waiting

async def main(url, name):
    client = RedisClient(url)
    waiting = Waiting(client)
    channel = RedisChannel(client, waiting, "r")
    await channel.wait("go", 30)

    async def work(n):
        for i in range(20):
            await channel.atomic_add("n")
            await channel.atomic_add("big", 2**60)
            await channel.append("l", [name, n, i])
            async with channel.lock("m", wait=30):
                await channel.set("m", await channel.get("m", 0) + 1)

    await asyncio.gather(*(work(n) for n in range(25)))
    await waiting.close()
    await client.close()

asyncio.run(main(*sys.argv[1:]))
"""


async def test_fifty_tasks_of_two_processes_lose_nothing(shop: Shop, channel: RedisChannel, redis_url: str) -> None:
    processes = [await asyncio.create_subprocess_exec(sys.executable, "-c", ADDING, redis_url, name) for name in ("a", "b")]
    await channel.set("go", True)
    assert [await process.wait() for process in processes] == [0, 0]
    assert await channel.get("n") == 1000
    assert await channel.get("m") == 1000
    assert await channel.get("big") == 1000 * 2**60
    items = await channel.get("l")
    assert len(items) == 1000
    for name in ("a", "b"):
        for n in range(25):
            assert [i for who, task, i in items if (who, task) == (name, n)] == list(range(20))


# ---- answers that are lost -----------------------------------------------------------------------------------------


async def prepare(channel: RedisChannel) -> None:
    await channel.set("k", "v")
    await channel.set("n", 5)
    await channel.set("big", 2**70)
    await channel.set("whole", [1])
    await channel.append("l", 1)


LOST: dict[str, Operation] = {
    "get": lambda c: c.get("l"),
    "exists": lambda c: c.exists("k"),
    "keys": lambda c: c.keys(),
    "set": lambda c: c.set("k", 2),
    "set for a while": lambda c: c.set("k", 2, ttl=60),
    "delete": lambda c: c.delete("k"),
    "delete nothing": lambda c: c.delete("nothing"),
    "clear": lambda c: c.clear(),
    "append": lambda c: c.append("l", 2, 3),
    "append to a whole list": lambda c: c.append("whole", 2),
    "prepend": lambda c: c.prepend("l", 2, 3),
    "add": lambda c: c.atomic_add("n", 3),
    "add from nothing": lambda c: c.atomic_add("m", 0.5),
    "add much": lambda c: c.atomic_add("big", 1),
}


async def state_of(channel: RedisChannel) -> dict[str, Any]:
    return {key: await channel.get(key) for key in await channel.keys()}


async def undisturbed(shop: Shop, operation: Operation) -> tuple[Any, dict[str, Any]]:
    """What the operation answers and leaves, on a run of its own."""
    await shop.begin("calm")
    calm = RedisChannel(shop.client, shop.waiting, "calm")
    await prepare(calm)
    return await operation(calm), await state_of(calm)


@pytest.mark.parametrize("operation", LOST.values(), ids=LOST)
@pytest.mark.parametrize("lost", [1, 2])
async def test_an_operation_whose_answer_is_lost_happens_once(redis_server: RedisServer, operation: Operation, lost: int) -> None:
    """Also if the lost one arrives when all is over."""
    async with FaultProxy(redis_server.port) as proxy, open_shop(proxy.url) as shop:
        expected = await undisturbed(shop, operation)
        await prepare(shop.channel)
        proxy.seen.clear()
        rule = proxy.when(Fault.DROP_REPLY, command=SCRIPTS, times=lost)
        answer = await operation(shop.channel)
        assert rule.hits == lost
        assert (answer, await state_of(shop.channel)) == expected
        for command in filter(SCRIPTS, tuple(proxy.seen)):
            await shop.client.commands.execute_command(*command)
        assert await state_of(shop.channel) == expected[1]


FORGETFUL: dict[str, tuple[str, Script, Operation]] = {
    "append": ("EXTEND", channels.EXTEND, LOST["append"]),
    "prepend": ("EXTEND", channels.EXTEND, LOST["prepend"]),
    "add": ("ADD", channels.ADD, LOST["add"]),
    "add much": ("SWAP", channels.SWAP, LOST["add much"]),
    "delete": ("DELETE", channels.DELETE, LOST["delete"]),
}


@pytest.mark.parametrize(("name", "script", "operation"), FORGETFUL.values(), ids=FORGETFUL)
async def test_without_what_a_script_remembers_it_would_not(
    redis_server: RedisServer, name: str, script: Script, operation: Operation, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = script.text.replace("return call('GET', P .. 'once:' .. op)", "return false")
    assert text != script.text
    async with FaultProxy(redis_server.port) as proxy, open_shop(proxy.url) as shop:
        expected = await undisturbed(shop, operation)
        monkeypatch.setattr(channels, name, Script("forgetful", text=text))
        await undisturbed(shop, operation)
        await prepare(shop.channel)
        proxy.when(Fault.DROP_REPLY, command=lambda command: SCRIPTS(command) and command[1] == channels.__dict__[name].sha.encode())
        answer = await operation(shop.channel)
        assert (answer, await state_of(shop.channel)) != expected


async def test_what_another_has_set_meanwhile_is_not_overwritten_by_a_call_sent_again(redis_server: RedisServer) -> None:
    async with FaultProxy(redis_server.port) as proxy, open_shop(proxy.url) as shop, open_shop(redis_server.url) as other:
        await prepare(shop.channel)
        rule = proxy.when(Fault.DROP_REPLY, command=SCRIPTS)
        await proxy.refuse()  # so that the second time has to wait
        setting = asyncio.create_task(shop.channel.set("new", "mine"))
        assert await other.channel.wait("new", 10) == "mine"
        await rule.hit.wait()
        await other.channel.set("new", "theirs")
        await proxy.accept()
        await setting
        assert await other.channel.get("new") == "theirs"


# ---- the server ----------------------------------------------------------------------------------------------------


async def test_it_says_how_the_server_is(shop: Shop, channel: RedisChannel) -> None:
    assert await channel.ping() is True
    health = await channel.health_check()
    assert health["status"] == "healthy"
    assert set(health) == {"status", "connected_clients", "used_memory", "uptime_seconds"}
