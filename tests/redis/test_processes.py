"""Real worker processes on a server of their own, and what may befall them: every run ends, and nothing counts twice."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, ExitStack, suppress
from itertools import pairwise
from pathlib import Path

import pytest
from blockbuster import BlockBuster
from redis.asyncio.client import Monitor

from graflow import TaskGraph, WorkflowEngine, parallel
from graflow.backends.redis import leases
from graflow.backends.redis.client import RedisClient
from graflow.backends.redis.leases import LEASE
from graflow.core.chain import Chain
from graflow.core.group import ParallelGroup
from graflow.core.result import RunStatus
from graflow.errors import RunLostError, TaskFailedError, WorkerLostError
from tests.redis import jobs
from tests.redis.conftest import lasting_keys
from tests.redis.fleet import Fleet, Member, Start, fleet_of
from tests.redis.server import RedisServer, servers

P = "{graflow:0}:"
ALLOWED = ("jobs:*",)
ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def may_block(blockbuster: BlockBuster) -> None:
    """The tests look at processes in ways that block for a moment. What is tested runs in processes of its own."""
    blockbuster.deactivate()


ONE_VERSION = pytest.mark.parametrize("redis_server", sorted(servers(), reverse=True)[:1], indirect=True)
"""where the server has no part in it"""


def fan_out(width: int) -> ParallelGroup[int]:
    return parallel(*(jobs.short.clone(f"s{number}", number=number) for number in range(width)), name="all")


async def commits(engine: WorkflowEngine, run_id: str) -> Counter[str]:
    """How often each task's success was recorded."""
    handle = await engine.attach(run_id)
    return Counter([str(event.task_id) async for event in handle.events() if event.type == "task_succeeded"])


async def nothing_lasts(url: str) -> None:
    """Law 9: what is left has a time to live. A worker's next beat gives it to what is there only once."""
    async with asyncio.timeout(5):
        while await asyncio.to_thread(lasting_keys, url, ALLOWED):  # noqa: ASYNC110 - it happens in other processes
            await asyncio.sleep(0.1)


def tasks_of(pid: int, starts: list[Start], ends: list[Start]) -> set[str]:
    """What a process had begun and not ended."""
    return {start.task for start in starts if start.pid == pid} - {end.task for end in ends if end.pid == pid}


def second(starts: list[Start], task: str) -> Start:
    return next(start for start in starts if start.task == task and start.attempt > 1)


# ---- workers that die -----------------------------------------------------------------------------------------------


async def strike_amid_work(fleet: Fleet, engine: WorkflowEngine, strike: Callable[[Member], None], *, width: int, within: float) -> float:
    """Kill one of two workers amid many tasks; the seconds until the last of those that it held was begun elsewhere."""
    victim, _ = await fleet.start("--concurrency", "20", number=2)
    handle = await engine.submit(fan_out(width))
    await fleet.until(jobs.ENDS, lambda ends: len({each.pid for each in ends}) == 2 and len(ends) > width / 3, 30)
    began = time.monotonic()
    strike(victim)
    await victim.ended()
    result = await handle.result(timeout=40)
    assert result.results == {f"s{number}": number for number in range(width)}
    assert await commits(engine, result.run_id) == Counter({f"s{number}": 1 for number in range(width)})
    starts, ends = await fleet.noted(jobs.STARTS), await fleet.noted(jobs.ENDS)
    assert {each.task for each in ends} == set(result.results)
    again = {each.task for each in starts if each.attempt > 1}
    assert 0 < len(again) <= 40, "what it held, and what it had been given and not begun"
    assert tasks_of(victim.pid, starts, ends) <= again
    took = max(second(starts, task).at for task in again) - began
    assert took < within
    await nothing_lasts(fleet.url)
    return took


async def test_the_tasks_of_a_killed_worker_start_elsewhere_at_once_and_each_is_committed_once(
    fleet: Fleet, engine: WorkflowEngine
) -> None:
    await strike_amid_work(fleet, engine, lambda victim: victim.strike(signal.SIGKILL), width=1000, within=5)


async def test_a_poisonous_task_goes_to_the_dead_letters_after_more_than_three_workers(fleet: Fleet, engine: WorkflowEngine) -> None:
    """Alone, though fifty others are in the hands of each worker that dies of it, one worker after the other."""
    graph = TaskGraph("poisoned")
    graph.add(jobs.poison)
    good = [jobs.unhurried.clone(f"s{number}", number=number) for number in range(50)]
    for each in good:
        graph.add(each)
    handle = await engine.submit(graph, on_failure="continue")
    for _ in range(4):
        (worker,) = await fleet.start()
        assert await worker.ended() == 13
    await fleet.start(number=2)
    with pytest.raises(TaskFailedError) as caught:
        await handle.result(timeout=40)
    assert caught.value.task_id == "poison"
    assert isinstance(caught.value.__cause__, WorkerLostError)
    assert caught.value.result.results == {each.id: number for number, each in enumerate(good)}
    assert [start.attempt for start in await fleet.noted(jobs.STARTS) if start.task == "poison"] == [1, 2, 3, 4]
    assert await fleet.eye.zcard(f"{P}dlq") == 1
    await nothing_lasts(fleet.url)


