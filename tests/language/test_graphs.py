"""The graph that is made of what was drawn."""

from __future__ import annotations

from typing import Any

import pytest

from graflow.core.edge import Edge
from graflow.core.graph import TaskGraph
from graflow.core.group import parallel
from graflow.core.policy import GroupPolicy, at_least_n, best_effort, critical, strict
from graflow.core.task import Task, task
from graflow.errors import DuplicateTaskError, EmptyGraphError, GraphError, InvalidPolicyError, UnknownTaskError


@task
async def step() -> None: ...


def make(name: str, **options: Any) -> Task[..., Any]:
    return task(**options)(step.function).clone(name) if options else step.clone(name)


a, b, c, d, e = (make(name) for name in "abcde")


def graph_of(*nodes: Any) -> TaskGraph:
    graph = TaskGraph("g")
    graph.add(*nodes)
    return graph


def arrows(graph: TaskGraph) -> list[str]:
    return [f"{edge.source}>{edge.target}" for edge in graph.edges]


# ---- building ----


def test_nodes_are_kept_in_order_of_adding_with_members_of_groups_among_them() -> None:
    graph = graph_of(a >> (b | c) >> d, e)
    assert list(graph.nodes) == ["a", "b|c", "b", "c", "d", "e"]
    assert graph.nodes["a"] is a
    assert len(graph) == 6
    assert "b" in graph
    assert b in graph
    assert "x" not in graph


def test_edges_are_kept_in_drawing_order_and_once() -> None:
    graph = graph_of(c >> d, a >> b, c >> d)
    assert arrows(graph) == ["c>d", "a>b"]


def test_a_graph_can_be_built_by_hand() -> None:
    graph = TaskGraph("by hand")
    graph.add_task(a)
    graph.add_task(b)
    graph.add_edge("a", "b")
    graph.add_edge("a", c, on="failure")
    graph.add_edge(b >> d, e, on="always")
    assert graph.edges == (Edge("a", "b"), Edge("a", "c", "failure"), Edge("b", "d"), Edge("d", "e", "always"))


def test_two_edges_with_different_conditions_may_join_the_same_nodes() -> None:
    graph = graph_of(a >> b)
    graph.add_edge("a", "b", on="failure")
    assert len(graph.edges) == 2
    assert graph.successors("a") == ("b",)


def test_a_condition_that_does_not_exist_is_refused() -> None:
    with pytest.raises(GraphError, match='use "success", "failure" or "always"'):
        graph_of(a, b).add_edge("a", "b", on="finally")


def test_an_edge_to_an_unknown_id_names_what_is_known_and_what_is_spelt_alike() -> None:
    graph = graph_of(*(make(name) for name in ("fetch", "clean", "one", "two", "three", "four")))
    with pytest.raises(UnknownTaskError, match=r"did you mean 'fetch'\? it has 'fetch', .* and 1 more") as caught:
        graph.add_edge("fetsh", "clean")
    assert caught.value.ids == ("fetsh",)
    assert caught.value.known == ("fetch", "clean", "one", "two", "three")
    with pytest.raises(UnknownTaskError, match="which is empty"):
        TaskGraph("empty").add_edge("a", "b")


@pytest.mark.parametrize("method", ["scope_of", "members", "predecessors", "successors"])
def test_asking_for_an_unknown_id_is_an_error_and_no_empty_answer(method: str) -> None:
    with pytest.raises(UnknownTaskError):
        getattr(graph_of(a), method)("x")


def test_equal_tasks_are_one_node_and_different_ones_of_the_same_id_an_error() -> None:
    graph = graph_of(a >> b)
    graph.add(make("a") >> c)
    assert arrows(graph) == ["a>b", "a>c"]
    with pytest.raises(DuplicateTaskError, match="the id 'a'") as caught:
        graph.add(make("a", retry=1))
    assert caught.value.ids == ("a",)


def test_a_task_and_a_group_cannot_share_an_id() -> None:
    with pytest.raises(DuplicateTaskError):
        graph_of(a, parallel(b, c, name="a"))
    with pytest.raises(DuplicateTaskError):
        graph_of(parallel(b, c, name="a"), a)
    with pytest.raises(DuplicateTaskError):
        graph_of(parallel(a, b, name="a"))


