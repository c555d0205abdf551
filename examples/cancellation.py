"""Cancellation: from outside, by leaving a block, by a timeout, and by a task. Tasks get to clean up, and the run waits for them."""

import asyncio

from graflow import TaskContext, WorkflowEngine, task
from graflow.errors import RunTimeoutError, WorkflowCancelledError


@task
async def bake(ctx: TaskContext, cake: str) -> str:
    ctx.emit("in the oven")
    try:
        await asyncio.sleep(3600)
    finally:
        print(f"  oven off, the {cake} is out")
    return cake


@task
async def smell_smoke(ctx: TaskContext) -> None:
    await asyncio.sleep(0.01)
    ctx.cancel_workflow("smoke")


async def in_the_oven(handle) -> None:
    async for event in handle.events():
        if event.type == "message":
            return


async def main() -> None:
    async with WorkflowEngine() as engine:
        handle = await engine.submit(bake, inputs={"cake": "sponge"})
        await in_the_oven(handle)
        await handle.cancel("the guests are not coming")  # returns when the tasks have stopped
        print("from outside:", (await handle.peek()).status)

        async with await engine.submit(bake, inputs={"cake": "tart"}) as handle:  # as long as the block, and no longer
            await in_the_oven(handle)
        print("left behind:", (await handle.peek()).status)

        try:
            await engine.execute(bake, inputs={"cake": "pie"}, timeout=0.02)
        except RunTimeoutError as error:
            print(f"too slow: over after {error.timeout} s")

        try:
            await engine.execute(bake | smell_smoke, inputs={"cake": "strudel"})
        except WorkflowCancelledError as error:
            print(f"by a task: {error.task_id} said {error.reason!r}")


if __name__ == "__main__":
    asyncio.run(main())
