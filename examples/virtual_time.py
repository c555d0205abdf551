"""Testing: a graph that takes days is tested in a moment, on a virtual clock, with stubs in place of the world."""

import asyncio
import time
from unittest.mock import AsyncMock

from graflow import RetryPolicy, TaskContext, task, testing


@task(timeout=3600, retry=RetryPolicy(3, initial_interval=600, backoff_factor=1, jitter=False))
async def send_reminder(customer: str) -> None:
    raise ConnectionError("tests send no mail")


@task
async def wait_for_payment(ctx: TaskContext) -> bool:
    try:
        await ctx.channel.wait("paid", timeout=14 * 86_400)
    except TimeoutError:
        return False
    return True


@task
async def decide(ctx: TaskContext, wait_for_payment: bool) -> str:
    if not wait_for_payment:
        ctx.next_task("dunning")
    return "paid" if wait_for_payment else "overdue"


graph = send_reminder >> wait_for_payment >> decide


async def test_a_customer_who_never_pays_is_overdue_after_two_weeks() -> None:
    async with testing.engine() as engine:
        mail = AsyncMock(side_effect=[ConnectionError, None])
        result = await engine.execute(graph, inputs={"customer": "K."}, stubs={send_reminder: mail, decide: lambda: "overdue"})
        assert result.duration == 14 * 86_400 + 600
        mail.assert_awaited_with(customer="K.")
        print(f"{result.output} after {result.duration / 86_400:.3f} days and {mail.await_count} mails")


async def test_who_has_not_paid_is_sent_to_dunning() -> None:
    ctx = testing.context()
    assert await decide(ctx, wait_for_payment=False) == "overdue"
    assert ctx.directives == [("next_task", "dunning")]
    print("asked for:", ctx.directives)


if __name__ == "__main__":
    began = time.perf_counter()
    asyncio.run(test_a_customer_who_never_pays_is_overdue_after_two_weeks())
    asyncio.run(test_who_has_not_paid_is_sent_to_dunning())
    print("in a moment" if time.perf_counter() - began < 2 else "slowly")