def test_only_nodes_can_be_added() -> None:
    with pytest.raises(GraphError, match="plain function"):
        graph_of(step.function)


def test_a_graph_needs_a_name() -> None:
    with pytest.raises(GraphError, match="name of a graph"):
        TaskGraph("")


# ---- scopes ----


def test_members_know_their_group_and_the_others_stand_at_the_top() -> None:
    graph = graph_of(a >> (b >> c | parallel(d, e, name="inner")))
    outer = "b|c|inner"
    assert graph.members(None) == ("a", outer)
    assert graph.members(outer) == ("b", "c", "inner")
    assert graph.members("inner") == ("d", "e")
    assert graph.members("a") == ()
    assert [graph.scope_of(node) for node in ("a", outer, "b", "inner", "d")] == [None, None, outer, outer, "inner"]
    assert "b>c" in arrows(graph)


def test_an_edge_across_the_border_of_a_group_is_refused_whichever_comes_first() -> None:
    with pytest.raises(GraphError, match=r"'b' is a member of 'b\|c' and 'a' is not") as caught:
        graph_of(b | c, a >> b)
    assert caught.value.ids == ("a", "b")
    with pytest.raises(GraphError, match=r"'b' is a member of 'b\|c' and 'a' is not"):
        graph_of(a >> b, b | c)
    with pytest.raises(GraphError, match=r"'b' is a member of 'b\|c' and 'd' is not"):
        graph_of(b >> d, b | c)
    with pytest.raises(GraphError, match="crosses"):
        graph_of(b | c).add_edge("b", "b|c")


def test_members_of_one_group_may_be_joined() -> None:
    graph = graph_of(a | b | c)
    graph.add_edge("a", "b", on="failure")
    graph.add(b >> c)
    assert arrows(graph) == ["a>b", "b>c"]


def test_what_stood_at_the_top_may_be_put_into_a_group_together_with_what_it_is_joined_to() -> None:
    graph = graph_of(a >> b, c)
    graph.add(a >> b | c)
    assert graph.members(None) == ("a|b|c",)
    assert arrows(graph) == ["a>b"]


def test_a_task_is_in_one_group_only() -> None:
    with pytest.raises(GraphError, match=r"'b' is a member of two groups, 'a\|b' and 'b\|c'") as caught:
        graph_of(a | b, b | c)
    assert caught.value.ids == ("b", "a|b", "b|c")
    with pytest.raises(GraphError, match="same members in another order"):
        graph_of(a | b, b | a)


def test_the_same_members_joined_again_are_the_same_group() -> None:
    graph = graph_of((a | b) >> c, (a | b) >> d)
    assert graph.members(None) == ("a|b", "c", "d")
    assert arrows(graph) == ["a|b>c", "a|b>d"]


def test_of_a_group_that_is_written_twice_a_policy_or_limit_that_was_given_wins() -> None:
    graph = graph_of((a | b) >> c, (a | b).with_policy(best_effort) >> d, parallel(a, b, limit=2))
    group = graph.nodes["a|b"]
    assert (group.policy, group.limit) == (best_effort, 2)
    assert group.branches[0].last is a


def test_a_group_cannot_have_two_policies_or_limits() -> None:
    with pytest.raises(GraphError, match="two policies, best_effort and at_least_n"):
        graph_of((a | b).with_policy(best_effort), (a | b).with_policy(at_least_n(1)))
    with pytest.raises(GraphError, match="two limits, 1 and 2"):
        graph_of(parallel(a, b, limit=1), parallel(a, b, limit=2))
    graph_of((a | b).with_policy(best_effort), (a | b).with_policy("best_effort"))


def test_two_policies_in_one_chain_are_noticed_too() -> None:
    with pytest.raises(GraphError, match="two policies"):
        graph_of((a | b).with_policy(best_effort) >> c >> (a | b).with_policy(strict))


def test_members_that_look_the_same_but_are_not_are_noticed() -> None:
    with pytest.raises(DuplicateTaskError, match="'a'"):
        graph_of((a | b) >> c, (make("a", retry=1) | b) >> d)


def test_groups_of_one_name_need_the_same_members() -> None:
    with pytest.raises(DuplicateTaskError, match="'g'"):
        graph_of(parallel(a, b, name="g"), parallel(a, c, name="g"))


