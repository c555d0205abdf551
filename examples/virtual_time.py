"""Testing: a graph that takes weeks is tested in a moment, on a virtual clock, with stubs in place of the world."""

import asyncio
import time
from unittest.mock import AsyncMock

from graflow import RetryPolicy, TaskContext, task, testing

DAY = 86_400


@task(timeout=3600, retry=RetryPolicy(3, initial_interval=600, max_interval=600, jitter=False))
async def send_bill(customer: str) -> None:
    raise ConnectionError("tests send no mail")


@task
async def await_payment(ctx: TaskContext) -> bool:
    try:
        await ctx.channel.wait("paid", timeout=14 * DAY)
    except TimeoutError:
        return False
    return True


@task
async def close(ctx: TaskContext, await_payment: bool) -> str:
    if not await_payment:
        ctx.next_task(send_bill.clone("reminder"))
    return "paid" if await_payment else "overdue"


async def test_who_does_not_pay_is_reminded_after_two_weeks() -> None:
    async with testing.engine() as engine:
        mail = AsyncMock(side_effect=[ConnectionError, None, None])
        result = await engine.execute(send_bill >> await_payment >> close, inputs={"customer": "K."}, stubs={send_bill: mail})
        assert result.duration == 600 + 14 * DAY
        mail.assert_awaited_with(customer="K.")
        print(f"{result.output} after {result.duration / DAY:.3f} days and {mail.await_count} attempts to mail")


async def test_who_has_paid_is_left_alone() -> None:
    ctx = testing.context(channel={"paid": True})
    assert await await_payment(ctx)
    assert await close(ctx, True) == "paid"
    assert ctx.directives == []
    print("nobody else is reminded")


if __name__ == "__main__":
    began = time.perf_counter()
    asyncio.run(test_who_does_not_pay_is_reminded_after_two_weeks())
    asyncio.run(test_who_has_paid_is_left_alone())
    print("tested in a moment" if time.perf_counter() - began < 2 else "tested slowly")
