"""Every mistake that can be made while a graph is built, and the very words in which it is told.

The texts are written out so that whoever changes one reads it as a user would: does it say what is wrong, where, and what to do?
"""

from __future__ import annotations

from typing import Any

import pytest

from graflow import (
    RetryLater,
    RetryPolicy,
    SyncTaskContext,
    TaskContext,
    TaskGraph,
    at_least_n,
    chain,
    critical,
    parallel,
    task,
    workflow,
)
from graflow.errors import DuplicateTaskError, EmptyGraphError, GraphError, InvalidPolicyError, UnknownTaskError
from tests.errors.shapes import Mistake, check, clean, fetch, graph, report

Anything: Any = None


def rows():
    yield 1


async def stream():
    yield 1


def blocking(ctx: TaskContext) -> None: ...


async def waiting(ctx: SyncTaskContext) -> None: ...


async def stepping(ctx: TaskContext, n: int) -> None: ...


async def plain() -> None: ...


async def decide_later(state: object) -> bool:
    return True


def add_to_workflow(*nodes: Any) -> None:
    with workflow("w") as wf:
        wf.add(*nodes)


A_TASK = "give the task an id: task('double')(lambda n: 2 * n)"
NODES = "takes tasks, chains and groups, not"

TASKS = {
    "a value": Mistake(
        lambda: task(Anything or 5), GraphError, "@task takes a function or an id, not 5; options go by name: @task(retry=2)"
    ),
    "a task": Mistake(
        lambda: task(fetch), GraphError, "'fetch' is a task already; fetch.clone('other-id') makes another instance", {"ids": ("fetch",)}
    ),
    "a lambda": Mistake(lambda: task(lambda: 1), GraphError, f"a lambda has no name to be called by; {A_TASK}"),
    "an empty id": Mistake(lambda: task(""), GraphError, "the id of a task must be a text that is not empty, not ''"),
    "a generator": Mistake(
        lambda: task(rows),
        GraphError,
        "rows is a generator, and a task returns one value; return a list, or send items as they come with ctx.emit(...)",
    ),
    "an async generator": Mistake(
        lambda: task(stream),
        GraphError,
        "stream is a generator, and a task returns one value; return a list, or send items as they come with ctx.emit(...)",
    ),
    "a def with the context of a coroutine": Mistake(
        lambda: task(blocking),
        GraphError,
        "blocking: a def runs in a thread, where nothing can be awaited; annotate 'ctx' with SyncTaskContext, or make it an async def",
    ),
    "a coroutine with the context of a def": Mistake(
        lambda: task(waiting),
        GraphError,
        "waiting: an async def takes a TaskContext; the methods of the SyncTaskContext that parameter 'ctx' asks for would block the "
        "event loop",
    ),
    "a context for a function without parameters": Mistake(
        lambda: task(inject_context=True)(plain),
        GraphError,
        "inject_context=True gives the context to the first parameter, and the function has none",
    ),
    "no timeout at all": Mistake(
        lambda: task(timeout=0), GraphError, "timeout=0: give the seconds an attempt may take, more than 0, or None"
    ),
    "a timeout in words": Mistake(
        lambda: task(timeout=Anything or "5"), GraphError, "timeout='5': give the seconds an attempt may take, more than 0, or None"
    ),
    "retries below zero": Mistake(
        lambda: task(retry=-1), GraphError, "retry=-1: give the number of retries (0 or more) or a RetryPolicy(max_retries=...)"
    ),
    "an unknown priority": Mistake(
        lambda: task(priority=Anything or "urgent"), GraphError, "priority='urgent': use one of 'critical', 'high', 'normal', 'low'"
    ),
    "no visits": Mistake(lambda: task(max_cycles=0), GraphError, "max_cycles=0: give how often it may be visited, 1 or more, or None"),
    "an empty handler": Mistake(lambda: task(handler=""), GraphError, "handler= must be a text that is not empty, not ''"),
    "an empty queue": Mistake(lambda: task(queue=""), GraphError, "queue= must be a text that is not empty, not ''"),
    "a policy of retries below zero": Mistake(
        lambda: RetryPolicy(-1), GraphError, "max_retries=-1: give the number of further attempts, 0 or more"
    ),
    "an interval below zero": Mistake(
        lambda: RetryPolicy(1, initial_interval=-1), GraphError, "initial_interval=-1: give a number, 0 or more"
    ),
    "a factor that shrinks": Mistake(
        lambda: RetryPolicy(1, backoff_factor=0.5), GraphError, "backoff_factor=0.5: give a number, 1 or more"
    ),
    "an error by name": Mistake(
        lambda: RetryPolicy(1, retry_on=Anything or ("ValueError",)), GraphError, "retry_on takes exception classes, not 'ValueError'"
    ),
    "a retry in the past": Mistake(lambda: RetryLater(after=-1), GraphError, "RetryLater(after=-1): give the seconds to wait, 0 or more"),
    "binding a name that there is not": Mistake(
        lambda: clean.bind(limit=5), GraphError, "task 'clean' has no parameter 'limit' to bind; it takes 'n'", {"ids": ("clean",)}
    ),
    "binding the context": Mistake(
        lambda: task(stepping).bind(ctx=5),
        GraphError,
        "'ctx' of task 'stepping' is its context, which the run fills in; it cannot be bound",
        {"ids": ("stepping",)},
    ),
    "a clone without an id": Mistake(lambda: clean.clone(""), GraphError, "the id of a task must be a text that is not empty, not ''"),
}

