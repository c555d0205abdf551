"""taskiq with taskiq-redis, after their documentation: the stream broker, which acknowledges, and a result backend."""

from __future__ import annotations

from functools import partial
from uuid import uuid4

import uvloop
from driving import URL, Client, bounded, serve
from redis.asyncio import Redis
from taskiq import AsyncTaskiqTask
from taskiq_redis import RedisAsyncResultBackend, RedisStreamBroker

LOOK = 0.002
"""Seconds between two looks at a result."""
AT_ONCE = 32

results: RedisAsyncResultBackend[None] = RedisAsyncResultBackend(URL, result_ex_time=3600)
broker = RedisStreamBroker(URL).with_result_backend(results)
"""For ``taskiq worker with_taskiq:broker``."""


@broker.task("noop")
async def noop() -> None:
    """Nothing."""


@broker.task("hop")
async def hop(chain: str, left: int) -> None:
    """One of a chain, which enqueues the next."""
    if left:
        await hop.kicker().with_task_id(f"{chain}-{left - 1}").kiq(chain, left - 1)


class Taskiq(Client):
    async def open(self) -> None:
        await broker.startup()
        self.redis = Redis.from_url(URL)

    async def close(self) -> None:
        await broker.shutdown()
        await self.redis.aclose()

    async def enqueue(self, count: int) -> None:
        await bounded((noop.kiq for _ in range(count)), AT_ONCE)

    async def left(self) -> int:
        [group] = await self.redis.xinfo_groups(broker.queue_name)
        return group["lag"] + group["pending"]

    async def gather(self, count: int) -> None:
        tasks: list[AsyncTaskiqTask[None]] = []

        async def enqueue() -> None:
            tasks.append(await noop.kiq())

        await bounded((enqueue for _ in range(count)), AT_ONCE)
        await bounded((partial(self._result, task) for task in tasks), AT_ONCE)

    async def _result(self, task: AsyncTaskiqTask[None]) -> None:
        result = await task.wait_result(check_interval=LOOK)
        assert not result.is_err

    async def one(self) -> None:
        await self._result(await noop.kiq())

    async def chain(self, length: int) -> None:
        name = uuid4().hex
        await hop.kicker().with_task_id(f"{name}-{length - 1}").kiq(name, length - 1)
        await self._result(AsyncTaskiqTask(f"{name}-0", results))


if __name__ == "__main__":
    uvloop.run(serve(Taskiq()))
