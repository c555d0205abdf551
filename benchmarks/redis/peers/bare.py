"""What redis-py can do when nothing else is asked of it: a stream, one read and one script for many jobs.

Not a contender but the ceiling: it knows one function, which takes no arguments, and a chain is a number that is counted down. It does keep
results, and whoever lost a message cannot commit it.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any
from uuid import uuid4

import msgspec
import uvloop
from driving import URL, Client, Wake, serve
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ResponseError

STREAM, GROUP, LEFT, RESULTS, DONE = "jobs", "workers", "left", "results:", "done:"
AT_ONCE = 500
SLICE = 500
BLOCK = 1000

ENQUEUE = """
-- ARGV: the run, how many jobs it has in all (only with the first of them), and jobs.
if ARGV[2] ~= '' then redis.call('HSET', KEYS[2], ARGV[1], ARGV[2]) end
for i = 3, #ARGV do redis.call('XADD', KEYS[1], '*', 'job', ARGV[i]) end
"""

COMMIT = """
-- ARGV: of each job its message id, its run, its number, its result, and the job that follows or ''.
local done = {}
for i = 1, #ARGV, 5 do
    local run = ARGV[i + 1]
    if redis.call('XACK', KEYS[1], 'workers', ARGV[i]) == 1 then
        redis.call('XDEL', KEYS[1], ARGV[i])
        redis.call('HSET', 'results:' .. run, ARGV[i + 2], ARGV[i + 3])
        if ARGV[i + 4] ~= '' then redis.call('XADD', KEYS[1], '*', 'job', ARGV[i + 4]) end
        done[run] = (done[run] or 0) + 1
    end
end
for run, count in pairs(done) do
    if redis.call('HINCRBY', KEYS[2], run, -count) == 0 then redis.call('PUBLISH', 'done:' .. run, '') end
end
"""


class Job(msgspec.Struct, array_like=True):
    """A message: ``after`` jobs follow this one."""

    run: str
    number: int
    after: int = 0


encode = msgspec.msgpack.Encoder().encode
decode = msgspec.msgpack.Decoder(Job).decode


def connect() -> Redis:
    """A client that does what it is told, once: no second try that nobody knows of."""
    return Redis.from_url(URL, protocol=2, socket_timeout=None, retry=Retry(NoBackoff(), 0))


async def make_group(redis: Redis) -> None:
    """The stream and its consumer group, whoever comes first."""
    try:
        await redis.xgroup_create(STREAM, GROUP, id="0", mkstream=True)
    except ResponseError as error:
        if not str(error).startswith("BUSYGROUP"):
            raise


async def noop() -> None:
    """Nothing."""


class Worker:
    """Reads as many jobs as there is room for; one commit is under way while the outcomes of the next are collected."""

    def __init__(self) -> None:
        self.redis, self.reader = connect(), connect()
        self.commit = self.redis.register_script(COMMIT)
        self.outcomes: list[Any] = []
        self.some = asyncio.Event()
        self.running = 0
        self.room = asyncio.Event()

    async def run(self) -> None:
        await make_group(self.redis)
        async with asyncio.TaskGroup() as group:
            group.create_task(self.fetch(group))
            group.create_task(self.settle())

    async def fetch(self, group: asyncio.TaskGroup) -> None:
        while True:
            while (free := AT_ONCE - self.running) <= 0:
                self.room.clear()
                await self.room.wait()
            for _, messages in await self.reader.xreadgroup(GROUP, "worker", {STREAM: ">"}, count=free, block=BLOCK):
                self.running += len(messages)
                for name, fields in messages:
                    group.create_task(self.attempt(name, decode(fields[b"job"])))

    async def attempt(self, name: bytes, job: Job) -> None:
        result = await noop()
        following = encode(Job(job.run, job.number + 1, job.after - 1)) if job.after else ""
        self.outcomes += (name, job.run, job.number, encode(result), following)
        self.some.set()

    async def settle(self) -> None:
        while True:
            await self.some.wait()
            self.some.clear()
            batch, self.outcomes = self.outcomes, []
            self.running -= len(batch) // 5
            self.room.set()
            await self.commit(keys=[STREAM, LEFT], args=batch)


class Publishing:
    """A message on a channel that somebody listens to."""

    def __init__(self, redis: Redis) -> None:
        self.redis, self.listener = redis, redis.pubsub()

    @classmethod
    async def begin(cls, redis: Redis) -> Publishing:
        publishing = cls(redis)
        await publishing.listener.subscribe("wake")
        await publishing.listener.get_message(timeout=None)
        return publishing

    async def prepare(self) -> None:
        pass

    async def wait(self) -> None:
        await self.listener.get_message(timeout=None)

    async def release(self) -> None:
        await self.redis.publish("wake", "")


class Bare(Client):
    async def open(self) -> None:
        self.redis = connect()
        self.put = self.redis.register_script(ENQUEUE)
        await make_group(self.redis)
        self.waiting: dict[str, asyncio.Future[None]] = {}
        self.listener = self.redis.pubsub()
        await self.listener.psubscribe(DONE + "*")
        await self.listener.get_message(timeout=None)
        self.listening = asyncio.create_task(self._listen())

    async def close(self) -> None:
        self.listening.cancel()
        await self.listener.aclose()
        await self.redis.aclose()

    async def enqueue(self, count: int) -> None:
        await self._submit("enqueued", [Job("enqueued", number) for number in range(count)], count)

    async def left(self) -> int:
        return await self.redis.xlen(STREAM)

    async def gather(self, count: int) -> None:
        run = uuid4().hex
        await self._run(run, [Job(run, number) for number in range(count)], count)

    async def one(self) -> None:
        await self.chain(1)

    async def chain(self, length: int) -> None:
        run = uuid4().hex
        await self._run(run, [Job(run, 0, length - 1)], length)

    async def wakes(self) -> dict[str, Wake]:
        return {"publish": await Publishing.begin(self.redis)}

    async def _run(self, run: str, jobs: list[Job], total: int) -> None:
        self.waiting[run] = asyncio.get_running_loop().create_future()
        await self._submit(run, jobs, total)
        await self.waiting[run]
        results = await self.redis.hvals(RESULTS + run)
        assert len(results) == total

    async def _submit(self, run: str, jobs: list[Job], total: int) -> None:
        payloads = [encode(job) for job in jobs]
        for start in range(0, len(payloads), SLICE):
            await self.put(keys=[STREAM, LEFT], args=[run, "" if start else total, *payloads[start : start + SLICE]])

    async def _listen(self) -> None:
        async for message in self.listener.listen():
            run = message["channel"].decode().removeprefix(DONE)
            if done := self.waiting.pop(run, None):
                done.set_result(None)


if __name__ == "__main__":
    uvloop.run(Worker().run() if sys.argv[1:] == ["worker"] else serve(Bare()))
