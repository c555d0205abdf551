"""SAQ, after its documentation: results are kept, and a job leaves the list of active ones when its result is written.

A caller that uses ``apply`` or ``map`` polls; ``listen`` is the documented way that does not.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any
from uuid import uuid4

import uvloop
from driving import URL, Client, bounded, serve
from saq import Queue, Status

AT_ONCE = 50
SLICE = 500

asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
queue = Queue.from_url(URL, max_concurrent_ops=AT_ONCE)


async def noop(ctx: dict[str, Any]) -> None:
    """Nothing."""


async def hop(ctx: dict[str, Any], *, chain: str, left: int) -> None:
    """One of a chain, which enqueues the next."""
    if left:
        await ctx["worker"].queue.enqueue("hop", chain=chain, left=left - 1, key=f"{chain}-{left - 1}")


settings = {"queue": queue, "functions": [noop, hop], "concurrency": 32}
"""For ``saq with_saq.settings``."""


class Saq(Client):
    async def open(self) -> None:
        await queue.connect()
        # Whoever listens last closes the subscription, and a message that comes before the next one stands is lost: keep it standing.
        self.standing = asyncio.create_task(queue.listen(["nobody"], lambda key, status: False, timeout=None))
        await asyncio.sleep(0.1)

    async def close(self) -> None:
        self.standing.cancel()
        await queue.disconnect()

    async def enqueue(self, count: int) -> None:
        await bounded((partial(queue.enqueue, "noop") for _ in range(count)), AT_ONCE)

    async def left(self) -> int:
        return await queue.count("incomplete")

    async def gather(self, count: int) -> None:
        keys = [uuid4().hex for _ in range(count)]
        waiting = set(keys)

        def finished(key: str, status: Status) -> bool:
            if status is Status.COMPLETE:
                waiting.discard(key)
            return not waiting

        listening = asyncio.create_task(queue.listen(keys, finished, timeout=None))
        await asyncio.sleep(0)
        await bounded((partial(queue.enqueue, "noop", key=key) for key in keys), AT_ONCE)
        await listening
        for start in range(0, count, SLICE):
            jobs = await queue.jobs(keys[start : start + SLICE])
            assert all(job is not None and job.status is Status.COMPLETE for job in jobs)

    async def one(self) -> None:
        await self._until_complete(uuid4().hex, "noop")

    async def chain(self, length: int) -> None:
        name = uuid4().hex
        await self._until_complete(f"{name}-0", "hop", chain=name, left=length - 1)

    async def _until_complete(self, last: str, function: str, **arguments: object) -> None:
        listening = asyncio.create_task(queue.listen([last], lambda key, status: status is Status.COMPLETE, timeout=None))
        await asyncio.sleep(0)
        await queue.enqueue(function, key=last if not arguments else f"{arguments['chain']}-{arguments['left']}", **arguments)
        await listening
        job = await queue.job(last)
        assert job is not None
        assert job.status is Status.COMPLETE


if __name__ == "__main__":
    uvloop.run(serve(Saq()))
