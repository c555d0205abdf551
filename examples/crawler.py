"""A crawler: tasks made while the run goes on, each page adding those that it links to."""

import asyncio

from graflow import Task, TaskContext, WorkflowEngine, parallel, task

SITE = {
    "/": ["/about", "/blog"],
    "/about": ["/", "/team"],
    "/blog": ["/blog/asyncio", "/blog/graphs", "/about"],
    "/blog/asyncio": ["/blog", "/missing"],
    "/blog/graphs": ["/blog/asyncio"],
    "/team": ["/"],
}


@task
async def visit(ctx: TaskContext, path: str, depth: int = 0) -> int:
    await asyncio.sleep(0.01)
    if path not in SITE:
        await ctx.channel.append("broken", path)
        return 0
    for link in SITE[path]:
        if depth < 3:  # another page may have added the link already: that is no error here
            ctx.next_task(page(link, depth + 1), if_exists="ignore")
    return len(SITE[path])


def page(path: str, depth: int) -> Task[..., int]:
    return visit.clone(path, path=path, depth=depth)


@task
async def broken_links(ctx: TaskContext) -> list[str]:
    return await ctx.channel.get("broken", [])


async def main() -> None:
    async with WorkflowEngine() as engine:
        crawl = parallel(page("/", 0), name="crawl")  # tasks belong to the group of their maker, and it waits for all of them
        result = await engine.execute(crawl >> broken_links)
        for path in sorted(name for name in result.results if name.startswith("/")):
            print(f"{path:<15} {result[path]} links")
        print("broken:", ", ".join(result[broken_links]))


if __name__ == "__main__":
    asyncio.run(main())
