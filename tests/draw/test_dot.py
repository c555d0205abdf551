from __future__ import annotations

import re

import pydot
import pytest
from hypothesis import given

from graflow import TaskGraph, best_effort, parallel, task, workflow
from graflow.draw import draw, picture_of
from tests.draw.graphs import graphs, make

# pydot's parser is written for an older pyparsing, which says so.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:pydot")

ESCAPES = re.compile(r'\\(x00|u[0-9a-f]{4}|["%\\])')


def name_of(quoted: str) -> str:
    """The id that a name in DOT stands for."""
    assert quoted.startswith('"')
    assert quoted.endswith('"')
    return ESCAPES.sub(lambda match: chr(int(match[1][1:], 16)) if len(match[1]) > 1 else match[1], quoted[1:-1])


def read(text: str) -> tuple[dict[str, str | None], list[tuple[str, str, str]], dict[str, dict[str, str]]]:
    """Parents by node, edges as (source, target, label) and attributes by node, as pydot understands them."""
    graphs = pydot.graph_from_dot_data(text)
    assert graphs is not None
    (graph,) = graphs
    parents: dict[str, str | None] = {}
    attributes: dict[str, dict[str, str]] = {}
    work: list[tuple[pydot.Graph, str | None]] = [(graph, None)]
    while work:
        around, parent = work.pop()
        for node in around.get_node_list():
            if node.get_name() in ("node", "edge", "graph"):
                continue
            name = name_of(node.get_name())
            if name != parent:  # the node that stands for the group itself
                parents[name] = parent
                attributes[name] = node.get_attributes()
        for cluster in around.get_subgraph_list():
            name = name_of(cluster.get_name()).removeprefix("cluster_")
            parents[name] = parent
            work.append((cluster, name))
    edges = [
        (name_of(edge.get_source()), name_of(edge.get_destination()), (edge.get("label") or '""')[1:-1]) for edge in graph.get_edge_list()
    ]
    return parents, edges, attributes


@given(graphs())
def test_another_parser_reads_the_nodes_and_edges_of_the_graph_whatever_they_are_called(graph: TaskGraph) -> None:
    picture = picture_of(graph)
    parents, edges, _ = read(draw(graph, "dot"))
    assert parents == {node: box.parent for node, box in picture.boxes.items()}
    assert sorted(edges) == sorted((arrow.source, arrow.target, arrow.label) for arrow in picture.arrows)


def test_a_digraph_is_text_that_people_can_read() -> None:
    @task
    def square(n: int) -> int: ...

    with workflow("numbers") as wf:
        clean, report = make("clean"), make("report")
        wf.add(clean >> (square.map(clean) | make("largest") >> make("round")).with_policy(best_effort) >> report)
        wf.add_edge(report, make("undo"), on="failure")
        wf.add_edge(report, clean)
    assert (
        draw(wf, "dot")
        == """\
digraph "numbers" {
    compound=true;
    node [fontname="sans-serif", shape=box, style=rounded];
    edge [fontname="sans-serif", fontsize=10];
    "clean" [label="clean", color="#2a7d4f", penwidth=2];
    subgraph "cluster_square|largest|round" {
        graph [label="square|largest|round (best_effort)", style=rounded, fontname="sans-serif"];
        "square|largest|round" [label="", shape=point, style=invis, width=0, height=0];
        "square" [label="square[*]", shape=box3d, style=""];
        "largest" [label="largest"];
        "round" [label="round"];
    }
    "report" [label="report"];
    "undo" [label="undo", color="#2b6cb0", penwidth=2, peripheries=2];
    "largest" -> "round";
    "clean" -> "square|largest|round" [lhead="cluster_square|largest|round"];
    "square|largest|round" -> "report" [ltail="cluster_square|largest|round", minlen=2];
    "report" -> "undo" [label="on failure", style=dashed];
    "report" -> "clean" [label="again", constraint=false, penwidth=2];
}
"""
    )


def test_backslashes_quotes_and_entities_are_shown_as_they_are() -> None:
    _, _, attributes = read(draw(make('a\\N "b" &lt;'), "dot"))
    assert attributes['a\\N "b" &lt;']["label"] == r'"a\\N \"b\" &amp;lt;"'


def test_a_graph_without_nodes_is_an_empty_digraph() -> None:
    assert read(draw(TaskGraph("empty"), "dot")) == ({}, [], {})


def test_what_follows_a_group_stands_below_all_of_it() -> None:
    inner = parallel(make("a") >> make("b") >> make("c"), make("d"), name="inner")
    outer = parallel(inner >> make("e"), make("f"), name="outer")
    text = draw(outer >> make("g"), "dot")
    assert '"outer" -> "g" [ltail="cluster_outer", minlen=4]' in text
    assert '"inner" -> "e" [ltail="cluster_inner", minlen=3]' in text


def test_groups_may_nest_as_deep_as_they_like() -> None:
    node = make("inmost")
    for depth in range(2000):
        node = parallel(node, name=f"g{depth}")
    assert draw(node, "dot").count("subgraph") == 2000
