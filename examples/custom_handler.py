"""A handler of one's own: how a task is run, and hooks that are told how it went."""

import asyncio
from typing import Any

from graflow import RetryPolicy, TaskContext, WorkflowEngine, task
from graflow.handlers import Handler, TaskCall


class TelescopeHandler(Handler):
    """Runs tasks that need the telescope: one at a time, with the dome open."""

    concurrency = 1

    async def start(self) -> None:
        print("dome opens")

    async def stop(self) -> None:
        print("dome closes")

    async def run(self, call: TaskCall) -> Any:
        print(f"  turn to {call.arguments['target']}")
        return await call.invoke()  # a def would go to a thread

    async def on_task_success(self, call: TaskCall, duration: float) -> None:
        print(f"  {call.task_id} seen")

    async def on_task_failure(self, call: TaskCall, error: BaseException, duration: float) -> None:
        print(f"  {call.task_id}, attempt {call.attempt}: {error}")

    async def on_task_timeout(self, call: TaskCall, duration: float) -> None:
        print(f"  {call.task_id}, attempt {call.attempt}: nothing to see")


@task(handler="telescope", timeout=0.05, retry=RetryPolicy(1, initial_interval=0.01))
async def observe(ctx: TaskContext, target: str) -> tuple[float, str]:
    if ctx.attempt == 1 and target == "Vega":
        raise RuntimeError("a cloud")
    if ctx.attempt == 1 and target == "Pluto":
        await asyncio.sleep(60)
    return {"Vega": 0.03, "Mars": -1.2, "Pluto": 14.4}[target], target


@task
async def brightest(observe: list[tuple[float, str]]) -> str:
    return min(observe)[1]


async def main() -> None:
    night = observe.map(["Vega", "Mars", "Pluto"]) >> brightest
    async with WorkflowEngine(handlers={"telescope": TelescopeHandler()}) as engine:
        print("brightest:", (await engine.execute(night)).output)


if __name__ == "__main__":
    asyncio.run(main())
