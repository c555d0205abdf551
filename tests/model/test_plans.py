"""The plans of these tests are what the graph language makes of the same graphs."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from graflow.core.compiler import compile_plan
from graflow.core.edge import Edge
from graflow.core.graph import TaskGraph
from graflow.core.group import ParallelGroup, parallel
from graflow.core.node import Node
from graflow.core.plan import RUN, Plan
from graflow.core.task import task
from tests.model.generate import Drawing, Shape
from tests.model.plans import GraphSpec, NodeSpec, make_plan, work
from tests.model.rings import find_rings, rank_nodes


class SingleBranches(Drawing):
    """Graphs whose branches are single nodes, so that the operators can draw them whatever their edges are."""

    def draw_nodes(self, group: str | None, branch: int, count: int, depth: int) -> list[NodeSpec]:
        return super().draw_nodes(group, branch, 1 if group is not None else count, depth)


def written(graph: GraphSpec) -> TaskGraph:
    """The graph, written in the graph language."""
    drawn = TaskGraph("model")
    for node in graph.nodes:
        if node.group is None:
            drawn.add(_node(graph, node))
    for edge in graph.edges:
        drawn.add_edge(edge.source, edge.target, on=edge.on)
    return drawn


def _node(graph: GraphSpec, node: NodeSpec) -> Node[Any]:
    if not node.is_group:
        return task(node.id, max_cycles=node.max_cycles)(work)
    members = [_node(graph, member) for member in graph.nodes if member.group == node.id]
    group: ParallelGroup[Any]
    if members:
        group = parallel(*members, name=node.id, limit=node.limit)
    else:
        group = task(node.id)(work).map([] if node.mapped is None else node.mapped, limit=node.limit)
    return group.with_policy(node.policy)


def parts(plan: Plan) -> dict[str, Any]:
    """All of a plan that a run reads."""
    names = ("ids", "index", "scope", "branch", "group_depth", "max_cycles", "top", "edges", "is_back", "outs", "released", "ins")
    more = ("indegree", "loops", "around", "forks", "map_sources")
    groups = [
        group and (group.members, group.lasts, group.policy, group.limit, group.critical, group.mapping and group.mapping.source)
        for group in plan.groups
    ]
    return {"groups": groups, **{name: getattr(plan, name) for name in (*names, *more)}}


@pytest.mark.parametrize("first", range(0, 400, 100))
def test_both_make_the_same_plan_of_a_graph(first: int) -> None:
    for seed in range(first, first + 100):
        graph = SingleBranches(Random(f"plan {seed}"), Shape()).draw()
        if any(node.mapped and Edge(node.mapped, node.id) not in graph.edges for node in graph.nodes):
            continue  # the language would add the edge that is implied (27)
        assert parts(compile_plan(written(graph))) == parts(make_plan(graph)), f"seed {seed}"


@pytest.mark.parametrize("first", range(0, 1000, 250))
def test_loops_are_those_that_trying_finds(first: int) -> None:
    """Rule 5, against a search by transitive closure."""
    for seed in range(first, first + 250):
        graph = Drawing(Random(f"loops {seed}"), Shape()).draw()
        plan = make_plan(graph)
        found = [
            (plan.ids[loop.header], {plan.ids[node] for node in loop.body}, set(loop.back), loop.depth, loop.scope == RUN)
            for loop in plan.loops
        ]
        rings = find_rings(graph, rank_nodes(graph))
        assert found == [(ring.header, set(ring.body), set(ring.back), ring.depth, ring.scope is None) for ring in rings], f"seed {seed}"


def test_headers_do_not_depend_on_the_order_of_nodes() -> None:
    """Rule 5: only on the graph and on the order in which its edges were drawn."""
    random = Random(5)
    for _ in range(300):
        graph = Drawing(random, Shape(depth=0, top=7)).draw()
        shuffled = list(graph.nodes)
        random.shuffle(shuffled)
        other = GraphSpec(tuple(shuffled), graph.edges)
        loops = [
            {(plan.ids[loop.header], frozenset(plan.ids[node] for node in loop.body), loop.back) for loop in plan.loops}
            for plan in (make_plan(graph), make_plan(other))
        ]
        assert loops[0] == loops[1]


def test_what_is_left_without_back_edges_has_no_cycle() -> None:
    for seed in range(300):
        plan = make_plan(Drawing(Random(f"rest {seed}"), Shape()).draw())
        left = {node: [plan.edges[edge].source for edge in plan.ins[node]] for node in range(len(plan.ids))}
        while left:
            free = [node for node, before in left.items() if not left.keys() & before]
            assert free, f"seed {seed}"
            for node in free:
                del left[node]
