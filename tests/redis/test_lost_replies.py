"""A script that was carried out and whose reply was lost is sent again: the same comes of it as of one, and nothing happens twice.

Channels, locks and barriers have such tests of their own, in test_redis_channel.py, test_redis_locks.py and test_redis_barriers.py.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from graflow import RetryPolicy, RunHandle, TaskContext, WorkflowEngine, best_effort, parallel, task, workflow
from graflow.backends.redis import leases, queue
from graflow.backends.redis.backend import RedisBackend
from graflow.backends.redis.scripts import Script, barriers, channels, deadletters, locks, runs
from graflow.backends.redis.scripts.runs import BEAT, BUDGET, BURY, CLAIM, CONTROL, DEQUEUE, ENQUEUE, REAP, SETTLE, SUBMIT, TELL
from graflow.core.context import BaseContext
from graflow.core.suspension import SuspendStep
from graflow.errors import WorkflowCancelledError
from graflow.wire.messages import TaskSpec
from tests.redis.proxy import Command, Fault, FaultProxy, Rule
from tests.redis.server import RedisServer

HERE = {SUBMIT, SETTLE, CLAIM, CONTROL, REAP, TELL, BURY, ENQUEUE, DEQUEUE, BEAT}
READ_ONLY = {runs.LOOK, runs.WANTED}
DEFAULT = "2:coroutine:default"
Deeds = Counter[str]


class Room:
    """Free slots for coroutines."""

    handlers = ("coroutine",)
    queues = ("default",)

    def __init__(self, most: int) -> None:
        self.most = most

    def free(self, handler: str) -> int:
        return self.most

    def take(self, handler: str) -> None:
        self.most -= 1


def calls_of(script: Script) -> Callable[[Command], bool]:
    """Commands that run it."""
    sha, text = script.sha.encode(), script.text.encode()
    return lambda command: command[0] in (b"EVALSHA", b"EVAL") and command[1] in (sha, text)


def lose(proxy: FaultProxy, script: Script, number: int = 0, *, times: int = 1) -> Rule:
    """Lose the reply of a call of the script, after so many others."""
    chosen, left = calls_of(script), number

    def is_it(command: Command) -> bool:
        nonlocal left
        if not chosen(command):
            return False
        left -= 1
        return left < 0

    return proxy.when(Fault.DROP_REPLY, command=is_it, times=times)


@asynccontextmanager
async def open_engine(server: RedisServer, proxy: FaultProxy, **options: Any) -> AsyncIterator[WorkflowEngine]:
    """An engine with a worker behind the proxy, on a server that knows the scripts, so that each call is one command."""
    backend = RedisBackend(proxy.url, local_code=True, heart="loop", **options)
    async with WorkflowEngine(backend, embedded_worker=True) as engine:
        for script in HERE:
            await backend.client.commands.script_load(script.text)
        yield engine


# ---- a run with a little of everything -----------------------------------------------------------------------------


def story(deeds: Deeds) -> Any:
    """Groups, a limit, a retry, a loop, a goto, a task made at run time, a failure that is taken, progress, large and mapped results."""

    def did(ctx: BaseContext) -> None:
        deeds[f"{ctx.task_id} {ctx.cycle}.{ctx.attempt}"] += 1

    @task
    async def begin(ctx: TaskContext) -> list[int]:
        did(ctx)
        ctx.progress(1, 2)
        return [1, 2, 3]

    @task
    async def member(ctx: TaskContext) -> str:
        did(ctx)
        return ctx.task_id

    @task(retry=RetryPolicy(max_retries=2, initial_interval=0.0, jitter=False))
    async def fickle(ctx: TaskContext) -> str:
        did(ctx)
        if ctx.attempt == 1:
            raise ValueError("not at once")
        return "large " * 20_000

    @task
    async def broken(ctx: TaskContext) -> None:
        did(ctx)
        raise KeyError("always")

    @task
    async def square(ctx: TaskContext, item: int) -> int:
        did(ctx)
        return item * item

    @task(max_cycles=5)
    async def around(ctx: TaskContext) -> int:
        did(ctx)
        if ctx.cycle < 3:
            ctx.next_iteration()
        elif ctx.cycle == 3:
            ctx.next_task(member.clone("extra"))
        return ctx.cycle

    @task
    async def last(ctx: TaskContext) -> str:
        did(ctx)
        ctx.emit("nearly there")
        return "done"

    with workflow("story") as wf:
        group = parallel(member.clone("a"), member.clone("b"), fickle, broken, policy=best_effort, limit=2, name="group")
        begin >> square.map(begin, name="squares") >> group >> around >> last
    return wf


async def told(handle: RunHandle[Any]) -> Counter[str]:
    """What was told of the run. In which order depends on which tasks were quicker."""
    return Counter([f"{event.type} {event.task_id} {event.attempt}" async for event in handle.events()])


async def play(engine: WorkflowEngine, deeds: Deeds) -> tuple[Any, ...]:
    """Run it, and all there is to see of it."""
    deeds.clear()
    handle = await engine.submit(story(deeds))
    result = await handle.result(timeout=30)
    events = await told(handle)
    metrics = await engine.backend.queue.metrics()
    return result.status, result.results, dict(deeds), events, (metrics.depth, metrics.in_flight, metrics.delayed)


@pytest.mark.parametrize("script", [SUBMIT, SETTLE, CLAIM, TELL], ids=lambda script: script.name)
async def test_a_run_is_the_same_whichever_reply_is_lost(redis_server: RedisServer, script: Script) -> None:
    deeds = Deeds()
    async with FaultProxy(redis_server.port) as proxy, open_engine(redis_server, proxy) as engine:
        expected = await play(engine, deeds)
        proxy.seen.clear()
        assert await play(engine, deeds) == expected
        calls = sum(map(calls_of(script), proxy.seen))
        assert set(deeds.values()) == {1}
        assert calls
        hits = 0  # how many calls there are depends on which tasks were quicker
        for number in range(calls):
            proxy.rules.clear()
            rule = lose(proxy, script, number)
            assert await play(engine, deeds) == expected, f"with reply {number} of {script.name} lost"
            hits += rule.hits
        assert hits >= calls / 2


async def test_a_run_is_the_same_when_every_third_reply_is_lost(redis_server: RedisServer) -> None:
    deeds, count = Deeds(), 0

    def third(command: Command) -> bool:
        nonlocal count
        count += command[0] == b"EVALSHA"
        return command[0] == b"EVALSHA" and count % 3 == 0

    async with FaultProxy(redis_server.port) as proxy, open_engine(redis_server, proxy) as engine:
        expected = await play(engine, deeds)
        rule = proxy.when(Fault.DROP_REPLY, command=third, times=1000)
        for _ in range(3):
            assert await play(engine, deeds) == expected
        assert rule.hits > 10


# ---- what an application asks of a run -----------------------------------------------------------------------------


def waiting_task() -> tuple[Any, asyncio.Event]:
    """A task that runs until it is cancelled, and what says that it has begun."""
    begun = asyncio.Event()

    @task
    async def patient() -> None:
        begun.set()
        await asyncio.Event().wait()

    return patient, begun


async def test_a_run_is_cancelled_once(redis_server: RedisServer) -> None:
    patient, begun = waiting_task()
    async with FaultProxy(redis_server.port) as proxy, open_engine(redis_server, proxy) as engine:
        handle = await engine.submit(patient)
        await asyncio.wait_for(begun.wait(), 10)
        rule = lose(proxy, CONTROL)
        await handle.cancel("enough")
        assert rule.hits == 1
        assert (await (await engine.attach(handle.run_id)).status()) == "cancelled"
        events = await told(handle)
        assert [number for kind, number in events.items() if kind.startswith("run_finished")] == [1]


async def test_a_step_goes_on_once(redis_server: RedisServer) -> None:
    asked: list[int] = []

    @task
    async def approval(ctx: TaskContext) -> str:
        asked.append(ctx.attempt)
        if len(asked) == 1:
            raise SuspendStep("may I?")
        return "yes"

    async with FaultProxy(redis_server.port) as proxy, open_engine(redis_server, proxy) as engine:
        handle = await engine.submit(approval)
        assert (await handle.result(timeout=10)).status == "suspended"
        rule = lose(proxy, CONTROL)
        assert await handle.resume("approval")
        assert rule.hits == 1
        assert not await handle.resume("approval")
        assert (await handle.result(timeout=10)).status == "succeeded"
        assert asked == [1, 2]


async def test_whoever_asks_to_be_told_is_told_once(redis_server: RedisServer) -> None:
    patient, begun = waiting_task()
    async with FaultProxy(redis_server.port) as proxy, open_engine(redis_server, proxy) as engine:
        elsewhere = RedisBackend(proxy.url, heart="loop")
        async with WorkflowEngine(elsewhere) as other:
            handle = await engine.submit(patient)
            await asyncio.wait_for(begun.wait(), 10)
            rule = lose(proxy, CONTROL)
            waiting = asyncio.create_task((await other.attach(handle.run_id)).result(timeout=10))
            await asyncio.wait_for(rule.hit.wait(), 10)
            await handle.cancel()
            with pytest.raises(WorkflowCancelledError):
                await waiting


# ---- leases --------------------------------------------------------------------------------------------------------


async def test_a_lease_is_taken_and_renewed(redis_server: RedisServer) -> None:
    async with FaultProxy(redis_server.port) as proxy, open_engine(redis_server, proxy) as engine:
        client = engine.backend.client
        for info in (b"\x80", b""):
            rule = lose(proxy, BEAT)
            assert await leases.beat(client, "someone", info)
            assert rule.hits == 1
        client.shift += 60_000
        lose(proxy, BEAT)
        assert not await leases.beat(client, "someone")


async def test_work_of_the_dead_is_put_back_in_line_once(redis_server: RedisServer) -> None:
    """Among it a message of one's own, which knows of no run, and work that has cost too many workers."""
    deeds = Deeds()

    @task
    async def work(ctx: TaskContext) -> int:
        deeds[ctx.task_id] += 1
        return ctx.attempt

    async with FaultProxy(redis_server.port) as proxy, open_queue(proxy) as backend, WorkflowEngine(backend) as engine:
        handle = await engine.submit(work.clone("a") | work.clone("b"))
        await backend.queue.enqueue(a_spec(1))
        await backend.client.commands.xreadgroup("g", "nobody", {backend.client.keys.stream(DEFAULT): ">"}, count=10)
        rule = lose(proxy, REAP)
        await backend.client.call(REAP, (0, BUDGET, 3, 100))
        assert rule.hits == 1
        metrics = await backend.queue.metrics()
        assert (metrics.depth, metrics.in_flight) == (3, 0)
        found = await backend.queue.dequeue(Room(10))
        assert sorted((spec.run_id == handle.run_id, spec.attempt) for spec in found) == [(False, 1), (True, 2), (True, 2)]


