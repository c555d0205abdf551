"""Every mistake that shows when a step is run, and the very words in which it is told."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from graflow import TaskContext, TaskError, at_least_n, task
from graflow.errors import (
    ArgumentTypeError,
    ChannelTypeError,
    DuplicateTaskError,
    GraphError,
    InvalidPolicyError,
    MissingArgumentError,
    SerializationError,
    TaskFailedError,
    UnknownTaskError,
)
from tests.errors.shapes import Mistake, check, clean, fetch, graph, report, run

Anything: Any = None
RUNNABLE = "give a workflow, a TaskGraph, a task (made by @task), a chain or a group"
REMEDY = "which cannot travel: it belongs to this process: open it in `lifespan=` and take it from `ctx.resources` where it is needed"
LOCK = "_thread.lock"


@task
async def words() -> Any:
    return "one"


@task
async def lock() -> Any:
    return {"conn": [threading.Lock()]}


@task
async def rescue(error: TaskError) -> None: ...


@task
async def needs(fetch: int) -> None: ...


@task
async def chatty(ctx: TaskContext) -> None:
    ctx.emit({"x": threading.Lock()})


@task
async def writer(ctx: TaskContext) -> None:
    await ctx.channel.set("k", {"x": threading.Lock()})


@task
async def adder(ctx: TaskContext) -> None:
    await ctx.channel.set("k", "text")
    await ctx.channel.atomic_add("k", 1)


@task
async def maker(ctx: TaskContext) -> None:
    ctx.next_task(clean.clone("made", n=threading.Lock()))


@task
async def twin(ctx: TaskContext) -> None:
    ctx.next_task(clean.clone("fetch", n=1))


@task
async def to_group(ctx: TaskContext) -> None:
    ctx.next_task(Anything or (fetch | clean))


@task
async def to_nowhere(ctx: TaskContext) -> None:
    ctx.goto("claen")


@task
async def to_number(ctx: TaskContext) -> None:
    ctx.goto(Anything or 5)


@task
async def skipping(ctx: TaskContext) -> None:
    ctx.next_task(fetch, if_exists=Anything or "skip")


@task
async def asks_unknown(ctx: TaskContext) -> Any:
    return await ctx.result_of("ftech")


@task
async def asks_early(ctx: TaskContext) -> Any:
    return await ctx.result_of(fetch)


def again(*args: Any, **arguments: Any) -> Any:
    @task(max_cycles=3)
    async def again(ctx: TaskContext, n: int = 1) -> None:
        ctx.next_iteration(*args, **arguments)

    return again


@task(max_cycles=3)
async def again_with_nothing(ctx: TaskContext) -> None:
    ctx.next_iteration(5)


STEPS = {
    "an argument that nothing provides": Mistake(
        run(clean),
        MissingArgumentError,
        "task 'clean' has no value for its parameter 'n': no upstream task, channel key or single predecessor provides it. "
        "Available: nothing. Pass inputs={'n': ...}, bind it with .bind(n=...), draw an edge from a task of that name, or give it a "
        "default",
        {"task_id": "clean", "parameter": "n"},
    ),
    "two arguments that one predecessor might fill": Mistake(
        run(fetch >> report, inputs={"limit": 1}),
        MissingArgumentError,
        "task 'report' has no value for its parameter 'a': 2 required parameters are open ('a', 'b'), so the predecessor's result fits "
        "none of them. Available: 'fetch', 'limit'. Pass inputs={'a': ...}, bind it with .bind(a=...), draw an edge from a task of that "
        "name, or give it a default",
        {"task_id": "report", "parameter": "a", "available": ("fetch", "limit")},
    ),
    "an argument from a task that no edge leads from": Mistake(
        run(graph(fetch, needs)),
        MissingArgumentError,
        "task 'needs' has no value for its parameter 'fetch': there is a task 'fetch', but no edge leads from it to here. "
        "Available: nothing. Pass inputs={'fetch': ...}, bind it with .bind(fetch=...), draw an edge from a task of that name, or give "
        "it a default",
        {"task_id": "needs", "parameter": "fetch"},
    ),
    "an input of the wrong type": Mistake(
        run(clean, inputs={"n": "five"}),
        ArgumentTypeError,
        "parameter 'n' of task 'clean' is annotated int and was given the str 'five': Expected `int`, got `str`",
        {"task_id": "clean", "parameter": "n", "expected": "int", "got": "str"},
    ),
    "a result of the wrong type": Mistake(
        run(words >> clean),
        ArgumentTypeError,
        "parameter 'n' of task 'clean' is annotated int and was given the str 'one': Expected `int`, got `str`",
        {"task_id": "clean", "parameter": "n", "expected": "int", "got": "str"},
    ),
    "a bound argument of the wrong type, at the start": Mistake(
        run(clean.bind(n=[1])),
        ArgumentTypeError,
        "parameter 'n' of task 'clean' is annotated int and was given the list [1]: Expected `int`, got `array`",
        {"task_id": "clean", "parameter": "n", "expected": "int", "got": "list"},
    ),
    "a bound argument of the wrong type, later on": Mistake(
        run(fetch >> clean.bind(n="five")),
        ArgumentTypeError,
        "parameter 'n' of task 'clean' is annotated int and was given the str 'five': Expected `int`, got `str`",
        {"task_id": "clean", "parameter": "n", "expected": "int", "got": "str"},
    ),
    "the error of what did not fail": Mistake(
        run(fetch >> rescue),
        MissingArgumentError,
        "task 'rescue' takes the error of a failed task as 'error', but nothing failed before it; annotate it TaskError | None, or reach "
        'the task by an edge on="failure" only',
        {"task_id": "rescue", "parameter": "error"},
    ),
    "an iteration with a name that there is not": Mistake(
        run(again(m=5)),
        ArgumentTypeError,
        "task 'again': next_iteration(m=...) names no parameter; its parameters are: n",
        {"task_id": "again", "parameter": "m", "expected": "one of: n", "got": "m"},
    ),
    "an iteration of a task that takes nothing": Mistake(
        run(again_with_nothing),
        ArgumentTypeError,
        "task 'again_with_nothing': next_iteration(data) has no parameter to fill: every parameter is bound or there is none; its "
        "parameters are: none",
        {"task_id": "again_with_nothing", "expected": "one of: none"},
    ),
    "an iteration with the wrong type": Mistake(
        run(again("five")),
        ArgumentTypeError,
        "parameter 'n' of task 'again' is annotated int and was given the str 'five': Expected `int`, got `str`",
        {"task_id": "again", "parameter": "n", "expected": "int", "got": "str"},
    ),
    "an iteration that cannot travel": Mistake(
        run(again([threading.Lock()]), strict=True),
        SerializationError,
        f"next_iteration(data)[0] is a {LOCK}, {REMEDY}",
        {"path": "next_iteration(data)[0]", "type_name": LOCK},
    ),
    "a result that cannot travel": Mistake(
        run(lock, strict=True),
        SerializationError,
        f'result of lock["conn"][0] is a {LOCK}, {REMEDY}',
        {"path": 'result of lock["conn"][0]', "type_name": LOCK},
    ),
    "an event that cannot travel": Mistake(
        run(chatty, strict=True), SerializationError, f'data["x"] is a {LOCK}, {REMEDY}', {"path": 'data["x"]', "type_name": LOCK}
    ),
    "a channel value that cannot travel": Mistake(
        run(writer, strict=True),
        SerializationError,
        f'channel["k"]["x"] is a {LOCK}, {REMEDY}',
        {"path": 'channel["k"]["x"]', "type_name": LOCK},
    ),
    "a new task's argument that cannot travel": Mistake(
        run(maker, strict=True),
        SerializationError,
        f"bound argument made.n is a {LOCK}, {REMEDY}",
        {"path": "bound argument made.n", "type_name": LOCK},
    ),
    "adding to a text": Mistake(
        run(adder),
        ChannelTypeError,
        "the channel was to find a number under 'k', and met a value of type str",
        {"key": "k", "expected": "a number", "got": "str"},
    ),
    "going where there is nothing": Mistake(
        run(graph(to_nowhere, fetch, clean.bind(n=1))),
        UnknownTaskError,
        "task 'to_nowhere' goes to 'claen', which is not a node beside it or beside a group around it; it can go to 'to_nowhere', "
        "'fetch', 'clean'",
        {"ids": ("claen",), "known": ("to_nowhere", "fetch", "clean")},
    ),
    "going to a number": Mistake(run(to_number), GraphError, "the id of the node to go to must be a text that is not empty, not 5"),
    "a group as the next task": Mistake(
        run(to_group),
        GraphError,
        "next_task() takes a task or the id of one, not <ParallelGroup fetch | clean>; use goto() for a group of the graph",
    ),
    "a next task of an id that is taken": Mistake(
        run(twin >> fetch),
        DuplicateTaskError,
        "task 'twin' adds a task 'fetch', but there is another one of that id; give it a new id with task.clone(\"...\"), or pass "
        'if_exists="ignore"',
        {"ids": ("fetch",)},
    ),
    "an unknown way to add": Mistake(run(skipping), GraphError, 'if_exists=\'skip\': use "error" or "ignore"'),
    "the result of what there is not": Mistake(
        run(fetch >> asks_unknown),
        UnknownTaskError,
        "result_of('ftech'): the run has no such task; did you mean 'fetch'? it has 'fetch', 'asks_unknown'",
        {"ids": ("ftech",), "known": ("fetch", "asks_unknown")},
    ),
    "a result that is not there yet": Mistake(
        run(asks_early >> fetch),
        MissingArgumentError,
        "result_of('fetch'): that task has not completed; draw an edge from it, or catch this",
        {"task_id": "asks_early", "parameter": "fetch"},
    ),
    "a map over a number": Mistake(
        run(fetch >> clean.map(fetch)),
        ArgumentTypeError,
        "group 'clean' maps over the result of 'fetch', which is of type int; return a list or tuple from 'fetch' (a set has no order that "
        "two processes agree on)",
        {"task_id": "clean", "parameter": "n", "expected": "a list or tuple", "got": "int"},
    ),
    "a policy that the items cannot meet": Mistake(
        run(words >> clean.map(words).with_policy(at_least_n(5)), stubs={words: lambda: [1, 2, 3]}),
        InvalidPolicyError,
        "group 'clean' wants at least 5 to succeed but was expanded to 3 members",
        {"ids": ("clean",)},
    ),
}


@pytest.mark.parametrize("mistake", STEPS.values(), ids=STEPS)
async def test_a_mistake_in_a_step_fails_it_in_these_words(mistake: Mistake) -> None:
    with pytest.raises(TaskFailedError) as caught:
        await mistake.make()
    cause = caught.value.__cause__
    assert cause is not None
    check(mistake, cause)
    assert str(caught.value) == f"task {caught.value.task_id!r} failed (attempt 1): graflow.errors.{mistake.error.__name__}: {mistake.text}"
    assert caught.value.error_type == f"graflow.errors.{mistake.error.__name__}"