async def test_a_worker_that_is_told_to_stop_hands_back_what_outlasts_its_grace_without_penalty(
    fleet: Fleet, engine: WorkflowEngine
) -> None:
    (first,) = await fleet.start("--grace", "0.5", "--worker-id", "first")
    handle = await engine.submit(parallel(jobs.patient, jobs.stubborn, jobs.short))
    await fleet.until(jobs.STARTS, lambda starts: len(starts) == 3, 10)
    (second,) = await fleet.start("--worker-id", "second")
    began = time.monotonic()
    first.strike(signal.SIGTERM)
    assert await first.ended() == 0
    assert time.monotonic() - began < 3
    again = (await fleet.until(jobs.STARTS, lambda starts: len(starts) == 5, 5))[3:]
    assert {(start.task, start.attempt, start.pid) for start in again} == {("patient", 1, second.pid), ("stubborn", 1, second.pid)}
    assert again[-1].at - began < 2
    await fleet.eye.rpush(jobs.GO, "go")
    assert (await handle.result(timeout=10)).results == {"patient": "attempt 1", "stubborn": "attempt 1", "short": 0}
    assert await fleet.eye.zcard(f"{P}dlq") == 0
    assert [name.partition(".")[0] for name in await fleet.eye.zrange(f"{P}leases", 0, -1)] == ["second"]
    second.strike(signal.SIGINT)
    assert await second.ended() == 0
    assert await fleet.eye.zcard(f"{P}leases") == 0


@ONE_VERSION
async def test_the_second_signal_ends_a_worker_at_once_and_its_tasks_start_elsewhere(fleet: Fleet, engine: WorkflowEngine) -> None:
    (first,) = await fleet.start("--grace", "600")
    handle = await engine.submit(jobs.patient)
    await fleet.until(jobs.STARTS, lambda starts: len(starts) == 1, 10)
    (second,) = await fleet.start()
    first.strike(signal.SIGTERM)
    await first.says("running tasks have their grace")
    first.strike(signal.SIGTERM)
    assert await first.ended(5) == 1
    starts = await fleet.until(jobs.STARTS, lambda starts: len(starts) == 2, 5)
    assert (starts[-1].attempt, starts[-1].pid) == (2, second.pid)
    await fleet.eye.rpush(jobs.GO, "go")
    assert (await handle.result(timeout=10)).output == "attempt 2"


# ---- what takes a lease or longer to be seen ------------------------------------------------------------------------


async def is_gone_with_its_machine(url: str) -> None:
    """Nobody is left to tell of a worker's death: its lease lapses."""
    async with fleet_of(url) as fleet, WorkflowEngine(url) as engine:

        def strike(victim: Member) -> None:
            heart = victim.heart()
            victim.strike(signal.SIGSTOP)  # so that it cannot start another
            os.kill(heart, signal.SIGKILL)
            victim.strike(signal.SIGKILL)

        await strike_amid_work(fleet, engine, strike, width=300, within=10)


async def is_stopped_and_goes_on(url: str) -> None:
    """What a worker does that was taken for dead is refused; it begins again under another name."""
    async with fleet_of(url) as fleet, WorkflowEngine(url) as engine:
        (zombie,) = await fleet.start("--worker-id", "zombie")
        handle = await engine.submit(jobs.patient)
        await fleet.until(jobs.STARTS, lambda starts: len(starts) == 1, 10)
        names = await fleet.eye.zrange(f"{P}leases", 0, -1)
        (other,) = await fleet.start("--worker-id", "other")
        zombie.strike(signal.SIGSTOP)
        stopped = time.monotonic()
        starts = await fleet.until(jobs.STARTS, lambda starts: len(starts) == 2, 15)
        assert (starts[-1].attempt, starts[-1].pid) == (2, other.pid)
        assert starts[-1].at - stopped < 10
        await asyncio.sleep(max(0.0, stopped + 2 * LEASE - time.monotonic()))
        await fleet.eye.rpush(jobs.GO, "go")  # the zombie's task goes on too, as soon as it can
        assert (await handle.result(timeout=10)).output == "attempt 2"
        zombie.strike(signal.SIGCONT)
        await zombie.says("goes on under another name", 10)
        assert (await handle.result()).output == "attempt 2"
        assert await commits(engine, handle.run_id) == Counter({"patient": 1})
        other.strike(signal.SIGTERM)
        await other.ended()
        assert (await (await engine.submit(jobs.short)).result(timeout=10)).output == 0
        now = [name for name in await fleet.eye.zrange(f"{P}leases", 0, -1) if name != "!"]
        assert len(now) == 1
        assert now != names
        await nothing_lasts(fleet.url)


