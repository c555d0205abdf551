"""The queue in memory: what it shows, and what it leaves behind."""

from __future__ import annotations

import asyncio
from typing import Any

from graflow.backends.memory.queue import MemoryTaskQueue
from graflow.wire.messages import TaskSpec
from tests.conformance.hands import Hands
from tests.engine.support import timers


def spec(name: str, **fields: Any) -> TaskSpec:
    return TaskSpec(**{"run_id": "r", "node": 0, "task_id": name, **fields})


async def test_it_can_be_looked_at() -> None:
    queue = MemoryTaskQueue()
    for name, priority in (("a", "low"), ("b", "normal"), ("c", "high")):
        await queue.enqueue(spec(name, priority=priority))
    await queue.enqueue(spec("later"), delay=60)
    assert queue.to_list() == ["c", "b", "a"]
    queue.close()


async def test_it_has_one_timer_whatever_waits_and_none_when_it_is_closed() -> None:
    before = timers()
    queue = MemoryTaskQueue()
    for delay in (30, 20, 10, 40):
        await queue.enqueue(spec(f"after {delay}"), delay=delay)
    assert len([timer for timer in timers() if timer not in before]) == 1
    queue.close()
    assert await queue.is_empty()
    assert [timer for timer in timers() if timer not in before] == []


async def test_withdrawing_a_run_leaves_others_and_their_timer() -> None:
    before = timers()
    queue = MemoryTaskQueue()
    await queue.enqueue(spec("a", run_id="gone"), delay=10)
    await queue.enqueue(spec("b", run_id="stays"), delay=20)
    queue.withdraw("gone")
    queue.withdraw("gone")
    queue.withdraw("never there")
    assert (await queue.metrics()).delayed == 1
    (timer,) = (timer for timer in timers() if timer not in before)
    assert 19 < timer.when() - asyncio.get_running_loop().time() <= 20
    queue.withdraw("stays")
    assert [timer for timer in timers() if timer not in before] == []


async def test_purging_a_run_drops_what_it_has_in_line() -> None:
    queue = MemoryTaskQueue()
    for n in range(6):
        await queue.enqueue(spec(f"t{n}", run_id=f"run {n % 2}", priority="high" if n < 3 else "low"))
    queue.purge("run 0")
    assert queue.to_list() == ["t1", "t3", "t5"]
    assert (await queue.metrics()).depth == 3
    assert [each.task_id for each in await queue.dequeue(Hands())] == ["t1", "t3", "t5"]


async def test_queues_that_are_empty_are_forgotten() -> None:
    """There may be one for every user, and each would be looked at whenever something is taken."""
    queue = MemoryTaskQueue()
    for n in range(100):
        await queue.enqueue(spec(f"t{n}", queue=f"of user {n}"))
    assert len(await queue.dequeue(Hands(coroutine=100))) == 100
    assert sum(map(len, queue._lanes.values())) <= 1


async def test_whoever_waits_is_told_when_something_can_be_taken() -> None:
    queue, told = MemoryTaskQueue(), list[str]()
    queue.on_ready = lambda: told.append("ready")
    await queue.enqueue(spec("a"))
    assert told == ["ready"]
    await queue.dequeue(Hands())
    await queue.enqueue(spec("b"), delay=60)
    assert told == ["ready"]  # not yet
    queue.close()


async def test_it_counts_what_is_in_the_hands_of_workers_as_it_is_told() -> None:
    queue = MemoryTaskQueue()
    assert (await queue.metrics()).in_flight == 0
    queue.count_in_flight = lambda _: 5
    assert (await queue.metrics()).in_flight == 5
