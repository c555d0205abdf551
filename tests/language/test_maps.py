"""``t.map(...)``: one instance of a task for each item."""

from __future__ import annotations

from typing import Any

import pytest

from graflow.core.context import TaskContext
from graflow.core.edge import Edge
from graflow.core.graph import TaskGraph
from graflow.core.node import Chain
from graflow.core.policy import at_least_n
from graflow.core.task import task
from graflow.errors import DuplicateTaskError, GraphError, InvalidPolicyError, UnknownTaskError


@task
async def fetch() -> list[int]:
    return [1, 2]


@task
async def square(n: int) -> int:
    return n * n


@task
async def page(ctx: TaskContext, url: str, depth: int = 0) -> str:
    return url * depth


@task
async def report(square: list[int]) -> int:
    return sum(square)


def graph_of(*nodes: Any) -> TaskGraph:
    graph = TaskGraph("maps")
    graph.add(*nodes)
    return graph


def test_a_list_known_now_gives_a_group_of_clones_each_with_its_item() -> None:
    group = square.map([5, 7], limit=3)
    assert group.id == "square"
    assert [branch.id for branch in group.branches] == ["square[0]", "square[1]"]
    assert [dict(branch.last.bound) for branch in group.branches] == [{"n": 5}, {"n": 7}]
    assert (group.limit, group.mapped) == (3, None)


def test_any_iterable_that_is_no_text_is_a_list_of_items() -> None:
    assert len(square.map(range(3)).branches) == 3
    assert len(square.map(n for n in (1, 2)).branches) == 2
    assert square.map([]).branches == ()


def test_a_task_or_id_is_expanded_when_the_run_gets_there() -> None:
    for source in (fetch, "fetch", report >> fetch):
        group = square.map(source)
        assert group.branches == ()
        assert group.mapped.task is square
        assert (group.mapped.source_id, group.mapped.parameter) == ("fetch", "n")


def test_the_item_goes_to_the_first_parameter_that_is_open() -> None:
    first = page.map(["u"]).branches[0].last
    assert dict(first.bound) == {"url": "u"}
    bound = page.bind(url="u").map([3], parameter="depth").branches[0].last
    assert dict(bound.bound) == {"url": "u", "depth": 3}
    mapped = page.bind(url="u").map(fetch, parameter="depth").mapped
    assert mapped is not None
    assert mapped.parameter == "depth"


def test_without_an_open_parameter_there_is_nothing_to_map() -> None:
    with pytest.raises(GraphError, match="no parameter of 'square' is left open"):
        square.bind(n=1).map([1])
    with pytest.raises(GraphError, match="no parameter of 'fetch' is left open"):
        fetch.map([1])
    with pytest.raises(GraphError, match="has no parameter 'm'"):
        square.map([1], parameter="m")
    with pytest.raises(GraphError, match="bound already"):
        square.bind(n=1).map([1], parameter="n")


@pytest.mark.parametrize("values", [3, None, b"ab"])
def test_what_holds_no_items_is_refused(values: Any) -> None:
    with pytest.raises(GraphError, match="takes a list of items, a task or the id of one"):
        square.map(values)


def test_the_edge_from_the_source_is_implied_where_both_stand_in_one_scope() -> None:
    graph = graph_of(fetch, square.map(fetch) >> report)
    assert graph.edges == (Edge("square", "report"), Edge("fetch", "square"))
    assert graph.predecessors("square") == ("fetch",)
    assert graph.successors("fetch") == ("square",)
    assert graph.topological_sort() == ["fetch", "square", "report"]
    graph.validate()


def test_an_edge_that_is_drawn_is_not_implied_again() -> None:
    assert graph_of(fetch >> square.map(fetch)).edges == (Edge("fetch", "square"),)
    graph = graph_of(fetch, square.map(fetch))
    graph.add_edge("fetch", "square", on="always")
    assert graph.edges == (Edge("fetch", "square", "always"),)


def test_the_source_may_be_added_after_the_group() -> None:
    graph = graph_of(square.map(fetch))
    assert graph.edges == ()
    graph.add(fetch)
    assert graph.edges == (Edge("fetch", "square"),)


def test_inside_another_group_the_source_must_lead_to_that_group() -> None:
    graph = graph_of(fetch >> (square.map(fetch) | page))
    graph.validate()
    assert graph.edges == (Edge("fetch", "square|page"),)
    with pytest.raises(GraphError, match=r"'square' maps .* 'fetch', but nothing leads from there to .* 'square\|page'"):
        graph_of(fetch, square.map(fetch) | page).validate()
    graph_of(fetch >> report >> (square.map(fetch) | page)).validate()


def test_a_source_in_a_group_that_the_mapped_group_is_not_in_is_refused() -> None:
    with pytest.raises(GraphError, match=r"member of the group 'fetch\|page'; map over that group instead"):
        graph_of((fetch | page) >> square.map(fetch)).validate()


def test_the_group_around_cannot_be_the_source() -> None:
    outer = fetch | square.map("both")
    with pytest.raises(GraphError, match="the group that it stands in"):
        graph_of(task("both")(lambda: 1).clone("x"), _named("both", outer)).validate()


def _named(name: str, group: Any) -> Any:
    from graflow.core.group import parallel

    return parallel(*(branch.last for branch in group.branches), name=name)


def test_a_source_that_was_never_added_is_named() -> None:
    with pytest.raises(UnknownTaskError, match="maps over the result of 'fetch', and 'fetch' is not in the graph"):
        graph_of(square.map(fetch) >> report).validate()


def test_a_group_of_the_name_of_its_source_needs_another_name() -> None:
    with pytest.raises(DuplicateTaskError, match="name='other-id'"):
        graph_of(square, square.map("square"))
    with pytest.raises(GraphError, match="maps over its own result"):
        graph_of(square.map("square")).validate()


def test_a_policy_of_a_group_known_later_is_checked_later() -> None:
    graph_of(fetch >> square.map(fetch).with_policy(at_least_n(5))).validate()
    with pytest.raises(InvalidPolicyError):
        square.map([1, 2]).with_policy(at_least_n(5))
    with pytest.raises(InvalidPolicyError):
        square.map([]).with_policy(at_least_n(1))


def test_a_mapped_group_is_a_node_like_any_other() -> None:
    drawn = fetch >> square.map(fetch, name="squares") >> report
    assert isinstance(drawn, Chain)
    assert [node.id for node in drawn] == ["fetch", "squares", "report"]