# ---- the queue by itself, and dead letters -------------------------------------------------------------------------


@asynccontextmanager
async def open_queue(proxy: FaultProxy) -> AsyncIterator[RedisBackend]:
    """A backend of which nobody takes anything, on a server that knows the scripts."""
    backend = RedisBackend(proxy.url, local_code=True, heart="loop")
    await backend.open()
    for script in HERE:
        await backend.client.commands.script_load(script.text)
    yield backend
    await backend.close()


def a_spec(number: int) -> TaskSpec:
    """A message of one's own."""
    return TaskSpec(run_id="mine", node=number, task_id=f"t{number}", cycle=1, attempt=1)


async def test_a_message_is_put_in_line_once_and_taken_once(redis_server: RedisServer) -> None:
    async with FaultProxy(redis_server.port) as proxy, open_queue(proxy) as backend:
        for number in range(4):
            rule = lose(proxy, ENQUEUE)
            await backend.queue.enqueue(a_spec(number), delay=0.0 if number < 3 else 0.001)
            assert rule.hits == 1
        metrics = await backend.queue.metrics()
        assert metrics.depth + metrics.delayed == 4
        backend.client.shift += 10
        taken: list[int] = []
        for most in (1, 2, 5):
            rule = lose(proxy, DEQUEUE)
            taken += [spec.node for spec in await backend.queue.dequeue(Room(most))]
            assert rule.hits == 1
        assert taken == [0, 1, 2, 3]
        assert await backend.queue.is_empty()


