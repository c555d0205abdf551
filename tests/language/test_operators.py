"""What the operators make of tasks."""

from __future__ import annotations

import functools
import operator
from typing import Any

import pytest

from graflow.core.chain import Chain, chain, parallel
from graflow.core.edge import Edge
from graflow.core.node import Node, ParallelGroup
from graflow.core.policy import at_least_n, best_effort, strict
from graflow.core.task import Task, task
from graflow.errors import DuplicateTaskError, GraphError, InvalidPolicyError


@task
async def a() -> int:
    return 1


@task
async def b() -> int:
    return 2


@task
async def c() -> int:
    return 3


@task
async def d() -> int:
    return 4


@task
async def square(n: int) -> int:
    return n * n


def names(nodes: Any) -> list[str]:
    return [node.id for node in nodes]


def arrows(edges: tuple[Edge, ...]) -> list[str]:
    return [f"{edge.source}>{edge.target}" for edge in edges]


def shape(group: ParallelGroup[Any]) -> list[list[str]]:
    return [names(branch.nodes) for branch in group.branches]


def test_an_arrow_makes_a_chain_from_left_to_right() -> None:
    drawn = a >> b >> c
    assert isinstance(drawn, Chain)
    assert names(drawn) == ["a", "b", "c"]
    assert arrows(drawn.edges) == ["a>b", "b>c"]
    assert (drawn.first, drawn.last, drawn.id) == (a, c, "c")


def test_an_arrow_to_the_left_means_the_same() -> None:
    assert arrows((b << a).edges) == ["a>b"]
    assert arrows((c << b << a).edges) == ["a>b", "b>c"]


def test_chains_are_joined_at_their_ends() -> None:
    assert arrows(((a >> b) >> (c >> d)).edges) == ["a>b", "b>c", "c>d"]
    assert arrows(chain(a, b >> c, d).edges) == ["a>b", "b>c", "c>d"]


def test_a_chain_may_come_back_to_a_task() -> None:
    drawn = a >> b >> a
    assert names(drawn) == ["a", "b", "a"]
    assert names(drawn.nodes) == ["a", "b"]
    assert arrows(drawn.edges) == ["a>b", "b>a"]
    assert drawn.last is a


def test_an_edge_that_is_drawn_twice_counts_once() -> None:
    assert arrows((a >> b >> a >> b).edges) == ["a>b", "b>a"]


def test_an_arrow_to_a_group_leads_to_the_group_itself() -> None:
    drawn = a >> (b | c) >> d
    assert names(drawn) == ["a", "b|c", "d"]
    assert arrows(drawn.edges) == ["a>b|c", "b|c>d"]


def test_a_chain_of_one_is_a_chain() -> None:
    assert names(chain(a)) == ["a"]
    assert chain(a).edges == ()


def test_an_unnamed_group_is_called_by_its_members() -> None:
    assert (a | b | c).id == "a|b|c"
    assert (a >> b | c).id == "a|b|c"
    assert parallel(a, b, name="both").id == "both"


def test_a_bare_group_is_flattened_on_either_side() -> None:
    assert shape(a | b | c) == [["a"], ["b"], ["c"]]
    assert shape(a | (b | c)) == [["a"], ["b"], ["c"]]
    assert shape((a | b) | (c | d)) == [["a"], ["b"], ["c"], ["d"]]


def joined() -> ParallelGroup[Any]:
    group = a | b
    _ = group >> d
    return group


def mapped() -> ParallelGroup[Any]:
    return square.map([1, 2])


@pytest.mark.parametrize(
    "group",
    [
        (a | b).with_policy(best_effort),
        (a | b).with_policy(strict),
        parallel(a, b, name="both"),
        parallel(a, b, limit=1),
        joined(),
        mapped(),
    ],
)
def test_a_group_with_a_name_policy_limit_or_edge_nests(group: Any) -> None:
    outer = group | c
    assert names(branch.last for branch in outer.branches) == [group.id, "c"]
    assert outer.branches[0].last is group


def test_parallel_takes_no_group_apart() -> None:
    assert shape(parallel(a | b, c)) == [["a|b"], ["c"]]


def test_a_chain_is_one_branch_which_goes_by_its_last_task() -> None:
    group = a >> b | c
    first, second = group.branches
    assert names(first.nodes) == ["a", "b"]
    assert arrows(first.edges) == ["a>b"]
    assert (first.last, first.id) == (b, "b")
    assert (second.nodes, second.edges, second.id) == ((c,), (), "c")