DRAWING = {
    "a list on the right": Mistake(
        lambda: fetch >> (Anything or [clean, report]),
        GraphError,
        f">> {NODES} a list; for tasks side by side use fetch >> (clean | report), or parallel(*tasks)",
    ),
    "a list on the left": Mistake(
        lambda: (Anything or [fetch, clean]) >> report,
        GraphError,
        f">> {NODES} a list; for tasks side by side use (fetch | clean) >> report, or parallel(*tasks)",
    ),
    "a list side by side": Mistake(
        lambda: fetch | (Anything or [clean]), GraphError, f"| {NODES} a list; for tasks side by side use fetch | clean"
    ),
    "a plain function": Mistake(
        lambda: fetch >> (Anything or plain), GraphError, f">> {NODES} the plain function plain; decorate it with @task"
    ),
    "a task that was called": Mistake(
        lambda: fetch >> (Anything or plain()),
        GraphError,
        f">> {NODES} the coroutine plain(...); write plain without parentheses, the run calls it",
    ),
    "an id": Mistake(
        lambda: fetch >> (Anything or "clean"),
        GraphError,
        f">> {NODES} the id 'clean'; name the task itself, or use add_edge, which takes ids",
    ),
    "nothing": Mistake(lambda: fetch >> Anything, GraphError, f">> {NODES} None of type NoneType"),
    "an empty chain": Mistake(lambda: chain(), GraphError, "chain() was given no nodes; give at least one"),
    "an empty group": Mistake(
        lambda: parallel(), GraphError, "parallel() was given no nodes; give at least one (task.map([]) makes a group that may be empty)"
    ),
    "a list in parallel()": Mistake(
        lambda: parallel(Anything or [fetch, clean]), GraphError, f"parallel() {NODES} a list; unpack it: parallel(*nodes)"
    ),
    "a number in a workflow": Mistake(lambda: add_to_workflow(5), GraphError, f"wf.add() {NODES} 5 of type int"),
    "a list in a workflow": Mistake(
        lambda: add_to_workflow([fetch, clean]), GraphError, f"wf.add() {NODES} a list; unpack it: wf.add(*nodes)"
    ),
    "a task in two branches": Mistake(
        lambda: graph((fetch >> clean) | (report >> clean)),
        GraphError,
        "'clean' stands in two branches of one group, 'clean' and 'clean'; to run it after both write (a | b) >> clean, to run it twice "
        "give one of them another id with clean.clone('other-id')",
        {"ids": ("clean",)},
    ),
    "two tasks of one id in a group": Mistake(
        lambda: graph(fetch | clean.clone("fetch")),
        DuplicateTaskError,
        "two different nodes in one group have the id 'fetch'; give one of them another, as in t.clone('other-id') or "
        "t.map(..., name='other-id')",
        {"ids": ("fetch",)},
    ),
    "a group of which none may run": Mistake(
        lambda: parallel(fetch, clean, limit=0), GraphError, "limit=0: give how many members may run at once, 1 or more, or None for all"
    ),
    "mapping a task without parameters": Mistake(
        lambda: fetch.map([1, 2]),
        GraphError,
        "fetch.map(...): no parameter of 'fetch' is left open to take an item",
        {"ids": ("fetch",)},
    ),
    "mapping over a parameter that there is not": Mistake(
        lambda: clean.map([1], parameter="m"),
        GraphError,
        "task 'clean' has no parameter 'm' to bind; it takes 'n'",
        {"ids": ("clean",)},
    ),
    "mapping over what is bound": Mistake(
        lambda: clean.bind(n=1).map([1], parameter="n"),
        GraphError,
        "clean.map(parameter='n'): that argument is bound already",
        {"ids": ("clean",)},
    ),
    "mapping over a number": Mistake(
        lambda: clean.map(Anything or 5),
        GraphError,
        "clean.map(...) takes a list of items, a task or the id of one, not int; a list that is only known later is made by a task: "
        "t.map(that_task)",
        {"ids": ("clean",)},
    ),
}

