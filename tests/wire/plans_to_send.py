"""Tasks, policies and plans that travel, and whether two plans are equal."""

from __future__ import annotations

import collections
import dataclasses
import datetime
import decimal
import pathlib
import uuid
from array import array
from collections.abc import Sequence
from typing import Any

from graflow.core.compiler import compile_plan
from graflow.core.context import SyncTaskContext, TaskContext
from graflow.core.graph import TaskGraph
from graflow.core.group import parallel
from graflow.core.node import Node
from graflow.core.outcome import TaskError
from graflow.core.plan import Plan
from graflow.core.policy import GroupState, at_least_n, best_effort, critical
from graflow.core.retry import RetryPolicy
from graflow.core.task import Task, task

COMPARED = (
    "name", "ids", "index", "tasks", "scope", "branch", "group_depth", "max_cycles", "top", "edges", "is_back", "outs", "released", "ins",
    "indegree", "loops", "around", "forks", "map_sources", "start", "outputs", "output_given", "digest", "all_ins", "recipes", "handler_kinds",
    "groups",
)  # fmt: skip


def assert_equal(one: Plan, other: Plan) -> None:
    for name in COMPARED:
        mine, yours = getattr(one, name), getattr(other, name)
        assert list(mine) == list(yours) if isinstance(mine, Sequence | array) else mine == yours, name


class Declined(Exception):
    class Twice(Exception):
        pass


@dataclasses.dataclass(frozen=True)
class Amount:
    value: decimal.Decimal
    currency: str = "EUR"


def lenient(state: GroupState) -> bool:
    return len(state.failed) < 2


@task
def load() -> list[int]:
    return [1, 2, 3]


@task("another-name", retry=2, timeout=1.5, handler="process", queue="slow lane", priority="high", max_cycles=7)
async def price(item: int, load: list[int] | None = None) -> int:
    return item


@task(retry=RetryPolicy(5, 0.25, 3, 30, jitter=False, retry_on=(OSError, Declined), give_up_on=(Declined.Twice,)))
def charge(amount: Any, error: TaskError | None = None) -> Any:
    return amount


@task(inject_context=True)
def with_context(ctx, n: int) -> int:
    return n


@task
async def annotated(context: TaskContext, n: int = 0) -> int:
    return n


@task
def blocking(context: SyncTaskContext, n: int = 0) -> int:
    return n


async def bare(n: int = 0) -> int:
    return n


class Shop:
    @staticmethod
    async def open(n: int = 0) -> int:
        return n


@task
def judge(state: GroupState) -> bool:
    return True


VALUES: dict[str, Any] = {
    "nothing": None,
    "plain": {"a": [1, 2.5, "x", None, True]},
    "big": 2**200,
    "bytes": b"\x00\xff",
    "tuple": (1, (2, {3})),
    "when": datetime.datetime(2024, 2, 29, 1, 2, 3, tzinfo=datetime.UTC),
    "id": uuid.UUID(int=7),
    "path": pathlib.PurePosixPath("/tmp/x"),
    "keys": {1: "a", (2, 3): "b"},
    "ordered": collections.OrderedDict(a=1),
    "many": collections.Counter("abca"),
    "object": Amount(decimal.Decimal("1.50")),
    "half a character": "\ud800",
}


def plan_of(*nodes: Node[Any], start: str | None = None, output: str | None = None) -> Plan:
    graph = TaskGraph("shop")
    graph.add(*nodes)
    return compile_plan(graph, start=start, output=output)


def bound_to(value: Any, name: str = "charge") -> Task[..., Any]:
    return charge.clone(name, amount=value)


def various() -> dict[str, Plan]:
    """A plan of every kind, by what is special about it."""
    one, two, three = (load.clone(name) for name in ("one", "two", "three"))
    bare_task, opened = task(bare), task(Shop.open)
    inner = parallel(two, three >> load.clone("four"), name="inner", policy=at_least_n(1, early=True))
    conditions = TaskGraph("conditions")
    conditions.add(one >> two)
    conditions.add_edge(two, one)
    conditions.add_edge(one, bound_to(1), on="failure")
    conditions.add_edge(two, three, on="always")
    selfish = TaskGraph("selfish")
    selfish.add_edge(price, price)
    return {
        "a task": plan_of(load),
        "options": plan_of(load >> price),
        "a retry policy": plan_of(bound_to(1)),
        "contexts": plan_of(with_context.bind(n=1) >> annotated >> blocking),
        "functions": plan_of(bare_task >> opened >> bare_task.clone("again", n=2)),
        "nested groups": plan_of(one >> parallel(inner, bare_task, name="outer", limit=1, policy=critical(["bare"]))),
        "a mapped group": plan_of(load >> price.map(load, limit=2).with_policy(critical(["another-name[0]", "else"]))),
        "a mapped group with arguments": plan_of(load >> charge.bind(error=None).map(load, name="all").with_policy(best_effort)),
        "a custom policy": plan_of(one >> parallel(two, three, policy=lenient)),
        "arguments": plan_of(*(bound_to(value, name) for name, value in VALUES.items())),
        "items": plan_of(load >> price.map(range(300))),
        "conditions and a loop": compile_plan(conditions),
        "a self-edge": compile_plan(selfish),
        "start and output": plan_of(one >> two >> three, start="two", output="two"),
        "empty groups": plan_of(load >> price.map([])),
    }
