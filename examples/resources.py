"""Resources: a lifespan opens what tasks share when the engine starts, and closes it when the engine ends."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from threading import Lock
from typing import Any

from graflow import SyncTaskContext, WorkflowEngine, task


@asynccontextmanager
async def library() -> AsyncIterator[dict[str, Any]]:
    db = await asyncio.to_thread(sqlite3.connect, ":memory:", check_same_thread=False)
    print("library open")
    try:
        yield {"db": db, "lock": Lock()}  # seen by tasks as ctx.resources
    finally:
        await asyncio.to_thread(db.close)
        print("library closed")


def query(ctx: SyncTaskContext, sql: str, *values: object) -> list:
    with ctx.resources["lock"]:
        return ctx.resources["db"].execute(sql, values).fetchall()


@task
def build(ctx: SyncTaskContext) -> None:
    query(ctx, "create table loans (book text, reader text)")


@task
def lend(ctx: SyncTaskContext, book: str) -> None:
    query(ctx, "insert into loans values (?, ?)", book, f"reader {len(book) % 3}")


@task
def report(ctx: SyncTaskContext) -> dict[str, int]:
    return dict(query(ctx, "select reader, count(*) from loans group by reader order by reader"))


async def main() -> None:
    books = ["Emma", "Dracula", "Middlemarch", "Persuasion", "Villette"]
    async with WorkflowEngine(lifespan=library) as engine:
        result = await engine.execute(build >> lend.map(books) >> report)
        for reader, loans in result[report].items():
            print(f"{reader}: {loans} books")


if __name__ == "__main__":
    asyncio.run(main())
