"""Graflow: the engine on one side and ``graflow-aworker`` on the other, with nothing set that is not the default."""

from __future__ import annotations

from contextlib import AsyncExitStack
from itertools import count as counting

import uvloop
from bare import Publishing, connect
from driving import URL, Client, Meter, Wake, serve

from benchmarks.redis.jobs import draw_chain, draw_fan, draw_many, noop
from graflow import RunHandle, WorkflowEngine


class Barrier:
    """A barrier of one party, at which another process's engine would wait: it is released by an engine of its own."""

    def __init__(self, here: WorkflowEngine, there: WorkflowEngine) -> None:
        self.here, self.there = here.backend.coordinator, there.backend.coordinator
        self.numbers = counting()

    async def prepare(self) -> None:
        self.group = f"barrier-{next(self.numbers)}"
        await self.here.create_barrier(self.group, 1)

    async def wait(self) -> None:
        assert await self.here.wait_barrier(self.group)

    async def release(self) -> None:
        assert await self.there.signal_barrier(self.group, "party")


class Graflow(Client):
    def __init__(self) -> None:
        self.stack = AsyncExitStack()
        self.names = (f"run{number}" for number in counting())

    async def open(self) -> None:
        self.engine = await self.stack.enter_async_context(WorkflowEngine(URL))

    async def close(self) -> None:
        await self.stack.aclose()

    async def enqueue(self, count: int) -> None:
        self.count = count
        self.handle: RunHandle = await self.engine.submit(draw_many(next(self.names), count))

    async def left(self) -> int:
        return self.count if await self.handle.status() == "running" else 0

    async def drain(self, meter: Meter) -> int:
        events = self.handle.events()
        async for event in events:
            if event.type == "task_started":
                break
        meter.restart()
        await events.aclose()
        await self.handle.result()
        return self.count

    async def gather(self, count: int) -> None:
        result = await self.engine.execute(draw_many(next(self.names), count))
        assert result.output == [None] * count

    async def fan(self, count: int) -> None:
        await self.engine.execute(draw_fan(next(self.names), count))

    async def one(self) -> None:
        await self.engine.execute(noop)

    async def chain(self, length: int) -> None:
        await self.engine.execute(draw_chain(next(self.names), length))

    async def wakes(self) -> dict[str, Wake]:
        other = await self.stack.enter_async_context(WorkflowEngine(URL))
        return {"publish": await Publishing.begin(connect()), "barrier": Barrier(self.engine, other)}


if __name__ == "__main__":
    uvloop.run(serve(Graflow()))
