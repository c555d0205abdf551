"""Mistakes that type checkers find: each line that is ignored here is an error. Checked, not run: see test_types.py."""

from __future__ import annotations

from graflow import SyncTaskContext, TaskContext, TaskGraph, TypedChannel, chain, parallel, task, workflow


@task
async def page(ctx: TaskContext, url: str) -> float:
    return 0.0


@task
async def count(n: int) -> int:
    return n


@task
def pixel(ctx: SyncTaskContext, path: str) -> bytes:
    return b""


@task
async def urls() -> list[str]:
    return []


def plain(n: int) -> int:
    return n


async def calls(ctx: TaskContext) -> None:
    await page(ctx, 3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await count("x")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    pixel(ctx, "x")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    print(await count(1) + urls())  # type: ignore[operator]  # pyright: ignore[reportOperatorIssue, reportUnknownArgumentType]


def operators() -> None:
    print(count >> 3)  # type: ignore[operator]  # pyright: ignore[reportOperatorIssue, reportUnknownArgumentType]
    print(count >> [count])  # type: ignore[operator]  # pyright: ignore[reportOperatorIssue, reportUnknownArgumentType]
    print([count] >> count)  # type: ignore[operator]  # pyright: ignore[reportOperatorIssue, reportUnknownArgumentType]
    print(count | (count, page))  # type: ignore[operator]  # pyright: ignore[reportOperatorIssue, reportUnknownArgumentType]
    print(count >> plain)  # type: ignore[operator]  # pyright: ignore[reportOperatorIssue, reportUnknownArgumentType]
    print(count >> "page")  # type: ignore[operator]  # pyright: ignore[reportOperatorIssue, reportUnknownArgumentType]
    chain(count, [count])  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
    parallel(count, plain)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def maps() -> None:
    page.map([1, 2])  # pyright: ignore[reportArgumentType, reportCallIssue]
    count.map(urls)  # pyright: ignore[reportArgumentType, reportCallIssue]
    count.map(["a"])  # pyright: ignore[reportArgumentType, reportCallIssue]
    count.map(3)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
    count.map([1], limit="2")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
    page.map(urls)  # as it should be


def options() -> None:
    task(retry="2")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
    task(priority="urgent")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
    task(timeouts=3)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    (count | page).with_policy("lenient")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    (count | page).with_policy(lambda: True)  # type: ignore[arg-type, misc]  # pyright: ignore[reportArgumentType]
    count.options.timeout = 3  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]
    count.id = "other"  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]


async def runs(ctx: TaskContext) -> None:
    with workflow("typed", output=count) as wf:
        wf.add(plain)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        wf.add_edge(count, page, on="finally")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    text: str = (await wf.execute()).output  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]
    print(text)
    await wf.execute(on_failure="ignore")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    TaskGraph("g").add_task(count >> page)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    wrong: str = await ctx.result_of(count)  # type: ignore[arg-type]  # pyright: ignore[reportAssignmentType]
    ctx.goto(3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    ctx.next_task(count | page)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    print(wrong)


async def channels(ctx: TaskContext, sync: SyncTaskContext) -> None:
    await ctx.channel.lock("k")  # type: ignore[misc]  # pyright: ignore[reportGeneralTypeIssues]
    await TypedChannel(ctx.channel, int).set("k", "s")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    TypedChannel(sync.channel, int)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
