"""streaQ, after its documentation: results are kept, a task is acknowledged when its result is written, batches go by ``enqueue_many``.

Of the peers it alone has dependencies between tasks, so a fan-out is joined and a chain is linked on the server.
"""

from __future__ import annotations

import uvloop
from driving import URL, Client, serve
from streaq import Worker
from streaq.task import Task

SLICE = 1000

worker = Worker(redis_url=URL, concurrency=32, anyio_kwargs={"use_uvloop": True})
"""For ``streaq run with_streaq:worker``."""


@worker.task(silent=True)
async def noop() -> None:
    """Nothing."""


@worker.task(silent=True)
async def hop(before: None) -> None:
    """One of a chain, which takes what the one before returned."""


class Streaq(Client):
    async def open(self) -> None:
        await worker.__aenter__()

    async def close(self) -> None:
        await worker.__aexit__(None, None, None)

    async def enqueue(self, count: int) -> None:
        await self._enqueue([noop.enqueue() for _ in range(count)])

    async def left(self) -> int:
        return await worker.queue_size()

    async def gather(self, count: int) -> None:
        # To ask for each result takes a subscription each, which costs a tenth of a second: a task after all of them is the fast way to wait.
        tasks = [noop.enqueue() for _ in range(count)]
        await self._enqueue(tasks)
        await self._succeeded(noop.enqueue().start(after=[task.id for task in tasks]))

    async def fan(self, count: int) -> None:
        await self.gather(count)  # the last task is the join already

    async def one(self) -> None:
        await self._succeeded(noop.enqueue())

    async def chain(self, length: int) -> None:
        task: Task = noop.enqueue()
        for _ in range(length - 1):
            task = task.then(hop)
        await self._succeeded(task)

    async def _enqueue(self, tasks: list[Task]) -> None:
        for start in range(0, len(tasks), SLICE):
            await worker.enqueue_many(tasks[start : start + SLICE])

    async def _succeeded(self, task: Task) -> None:
        result = await (await task).result()
        assert result.success


if __name__ == "__main__":
    uvloop.run(serve(Streaq()))
