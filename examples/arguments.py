"""Arguments: where a parameter finds its value, and how the value is made to fit the annotation."""

import asyncio
from dataclasses import dataclass
from datetime import date
from enum import StrEnum

from graflow import WorkflowEngine, task
from graflow.errors import TaskFailedError


class Currency(StrEnum):
    EUR = "EUR"
    JPY = "JPY"


@dataclass
class Order:
    id: str
    ordered: date
    currency: Currency
    lines: dict[str, float]


@task
async def receive() -> dict:  # what a web hook sends
    return {"id": "A-17", "ordered": "2026-11-21", "currency": "EUR", "lines": {"tea": 12, "pot": 29.5}}


@task
async def price(receive: Order, discount: float) -> float:  # the upstream result of that name, converted; a value of the channel
    return round(sum(receive.lines.values()) * (1 - discount), 2)


@task
async def invoice(total: float, receive: Order, copies: int, language: str = "en") -> str:  # the only predecessor; result; bound; default
    return f"{receive.id} of {receive.ordered:%d %B}: {total} {receive.currency.value}, {copies} copies in {language}"


async def main() -> None:
    graph = receive >> price >> invoice.bind(copies=2)
    async with WorkflowEngine() as engine:
        print((await engine.execute(graph, inputs={"discount": 0.1})).output)
        print((await engine.execute(graph, inputs={"discount": 0, "language": "fr"})).output)
        try:
            await engine.execute(graph, inputs={"discount": "ten percent"})
        except TaskFailedError as error:
            print(f"{type(error.__cause__).__name__}: {error.__cause__}")


if __name__ == "__main__":
    asyncio.run(main())
