"""What type checkers infer of graphs. Checked, not run: see test_types.py."""

from __future__ import annotations

from collections.abc import Coroutine, Mapping
from typing import Any, assert_type

from graflow import (
    Chain,
    Channel,
    GroupPolicy,
    Node,
    ParallelGroup,
    RetryPolicy,
    RunResult,
    SyncChannel,
    SyncTaskContext,
    Task,
    TaskContext,
    TaskError,
    TaskGraph,
    TypedChannel,
    Workflow,
    at_least_n,
    best_effort,
    chain,
    critical,
    parallel,
    task,
    workflow,
)
from graflow.core.policy import GroupState
from graflow.core.task import AsyncTask, SyncTask


@task
async def fetch(limit: int) -> list[int]:
    return list(range(limit))


@task(retry=3, timeout=30)
def clean(fetch: list[int]) -> list[int]:
    return fetch


@task("other-id")
async def total(clean: list[int]) -> int:
    return sum(clean)


@task(id="page", retry=RetryPolicy(3, give_up_on=(ValueError,)), queue="web", priority="high", max_cycles=3)
async def page(ctx: TaskContext, url: str, depth: int = 0) -> float:
    await ctx.channel.set("k", url)
    return float(depth)


@task(handler="process")
def pixel(ctx: SyncTaskContext, path: str) -> bytes:
    ctx.channel.set("k", path)
    return path.encode()


@task
async def square(n: int) -> int:
    return n * n


@task(inject_context=True)
async def unannotated(ctx: Any, n: int) -> int:
    return n


@task
async def release(error: TaskError | None) -> None: ...


def decoration() -> None:
    an_async_task: AsyncTask[[int], list[int]] = fetch
    a_sync_task: SyncTask[[list[int]], list[int]] = clean
    with_context: AsyncTask[[Any, int], int] = unannotated
    a_task: Task[[int], list[int]] = fetch
    any_parameters: Task[..., list[int]] = fetch
    a_node: Node[list[int]] = clean
    a_wider_node: Node[object] = clean
    print(an_async_task, a_sync_task, with_context, a_task, any_parameters, a_node, a_wider_node)


async def calls(ctx: TaskContext, sync_ctx: SyncTaskContext) -> None:
    coroutine: Coroutine[Any, Any, list[int]] = fetch(3)
    assert_type(await coroutine, list[int])
    assert_type(await fetch(3), list[int])
    assert_type(clean([1]), list[int])
    assert_type(await page(ctx, "u", depth=1), float)
    assert_type(pixel(sync_ctx, "p"), bytes)


def operators() -> None:
    assert_type(fetch >> clean, Chain[list[int]])
    assert_type(fetch >> clean >> total, Chain[int])
    assert_type(total << clean, Chain[int])
    assert_type(chain(fetch, clean, total), Chain[int])
    assert_type(chain(*[fetch, fetch]), Chain[Any])
    assert_type(total | page, ParallelGroup[int | float])
    assert_type(total | page | pixel, ParallelGroup[int | float | bytes])
    assert_type(fetch >> (total | page) >> clean, Chain[list[int]])
    assert_type(fetch >> (total | page), Chain[list[int | float]])
    assert_type(parallel(total, total.clone("t2")), ParallelGroup[int])
    assert_type(parallel(total, square, name="both", policy="best_effort", limit=2), ParallelGroup[int])
    assert_type((fetch >> total) | (clean >> total), ParallelGroup[int])


def policies() -> None:
    group = total | page
    assert_type(group.with_policy(best_effort), ParallelGroup[int | float])
    group.with_policy("strict").with_policy(at_least_n(1, early=True)).with_policy(critical([total, "page"]))
    group.with_policy(decide).with_policy(lambda state: not state.failed)
    assert_type(at_least_n(2), GroupPolicy)


def decide(state: GroupState) -> bool:
    return len(state.succeeded) > len(state.failed)


def instances() -> None:
    assert_type(page.clone("p2", url="x"), Task[..., float])
    assert_type(page.bind(url="x"), Task[..., float])
    assert_type(page.bind(url="x").map([1, 2], parameter="depth"), ParallelGroup[float])
    many: list[Task[..., int]] = [square.clone(f"s{n}", n=n) for n in range(10)]
    assert_type(parallel(*many), ParallelGroup[int])


def maps() -> None:
    assert_type(square.map([1, 2]), ParallelGroup[int])
    assert_type(square.map(n for n in range(3)), ParallelGroup[int])
    assert_type(square.map(clean), ParallelGroup[int])
    assert_type(square.map(fetch >> clean, limit=2), ParallelGroup[int])
    assert_type(page.map(["a", "b"]), ParallelGroup[float])
    assert_type(pixel.map(["a"], name="pixels"), ParallelGroup[bytes])
    assert_type(total.map([[1], [2]]), ParallelGroup[int])
    assert_type(page.map(clean, parameter="depth"), ParallelGroup[float])
    assert_type(square.map(square.map(clean)), ParallelGroup[int])
    assert_type(square.map("clean"), ParallelGroup[int])
    assert_type(fetch >> square.map(fetch), Chain[list[int]])


def graphs() -> None:
    graph = TaskGraph("numbers")
    graph.add(fetch >> clean, total)
    graph.add_task(square)
    graph.add_edge("fetch", clean, on="always")
    assert_type(graph.topological_sort(), list[str])


def three(limit: int) -> list[int]:
    return [limit]


async def workflows() -> None:
    with workflow("plain") as plain:
        plain.add(fetch >> clean)
        plain.add_edge(clean, "release", on="failure")
    assert_type(plain, Workflow[Any])
    assert_type((await plain.execute(inputs={"limit": 3})).output, Any)
    with workflow("typed", start=fetch, output=total) as typed:
        typed.add(fetch >> clean >> total)
    assert_type(typed, Workflow[int])
    result = await typed.execute(start="clean", timeout=3.0, on_failure="continue", stubs={fetch: three})
    assert_type(result, RunResult[int])
    assert_type(typed.run().output, int)
    assert_type(result[fetch], list[int])
    assert_type(result[square.map([1])], list[int])
    assert_type(result["fetch"], Any)
    assert_type(result.errors, Mapping[str, Exception])


async def contexts(ctx: TaskContext, sync_ctx: SyncTaskContext) -> None:
    assert_type(await ctx.result_of(fetch), list[int])
    assert_type(await ctx.result_of("fetch"), Any)
    assert_type(sync_ctx.result_of(fetch), list[int])
    assert_type(ctx.channel, Channel)
    assert_type(sync_ctx.channel, SyncChannel)
    ctx.next_task(square.bind(n=2), goto=True, if_exists="ignore")
    ctx.next_task("fetch")
    ctx.goto(fetch | clean)
    ctx.next_iteration(3)
    ctx.next_iteration(n=3)
    ctx.terminate_workflow("done")
    ctx.logger.info("at %s", ctx.cycle)
    ctx.progress(1, 2, "half")
    ctx.emit({"token": "a"}, name="token")


async def channels(channel: Channel, sync: SyncChannel) -> None:
    assert_type(await channel.atomic_add("hits"), int)
    assert_type(await channel.atomic_add("seconds", 0.5), float)
    async with channel.lock("k", wait=10.0):
        await channel.append("log", 1, 2)
    with sync.lock("k"):
        assert_type(sync.atomic_add("hits", 2), int)
    numbers = TypedChannel(channel, int)
    assert_type(numbers, TypedChannel[int])
    assert_type(await numbers.get("x"), int | None)
    assert_type(await numbers.get("x", "none"), int | str)
    assert_type(await TypedChannel(channel, list[int]).get("x", []), list[int])