POLICIES = {
    "an unknown name": Mistake(
        lambda: parallel(fetch, clean, policy=Anything or "most"),
        InvalidPolicyError,
        "'most' is no group policy; use strict, best_effort, at_least_n(n), critical(ids), or a function (GroupState) -> bool",
    ),
    "more than there are": Mistake(
        lambda: parallel(fetch, clean, policy=at_least_n(3)),
        InvalidPolicyError,
        "at_least_n(3) can never be met: the group has 2 branches",
        {"ids": ("fetch", "clean")},
    ),
    "none at all": Mistake(
        lambda: at_least_n(0), InvalidPolicyError, "at_least_n(0): give a whole number, 1 or more; best_effort asks for no success at all"
    ),
    "a missing argument": Mistake(
        lambda: parallel(fetch, clean, policy=Anything or at_least_n),
        InvalidPolicyError,
        "the policy lacks its argument; write at_least_n(2) or critical(['a', 'b'])",
    ),
    "a branch that there is not": Mistake(
        lambda: parallel(fetch, clean, policy=critical(["other"])),
        InvalidPolicyError,
        "critical(['other']) names 'other', which is no branch of the group; its branches are 'fetch', 'clean'",
        {"ids": ("other",)},
    ),
    "a task in the midst of a branch": Mistake(
        lambda: parallel(fetch >> clean, report, policy=critical(["fetch"])),
        InvalidPolicyError,
        "critical(['fetch']) names 'fetch', which is no branch of the group; it stands in a branch that goes by the id of its last task: "
        "use 'clean'",
        {"ids": ("fetch",)},
    ),
    "single letters": Mistake(
        lambda: critical("fetch"),
        InvalidPolicyError,
        "critical('fetch') would mean its single letters; write critical(['fetch'])",
        {"ids": ("fetch",)},
    ),
    "no ids": Mistake(lambda: critical([]), InvalidPolicyError, "critical() was given no ids; use best_effort where every branch may fail"),
    "an async function": Mistake(
        lambda: parallel(fetch, clean, policy=Anything or decide_later),
        InvalidPolicyError,
        "the policy decide_later is async; a policy decides at once from the GroupState, so make it a plain def",
    ),
    "a function that takes nothing": Mistake(
        lambda: parallel(fetch, clean, policy=Anything or (lambda: True)),
        InvalidPolicyError,
        "the policy <lambda> must take one argument, the GroupState: too many positional arguments",
    ),
}

