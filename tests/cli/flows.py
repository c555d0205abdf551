"""Workflows that the tests write into files."""

NUMBERS = """
@task
def numbers(limit: int = 4) -> list[int]:
    print("counting")
    return list(range(limit))

@task
async def square(n: int) -> int:
    if n == 3:
        raise ValueError("three is\\nodd")
    return n * n

@task
async def largest(numbers: list[int]) -> int:
    return max(numbers)

@task
async def report(square: list[int], largest: int) -> str:
    return f"{square} up to {largest}"

with workflow("squares") as wf:
    wf.add(numbers >> (square.map(numbers).with_policy(best_effort) | largest) >> report)
"""

FAILING = """
import asyncio

@task
async def fetch():
    raise LookupError("no\\n  such [bold]page[/bold]")

@task
async def clean(fetch): ...

@task
async def other() -> int:
    await asyncio.sleep(0)
    return 1

with workflow("failing") as wf:
    wf.add(fetch >> clean, other)
"""
