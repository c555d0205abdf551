"""Retries and timeouts: a policy, a task that knows when to come back, and one that takes too long."""

import asyncio

from graflow import RetryLater, RetryPolicy, TaskContext, WorkflowEngine, task
from graflow.errors import TaskFailedError


class Declined(Exception):
    pass


@task(retry=RetryPolicy(max_retries=3, initial_interval=0.01, backoff_factor=2.0, give_up_on=(Declined,)))
async def charge(ctx: TaskContext, card: str) -> str:
    print(f"  charging {card}, attempt {ctx.attempt}, key {ctx.idempotency_key}")
    if card == "expired":
        raise Declined("this card has expired")
    if ctx.attempt < 3:
        raise ConnectionError("the bank did not answer")
    return "paid"


@task
async def look_up_rate(ctx: TaskContext) -> float:
    if ctx.attempt == 1:
        raise RetryLater(after=0.02)  # the server said when; takes no retry and holds no worker
    return 1.08


@task(timeout=0.05, retry=1)
async def print_receipt(ctx: TaskContext) -> str:
    await asyncio.sleep(60 if ctx.attempt == 1 else 0)  # a timeout is a failure like any other, and retried
    return "printed"


async def main() -> None:
    async with WorkflowEngine() as engine:
        for card in ("visa", "expired"):
            try:
                result = await engine.execute(charge, inputs={"card": card}, run_id=f"order-{card}")
                print(result.output)
            except TaskFailedError as error:
                print(f"given up after attempt {error.attempt}: {error.__cause__}")

        handle = await engine.submit(look_up_rate >> print_receipt)
        async for event in handle.events():
            if event.type == "task_retrying":
                print(f"{event.task_id} again, after {event.data['error_type'].rpartition('.')[2]}")
        print((await handle.result()).results)


if __name__ == "__main__":
    asyncio.run(main())