GRAPHS = {
    "no nodes": Mistake(
        lambda: TaskGraph("numbers").validate(),
        EmptyGraphError,
        "the graph 'numbers' has no nodes; draw some with >>, or add a lone task with wf.add(task)",
    ),
    "no name": Mistake(lambda: TaskGraph(""), GraphError, "the name of a graph must be a text that is not empty, not ''"),
    "two tasks of one id": Mistake(
        lambda: graph(fetch, clean.clone("fetch")),
        DuplicateTaskError,
        "two different nodes of the graph 'numbers' have the id 'fetch'; give one of them another, as in t.clone('other-id') or "
        "t.map(..., name='other-id')",
        {"ids": ("fetch",)},
    ),
    "an edge to an id that there is not": Mistake(
        lambda: graph(fetch, clean, report, edge=("fetch", "claen")),
        UnknownTaskError,
        "'claen' is not in the graph 'numbers'; did you mean 'clean'? it has 'fetch', 'clean', 'report'",
        {"ids": ("claen",), "known": ("fetch", "clean", "report")},
    ),
    "an edge to an id in a large graph": Mistake(
        lambda: graph(*(fetch.clone(f"t{n}") for n in range(9)), edge=("t1", "z")),
        UnknownTaskError,
        "'z' is not in the graph 'numbers'; it has 't0', 't1', 't2', 't3', 't4' and 4 more",
        {"ids": ("z",), "known": ("t0", "t1", "t2", "t3", "t4")},
    ),
    "an edge in an empty graph": Mistake(
        lambda: graph(edge=("a", "b")), UnknownTaskError, "'a' is not in the graph 'numbers', which is empty", {"ids": ("a",)}
    ),
    "an edge across the border of a group": Mistake(
        lambda: graph(fetch | clean, edge=("fetch", report)),
        GraphError,
        "the edge 'fetch' >> 'report' crosses the border of a group: 'fetch' is a member of 'fetch|clean' and 'report' is not; join "
        "'report' to the group instead, or put it into the branch of 'fetch'",
        {"ids": ("fetch", "report")},
    ),
    "a task in two groups": Mistake(
        lambda: graph(parallel(fetch, clean, name="g"), parallel(fetch, report, name="h")),
        GraphError,
        "'fetch' is a member of two groups, 'g' and 'h'; use fetch.clone('other-id') in one of them",
        {"ids": ("fetch", "g", "h")},
    ),
    "a group written in two orders": Mistake(
        lambda: graph(fetch | clean, clean | fetch),
        GraphError,
        "'clean' is a member of two groups, 'fetch|clean' and 'clean|fetch'; they have the same members in another order; write them in "
        "the same order",
        {"ids": ("clean", "fetch|clean", "clean|fetch")},
    ),
    "a group of two policies": Mistake(
        lambda: graph(parallel(fetch, clean, name="g", policy="strict"), parallel(fetch, clean, name="g", policy="best_effort")),
        GraphError,
        "the group 'g' is given two policies, strict and best_effort; give it one",
        {"ids": ("g",)},
    ),
    "a task that leads to itself": Mistake(
        lambda: graph(fetch, edge=("fetch", "fetch")).validate(),
        GraphError,
        "'fetch' leads to itself and would never end; give it a bound: @task(max_cycles=...)",
        {"ids": ("fetch",)},
    ),
    "a group that leads to itself": Mistake(
        lambda: graph(parallel(fetch, clean, name="g"), edge=("g", "g")).validate(),
        GraphError,
        "the group 'g' leads to itself; to repeat a group, lead back to it from a task after it",
        {"ids": ("g",)},
    ),
    "an unknown condition": Mistake(
        lambda: graph(fetch, clean).add_edge("fetch", "clean", on=Anything or "error"),
        GraphError,
        'on=\'error\' is no condition of an edge; use "success", "failure" or "always"',
    ),
    "an order of what goes round": Mistake(
        lambda: graph(fetch >> clean >> fetch).topological_sort(),
        GraphError,
        "the graph has a cycle, so its nodes have no order: clean >> fetch >> clean",
        {"ids": ("clean", "fetch", "clean")},
    ),
    "a map over what there is not": Mistake(
        lambda: graph(clean.map("ftech"), fetch).validate(),
        UnknownTaskError,
        "'clean' maps over the result of 'ftech', and 'ftech' is not in the graph 'numbers'; did you mean 'fetch'? it has 'clean', 'fetch'",
        {"ids": ("ftech",), "known": ("clean", "fetch")},
    ),
    "a map over a member of a group": Mistake(
        lambda: graph(fetch | report, clean.map("fetch")).validate(),
        GraphError,
        "'clean' maps over the result of 'fetch', which is a member of the group 'fetch|report'; map over that group instead",
        {"ids": ("clean", "fetch")},
    ),
}

EVERYTHING = {
    f"{place}: {name}": mistake
    for place, table in {"task": TASKS, "drawing": DRAWING, "policy": POLICIES, "graph": GRAPHS}.items()
    for name, mistake in table.items()
}


@pytest.mark.parametrize("mistake", EVERYTHING.values(), ids=EVERYTHING)
def test_a_mistake_in_building_is_told_in_these_words(mistake: Mistake) -> None:
    with pytest.raises(mistake.error) as caught:
        mistake.make()
    check(mistake, caught.value)
