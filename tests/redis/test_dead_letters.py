"""Dead letters: what comes to be one, what is known of it, and how it is put back in line or dropped."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from types import ModuleType
from typing import Any

import pytest

from graflow import WorkflowEngine, best_effort, parallel, task, workflow
from graflow.backends.redis.backend import RedisBackend
from graflow.backends.redis.client import RedisClient
from graflow.backends.redis.deadletters import DeadLetter
from graflow.backends.redis.scripts.deadletters import PURGE, REDRIVE
from graflow.backends.redis.scripts.runs import BUDGET, CLAIM, REAP, SETTLE
from graflow.core.options import PRIORITIES
from graflow.errors import ConfigurationError, RunConflictError, SerializationError, TaskFailedError, UnknownRunError
from graflow.worker import TaskWorker

pytestmark = pytest.mark.usefixtures("no_key_leaks")

STREAM = "2:coroutine:default"
DAY = 86_400_000


@task
async def first() -> int:
    return 1


@task
async def second(first: int) -> int:
    return first + 1


@task
async def other() -> int:
    return 10


@task
async def both(first: int, other: int) -> int:
    return first + other


@task(queue="later")
async def late() -> None: ...


class Site:
    """A backend with an engine that runs nothing, and what becomes of workers is up to the test."""

    def __init__(self, url: str, **options: Any) -> None:
        self.backend = RedisBackend(url, heart="loop", local_code=True, **options)
        self.letters = self.backend.dead_letters
        self.client: RedisClient = self.backend.client
        self.engine = WorkflowEngine(self.backend)

    async def take(self, stream: str = STREAM) -> None:
        """Some worker takes one attempt, and is never heard of again."""
        key = self.client.keys.stream(stream)
        assert await self.client.commands.xreadgroup("g", "nobody", {key: ">"}, count=1)

    async def bury(self, most_lost: int = 0) -> None:
        """Find the attempts of dead workers; those that cost more than ``most_lost`` others before go to the dead letters."""
        await self.client.call(REAP, (self.client.shift, BUDGET, most_lost, 100))

    async def alter(self, alter: Callable[[bytes], bytes], *, plainly: bool = True) -> None:
        """Something changes the bytes of the oldest message, and leaves what stands beside it as it is, if anything does."""
        key = self.client.keys.stream(STREAM)
        ((id, fields), *others) = await self.client.commands.xrange(key)
        changed = {**fields, b"m": alter(fields[b"m"])}
        if not plainly:
            del changed[b"w"]
        await self.client.commands.xdel(key, id, *(other for other, _ in others))
        for each in (changed, *(fields for _, fields in others)):
            await self.client.commands.xadd(key, each)

    async def waiting(self, stream: str = STREAM) -> int:
        return int(await self.client.commands.xlen(self.client.keys.stream(stream)))

    async def newest(self) -> DeadLetter:
        return (await self.letters.list())[0]

    @asynccontextmanager
    async def worker(self) -> AsyncIterator[TaskWorker]:
        async with TaskWorker(self.backend, queues=None, grace=0.0) as worker:
            yield worker

    async def until(self, holds: Callable[[int], bool]) -> None:
        """Until as many dead letters are there as asked for."""
        async with asyncio.timeout(10):
            while not holds(await self.letters.count()):  # noqa: ASYNC110 - nobody is told of dead letters
                await asyncio.sleep(0.01)


@pytest.fixture
async def site(redis_url: str) -> AsyncIterator[Site]:
    site = Site(redis_url, unknown_grace=0.0)
    async with site.engine:
        for script in (CLAIM, SETTLE):  # loaded beforehand, a worker need not wonder whether a first call was carried out
            await site.client.commands.script_load(script.text)
        yield site


@pytest.fixture
def allowed_keys() -> set[str]:
    """Of a run that a test leaves unfinished."""
    return {f"{{graflow:0}}:{kind}:*" for kind in ("run", "plan", "ch", "res", "ev", "failed", "own", "q")} | {"{graflow:0}:streams"}


def group() -> Any:
    """A run that goes on when ``first`` fails."""
    with workflow("group") as wf:
        wf.add(parallel(first, other, policy=best_effort, name="g"))
    return wf


# ---- what comes to be one, and what is known of it ----


async def test_a_task_that_costs_too_many_workers_is_among_the_dead_letters_with_all_that_is_known(site: Site) -> None:
    handle = await site.engine.submit(first, run_id="monday")
    for _ in range(3):
        await site.take()
        await site.bury(most_lost=3)
    assert await site.letters.count() == 0
    await site.take()
    await site.bury(most_lost=3)
    with pytest.raises(TaskFailedError) as failed:
        await handle.result()
    assert failed.value.error_type == "graflow.errors.WorkerLostError"
    letter = await site.newest()
    assert (letter.reason, letter.run_id, letter.task, letter.attempt) == ("lost_workers", "monday", "first", 4)
    assert (letter.queue, letter.handler, letter.priority) == ("default", "coroutine", PRIORITIES[2])
    assert letter.detail == "4 workers ended while they ran it"
    assert letter.size == len(letter.raw) > 20
    assert await site.letters.show(letter.id) == letter
    assert await site.letters.show("nothing") is None


async def test_bytes_that_are_no_message_are_kept_as_they_were(site: Site) -> None:
    async with site.worker():
        key = site.client.keys.stream(STREAM)
        await site.client.commands.xadd(key, {"m": b"\xff\xfe no message"})
        await site.until(lambda count: count == 1)
        letter = await site.newest()
        assert (letter.reason, letter.raw, letter.queue) == ("undecodable", b"\xff\xfe no message", "default")
        assert (letter.run_id, letter.task, letter.attempt) == (None, None, None)
        await site.client.commands.xadd(key, {"m": b"\x92\x02\xa5later"})
        await site.until(lambda count: count == 2)
    assert (await site.newest()).reason == "newer_protocol"
    counters = await site.letters.counters()
    assert (counters.dequeued, counters.decoded, counters.dlq_sent) == (2, 0, 2)


GARBAGE = b"\xff\xfe no message"
ALTERED: dict[str, Callable[[bytes], bytes]] = {
    "garbage": lambda text: GARBAGE,
    "empty": lambda text: b"",
    "truncated": lambda text: text[:-3],
    "another shape": lambda text: b"\x81\x01\x02",
    "a later version": lambda text: text.replace(b"\x99\x01", b"\x99\x02", 1),
    "a later version of another shape": lambda text: b"\x92\x02\xa5later",
}


@pytest.mark.parametrize("alter", ALTERED.values(), ids=ALTERED)
async def test_a_step_whose_message_cannot_be_read_fails_its_run_in_the_same_step(site: Site, alter: Callable[[bytes], bytes]) -> None:
    handle = await site.engine.submit(first >> second)
    await site.alter(alter)
    async with site.worker():
        with pytest.raises(TaskFailedError, match=r"'first' cannot be read|'first' was sent by a later version") as caught:
            await handle.result(timeout=10)
    assert (caught.value.task_id, caught.value.attempt) == ("first", 1)
    assert isinstance(caught.value.__cause__, SerializationError)
    letter = await site.newest()
    assert letter.reason in ("undecodable", "newer_protocol")
    assert (letter.run_id, letter.task, letter.attempt) == (handle.run_id, "#0", 1)


@pytest.mark.parametrize("alter", ALTERED.values(), ids=ALTERED)
async def test_a_lenient_group_goes_on_without_a_member_whose_message_cannot_be_read(site: Site, alter: Callable[[bytes], bytes]) -> None:
    handle = await site.engine.submit(group())
    await site.alter(alter)
    async with site.worker():
        result = await handle.result(timeout=10)
    assert (result.output, result.results) == ([10], {"other": 10})


async def test_a_later_version_says_which_step_it_is_for_even_where_nothing_else_does(site: Site) -> None:
    handle = await site.engine.submit(first >> second)
    await site.alter(ALTERED["a later version"], plainly=False)
    async with site.worker():
        with pytest.raises(TaskFailedError, match="later version"):
            await handle.result(timeout=10)


async def test_an_old_message_that_cannot_be_read_does_not_fail_the_attempt_that_came_after_it(site: Site) -> None:
    handle = await site.engine.submit(group())
    await site.take()
    await site.bury(most_lost=3)  # a second attempt of the first member stands in line now
    await site.client.commands.xadd(site.client.keys.stream(STREAM), {"m": GARBAGE, "w": f"1 1 {handle.run_id}"})
    async with site.worker():
        assert (await handle.result(timeout=10)).output == [1, 10]
        await site.until(lambda count: count == 1)


async def test_messages_that_no_longer_count_are_counted_as_dropped(site: Site) -> None:
    await site.client.commands.zadd(
        site.client.keys.leases, {"elsewhere": 0}
    )  # there have been workers, and will be: what is in line is theirs
    handle = await site.engine.submit(first)
    await handle.cancel("no longer wanted")
    await site.engine.submit(other, run_id="next")
    async with site.worker():
        await (await site.engine.attach("next")).result()
    counters = await site.letters.counters()
    assert (counters.dequeued, counters.decoded, counters.dropped, counters.dlq_sent) == (2, 2, 1, 0)


# ---- put back in line ----


async def test_a_redriven_step_of_a_run_that_goes_on_counts_again(site: Site) -> None:
    handle = await site.engine.submit(group())
    await site.take()
    await site.bury()
    letter = await site.newest()
    assert (await handle.peek()).errors
    assert await site.letters.redrive(letter.id)
    assert await site.letters.count() == 0
    assert not (await handle.peek()).errors
    async with site.worker():
        result = await handle.result()
    assert (result["first"], result["other"], dict(result.errors)) == (1, 10, {})
    told = [(event.type, event.attempt) async for event in handle.events() if event.task_id == "first"]
    assert told[-3:] == [("task_retrying", 1), ("task_started", 2), ("task_succeeded", 2)]


async def test_a_join_that_was_told_of_the_failure_and_still_waits_is_told_otherwise(site: Site) -> None:
    with workflow("join") as wf:
        wf.add(first >> both, other >> both)
    handle = await site.engine.submit(wf, on_failure="continue")
    await site.take()
    await site.bury()
    assert await site.letters.redrive((await site.newest()).id)
    async with site.worker():
        assert (await handle.result()).output == 11


async def test_a_step_that_the_run_has_gone_on_without_is_not_put_back(site: Site) -> None:
    with workflow("chain") as wf:
        wf.add(first >> second, other)
    handle = await site.engine.submit(wf, on_failure="continue", run_id="chain")
    await site.take()
    await site.bury()
    letter, before = await site.newest(), await site.waiting()
    with pytest.raises(RunConflictError, match=r"'chain' has gone on without 'first'; when .* if_exists=\"rerun_failed\""):
        await site.letters.redrive(letter.id)
    assert (await site.waiting(), await site.letters.count()) == (before, 1)
    await handle.cancel("seen enough")


async def test_after_the_end_of_the_run_redriving_says_what_to_do_instead(site: Site) -> None:
    handle = await site.engine.submit(first, run_id="monday")
    await site.take()
    await site.bury()
    with suppress(TaskFailedError):
        await handle.result()
    letter = await site.newest()
    with pytest.raises(RunConflictError, match=r"'monday' has ended \(failed\), so 'first' is not .*: ?|rerun_failed"):
        await site.letters.redrive(letter.id)
    assert (await site.waiting(), await site.letters.count()) == (0, 1)
    again = await site.engine.submit(first, run_id="monday", if_exists="rerun_failed")
    with pytest.raises(RunConflictError, match="was begun again since"):
        await site.letters.redrive(letter.id)
    async with site.worker():
        assert (await again.result()).output == 1
    await site.client.commands.delete(site.client.keys.run("monday"))
    with pytest.raises(UnknownRunError, match="no longer remembered"):
        await site.letters.redrive(letter.id)


async def test_a_member_of_a_group_that_is_over_stays_dead(site: Site) -> None:
    with workflow("strict") as wf:
        wf.add(parallel(first, other, name="g"), late)
    handle = await site.engine.submit(wf, on_failure="continue")
    await site.take()
    await site.bury()
    with pytest.raises(RunConflictError, match="gone on without 'first'"):
        await site.letters.redrive((await site.newest()).id)
    await handle.cancel("seen enough")


async def test_a_place_in_a_limited_group_is_waited_for(site: Site) -> None:
    @task
    async def turn(n: int) -> int:
        return n

    with workflow("few") as wf:
        wf.add(turn.map([1, 2, 3], limit=1).with_policy(best_effort))
    handle = await site.engine.submit(wf)
    await site.take()
    await site.bury()
    assert await site.letters.redrive((await site.newest()).id)
    assert await site.waiting() == 1
    async with site.worker():
        assert (await handle.result()).output == [1, 2, 3]


@pytest.fixture
def ghost() -> Iterator[ModuleType]:
    """A module that comes and goes."""
    module = ModuleType("ghost_of_dead_letters")
    exec("async def haunt():\n    return 'boo'\n", module.__dict__)
    sys.modules[module.__name__] = module
    yield module
    sys.modules.pop(module.__name__, None)


async def test_an_unknown_function_is_redriven_once_a_worker_knows_it(site: Site, redis_url: str, ghost: ModuleType) -> None:
    with workflow("haunted") as wf:
        wf.add(parallel(task(ghost.haunt), late, policy=best_effort, name="g"))
    handle = await site.engine.submit(wf)
    del sys.modules[ghost.__name__]
    stranger = Site(redis_url, unknown_grace=0.0)
    await stranger.backend.open()
    async with TaskWorker(stranger.backend, grace=0.0):
        await site.until(lambda count: count == 1)
    await stranger.backend.close()
    letter = await site.newest()
    assert (letter.reason, letter.task) == ("unknown_function", "haunt")
    assert "ghost_of_dead_letters" in letter.detail
    sys.modules[ghost.__name__] = ghost
    assert await site.letters.redrive(letter.id)
    async with site.worker():
        assert (await handle.result())["haunt"] == "boo"


async def test_what_cannot_be_read_goes_back_on_its_stream_as_it_was(site: Site) -> None:
    key = site.client.keys.stream(STREAM)
    fields = {b"odd": b"\x00\xff", b"more": b"of it"}
    async with site.worker():
        await site.client.commands.xadd(key, fields)  # type: ignore[arg-type]
        await site.until(lambda count: count == 1)
    letter = await site.newest()
    assert await site.letters.redrive(letter.id)
    ((_, back),) = await site.client.commands.xrange(key)
    assert (back, await site.letters.count()) == (fields, 0)
    async with site.worker():  # and dies once more
        await site.until(lambda count: count == 1)
    assert (await site.newest()).id != letter.id


async def test_redriving_twice_puts_it_in_line_once(site: Site) -> None:
    await site.engine.submit(group())
    await site.take()
    await site.bury()
    letter = await site.newest()
    before = await site.waiting()
    args = (site.client.shift, BUDGET, letter.id, "an operation")
    assert [await site.client.call(REDRIVE, args) for _ in range(2)] == [[b"done"], [b"done"]]  # as when the first reply is lost
    assert await site.waiting() == before + 1
    assert not await site.letters.redrive(letter.id)


# ---- the list ----


async def graveyard(site: Site, number: int) -> list[str]:
    """So many letters; their ids, the newest first."""
    for _ in range(number):
        await site.engine.submit(first)
        await site.take()
        await site.bury()
    ids = [letter.id for letter in await site.letters.list()]
    assert len(ids) == number
    return ids


async def test_the_newest_come_first_and_pages_do_not_overlap(site: Site) -> None:
    ids = await graveyard(site, 12)
    assert ids == sorted(ids, reverse=True)
    assert [letter.id for letter in await site.letters.list(5, 5)] == ids[5:10]
    assert await site.letters.list(5, 20) == []
    for limit, offset in ((0, 0), (1, -1)):
        with pytest.raises(ConfigurationError):
            await site.letters.list(limit, offset)


async def test_letters_are_purged_by_id_by_age_or_all(site: Site) -> None:
    ids = await graveyard(site, 6)
    assert await site.letters.purge(ids[2]) == 1
    assert await site.letters.purge(ids[2]) == 0
    assert await site.letters.purge(older_than=3600) == 0
    site.client.shift += DAY // 2
    await site.engine.submit(first)
    await site.take()
    await site.bury()
    assert await site.letters.purge(older_than=3600) == 5
    assert await site.letters.purge(all=True) == 1
    assert await site.letters.list() == []
    assert await site.client.commands.hlen(site.client.keys.dead_items) == 0  # type: ignore[misc]
    for wrong in ({}, {"all": True, "older_than": 1.0}):
        with pytest.raises(ConfigurationError, match="give one of"):
            await site.letters.purge(**wrong)


async def test_a_purge_that_is_sent_again_says_the_same(site: Site) -> None:
    (id,) = await graveyard(site, 1)
    assert [await site.client.call(PURGE, ("an operation", 1, "id", id)) for _ in range(2)] == [1, 1]


async def test_letters_are_kept_for_a_week(site: Site) -> None:
    await graveyard(site, 3)
    site.client.shift += 7 * DAY + 1000
    assert (await site.letters.count(), await site.letters.list()) == (0, [])
    await site.engine.submit(first)
    await site.take()
    await site.bury()
    assert await site.client.commands.zcard(site.client.keys.dead_letters) == 1
    assert 0 < await site.client.commands.ttl(site.client.keys.dead_items) <= 7 * DAY // 1000


async def test_of_very_many_the_oldest_go(site: Site) -> None:
    keys, commands = site.client.keys, site.client.commands
    (newest,) = await graveyard(site, 1)
    item = await commands.hget(keys.dead_items, newest)  # type: ignore[misc]
    now = int(newest.partition("-")[0])
    ids = [f"{now - 20_000 + n}-000000" for n in range(10_050)]
    await commands.zadd(keys.dead_letters, {id: int(id.partition("-")[0]) for id in ids})
    await commands.hset(keys.dead_items, mapping=dict.fromkeys(ids, item))  # type: ignore[misc]
    await site.engine.submit(first)
    await site.take()
    await site.bury()
    assert await site.letters.count() == await commands.hlen(keys.dead_items) == 10_000  # type: ignore[misc]
    assert await site.letters.show(ids[51]) is None
    assert (await site.letters.counters()).dlq_lost == 52
    assert await site.letters.purge(all=True) == 10_000


async def test_a_letter_whose_run_and_plan_are_gone_is_still_shown(site: Site, redis_url: str) -> None:
    (id,) = await graveyard(site, 1)
    async for key in site.client.commands.scan_iter(match="*:plan:*"):
        await site.client.commands.delete(key)
    stranger = Site(redis_url)
    await stranger.backend.open()
    letter = await stranger.letters.show(id)
    await stranger.backend.close()
    assert letter is not None
    assert letter.task == "#0"
    assert letter.run_id
