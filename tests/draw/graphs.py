"""Graphs to be drawn: any shape, with any text as an id."""

from __future__ import annotations

from hypothesis import strategies as st

from graflow import ParallelGroup, Task, TaskGraph, at_least_n, best_effort, task
from graflow.core.group import MapSource

NASTY = st.sampled_from(
    [
        "end", "graph", "subgraph", "class", "style", "n0", "n1", "a b", 'say "hi"', "a[b]", "a(b)", "{x}", "a|b", "x --> y",
        "a & b", "&lt;", "&#35;", "#35;", "#quot;", "back\\slash", "ends\\", "\\", '\\"', "line\nbreak", "tab\there", "\r",
        "\0", "\ud800", "schön", "任务", "e\u0301", "🙂", "`code`", "*b*", "_i_", "1. one", "- item", "%% x", "%%{init: {}}%%",
        "style: #fff;", "classDef x: #a;", ";", "a;b", "<b>", "//", "fa:fa-car", ":::x", "$$x$$", " ", "\\N", "node", "digraph",
        "cluster_a", "-", ">", "<", "→", "▼", "│",
    ]
)  # fmt: skip
ids = st.one_of(NASTY, st.text(min_size=1, max_size=8), st.from_regex(r"[a-z_]{1,12}", fullmatch=True))
words = st.from_regex(r"[a-z][a-z0-9_]{0,9}", fullmatch=True)
conditions = st.sampled_from(["success"] * 4 + ["failure", "always"])


def make(node_id: str) -> Task[..., None]:
    """A task of that id."""

    @task(node_id)
    def nothing(value: object = None) -> None: ...

    return nothing


@st.composite
def flat_graphs(draw: st.DrawFn, names: st.SearchStrategy[str] = words, most: int = 14, *, cyclic: bool = False) -> TaskGraph:
    """Tasks and edges between them; with ``cyclic``, edges may lead anywhere."""
    graph = TaskGraph("flat")
    nodes = [make(name) for name in draw(st.lists(names, min_size=1, max_size=most, unique=True))]
    graph.add(*nodes)
    number = st.integers(0, len(nodes) - 1)
    for one, other, on in draw(st.lists(st.tuples(number, number, conditions), max_size=2 * most)):
        if cyclic:
            graph.add_edge(nodes[one], nodes[other], on=on)
        elif one != other:
            graph.add_edge(nodes[min(one, other)], nodes[max(one, other)], on=on)
    return graph


@st.composite
def graphs(draw: st.DrawFn, names: st.SearchStrategy[str] = ids, most: int = 14) -> TaskGraph:
    """Tasks, nested groups, mapped groups and edges in every scope, loops included."""
    graph = TaskGraph(draw(names))
    taken = draw(st.lists(names, min_size=1, max_size=most, unique=True))
    standing: list[Task[..., None] | ParallelGroup[None]] = [make(name) for name in taken[: len(taken) // 2 + 1]]
    for name in taken[len(standing) :]:
        if draw(st.booleans()) and len(standing) > 1:
            size = draw(st.integers(1, min(4, len(standing))))
            branches, standing = standing[:size], standing[size:]
            standing.append(ParallelGroup(tuple(branches), name=name, policy=draw(st.sampled_from([None, best_effort, at_least_n(1)]))))
        elif draw(st.booleans()):
            standing.append(
                ParallelGroup(name=name, mapped=MapSource(make(name), taken[0], "value"), limit=draw(st.sampled_from([None, 3])))
            )
        else:
            standing.append(make(name))
    graph.add(*standing)
    for scope in (None, *graph.nodes):
        members = graph.members(scope)
        if members:
            ends = st.sampled_from(members)
            for source, target, on in draw(st.lists(st.tuples(ends, ends, conditions), max_size=2 * len(members))):
                graph.add_edge(source, target, on=on)
    return graph