async def holds_the_gil(url: str) -> None:
    """A task that lets nothing else run for three leases is not run twice, and the worker keeps its lease."""
    async with fleet_of(url) as fleet, WorkflowEngine(url) as engine:
        (first,) = await fleet.start()
        handle = await engine.submit(jobs.greedy.bind(seconds=20))
        await fleet.until(jobs.STARTS, lambda starts: len(starts) == 1, 10)
        names = await fleet.eye.zrange(f"{P}leases", 0, -1)
        await fleet.start()  # which would take over
        assert (await handle.result(timeout=50)).output == 0
        assert len(await fleet.noted(jobs.STARTS)) == 1
        assert set(names) < set(await fleet.eye.zrange(f"{P}leases", 0, -1))
        assert not any("WARNING graflow.redis the lease" in line for line in first.said)


async def is_idle(url: str) -> None:
    """Law 2: an idle worker sends at most one command a second, all told."""
    async with fleet_of(url) as fleet, fleet.eye.monitor() as monitor:
        await fleet.start()
        sent: list[str] = []
        for _ in range(2):  # until its second read it may still find its way around: scripts are loaded, what is put off is asked for
            while await sent_next(monitor) != "XREADGROUP":
                pass
        with suppress(TimeoutError):
            async with asyncio.timeout(20):
                while True:
                    sent.append(await sent_next(monitor))
        assert 0 < len(sent) <= 20, Counter(sent)


async def sent_next(monitor: Monitor) -> str:
    """The next command that somebody sends, those left out that scripts call."""
    while (seen := await monitor.next_command())["client_type"] == "lua":
        pass
    return str(seen["command"]).split()[0]


@pytest.mark.timeout(120)
async def test_what_takes_long_to_be_seen() -> None:
    """Each of these waits for leases. They wait at the same time, on servers of their own, so that it takes no longer than the longest."""
    with ExitStack() as stack:
        async with asyncio.TaskGroup() as group:
            for scenario in (is_gone_with_its_machine, is_stopped_and_goes_on, holds_the_gil, is_idle):
                group.create_task(scenario(stack.enter_context(RedisServer()).url))


async def blocking(fleet: Fleet, *since: int) -> set[str]:
    """The connections on which a read has waited for so many seconds."""
    clients = await fleet.eye.client_list()
    return {each["id"] for each in clients if each["cmd"] == "xreadgroup" and "b" in each["flags"] and int(each["idle"]) in since}


async def is_held(fleet: Fleet, name: str) -> bool:
    """Whether something is in the hands of a worker of that name, as the server sees it."""
    found = await fleet.eye.xinfo_consumers(f"{P}q:2:coroutine:default", "g")
    return any(each["pending"] for each in found if each["name"].startswith(name))


async def is_free(fleet: Fleet, name: str) -> bool:
    """Whether nothing is."""
    return not await is_held(fleet, name)


async def until(true: Callable[[], Awaitable[bool]], within: float) -> None:
    async with asyncio.timeout(within):
        while not await true():  # noqa: ASYNC110 - it happens in other processes
            await asyncio.sleep(0.02)


async def is_handed_work_after_its_death(url: str, *, with_its_machine: bool) -> None:
    """The read of a stopped worker still blocks when its lease has lapsed and its consumer is gone: it makes itself a new one. If the worker dies
    then, the process that renews its lease sees to what it was handed; without that, those do who look once more when no read can be left."""
    async with fleet_of(url) as fleet, WorkflowEngine(url) as engine, AsyncExitStack() as stack:
        client = RedisClient(url)
        await client.open()
        stack.push_async_callback(client.close)
        (victim,) = await fleet.start("--worker-id", "victim")
        heart = victim.heart()
        (lease,) = await fleet.eye.zrange(f"{P}leases", 0, -1)
        while not (its_own := await blocking(fleet, 1, 2)):  # noqa: ASYNC110 - it happens in other processes
            await asyncio.sleep(0.02)
        await fleet.start("--queues", "of-others")  # which looks after all, and takes nothing
        while not its_own & await blocking(fleet, 1, 2):  # and so for seconds to come  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        victim.strike(signal.SIGSTOP)
        await fleet.eye.zadd(f"{P}leases", {lease: 0})  # as if it had lapsed
        await leases.reap(client)
        handle = await engine.submit(jobs.short)
        await until(lambda: is_held(fleet, "victim."), 4)
        died = time.monotonic()
        if with_its_machine:
            os.kill(heart, signal.SIGKILL)
        victim.strike(signal.SIGKILL)
        await until(lambda: is_free(fleet, "victim."), 30)
        assert time.monotonic() - died < (16 if with_its_machine else 9)  # a busy machine adds to the 14 s and 5 s that it can take
        (other,) = await fleet.start("--worker-id", "other")
        assert (await handle.result(timeout=20)).output == 0
        (start,) = await fleet.noted(jobs.STARTS)
        assert (start.attempt, start.pid) == (2, other.pid)


