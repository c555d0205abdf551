"""A plan's digest: that of the graph as it was compiled, with where it begins and ends."""

from __future__ import annotations

from typing import Any

import pytest

from graflow.core.compiler import compile_plan
from graflow.core.graph import TaskGraph
from graflow.core.group import parallel
from graflow.core.policy import at_least_n, best_effort, strict
from graflow.core.task import task


def double(n: int, by: int = 2) -> int:
    return n * by


def triple(n: int, by: int = 2) -> int:
    return n * by + n


@task
async def a() -> list[int]:
    return []


b, c = a.clone("b"), a.clone("c")
step = task(double)


def graph_of(*nodes: Any) -> TaskGraph:
    graph = TaskGraph("g")
    graph.add(*nodes)
    return graph


def digest(*nodes: Any, **ends: Any) -> str:
    return compile_plan(graph_of(*nodes), **ends).digest


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (a >> b, b >> a),
        (a | b, b | a),
        (a | b, (a | b).with_policy(best_effort)),
        ((a | b).with_policy(at_least_n(1)), (a | b).with_policy(at_least_n(2))),
        ((a | b).with_policy(lambda state: True), (a | b).with_policy(lambda state: False)),
        (parallel(a, b, limit=1), parallel(a, b, limit=2)),
        (parallel(a, b, name="g"), parallel(parallel(a, name="b2"), b, name="g")),
        (parallel(a >> b, c, name="g"), parallel(a, b >> c, name="g")),
        (parallel(a, b >> c, name="g") >> step, parallel(a >> b, c, name="g") >> step),
        (step, step.bind(n=1)),
        (step.bind(n=1), step.bind(by=1)),
        (step.bind(n=1), step.bind(n=True)),
        (step.bind(n="1"), step.bind(n=1)),
        (step.bind(n=[1]), step.bind(n=[2])),
        (step, task(retry=1)(double)),
        (task("x")(double), task("x")(triple)),
        (task("x")(double), task("x", inject_context=True)(double)),
        (step.map([1]), step.map([2])),
        (a >> step.map(a), a >> step.map(a, parameter="by")),
        (a >> step.map(a), a >> step.map(a, name="other")),
        (a >> step.map(a, name="g"), a >> task("double")(triple).map(a, name="g")),
        (a >> step.map(a), a >> step.bind(by=3).map(a)),
        (a >> b >> step.map(a), a >> b >> step.map(b)),
    ],
)
def test_another_graph_has_another_digest(one: Any, other: Any) -> None:
    assert digest(one) == digest(one)
    assert digest(one) != digest(other)


def test_branches_count_where_nodes_and_edges_are_the_same() -> None:
    one, other = compile_plan(graph_of(parallel(a, b, name="g"))), compile_plan(graph_of(parallel(a, b, name="g")))
    other.branch = [0, 1, 0]
    assert one.digest != other.digest


def test_where_a_run_begins_and_ends_counts() -> None:
    digests = [digest(a >> b), digest(a >> b, start="a"), digest(a >> b, start="b"), digest(a >> b, output="a"), digest(a >> b, output="b")]
    assert len(set(digests)) == 5


def test_the_conditions_of_edges_count() -> None:
    graph = TaskGraph("g")
    graph.add_edge(a, b, on="always")
    assert compile_plan(graph).digest != digest(a >> b)


def test_what_makes_no_difference_does_not_count() -> None:
    assert digest(a | b) == digest((a | b).with_policy(strict))
    assert digest(step.bind(n=1, by=2)) == digest(step.bind(by=2, n=1))
    x = task("x")(double)
    assert digest(x >> x.clone("y")) == digest(x >> task("y")(double))


def test_a_policy_that_is_changed_later_is_not_the_plans() -> None:
    group = a | b
    plan, before = compile_plan(graph_of(group)), digest(a | b)
    group.with_policy(best_effort)
    assert plan.digest == before
