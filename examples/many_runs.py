"""Several thousand runs at once in one process: each has its channel, its results and its own fate."""

import asyncio
import random
import time
from collections import Counter

from graflow import RetryPolicy, RunResult, TaskContext, WorkflowEngine, task, workflow
from graflow.errors import WorkflowCancelledError

RUNS = 5_000


@task
async def search(ctx: TaskContext, order: int) -> str:
    await asyncio.sleep(random.Random(order).random() / 10)
    return f"warehouse {order % 7}"


@task(retry=RetryPolicy(2, initial_interval=0.01))
async def pack(ctx: TaskContext, search: str, order: int) -> int:
    if order % 10 == 0 and ctx.attempt == 1:
        raise RuntimeError("the box was too small")
    if order % 1000 == 999:
        ctx.cancel_workflow("sold out")
    return order


@task
async def label(search: str, pack: int) -> str:
    return f"order {pack} from {search}"


with workflow("order") as wf:
    wf.add(search >> pack >> label)


async def main() -> None:
    async with WorkflowEngine(concurrency=RUNS) as engine:
        began = time.perf_counter()
        orders = (engine.execute(wf, inputs={"order": number}) for number in range(RUNS))
        outcomes = await asyncio.gather(*orders, return_exceptions=True)
        seconds = time.perf_counter() - began
        for fate, count in Counter(type(each).__name__ for each in outcomes).items():
            print(f"{count:>5} x {fate}")
        print(next(each.output for each in outcomes if isinstance(each, RunResult)))
        print(next(each.reason for each in outcomes if isinstance(each, WorkflowCancelledError)))
        print(f"{3 * RUNS / seconds:,.0f} tasks a second")


if __name__ == "__main__":
    asyncio.run(main())
