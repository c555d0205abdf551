"""arq, after its documentation: results are kept, and a job leaves the queue when its result is written.

What its documentation lets one tune is tuned: how many jobs a worker takes, and how often worker and caller look.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any
from uuid import uuid4

import uvloop
from arq import create_pool
from arq.connections import ArqRedis, RedisSettings
from arq.jobs import Job, ResultNotFound
from driving import URL, Client, bounded, serve

LOOK = 0.001
"""Seconds between two looks at the queue, and at the result of a single job."""
LOOK_AT_MANY = 0.005
"""The same for a result of many, where looking more often keeps the worker from its work."""
AT_ONCE = 32
LOGGING = {"version": 1, "root": {"level": "WARNING"}}

asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())


async def noop(ctx: dict[str, Any]) -> None:
    """Nothing."""


async def hop(ctx: dict[str, Any], chain: str, left: int) -> None:
    """One of a chain, which enqueues the next."""
    if left:
        await ctx["redis"].enqueue_job("hop", chain, left - 1, _job_id=f"{chain}-{left - 1}")


class WorkerSettings:
    """For ``arq with_arq.WorkerSettings``."""

    functions = (noop, hop)
    redis_settings = RedisSettings.from_dsn(URL)
    max_jobs = 100
    poll_delay = LOOK


class Arq(Client):
    async def open(self) -> None:
        self.pool: ArqRedis = await create_pool(WorkerSettings.redis_settings)

    async def close(self) -> None:
        await self.pool.aclose()

    async def enqueue(self, count: int) -> None:
        await bounded((partial(self.pool.enqueue_job, "noop") for _ in range(count)), AT_ONCE)

    async def left(self) -> int:
        return await self.pool.zcard(self.pool.default_queue_name)

    async def gather(self, count: int) -> None:
        jobs: list[Job] = []

        async def enqueue() -> None:
            jobs.append(await self.pool.enqueue_job("noop"))

        await bounded((enqueue for _ in range(count)), AT_ONCE)
        await bounded((partial(job.result, poll_delay=LOOK_AT_MANY) for job in jobs), AT_ONCE)

    async def one(self) -> None:
        job = await self.pool.enqueue_job("noop")
        await job.result(poll_delay=LOOK)

    async def chain(self, length: int) -> None:
        name = uuid4().hex
        await self.pool.enqueue_job("hop", name, length - 1, _job_id=f"{name}-{length - 1}")
        last = Job(f"{name}-0", self.pool)
        while True:
            try:
                return await last.result(poll_delay=LOOK)
            except ResultNotFound:  # not enqueued yet
                await asyncio.sleep(LOOK)


if __name__ == "__main__":
    uvloop.run(serve(Arq()))
