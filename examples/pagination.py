"""Pagination: a task that visits itself with next_iteration until it has seen everything; what follows it runs once, afterwards."""

import asyncio
from dataclasses import dataclass

from graflow import TaskContext, WorkflowEngine, task

STARS = ["Sirius", "Canopus", "Arcturus", "Vega", "Capella", "Rigel", "Procyon", "Achernar"]


@dataclass
class Page:
    names: list[str]
    following: int | None


async def request(start: int, size: int) -> Page:
    await asyncio.sleep(0.01)
    names = STARS[start : start + size]
    return Page(names, start + size if start + size < len(STARS) else None)


@task(max_cycles=100, retry=2)  # each page has an attempt budget of its own
async def download(ctx: TaskContext, start: int = 0, size: int = 3) -> int:
    page = await request(start, size)
    await ctx.channel.append("stars", *page.names)
    print(f"page {ctx.cycle}: {', '.join(page.names)}")
    if page.following is not None and ctx.can_iterate():
        ctx.next_iteration(page.following)  # fills the first open parameter; others go by name: next_iteration(size=5)
    return ctx.cycle


@task
async def summary(ctx: TaskContext, download: int) -> str:
    stars = await ctx.channel.get("stars")
    return f"{len(stars)} stars on {download} pages, from {stars[0]} to {stars[-1]}"


async def main() -> None:
    async with WorkflowEngine() as engine:
        print((await engine.execute(download >> summary)).output)
        print((await engine.execute(download.bind(size=6) >> summary)).output)


if __name__ == "__main__":
    asyncio.run(main())
