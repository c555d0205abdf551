"""Tasks that workers find by their names, among which some deal with code that has none."""

from __future__ import annotations

from graflow import TaskContext, task
from graflow.wire.signing import Pickled


@task
async def one() -> int:
    return 1


@task
async def makes_a_lambda(ctx: TaskContext) -> int:
    ctx.next_task(task(id="made")(lambda: 2))
    return 1


@task
async def opens(model: Pickled[object]) -> str:
    return type(model.value).__name__


@task(queue="later")
async def later() -> int:
    return 2
