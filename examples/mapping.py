"""Fan-out: one task for each item of a list that is known now, or of a list that an earlier task will return."""

import asyncio

from graflow import TaskContext, WorkflowEngine, best_effort, task, workflow

SHELF = {"Emma": 1815, "Dracula": 1897, "Ulysses": 1922, "Beowulf": None}


@task
async def catalogue(shelf: str) -> list[str]:
    return sorted(SHELF)


@task
async def date(ctx: TaskContext, title: str) -> int:  # `title` takes the item: it is the first open parameter
    now = await ctx.channel.atomic_add("at once")
    await ctx.channel.set("most at once", max(now, await ctx.channel.get("most at once", 0)))
    await asyncio.sleep(0.01)
    await ctx.channel.atomic_add("at once", -1)
    year = SHELF[title]
    if year is None:
        raise LookupError(f"nobody knows when {title} was written")
    return year


@task
async def timeline(ctx: TaskContext, date: list[int]) -> str:
    most = await ctx.channel.get("most at once")
    return f"{' - '.join(map(str, sorted(date)))} ({len(date)} dates, {most} looked up at once)"


with workflow("timeline") as wf:
    wf.add(catalogue >> date.map(catalogue, limit=2).with_policy(best_effort) >> timeline)


async def main() -> None:
    async with WorkflowEngine() as engine:
        known_now = date.map(["Emma", "Ulysses"])
        print("values: ", (await engine.execute(known_now)).output)

        result = await engine.execute(wf, inputs={"shelf": "B2"})
        print("results:", result[timeline])
        for name, error in result.errors.items():
            print(f"{name}: {error.__cause__}")


if __name__ == "__main__":
    asyncio.run(main())