def test_a_group_that_an_edge_by_id_leads_to_is_no_longer_flattened() -> None:
    group = a | b
    graph = graph_of(group, c)
    graph.add_edge("a|b", "c")
    assert [branch.id for branch in (group | d).branches] == ["a|b", "d"]


# ---- reading ----


def test_neighbours_are_named_once_and_in_drawing_order() -> None:
    graph = graph_of(a >> c, b >> c, c >> d)
    graph.add_edge("a", "c", on="failure")
    assert graph.predecessors("c") == ("a", "b")
    assert graph.successors("c") == ("d",)
    graph.add_edge("c", e)
    assert graph.successors("c") == ("d", "e")
    assert graph.predecessors("a") == ()


def test_the_views_are_read_only() -> None:
    graph = graph_of(a)
    with pytest.raises(TypeError):
        graph.nodes["b"] = b


def test_every_node_is_sorted_behind_those_that_lead_to_it_and_members_behind_their_group() -> None:
    graph = graph_of(c >> d, a >> (b >> e | make("f")) >> c)
    assert graph.topological_sort() == ["a", "b|e|f", "b", "f", "e", "c", "d"]


def test_a_cycle_has_no_order_and_is_shown() -> None:
    graph = graph_of(a >> b >> c >> d >> b)
    assert graph.has_cycle()
    with pytest.raises(GraphError, match="has a cycle") as caught:
        graph.topological_sort()
    shown = str(caught.value).rpartition(": ")[2]
    assert shown in ("b >> c >> d >> b", "c >> d >> b >> c", "d >> b >> c >> d")
    assert caught.value.ids == tuple(shown.split(" >> "))
    assert not graph_of(a >> b, a >> c, b >> c).has_cycle()


def test_a_cycle_within_a_group_is_a_cycle() -> None:
    graph = graph_of(a >> b >> a | c)
    assert graph.has_cycle()
    with pytest.raises(GraphError, match="cycle"):
        graph.topological_sort()


def test_the_revision_changes_with_every_change_and_with_nothing_else() -> None:
    group = a | b
    graph = graph_of(group)
    seen = [graph.revision]

    def changed() -> bool:
        seen.append(graph.revision)
        return seen[-1] != seen[-2]

    graph.add(c)
    assert changed()
    graph.add(c, a | b)
    changed()
    graph.add(group, c)
    assert not changed()
    graph.add_edge("a|b", "c")
    assert changed()
    graph.add_edge("a|b", "c")
    assert not changed()
    group.with_policy(best_effort)
    assert changed()
    graph.validate()
    assert not changed()


def test_a_copy_can_be_changed_on_its_own() -> None:
    graph = graph_of(a >> (b | c))
    graph.compiled = "a plan"
    twin = graph.copy()
    twin.add(d >> e)
    twin.add_edge("a", "d")
    assert list(graph.nodes) == [node for node in twin.nodes if node not in ("d", "e")]
    assert arrows(graph) == ["a>b|c"]
    assert graph.successors("a") == ("b|c",)
    assert twin.compiled is None


# ---- validating ----


def test_an_empty_graph_cannot_run() -> None:
    with pytest.raises(EmptyGraphError, match=r"wf.add\(task\)"):
        TaskGraph("empty").validate()


def test_a_self_edge_needs_a_bound() -> None:
    graph = graph_of(a >> a)
    with pytest.raises(GraphError, match="max_cycles"):
        graph.validate()
    bounded = make("x", max_cycles=3)
    graph_of(bounded >> bounded).validate()
    group = parallel(a, b, name="g")
    with pytest.raises(GraphError, match="the group 'g' leads to itself"):
        graph_of(group >> group).validate()


def test_a_policy_made_by_hand_is_checked_against_the_branches() -> None:
    group = a >> b | c
    with pytest.raises(InvalidPolicyError, match="use 'b'"):
        group.with_policy(critical(["a"]))
    with pytest.raises(InvalidPolicyError, match="its branches are 'b', 'c'"):
        group.with_policy(GroupPolicy("critical", ids=("x",)))
    graph_of(group.with_policy(critical([b, "c"]))).validate()
