"""Waiting on one pub/sub connection: nothing is missed, whatever happens to the connection."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from graflow.backends.redis import waiting as waiting_module
from graflow.backends.redis.client import RedisClient
from graflow.backends.redis.waiting import Waiting
from graflow.errors import BackendUnavailableError, BackendUnsuitableError
from tests.redis.fake import NOTHING, FakeServer, bulk
from tests.redis.proxy import Command, Fault, FaultProxy, message, named
from tests.redis.server import RedisServer

SOON = 5.0


class Ear:
    """A listener that remembers what it heard. ``heard`` are payloads, ``looks`` how often it was told to look again."""

    def __init__(self) -> None:
        self.heard: list[bytes] = []
        self.looks = 0
        self._event = asyncio.Event()

    def __call__(self, payload: bytes | None) -> None:
        if payload is None:
            self.looks += 1
        else:
            self.heard.append(payload)
        self._event.set()

    async def told(self, within: float = SOON) -> None:
        """Until it has been told something, since this was last asked."""
        await asyncio.wait_for(self._event.wait(), within)
        self._event.clear()


@pytest.fixture
async def hub(redis_client: RedisClient) -> AsyncIterator[Waiting]:
    waiting = Waiting(redis_client)
    yield waiting
    await waiting.close()


@pytest.fixture
async def proxy(redis_server: RedisServer) -> AsyncIterator[FaultProxy]:
    async with FaultProxy(redis_server.port) as proxy:
        yield proxy


@pytest.fixture
async def watched(proxy: FaultProxy) -> AsyncIterator[Waiting]:
    """A hub behind the proxy, with a watchdog that is in a hurry."""
    client = RedisClient(proxy.url + "?socket_timeout=0.2&socket_connect_timeout=0.2")
    waiting = Waiting(client, ping_every=0.1, pong_within=0.1)
    yield waiting
    await waiting.close()
    await client.close()


async def subscribers(client: RedisClient, channel: str) -> int:
    return (await client.commands.pubsub_numsub(channel))[0][1]


# ---- listening ------------------------------------------------------------------------------------------------------


async def test_what_is_published_after_listen_is_heard(hub: Waiting, redis_client: RedisClient) -> None:
    ear = Ear()
    await hub.listen("news", ear)
    assert await redis_client.commands.publish("news", b"\x00one") == 1
    await redis_client.commands.publish("other", b"two")
    await redis_client.commands.publish("news", b"")
    while len(ear.heard) < 2:
        await ear.told()
    assert ear.heard == [b"\x00one", b""]
    assert ear.looks == 0


async def test_a_subscription_ends_with_its_block(hub: Waiting, redis_client: RedisClient) -> None:
    ear = Ear()
    async with await hub.listen("news", ear):
        assert await subscribers(redis_client, "news") == 1
    await until_gone(hub, redis_client, "news")
    assert hub.listeners == 0


async def test_the_server_is_told_when_the_last_listener_has_gone(hub: Waiting, redis_client: RedisClient) -> None:
    one, two = await hub.listen("news", Ear()), await hub.listen("news", Ear())
    await one.close()
    await one.close()
    await hub.listen("flush", Ear())
    assert await subscribers(redis_client, "news") == 1
    await two.close()
    await until_gone(hub, redis_client, "news")


async def test_who_has_left_hears_nothing_more(hub: Waiting, redis_client: RedisClient) -> None:
    gone, here = Ear(), Ear()
    subscription = await hub.listen("news", gone)
    await hub.listen("news", here)
    await redis_client.commands.publish("news", "one")
    await here.told()
    await subscription.close()
    await redis_client.commands.publish("news", "two")
    await here.told()
    assert gone.heard == [b"one"]


async def test_ten_thousand_listeners_of_a_channel_are_one_subscription(proxy: FaultProxy, watched: Waiting, redis_url: str) -> None:
    ears = [Ear() for _ in range(10_000)]
    await asyncio.gather(*(watched.listen("door", ear) for ear in ears))
    assert proxy.accepted == 1
    assert [command for command in proxy.seen if command[0] == b"subscribe"] == [[b"subscribe", b"door"]]
    other = RedisClient(redis_url)
    assert await other.commands.publish("door", "open") == 1
    await other.close()
    await ears[-1].told()
    assert all(ear.heard == [b"open"] for ear in ears)


async def test_ten_thousand_channels_are_one_connection_and_a_few_commands(proxy: FaultProxy, redis_client: RedisClient) -> None:
    client = RedisClient(proxy.url)
    hub = Waiting(client)
    ears = [Ear() for _ in range(10_000)]
    subscriptions = await asyncio.gather(*(hub.listen(f"run:{number}", ear) for number, ear in enumerate(ears)))
    assert proxy.accepted == 1
    assert len([command for command in proxy.seen if command[0] == b"subscribe"]) <= 20
    await redis_client.commands.publish("run:7777", "done")
    await ears[7777].told()
    proxy.reset()
    for ear in ears:
        await ear.told()
    assert sum(ear.looks for ear in ears) == 10_000
    for subscription in subscriptions:
        await subscription.close()
    await until_gone(hub, redis_client, "run:7777")
    await hub.close()
    await client.close()


# ---- coming and going -----------------------------------------------------------------------------------------------


async def test_leaving_and_coming_back_at_once_keeps_the_subscription(hub: Waiting, redis_client: RedisClient) -> None:
    subscription = await hub.listen("news", Ear())
    for number in range(200):
        await subscription.close()
        if number % 3 == 1:
            await asyncio.sleep(0)
        ear = Ear()
        subscription = await hub.listen("news", ear)
        assert await redis_client.commands.publish("news", str(number)) == 1
        await ear.told()
        assert ear.heard == [str(number).encode()]


async def test_a_new_listener_does_not_take_an_older_confirmation_for_its_own() -> None:
    def answers(command: Command) -> bytes | None:
        return NOTHING if command[0] in (b"subscribe", b"unsubscribe") else None

    async with FakeServer(answers=answers) as server:
        client = RedisClient(server.url)
        hub = Waiting(client)
        first = asyncio.create_task(hub.listen("news", Ear()))
        await asyncio.sleep(0.05)
        first.cancel()
        await asyncio.wait([first])
        second = asyncio.create_task(hub.listen("news", Ear()))
        await asyncio.sleep(0.05)
        server.say(confirmation(b"subscribe") + confirmation(b"unsubscribe", 0))
        await asyncio.sleep(0.05)
        # What is published now reaches nobody.
        assert not second.done()
        server.say(confirmation(b"subscribe"))
        await asyncio.wait_for(second, SOON)
        await hub.close()
        await client.close()


async def test_a_storm_of_comings_and_goings_misses_nothing(proxy: FaultProxy, watched: Waiting, redis_client: RedisClient) -> None:
    dice = random.Random(11)
    proxy.delay = 0.001

    async def one(number: int) -> None:
        channel = f"news:{number % 5}"
        for turn in range(20):
            if dice.random() < 0.3:  # changes its mind
                listening = asyncio.create_task(watched.listen(channel, Ear()))
                await asyncio.sleep(dice.choice([0, 0.0005, 0.002]))
                listening.cancel()
                await asyncio.wait([listening])
                if not listening.cancelled():
                    await listening.result().close()
                continue
            ear = Ear()
            async with await watched.listen(channel, ear):
                word = f"{number}.{turn}".encode()
                assert await redis_client.commands.publish(channel, word) >= 1
                while word not in ear.heard and not ear.looks:
                    await ear.told()

    await asyncio.gather(*(one(number) for number in range(40)))
    assert watched.listeners == 0
    for number in range(5):
        await until_gone(watched, redis_client, f"news:{number}")


async def test_a_listener_that_is_cancelled_while_it_subscribes_leaves_nothing(hub: Waiting, redis_client: RedisClient) -> None:
    listening = asyncio.create_task(hub.listen("news", Ear()))
    await asyncio.sleep(0)
    listening.cancel()
    await asyncio.wait([listening])
    assert hub.listeners == 0
    await until_gone(hub, redis_client, "news")


# ---- callbacks ------------------------------------------------------------------------------------------------------


async def test_a_callback_that_raises_is_reported_and_the_others_are_told(hub: Waiting, redis_client: RedisClient) -> None:
    reported: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: reported.append(context))

    def broken(payload: bytes | None) -> None:
        raise ValueError("broken")

    first, last = Ear(), Ear()
    for callback in (first, broken, broken, last):
        await hub.listen("news", callback)
    await redis_client.commands.publish("news", "one")
    await last.told()
    assert (first.heard, last.heard) == ([b"one"], [b"one"])
    assert [type(context["exception"]) for context in reported] == [ValueError, ValueError]
    await redis_client.commands.publish("news", "two")
    await last.told()


async def test_a_callback_may_close_any_subscription(hub: Waiting, redis_client: RedisClient) -> None:
    told: list[str] = []

    def first(payload: bytes | None) -> None:
        told.append("first")
        own.cancel()
        other.cancel()

    own = await hub.listen("news", first)
    other = await hub.listen("news", lambda payload: told.append("other"))
    ear = Ear()
    await hub.listen("news", ear)
    await redis_client.commands.publish("news", "one")
    await ear.told()
    assert told == ["first"]


# ---- the connection breaks ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("times", "longest"), [(10, None), (100, 0.01)])
async def test_a_reset_exactly_when_the_message_is_sent_loses_nothing(
    proxy: FaultProxy,
    watched: Waiting,
    redis_client: RedisClient,
    times: int,
    longest: float | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if longest is not None:  # between one connection and the next, so that a hundred do not take half a minute
        monkeypatch.setattr(waiting_module.faults, "pause", lambda error, tries: random.uniform(0.0, longest))
    for number in range(times):
        look = asyncio.Event()
        async with await watched.listen(f"door:{number}", lambda payload, look=look: look.set()):
            rule = proxy.when(Fault.RESET, reply=message)
            started = time.monotonic()
            await redis_client.commands.publish(f"door:{number}", "open")
            await asyncio.wait_for(look.wait(), SOON)
            assert rule.hits == 1, "the message was delivered after all"
            assert time.monotonic() - started < 1.0


async def test_a_message_in_the_gap_is_made_up_for_by_looking_again(proxy: FaultProxy, watched: Waiting, redis_client: RedisClient) -> None:
    ear = Ear()
    await watched.listen("news", ear)
    await proxy.refuse()
    proxy.reset()
    assert await redis_client.commands.publish("news", "nobody hears this") == 0
    await asyncio.sleep(0.1)
    assert (ear.heard, ear.looks) == ([], 0)
    await proxy.accept()
    await ear.told()
    assert (ear.heard, ear.looks) == ([], 1)
    await redis_client.commands.publish("news", "this is heard")
    await ear.told()
    assert ear.heard == [b"this is heard"]


async def test_a_black_hole_is_noticed_and_left(proxy: FaultProxy, watched: Waiting, redis_client: RedisClient) -> None:
    ear = Ear()
    await watched.listen("news", ear)
    proxy.black_hole()
    await redis_client.commands.publish("news", "lost")
    # The watchdog gives the connection up and tries others, which are as silent, for as long as it takes.
    accepted = proxy.accepted
    async with asyncio.timeout(SOON):
        while proxy.accepted < accepted + 3:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    assert ear.looks == 0
    proxy.mend()
    await ear.told(2.5)
    assert (ear.heard, ear.looks) == ([], 1)
    await redis_client.commands.publish("news", "heard")
    await ear.told()


async def test_without_the_watchdog_a_black_hole_would_not_be_noticed(proxy: FaultProxy, redis_client: RedisClient) -> None:
    client = RedisClient(proxy.url)
    hub = Waiting(client, ping_every=3600.0)
    ear = Ear()
    await hub.listen("news", ear)
    proxy.black_hole()
    proxy.mend()
    await redis_client.commands.publish("news", "lost")
    with pytest.raises(TimeoutError):
        await ear.told(0.5)
    await hub.close()
    await client.close()


async def test_a_subscription_that_is_swallowed_is_tried_on_another_connection(proxy: FaultProxy, watched: Waiting) -> None:
    await watched.listen("first", Ear())
    proxy.when(Fault.SWALLOW, command=named("SUBSCRIBE"))
    await asyncio.wait_for(watched.listen("second", Ear()), SOON)
    assert proxy.accepted == 2


async def test_a_frozen_server_is_left_and_found_again(redis_server: RedisServer, watched: Waiting) -> None:
    ear = Ear()
    await watched.listen("news", ear)
    redis_server.pause()
    await asyncio.sleep(0.4)
    redis_server.resume()
    await ear.told()
    assert ear.looks >= 1


async def test_subscriptions_outlast_a_restart_of_the_server(redis_server: RedisServer, hub: Waiting, redis_client: RedisClient) -> None:
    ears = [Ear() for _ in range(5)]
    for number, ear in enumerate(ears):
        await hub.listen(f"news:{number}", ear)
    await asyncio.to_thread(redis_server.restart)
    for number, ear in enumerate(ears):
        await ear.told()
        assert ear.looks == 1
        await redis_client.commands.publish(f"news:{number}", "x")
        await ear.told()


async def test_a_server_that_keeps_closing_is_not_stormed(monkeypatch: pytest.MonkeyPatch) -> None:
    tries: list[int] = []

    def pause(error: Exception, so_many: int) -> float:
        tries.append(so_many)
        return 0.0

    monkeypatch.setattr(waiting_module.faults, "pause", pause)
    async with FakeServer(answers=lambda command: b"" if command[0] == b"subscribe" else None) as server:
        client = RedisClient(server.url)
        hub = Waiting(client, patience=0.2)
        with pytest.raises(BackendUnavailableError):
            await hub.listen("news", Ear())
        await hub.close()
        await client.close()
    assert tries == list(range(1, len(tries) + 1)), "each loss is followed by a longer pause"


async def test_who_comes_while_there_is_no_connection_waits_for_it(proxy: FaultProxy, watched: Waiting) -> None:
    ear = Ear()
    await watched.listen("first", ear)
    await proxy.refuse()
    proxy.reset()
    await asyncio.sleep(0.05)
    late = asyncio.create_task(watched.listen("first", Ear()))
    new = asyncio.create_task(watched.listen("second", Ear()))
    await asyncio.sleep(0.1)
    assert not late.done()
    assert not new.done()
    await proxy.accept()
    await asyncio.wait_for(asyncio.gather(late, new), SOON)
    assert ear.looks == 1


async def test_patience_has_an_end(proxy: FaultProxy) -> None:
    client = RedisClient(proxy.url)
    await proxy.refuse()
    hub = Waiting(client, patience=0.2)
    with pytest.raises(BackendUnavailableError, match=f"127.0.0.1:{proxy.port}") as caught:
        await asyncio.wait_for(hub.listen("news", Ear()), SOON)
    assert isinstance(caught.value.__cause__, ConnectionRefusedError)
    assert hub.listeners == 0
    await hub.close()
    await client.close()


# ---- refusals -------------------------------------------------------------------------------------------------------


async def test_a_channel_that_the_user_may_not_listen_to_is_refused_at_once(redis_server: RedisServer) -> None:
    rules = ["on", "nopass", "~*", "resetchannels", "&mine:*", "+@all"]
    await asyncio.to_thread(redis_server.command, "ACL", "SETUSER", "limited", *rules)
    client = RedisClient(f"redis://limited:x@127.0.0.1:{redis_server.port}")
    hub = Waiting(client)
    ear = Ear()
    await hub.listen("mine:1", ear)
    with pytest.raises(BackendUnsuitableError, match="NOPERM"):
        await asyncio.wait_for(hub.listen("foreign", Ear()), SOON)
    await hub.listen("mine:2", Ear())
    await client.commands.publish("mine:1", "x")
    await ear.told()
    assert (ear.heard, ear.looks) == ([b"x"], 0), "the others are not disturbed"
    await hub.close()
    await client.close()
    await asyncio.to_thread(redis_server.command, "ACL", "DELUSER", "limited")


async def test_a_password_that_is_wrong_is_an_error_at_once(redis_server: RedisServer) -> None:
    client = RedisClient(f"redis://nobody:x@127.0.0.1:{redis_server.port}")
    hub = Waiting(client)
    with pytest.raises(BackendUnsuitableError, match="WRONGPASS"):
        await asyncio.wait_for(hub.listen("news", Ear()), SOON)
    await hub.close()
    await client.close()


# ---- rest, and the end ----------------------------------------------------------------------------------------------


async def test_a_hub_that_waits_sends_nothing_until_the_server_has_been_silent_for_long(proxy: FaultProxy) -> None:
    client = RedisClient(proxy.url)
    hub = Waiting(client)
    await hub.listen("news", Ear())
    seen = len(proxy.seen)
    await asyncio.sleep(0.5)
    assert len(proxy.seen) == seen
    await hub.close()
    await client.close()


async def test_only_a_silent_server_is_asked_for_a_sign_of_life(proxy: FaultProxy, watched: Waiting, redis_client: RedisClient) -> None:
    def pings() -> int:
        return sum(command[0] == b"PING" for command in proxy.seen)

    ear = Ear()
    subscription = await watched.listen("news", ear)
    for _ in range(20):
        await redis_client.commands.publish("news", "x")
        await ear.told()
        await asyncio.sleep(0.02)
    assert pings() == 0
    await asyncio.sleep(0.5)
    asked = pings()
    assert asked >= 2
    await subscription.close()
    await asyncio.sleep(0.4)
    assert pings() <= asked + 1, "without a listener there is nothing to miss"


async def test_without_listeners_a_lost_connection_is_not_made_anew(proxy: FaultProxy, watched: Waiting) -> None:
    async with await watched.listen("news", Ear()):
        pass
    proxy.reset()
    await asyncio.sleep(0.3)
    assert proxy.accepted == 1
    await watched.listen("news", Ear())
    assert proxy.accepted == 2


async def test_closing_turns_away_who_waits_and_who_comes(proxy: FaultProxy) -> None:
    client = RedisClient(proxy.url)
    hub = Waiting(client)
    ear = Ear()
    subscription = await hub.listen("news", ear)
    swallowed = proxy.when(Fault.SWALLOW, command=named("SUBSCRIBE"))
    listening = asyncio.create_task(hub.listen("late", Ear()))
    await swallowed.hit.wait()
    await hub.close()
    for attempt in (listening, asyncio.create_task(hub.listen("news", Ear()))):
        with pytest.raises(BackendUnavailableError, match="closed"):
            await attempt
    await subscription.close()
    await hub.close()
    assert hub.listeners == 0
    assert ear.looks == 0
    await client.close()
    await asyncio.wait_for(proxy.deserted.wait(), SOON)


async def test_a_client_that_is_closed_first_ends_the_hub_too(proxy: FaultProxy) -> None:
    client = RedisClient(proxy.url)
    hub = Waiting(client)
    await hub.listen("news", Ear())
    await client.close()
    proxy.reset()
    async with asyncio.timeout(SOON):
        while hub.listeners:  # noqa: ASYNC110
            await asyncio.sleep(0.005)
    with pytest.raises(BackendUnavailableError, match="closed"):
        await hub.listen("news", Ear())
    await hub.close()


async def until_gone(hub: Waiting, client: RedisClient, channel: str) -> None:
    """Until the server no longer has a subscriber of the channel."""
    async with asyncio.timeout(SOON):
        while await subscribers(client, channel):  # noqa: ASYNC110
            await asyncio.sleep(0.005)


def confirmation(kind: bytes, count: int = 1) -> bytes:
    return b"*3\r\n" + bulk(kind) + bulk(b"news") + b":%d\r\n" % count
