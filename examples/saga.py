"""A saga: failure edges undo what was done, in reverse, and an "always" edge closes the books whatever happened."""

import asyncio

from graflow import TaskError, WorkflowEngine, task, workflow


@task
async def book_flight() -> str:
    print("flight booked")
    return "LH 422"


@task
async def book_hotel(book_flight: str) -> str:
    print("hotel booked")
    return "Hotel Lisboa"


@task
async def pay(card: str) -> str:
    if card == "empty":
        raise ValueError("not enough money")
    print("paid")
    return "receipt 77"


@task
async def cancel_hotel(error: TaskError, book_hotel: str) -> None:  # a failure edge hands on what went wrong
    print(f"{book_hotel} cancelled, because {error.task_id} failed: {error.message}")


@task
async def cancel_flight(book_flight: str) -> None:
    print(f"{book_flight} cancelled")


@task
async def write_to_ledger(error: TaskError | None) -> str:
    return "trip not sold" if error else "trip sold"


with workflow("trip", output=write_to_ledger) as wf:
    wf.add(book_flight >> book_hotel >> pay)
    wf.add_edge(pay, cancel_hotel, on="failure")
    wf.add(cancel_hotel >> cancel_flight)
    wf.add_edge(pay, write_to_ledger, on="always")


async def main() -> None:
    async with WorkflowEngine() as engine:
        for card in ("gold", "empty"):
            result = await engine.execute(wf, inputs={"card": card})
            print(f"-> {result.output}; the run {result.status}, tasks failed: {list(result.errors) or 'none'}")


if __name__ == "__main__":
    asyncio.run(main())
