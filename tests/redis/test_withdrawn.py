"""Where there are no workers, a run that is cancelled leaves nothing in line: nobody would come across it."""

from __future__ import annotations

from graflow import TaskWorker, WorkflowEngine, task
from graflow.backends.redis.backend import RedisBackend
from graflow.backends.redis.scripts.runs import BUDGET


@task
async def number(n: int) -> int:
    return n


@task(queue="reports", priority="high")
async def report() -> str:
    return "done"


async def in_line(backend: RedisBackend) -> dict[str, int]:
    """How many entries each stream has."""
    keys, commands = backend.client.keys, backend.client.commands
    return {name.decode(): await commands.xlen(keys.stream(name.decode())) for name in await commands.smembers(keys.streams)}


async def test_it_takes_its_own_off_the_streams_and_no_others(redis_url: str, no_key_leaks: None) -> None:
    backend = RedisBackend(redis_url)
    async with WorkflowEngine(backend) as engine:
        others = [await engine.submit(number.map([1, 2, 3]) | report)]
        while sum((await in_line(backend)).values()) <= BUDGET:  # more than one call looks at
            others.append(await engine.submit(number.map(list(range(100)))))
        kept = await in_line(backend)
        large = await engine.submit(number.map(list(range(100))) | report)
        before = sum((await in_line(backend)).values())
        await large.cancel("enough")
        assert await in_line(backend) == kept
        for other in others:
            await other.cancel("enough")
        assert set((await in_line(backend)).values()) == {0}
        assert (await backend.queue.metrics()).depth == 0
        assert (await backend.dead_letters.counters()).dropped == before


async def test_a_run_beside_it_is_still_to_be_had(redis_url: str) -> None:
    backend = RedisBackend(redis_url)
    async with WorkflowEngine(backend) as engine:
        gone, kept = await engine.submit(report, run_id="gone"), await engine.submit(report, run_id="kept")
        await gone.cancel("enough")
        again = await engine.submit(report, run_id="gone", if_exists="rerun_failed")
        async with TaskWorker(redis_url, queues=None):
            assert [(await handle.result(20)).output for handle in (kept, again)] == ["done", "done"]