async def test_without_what_the_script_remembers_a_message_would_be_lost(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = DEQUEUE.source.replace("if before then return unpacked(before) end", "")
    assert text != DEQUEUE.source
    monkeypatch.setattr(queue, "DEQUEUE", forgetful := Script("dequeue", text=text))
    async with FaultProxy(redis_server.port) as proxy, open_queue(proxy) as backend:
        await backend.client.commands.script_load(forgetful.text)
        await backend.queue.enqueue(a_spec(1))
        lose(proxy, forgetful)
        assert not await backend.queue.dequeue(Room(1))
        assert await backend.queue.is_empty()


async def test_what_cannot_be_read_is_one_dead_letter(redis_server: RedisServer) -> None:
    async with FaultProxy(redis_server.port) as proxy, open_engine(redis_server, proxy) as engine:
        backend = engine.backend
        rule = lose(proxy, BURY)
        await backend.client.commands.xadd(backend.client.keys.stream(DEFAULT), {"m": b"nonsense"})
        await asyncio.wait_for(rule.hit.wait(), 10)
        assert (await engine.execute(story(Deeds()))).status == "succeeded"  # the worker has gone on since
        assert await backend.dead_letters.count() == 1


def test_there_is_such_a_test_for_every_script() -> None:
    modules = (runs, barriers, channels, deadletters, locks)
    every = {value for module in modules for value in vars(module).values() if isinstance(value, Script)}
    assert {script.name for script in every - HERE - READ_ONLY} == {
        *(
            "channel_get",
            "channel_exists",
            "channel_keys",
            "channel_set",
            "channel_delete",
            "channel_clear",
            "channel_extend",
            "channel_add",
        ),
        *("channel_swap", "lock_take", "lock_leave", "barrier_create", "barrier_signal", "barrier_look", "barrier_remove"),
        *("redrive", "purge"),
    }
