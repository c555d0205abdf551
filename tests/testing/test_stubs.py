"""``execute(..., stubs={task: function})``: other functions in the place of tasks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any
from unittest.mock import AsyncMock, Mock, call, create_autospec

import pytest

from graflow import RetryPolicy, SyncTaskContext, TaskContext, TaskError, WorkflowEngine, best_effort, task, workflow
from graflow.errors import GraphError, RunConflictError, TaskFailedError
from graflow.handlers import Handler, TaskCall
from graflow.testing import VirtualEngine, engine


@dataclass
class Order:
    id: str
    total: float


@task
async def fetch(limit: int = 3) -> list[int]:
    return list(range(limit))


@task
def square(n: int) -> int:
    return n * n


@task
async def total(square: list[int]) -> int:
    return sum(square)


@task
async def add(ctx: TaskContext, left: int, right: int = 1) -> int:
    await asyncio.sleep(0)
    return left + right


@pytest.fixture
async def virtual() -> AsyncIterator[VirtualEngine]:
    async with engine() as virtual:
        yield virtual


graph = fetch >> square.map(fetch) >> total


# ---- what can be a stub ----


def a_def() -> list[int]:
    return [5, 6]


async def an_async_def() -> list[int]:
    return [5, 6]


class Callable:
    def __call__(self) -> list[int]:
        return [5, 6]


class AsyncCallable:
    async def __call__(self) -> list[int]:
        return [5, 6]

    async def method(self) -> list[int]:
        return [5, 6]


STUBS: dict[str, Any] = {
    "def": a_def,
    "async def": an_async_def,
    "lambda": lambda: [5, 6],
    "default argument": lambda numbers=(5, 6): list(numbers),
    "callable object": Callable(),
    "async callable object": AsyncCallable(),
    "async method": AsyncCallable().method,
    "Mock": Mock(return_value=[5, 6]),
    "AsyncMock": AsyncMock(return_value=[5, 6]),
    "autospec": create_autospec(fetch.function, return_value=[5, 6]),
    "autospec of a def": create_autospec(a_def, return_value=[5, 6]),
    "task": task("other")(a_def),
    "async task": task(an_async_def),
    "bound task": fetch.bind(limit=7),
}


@pytest.mark.parametrize("kind", STUBS)
async def test_a_stub_is_anything_that_can_be_called(virtual: VirtualEngine, kind: str) -> None:
    result = await virtual.execute(graph, stubs={fetch: STUBS[kind]})
    assert result.output == (91 if kind == "bound task" else 61)


async def test_the_task_itself_is_not_called(virtual: VirtualEngine) -> None:
    @task
    async def drop_database() -> None:
        pytest.fail("this is not the time")

    await virtual.execute(drop_database, stubs={drop_database: lambda: None})


async def test_what_a_stub_raises_fails_the_task(virtual: VirtualEngine) -> None:
    with pytest.raises(TaskFailedError) as caught:
        await virtual.execute(graph, stubs={fetch: Mock(side_effect=ConnectionError("down"))})
    assert caught.value.task_id == "fetch"
    assert isinstance(caught.value.__cause__, ConnectionError)


async def test_no_stubs_change_nothing(virtual: VirtualEngine) -> None:
    assert (await virtual.execute(graph, stubs={})).output == (await virtual.execute(graph, stubs=None)).output == 5


# ---- what it is given ----


async def test_a_stub_takes_results_inputs_and_the_context_like_a_task(virtual: VirtualEngine) -> None:
    async def stub(ctx: TaskContext, fetch: list[int], factor: int) -> int:
        ctx.emit(ctx.task_id)
        return factor * sum(fetch)

    result = await virtual.execute(fetch >> total, inputs={"factor": 10}, stubs={total: stub})
    assert result.output == 30


async def test_a_def_stub_for_an_async_task_takes_the_sync_context(virtual: VirtualEngine) -> None:
    def stub(ctx: SyncTaskContext, left: int) -> int:
        ctx.channel.set("seen", left)
        return left

    assert (await virtual.execute(add, inputs={"left": 4}, stubs={add: stub})).output == 4


async def test_values_are_converted_to_the_annotations_of_the_stub(virtual: VirtualEngine) -> None:
    @task
    async def bill(order: dict[str, Any]) -> str:
        return str(order["id"])

    def stub(order: Order) -> str:
        return f"{order.id}: {order.total:.2f}"

    assert (await virtual.execute(bill, inputs={"order": {"id": "a", "total": 5}}, stubs={bill: stub})).output == "a: 5.00"


async def test_a_mock_is_called_with_what_the_task_would_be_given_but_for_the_context(virtual: VirtualEngine) -> None:
    async_mock, mock = AsyncMock(return_value=8), Mock(return_value=9)
    result = await virtual.execute(add >> square, inputs={"left": 4}, stubs={add: async_mock, square: mock})
    assert result.output == 9
    async_mock.assert_awaited_once_with(left=4)
    mock.assert_called_once_with(n=8)


async def test_a_mock_for_mapped_and_bound_tasks_sees_every_item(virtual: VirtualEngine) -> None:
    mapped, listed, bound = Mock(return_value=0), Mock(return_value=0), Mock(return_value=0)
    await virtual.execute(graph, stubs={square: mapped})
    await virtual.execute(square.map([7, 8]), stubs={square: listed})
    await virtual.execute(add.clone("five", left=4), stubs={add: bound})
    assert sorted(mapped.call_args_list, key=str) == [call(n=0), call(n=1), call(n=2)]
    assert sorted(listed.call_args_list, key=str) == [call(n=7), call(n=8)]
    bound.assert_called_once_with(left=4)


# ---- whom it stands for ----


@pytest.mark.parametrize(
    "stub", [lambda n: -n, lambda x: -x, lambda x, scale=1: -x * scale, lambda x, /: -x, lambda *, n: -n], ids=["n", "x", "scale", "/", "*"]
)
async def test_a_stub_stands_for_the_members_of_a_map_and_takes_the_item_by_any_name(virtual: VirtualEngine, stub: Any) -> None:
    assert (await virtual.execute(graph, stubs={square: stub})).output == -3
    assert (await virtual.execute(square.map([1, 2]), stubs={square: stub})).output == [-1, -2]


async def test_an_async_stub_takes_the_item_by_any_name_too(virtual: VirtualEngine) -> None:
    async def stub(ctx: TaskContext, x: int) -> str:
        return f"{ctx.task_id}={x}"

    assert (await virtual.execute(square.map([1, 2]), stubs={square: stub})).output == ["square[0]=1", "square[1]=2"]


async def test_a_stub_of_a_mapped_task_need_not_take_the_item(virtual: VirtualEngine) -> None:
    assert (await virtual.execute(graph, stubs={square: lambda: 2})).output == 6
    assert (await virtual.execute(square.map([1, 2]), stubs={square: lambda: 2})).output == [2, 2]


async def test_a_stub_stands_for_clones_and_bound_instances(virtual: VirtualEngine) -> None:
    two, three = square.clone("two", n=2), square.clone("three", n=3)
    assert (await virtual.execute(two | three, stubs={square: lambda n: -n})).output == [-2, -3]
    assert (await virtual.execute(square.bind(n=4), stubs={square: lambda n: -n})).output == -4


async def test_the_stub_of_a_clone_stands_for_that_clone_and_its_own_clones_only(virtual: VirtualEngine) -> None:
    two, three = square.clone("two", n=2), square.clone("three", n=3)
    members = (two | three).with_policy(best_effort)
    assert (await virtual.execute(members, stubs={two: lambda n: -n})).output == [-2, 9]
    assert (await virtual.execute(members, stubs={square: lambda n: -n, two: lambda: 100})).output == [100, -3]
    again = two.clone("two again")
    assert (await virtual.execute(two | again | three, stubs={square: lambda: 0, two: lambda: 100})).output == [100, 100, 0]


async def test_a_stub_stands_for_tasks_made_at_run_time(virtual: VirtualEngine) -> None:
    @task
    async def maker(ctx: TaskContext) -> None:
        ctx.next_task(square.clone("made", n=7))

    assert (await virtual.execute(maker, stubs={square: lambda n: -n}))["made"] == -7
    mock = Mock(return_value=1)
    await virtual.execute(maker, stubs={square: mock})
    mock.assert_called_once_with(n=7)


async def test_a_stubbed_task_of_the_graph_is_still_the_same_task_to_those_who_go_there(virtual: VirtualEngine) -> None:
    @task
    async def router(ctx: TaskContext) -> None:
        ctx.next_task(add)

    with workflow("routed", start=router) as wf:
        wf.add(router, add)
    assert (await virtual.execute(wf, inputs={"left": 1}, stubs={add: lambda left: left + 100}))["add"] == 101


async def test_a_stub_for_a_task_that_is_not_in_the_graph_waits_in_vain(virtual: VirtualEngine) -> None:
    assert (await virtual.execute(fetch, stubs={square: pytest.fail})).output == [0, 1, 2]


async def test_the_graph_is_as_it_was_for_the_next_run(virtual: VirtualEngine) -> None:
    with workflow("numbers") as wf:
        wf.add(graph)
    assert (await virtual.execute(wf, stubs={square: lambda: 0})).output == 0
    assert (await virtual.execute(wf)).output == 5
    assert (await virtual.execute(wf, stubs={square: lambda: 1})).output == 3


# ---- what stays of the task ----


async def test_retries_and_timeouts_are_those_of_the_task(virtual: VirtualEngine) -> None:
    @task(retry=RetryPolicy(2, initial_interval=60, backoff_factor=1, jitter=False), timeout=30)
    async def charge() -> str:
        return "paid"

    stub = AsyncMock(side_effect=[ConnectionError("down"), asyncio.TimeoutError, "paid in the end"])
    result = await virtual.execute(charge, stubs={charge: stub})
    assert (result.output, result.duration, stub.await_count) == ("paid in the end", 120, 3)

    async def stuck() -> None:
        await asyncio.Event().wait()

    with pytest.raises(TaskFailedError) as caught:
        await virtual.execute(charge, stubs={charge: stuck})
    assert caught.value.result.duration == 3 * 30 + 2 * 60


async def test_failure_edges_lead_to_stubs_and_from_them(virtual: VirtualEngine) -> None:
    with workflow("saga") as wf:
        wf.add_edge(square, total, on="failure")

    def undo(error: TaskError) -> str:
        return f"{error.task_id}: {error.message}"

    stubs = {square: Mock(side_effect=ValueError("no")), total: undo}
    assert (await virtual.execute(wf, inputs={"n": 1}, stubs=stubs)).output == "square: no"


async def test_a_stub_runs_in_this_process_whatever_handler_its_task_asks_for(virtual: VirtualEngine) -> None:
    @task(handler="gpu")
    async def train() -> str:
        return "trained"

    class Gpu(Handler):
        async def run(self, call: TaskCall) -> Any:
            pytest.fail("there is none here")

    assert (await virtual.execute(train, stubs={train: lambda: "stubbed"})).output == "stubbed"
    async with engine(handlers={"gpu": Gpu()}) as with_gpu:
        assert (await with_gpu.execute(train, stubs={train: lambda: "stubbed"})).output == "stubbed"


async def test_strict_values_pass_through_stubs(virtual: VirtualEngine) -> None:
    async with engine(strict=True) as strict:
        assert (await strict.execute(graph, stubs={fetch: lambda: [4], square: AsyncMock(side_effect=lambda n: n + 1)})).output == 5


async def test_a_run_with_other_stubs_is_another_run(virtual: VirtualEngine) -> None:
    one, other = (lambda: [1]), (lambda: [2, 2])
    first = await virtual.submit(graph, run_id="r", stubs={fetch: one})
    again = await virtual.submit(graph, run_id="r", stubs={fetch: one})
    assert (first.created, again.created) == (True, False)
    with pytest.raises(RunConflictError):
        await virtual.submit(graph, run_id="r", stubs={fetch: other})
    await virtual.execute(graph, run_id="mock", stubs={square: Mock(return_value=1)})


async def test_stubs_work_on_every_engine_and_on_workflows() -> None:
    with workflow("numbers") as wf:
        wf.add(graph)
    assert (await wf.execute(stubs={fetch: lambda: [3]})).output == 9
    async with WorkflowEngine() as plain:
        assert (await plain.execute(wf, stubs={fetch: lambda: [3]})).output == 9


# ---- what cannot be ----


@pytest.mark.parametrize(
    ("stubs", "says"),
    [
        ({"fetch": lambda: [1]}, "the keys are tasks"),
        ({fetch | total: lambda: [1]}, "the keys are tasks"),
        ({fetch.function: lambda: [1]}, "the keys are tasks"),
        ({fetch: [1, 2]}, r"give a function to run instead of the task, such as lambda: \[1, 2\]"),
        ({fetch: None}, "give a function"),
        ({fetch: lambda: (yield)}, "is a generator"),
    ],
    ids=["id", "group", "function", "value", "None", "generator"],
)
async def test_what_cannot_be_a_stub_is_refused_before_the_run(virtual: VirtualEngine, stubs: Any, says: str) -> None:
    with pytest.raises(GraphError, match=says):
        await virtual.execute(fetch, stubs=stubs)
