"""Every mistake that shows when a graph is submitted, and the very words in which it is told."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest

from graflow import WorkflowEngine, task, workflow
from graflow.errors import (
    ConfigurationError,
    EmptyGraphError,
    GraflowError,
    GraphError,
    SerializationError,
    UnknownTaskError,
)
from graflow.handlers import ThreadHandler
from tests.errors.shapes import Mistake, check, clean, fetch, graph, report, run

Anything: Any = None
RUNNABLE = "give a workflow, a TaskGraph, a task (made by @task), a chain or a group"
REMEDY = "which cannot travel: it belongs to this process: open it in `lifespan=` and take it from `ctx.resources` where it is needed"
LOCK = "_thread.lock"


def submit(**options: Any) -> Callable[[], Any]:
    async def submitted() -> None:
        async with WorkflowEngine() as engine:
            await engine.submit(fetch, **options)

    return submitted


def attach(run_id: Any) -> Callable[[], Any]:
    async def attached() -> None:
        async with WorkflowEngine() as engine:
            await engine.attach(run_id)

    return attached


async def later() -> None: ...


def option(setting: str, value: Any, advice: str) -> Mistake:
    return Mistake(submit(**{setting: value}), ConfigurationError, f"{setting}={value!r}: {advice}", {"setting": setting})


def engine(text: str, setting: str, *args: Any, **options: Any) -> Mistake:
    return Mistake(lambda: WorkflowEngine(*args, **options), ConfigurationError, text, {"setting": setting})


def drawn(**ends: Any) -> Any:
    with workflow("w", **ends) as wf:
        wf.add(fetch)
    return wf


SUBMITTING = {
    "a number": Mistake(run(42), GraphError, f"cannot run 42 of type int; {RUNNABLE}"),
    "nothing": Mistake(run(None), GraphError, f"cannot run None of type NoneType; {RUNNABLE}"),
    "an id": Mistake(run("fetch"), GraphError, f"cannot run 'fetch' of type str; {RUNNABLE}"),
    "a plain function": Mistake(run(later), GraphError, f"cannot run the plain function later; {RUNNABLE}"),
    "a task that was called": Mistake(
        lambda: run(fetch())(),
        GraphError,
        f"cannot run the coroutine fetch(...), which would be fetch without parentheses; {RUNNABLE}",
    ),
    "a list": Mistake(run([fetch, clean]), GraphError, f"cannot run [<AsyncTask fetch>, <AsyncTask clean>] of type list; {RUNNABLE}"),
    "an empty graph": Mistake(
        run(graph()), EmptyGraphError, "the graph 'numbers' has no nodes; draw some with >>, or add a lone task with wf.add(task)"
    ),
    "an unknown start": Mistake(
        run(graph(fetch >> clean), start="ftech"),
        UnknownTaskError,
        "start='ftech' is not in the graph 'numbers', which has 'fetch', 'clean'",
        {"ids": ("ftech",), "known": ("fetch", "clean")},
    ),
    "an unknown start of a workflow": Mistake(
        lambda: run(drawn(start="x"))(),
        UnknownTaskError,
        "start='x' is not in the graph 'w', which has 'fetch'",
        {"ids": ("x",), "known": ("fetch",)},
    ),
    "an unknown output": Mistake(
        lambda: run(drawn(output="x"))(),
        UnknownTaskError,
        "output='x' is not in the graph 'w', which has 'fetch'",
        {"ids": ("x",), "known": ("fetch",)},
    ),
    "a start within a group": Mistake(
        run((fetch | report) >> clean, start="fetch"),
        GraphError,
        "start='fetch' is a member of the group 'fetch|report'; start at the group or at another top-level node",
        {"ids": ("fetch", "fetch|report")},
    ),
    "a start that is no node": option("start", 5, "give a node of the graph or its id, or None"),
    "a handler that nobody has": Mistake(
        run(task("render", handler="gpu")(later)),
        ConfigurationError,
        "task 'render' asks for the handler 'gpu', but there are only 'coroutine', 'thread', 'process', 'docker'; "
        "register it with handlers={'gpu': ...}",
        {"setting": "handlers"},
    ),
    "a mapped handler that nobody has": Mistake(
        run(fetch >> task("render", handler="gpu")(lambda n: n).map(fetch)),
        ConfigurationError,
        "task 'render' asks for the handler 'gpu', but there are only 'coroutine', 'thread', 'process', 'docker'; "
        "register it with handlers={'gpu': ...}",
        {"setting": "handlers"},
    ),
    "no time": option("timeout", 0, "give the seconds that the run may take, more than 0, or None"),
    "a time in words": option("timeout", "5", "give the seconds that the run may take, more than 0, or None"),
    "a time without end": option("timeout", float("inf"), "give the seconds that the run may take, more than 0, or None"),
    "no steps": option("max_steps", 0, "give the number of visits that are allowed, 1 or more, or None"),
    "half a step": option("max_steps", 1.5, "give the number of visits that are allowed, 1 or more, or None"),
    "an unknown way to fail": option("on_failure", "ignore", 'use "fail" or "continue"'),
    "an unknown way to meet again": option("if_exists", "replace", 'use "attach", "error" or "rerun_failed"'),
    "inputs in a list": option("inputs", [1], "give a mapping of names to values"),
    "inputs by number": option("inputs", {1: 1}, "give a mapping of names to values"),
    "stubs in a list": option("stubs", [1], "give a mapping of tasks to the functions to run instead"),
    "an empty run id": option("run_id", "", "give a text that is not empty"),
    "a run id that is a number": option("run_id", 5, "give a text that is not empty"),
    "attaching to nothing": Mistake(attach(None), ConfigurationError, "run_id=None: give a text that is not empty", {"setting": "run_id"}),
    "an input that cannot travel": Mistake(
        run(clean, strict=True, inputs={"n": {"a": [threading.Lock()]}}),
        SerializationError,
        f'inputs["n"]["a"][0] is a {LOCK}, {REMEDY}',
        {"path": 'inputs["n"]["a"][0]', "type_name": LOCK},
    ),
    "a bound argument that cannot travel": Mistake(
        run(fetch >> clean.bind(n=[threading.Lock()]), strict=True),
        SerializationError,
        f"bound argument clean.n[0] is a {LOCK}, {REMEDY}",
        {"path": "bound argument clean.n[0]", "type_name": LOCK},
    ),
    "an item that cannot travel": Mistake(
        run(clean.map([1, threading.Lock()]), strict=True),
        SerializationError,
        f"bound argument clean[1].n is a {LOCK}, {REMEDY}",
        {"path": "bound argument clean[1].n", "type_name": LOCK},
    ),
    "a script inside a loop": Mistake(
        lambda: drawn().run(),
        GraflowError,
        "wf.run() starts an event loop of its own, and one is running here already; use: await wf.execute(...)",
    ),
    "an engine that was not entered": Mistake(
        lambda: WorkflowEngine().execute(fetch),
        ConfigurationError,
        "the engine is not running; use it inside: async with WorkflowEngine() as engine",
        {"setting": "engine"},
    ),
}

ENGINES = {
    "a backend that there is not": engine(
        'no backend for \'amqp://here\': use "memory://", "memory://?strict=1", "redis://...", or a backend object', "url", "amqp://here"
    ),
    "a backend that is none": engine(
        'no backend for 5: use "memory://", "memory://?strict=1", "redis://...", or a backend object', "url", 5
    ),
    "a misspelt option": engine(
        "'memory://?strickt=1' has an option that there is not; the only one is strict=1 (or 0)", "url", "memory://?strickt=1"
    ),
    "an option in words": engine(
        "'memory://?strict=maybe' has an option that there is not; the only one is strict=1 (or 0)", "url", "memory://?strict=maybe"
    ),
    "no concurrency": engine("concurrency=0: give how many attempts may run at once, 1 or more", "concurrency", concurrency=0),
    "a handler that is none": engine(
        "handlers['gpu'] is of type int; give an instance of a subclass of Handler", "handlers", handlers={"gpu": 5}
    ),
    "a handler's class": engine(
        "handlers['gpu'] is a class; give an instance of it: ThreadHandler(...)", "handlers", handlers={"gpu": ThreadHandler}
    ),
    "a handler without a name": engine("handlers={5: ...}: give a text that is not empty", "handlers", handlers={5: ThreadHandler()}),
    "no threads": Mistake(
        lambda: ThreadHandler(threads=0),
        ConfigurationError,
        "ThreadHandler(threads=0): give the number of threads, 1 or more",
        {"setting": "threads"},
    ),
}


@pytest.mark.parametrize("mistake", (SUBMITTING | ENGINES).values(), ids=SUBMITTING | ENGINES)
async def test_a_mistake_in_submitting_is_told_in_these_words(mistake: Mistake) -> None:
    async def make() -> None:
        made = mistake.make()
        if asyncio.iscoroutine(made):
            await made

    with pytest.raises(mistake.error) as caught:
        await make()
    check(mistake, caught.value)
