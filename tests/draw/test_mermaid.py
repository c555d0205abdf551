from __future__ import annotations

import pytest
from hypothesis import given

from graflow import TaskGraph, best_effort, parallel, task, workflow
from graflow.draw import draw, picture_of
from graflow.draw.mermaid import quoted
from tests.draw.graphs import graphs, make
from tests.draw.mermaid import Chart, read


def expected(graph: TaskGraph) -> Chart:
    """What a chart of the graph has to say; keys are given in the order of the nodes."""
    picture = picture_of(graph)
    keys = {node: f"n{number}" for number, node in enumerate(picture.boxes)}
    chart = Chart()
    for node, box in picture.boxes.items():
        chart.labels[keys[node]] = f"{box.label} ({box.note})" if box.note else box.label
        ends = box.is_start or box.is_output
        chart.shapes[keys[node]] = "subgraph" if box.members else "double" if box.kind == "map" else "round" if ends else "box"
        chart.parents[keys[node]] = None if box.parent is None else keys[box.parent]
        for style, marked in (("start", box.is_start), ("output", box.is_output)):
            if marked:
                chart.classes.setdefault(style, set()).add(keys[node])
    for arrow in picture.arrows:
        condition = {"success": [], "failure": ["on failure"], "always": ["always"]}[arrow.on]
        line = "-.->" if condition else "==>" if arrow.is_back else "-->"
        chart.edges.append((keys[arrow.source], keys[arrow.target], line, ", ".join(["again"] * arrow.is_back + condition)))
    return chart


@given(graphs())
def test_a_chart_says_what_the_graph_says_whatever_its_nodes_are_called(graph: TaskGraph) -> None:
    assert read(draw(graph, "mermaid")) == expected(graph)


def test_a_chart_is_text_that_people_can_read() -> None:
    @task
    def square(n: int) -> int: ...

    with workflow("numbers") as wf:
        clean, report = make("clean"), make("report")
        wf.add(make("fetch") >> clean >> (square.map(clean, limit=50) | make("largest")).with_policy(best_effort) >> report)
        wf.add_edge(report, make("tidy_up"), on="always")
        wf.add_edge(report, clean)
    assert (
        draw(wf, "mermaid")
        == """\
flowchart TD
    n0(["fetch"])
    n1["clean"]
    subgraph n2["square|largest #40;best_effort#41;"]
        n3[["square[#42;] #40;limit 50#41;"]]
        n4["largest"]
    end
    n5["report"]
    n6(["tidy_up"])
    n0 --> n1
    n1 --> n2
    n2 --> n5
    n5 -.->|"always"| n6
    n5 ==>|"again"| n1
    classDef start stroke:#2a7d4f,stroke-width:3px
    classDef output stroke:#2b6cb0,stroke-width:3px
    class n0 start
    class n6 output
"""
    )


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("snake_case", "snake_case"),
        ("_private_", "#95;private#95;"),
        ("1. one", "1#46; one"),
        ("v1.2", "v1.2"),
        ("two\nlines", "two<br/>lines"),
        ('"', "#34;"),
        ("schön", "schön"),
    ],
)
def test_what_mermaid_or_markdown_would_take_for_markup_is_escaped(text: str, written: str) -> None:
    assert quoted(text) == f'"{written}"'


def test_a_graph_without_nodes_is_an_empty_chart() -> None:
    assert draw(TaskGraph("empty"), "mermaid") == "flowchart TD\n"


def test_a_group_without_members_is_drawn_as_a_node() -> None:
    assert read(draw(make("t").map([], parameter="value"), "mermaid")).shapes == {"n0": "double"}


def test_groups_may_nest_as_deep_as_they_like() -> None:
    node = make("inmost")
    for depth in range(2000):
        node = parallel(node, name=f"g{depth}")
    assert len(read(draw(node, "mermaid")).labels) == 2001


@pytest.mark.parametrize(
    "line",
    [
        '    n0["a" b"]',
        '    n0["a & b"]',
        "    n0[a]",
        '    n0["a"] --> n1["b"]',
        "    n0 --> n1",
        '    subgraph n0["a"]',
        "    end",
        '  n0["a"]',
        "    class n0 start",
    ],
)
def test_the_reader_takes_nothing_but_the_grammar(line: str) -> None:
    with pytest.raises((ValueError, IndexError)):
        read(f"flowchart TD\n{line}\n")
