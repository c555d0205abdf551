"""Quickstart: declare tasks, draw edges between them, and await the result."""

import asyncio

from graflow import WorkflowEngine, task, workflow

READINGS = {"Oslo": [-4.5, 1.0, 3.5], "Lima": [19.0, 24.5, 22.5]}


@task
async def fetch(city: str) -> list[float]:  # `city` is an input of the run
    await asyncio.sleep(0.01)  # as a request would
    return READINGS[city]


@task
def mean(fetch: list[float]) -> float:  # takes the result of the task `fetch`; a def runs in a thread
    return sum(fetch) / len(fetch)


@task
async def warmest(fetch: list[float]) -> float:
    return max(fetch)


@task
async def report(city: str, mean: float, warmest: float) -> str:
    return f"{city}: {mean:.1f} degrees on average, {warmest:.1f} at noon"


with workflow("weather") as wf:
    wf.add(fetch >> (mean | warmest) >> report)


async def main() -> None:
    async with WorkflowEngine() as engine:
        for city in READINGS:
            result = await engine.execute(wf, inputs={"city": city})
            print(result[report])
            print("from", ", ".join(f"{name}={value}" for name, value in sorted(result.results.items()) if name != report.id))


if __name__ == "__main__":
    asyncio.run(main())
