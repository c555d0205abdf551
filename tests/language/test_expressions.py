"""Any expression of operators means what a simple model of the language says."""

from __future__ import annotations

import itertools
from typing import Any, NamedTuple

from hypothesis import given
from hypothesis import strategies as st

from graflow.core.graph import TaskGraph
from graflow.core.task import task
from graflow.core.workflow import workflow


@task
async def step() -> None: ...


class Row(NamedTuple):
    """One after the other."""

    items: list[Any]


class Side(NamedTuple):
    """Side by side."""

    branches: list[Any]


def draw(expression: Any) -> Any:
    if isinstance(expression, int):
        return step.clone(str(expression))
    operator, left, right = expression
    return draw(left) >> draw(right) if operator == ">>" else draw(left) | draw(right)


def model(expression: Any) -> Any:
    if isinstance(expression, int):
        return str(expression)
    operator, left, right = expression
    parts = [model(left), model(right)]
    if operator == ">>":
        return Row([item for part in parts for item in (part.items if isinstance(part, Row) else [part])])
    return Side([branch for part in parts for branch in (part.branches if isinstance(part, Side) else [part])])


def id_of(part: Any) -> str:
    if isinstance(part, Row):
        return id_of(part.items[-1])
    if isinstance(part, Side):
        return "|".join(id_of(item) for branch in part.branches for item in (branch.items if isinstance(branch, Row) else [branch]))
    return str(part)


def collect(part: Any, scope: str | None, scopes: dict[str, str | None], edges: set[tuple[str, str]]) -> None:
    if isinstance(part, Row):
        for item in part.items:
            collect(item, scope, scopes, edges)
        ids = [id_of(item) for item in part.items]
        edges.update(itertools.pairwise(ids))
        return
    scopes[id_of(part)] = scope
    if isinstance(part, Side):
        for branch in part.branches:
            collect(branch, id_of(part), scopes, edges)


def numbered(shape: Any, counter: list[int]) -> Any:
    """Every leaf gets a number of its own: a task stands in an expression once."""
    if shape is None:
        counter[0] += 1
        return counter[0]
    operator, left, right = shape
    return (operator, numbered(left, counter), numbered(right, counter))


expressions = st.recursive(st.none(), lambda inner: st.tuples(st.sampled_from([">>", "|"]), inner, inner), max_leaves=25).map(
    lambda shape: numbered(shape, [0])
)


@given(expressions)
def test_nodes_scopes_and_edges_are_those_of_the_model(expression: Any) -> None:
    graph = TaskGraph("g")
    graph.add(draw(expression))
    scopes: dict[str, str | None] = {}
    edges: set[tuple[str, str]] = set()
    collect(model(expression), None, scopes, edges)
    assert {node: graph.scope_of(node) for node in graph.nodes} == scopes
    assert {(edge.source, edge.target) for edge in graph.edges} == edges
    assert len(graph.edges) == len(edges)
    graph.validate()
    order = graph.topological_sort()
    assert sorted(order) == sorted(scopes)
    place = {node: number for number, node in enumerate(order)}
    assert all(place[source] < place[target] for source, target in edges)
    assert all(place[node] > place[group] for node, group in scopes.items() if group is not None)


@given(expressions)
def test_a_bare_statement_in_a_block_means_the_same_as_adding_it(expression: Any) -> None:
    with workflow("g") as bare:
        draw(expression)
    if isinstance(expression, int):
        assert len(bare.graph) == 0  # a task alone is no statement of operators
        return
    added = workflow("g")
    added.add(draw(expression))
    assert bare.graph.digest() == added.graph.digest()