def test_a_branch_may_hold_a_loop_and_ends_where_it_was_written_last() -> None:
    branch = (a >> b >> a | c).branches[0]
    assert names(branch.nodes) == ["a", "b"]
    assert arrows(branch.edges) == ["a>b", "b>a"]
    assert branch.id == "a"


def test_a_node_stands_in_one_branch_only() -> None:
    with pytest.raises(GraphError, match=r"'a' stands in two branches .* a.clone\('other-id'\)"):
        _ = (a | a).branches
    with pytest.raises(GraphError, match="'c' stands in two branches"):
        parallel(a >> c, b >> c)


def test_two_tasks_of_one_id_cannot_share_a_group_or_a_chain() -> None:
    other = task("a")(lambda: 1)
    with pytest.raises(DuplicateTaskError, match="the id 'a'"):
        parallel(a, other)
    with pytest.raises(DuplicateTaskError, match="the id 'a'"):
        _ = (a >> b >> other).nodes


def test_with_policy_changes_the_group_and_returns_it() -> None:
    group = a | b
    assert group.policy is strict
    assert not group.has_policy
    assert group.with_policy("best_effort") is group
    assert group.policy is best_effort
    assert group.has_policy


def test_a_policy_that_the_branches_can_never_meet_is_refused_when_it_is_given() -> None:
    with pytest.raises(InvalidPolicyError, match=r"at_least_n\(3\) can never be met: the group has 2 branches"):
        (a | b).with_policy(at_least_n(3))
    with pytest.raises(InvalidPolicyError, match="at_least_n"):
        parallel(a, b, policy=at_least_n(3))


@pytest.mark.parametrize("limit", [0, -1, 1.5, True, "2"])
def test_a_limit_below_one_is_refused(limit: Any) -> None:
    with pytest.raises(GraphError, match="limit="):
        parallel(a, b, limit=limit)


def test_parallel_and_chain_need_nodes() -> None:
    with pytest.raises(GraphError, match="no nodes"):
        parallel()
    with pytest.raises(GraphError, match="no nodes"):
        chain()


def undecorated(n: int) -> int:
    return n


@pytest.mark.parametrize(
    ("draw", "says"),
    [
        (lambda: a >> [b, c], r"use a >> \(b \| c\), or parallel"),
        (lambda: [a, b] >> c, r"use \(a \| b\) >> c, or parallel"),
        (lambda: a >> [b], r"use a >> b$"),
        (lambda: a >> (b, c, d, a), r"\(b \| c \| d \| \.\.\.\)"),
        (lambda: a >> [], "an empty list"),
        (lambda: a | {b}, "a set"),
        (lambda: a << [b, c], "<<"),
        (lambda: [b, c] | a, "a list"),
        (lambda: a >> "b", "add_edge, which takes ids"),
        (lambda: a >> undecorated, "plain function undecorated; decorate it with @task"),
        (lambda: a >> b(), "write b without parentheses"),
        (lambda: a >> 3, "not 3 of type int"),
        (lambda: a >> None, "not None"),
        (lambda: chain(a, [b, c]), r"unpack it: chain\(\*nodes\)"),
        (lambda: parallel([a, b]), r"unpack it: parallel\(\*nodes\)"),
    ],
)
def test_an_operand_that_is_no_node_is_refused_with_what_to_write_instead(draw: Any, says: str) -> None:
    with pytest.raises(GraphError, match=says):
        draw()


def test_ten_thousand_tasks_are_joined_one_by_one_without_copying_or_recursion() -> None:
    many: list[Node[Any]] = [a.clone(f"t{n}") for n in range(10_000)]
    group = functools.reduce(operator.or_, many)
    assert isinstance(group, ParallelGroup)
    assert len(group.branches) == 10_000
    row = functools.reduce(operator.rshift, many)
    assert isinstance(row, Chain)
    assert len(row.edges) == 9_999
    backwards = functools.reduce(lambda right, left: left >> right, reversed(many))
    assert isinstance(backwards, Chain)
    assert backwards.edges == row.edges
    assert chain(*many).edges == row.edges
    del group, row, backwards


def test_expressions_are_shown_in_short() -> None:
    assert repr(a >> (b | c)) == "<Chain a >> b|c>"
    assert repr(a | b) == "<ParallelGroup a | b>"
    many: list[Task[..., Any]] = [a.clone(f"t{n}") for n in range(9)]
    assert repr(chain(*many)) == "<Chain t0 >> t1 >> t2 >> ... (5 more) >> t8>"