@pytest.mark.timeout(120)
async def test_what_a_worker_is_handed_after_its_death_starts_elsewhere_soon() -> None:
    with ExitStack() as stack:
        async with asyncio.TaskGroup() as group:
            for program in servers().values():
                for with_its_machine in (False, True):
                    url = stack.enter_context(RedisServer(program)).url
                    group.create_task(is_handed_work_after_its_death(url, with_its_machine=with_its_machine))


# ---- engines that die -----------------------------------------------------------------------------------------------

ENGINE = """
import asyncio, sys
from graflow import WorkflowEngine
from tests.redis.test_processes import chain_of

async def main() -> None:
    async with WorkflowEngine(sys.argv[1]) as engine:
        await engine.execute(chain_of(100), run_id="orphan")

asyncio.run(main())
"""


def chain_of(length: int) -> Chain[int]:
    first, *others = [jobs.short.clone(f"s{number}", number=number) for number in range(length)]
    chain = first >> others[0]
    for each in others[1:]:
        chain = chain >> each
    return chain


@ONE_VERSION
async def test_a_run_goes_on_without_a_pause_when_its_engine_is_killed_and_another_gets_the_result(
    fleet: Fleet, engine: WorkflowEngine
) -> None:
    await fleet.start()
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", ENGINE, fleet.url, cwd=ROOT)
    await fleet.until(jobs.ENDS, lambda ends: len(ends) > 20, 20)
    process.kill()
    killed = time.monotonic()
    await process.wait()
    handle = await engine.attach("orphan")
    assert await handle.status() is RunStatus.RUNNING
    assert (await handle.result(timeout=30)).output == 99
    starts = await fleet.noted(jobs.STARTS)
    assert Counter(start.task for start in starts) == Counter(f"s{number}" for number in range(100))
    assert starts[-1].at > killed
    assert max(later.at - earlier.at for earlier, later in pairwise(starts)) < 1.0
    await nothing_lasts(fleet.url)


# ---- servers that die -----------------------------------------------------------------------------------------------


async def test_runs_finish_although_the_server_is_killed_and_started_anew_amid_load() -> None:
    with RedisServer(aof=True) as server:
        async with fleet_of(server.url) as fleet, WorkflowEngine(server.url) as engine:
            await fleet.start("--concurrency", "20", number=2)
            handles = [await engine.submit(fan_out(200)) for _ in range(3)]
            waiting = asyncio.gather(*(handle.result(timeout=40) for handle in handles))
            await fleet.until(jobs.ENDS, lambda ends: len(ends) > 150, 20)
            await asyncio.to_thread(server.restart)
            results = await waiting
            for result in results:
                assert result.results == {f"s{number}": number for number in range(200)}
                assert await commits(engine, result.run_id) == Counter({f"s{number}": 1 for number in range(200)})
            await nothing_lasts(fleet.url)


async def test_whoever_waits_for_a_run_learns_soon_that_the_server_was_emptied(fleet: Fleet, engine: WorkflowEngine) -> None:
    await fleet.start("--concurrency", "20", number=2)
    handle = await engine.submit(fan_out(1000))
    waiting = asyncio.create_task(handle.result(timeout=30))
    await fleet.until(jobs.ENDS, lambda ends: len(ends) > 50, 20)
    await fleet.eye.flushall()
    began = time.monotonic()
    with pytest.raises(RunLostError, match=handle.run_id):
        await waiting
    assert time.monotonic() - began < 5
    again = await engine.submit(jobs.short)
    assert (await again.result(timeout=10)).output == 0, "the workers have not ended with it"


@ONE_VERSION
async def test_a_task_that_raises_what_ends_programs_fails_and_its_worker_lives_on(fleet: Fleet, engine: WorkflowEngine) -> None:
    [member] = await fleet.start()
    for job in (jobs.leaves, jobs.leaves_thread):
        for kind in jobs.EXITS:
            with pytest.raises(TaskFailedError, match=f"{kind}: by itself"):
                await engine.execute(job.bind(kind=kind), timeout=10)
    assert (await engine.execute(jobs.short.bind(number=7), timeout=10)).output == 7
    member.strike(signal.SIGINT)  # which is still heard
    assert await member.ended() == 0
