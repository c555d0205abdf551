"""Channels: what the tasks of a run share. Counters, lists, locks, waiting for a key, values that expire, and typed values."""

import asyncio
from dataclasses import dataclass

from graflow import SyncTaskContext, TaskContext, TypedChannel, WorkflowEngine, task


@dataclass
class Show:
    title: str
    seats: int


@task
async def open_doors(ctx: TaskContext) -> None:
    shows = TypedChannel(ctx.channel, Show)
    await asyncio.sleep(0.02)
    await shows.set("show", Show("Hamlet", seats=50))
    await ctx.channel.set("discount", 0.5, ttl=0.005)  # seconds


@task
async def sell(ctx: TaskContext, desk: int) -> int:
    show = await TypedChannel(ctx.channel, Show).wait("show", timeout=5)  # woken when it is there; nobody polls
    sold = 0
    while await ctx.channel.atomic_add("sold") <= show.seats:  # no two desks are given the same number
        sold += 1
        await asyncio.sleep(0)
    return sold


@task
def print_tickets(ctx: SyncTaskContext, printer: str) -> None:  # a def task has the same channel, with methods that block its thread
    for page in (1, 2):
        with ctx.channel.lock("paper tray", wait=5):
            ctx.channel.append("printed", f"{printer}{page}")


@task
async def count(ctx: TaskContext, sell: list[int]) -> str:
    await asyncio.sleep(0.01)
    printed = ", ".join(sorted(await ctx.channel.get("printed")))
    return f"{sum(sell)} seats sold at {len(sell)} desks; printed {printed}; discount {await ctx.channel.get('discount', 'over')}"


async def main() -> None:
    graph = (open_doors | sell.map([1, 2, 3]) | print_tickets.map(["A", "B"])) >> count
    async with WorkflowEngine() as engine:
        result = await engine.execute(graph)
        print(result[count])


if __name__ == "__main__":
    asyncio.run(main())
