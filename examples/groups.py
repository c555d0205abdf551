"""Parallel groups: what happens to a group when some of its members fail is up to its policy."""

import asyncio

from graflow import GroupPolicy, WorkflowEngine, at_least_n, best_effort, critical, parallel, strict, task
from graflow.errors import ParallelGroupError

PRICES = {"airline": 310.0, "broker": 295.0, "charter": None, "outlet": None}


@task
async def quote(shop: str) -> float:
    await asyncio.sleep(0.01)
    price = PRICES[shop]
    if price is None:
        raise ConnectionError(f"{shop} does not answer")
    return price


@task
async def cheapest(quotes: dict[str, float]) -> str:  # a group's result: a list, or a dict by member for those who ask for one
    shop = min(quotes, key=lambda name: quotes[name])
    return f"{shop} for {quotes[shop]:.0f}"


def ask(*shops: str, policy: GroupPolicy = strict):
    return parallel(*(quote.clone(shop, shop=shop) for shop in shops), name="quotes", policy=policy)


async def main() -> None:
    async with WorkflowEngine() as engine:
        everybody = ask("airline", "broker")
        print("all answer:        ", (await engine.execute(everybody >> cheapest)).output)

        patient = ask("airline", "broker", "charter", policy=best_effort)
        print("any may fail:      ", (await engine.execute(patient >> cheapest)).output)

        two_of_four = ask(*PRICES, policy=at_least_n(2))
        print("two are enough:    ", (await engine.execute(two_of_four >> cheapest)).output)

        not_without = ask("airline", "outlet", policy=critical({"airline"}))
        print("one has to answer: ", (await engine.execute(not_without >> cheapest)).output)

        try:
            await engine.execute(ask("airline", "charter") >> cheapest)
        except ParallelGroupError as error:
            print("strict fails:      ", "; ".join(f"{name}: {cause.__cause__}" for name, cause in error.failed.items()))


if __name__ == "__main__":
    asyncio.run(main())
