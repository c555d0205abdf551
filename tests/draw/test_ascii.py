from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graflow import TaskGraph, best_effort, chain, parallel, workflow
from graflow.draw import draw, picture_of
from graflow.draw.picture import Picture
from graflow.draw.words import cells_of
from tests.draw.graphs import flat_graphs, graphs, make, words
from tests.draw.terminal import Reading, read


def show(text: str) -> str:
    """A drawing as it is written in a test, without the legend of the signs."""
    return "\n" + text.split("\n\n")[0]


def check(reading: Reading, picture: Picture) -> None:
    forward = [arrow for arrow in picture.arrows if not arrow.is_back]
    assert reading.edges == Counter((name(picture, arrow.source), name(picture, arrow.target), arrow.on) for arrow in forward)
    assert reading.again.keys() == {(arrow.source, arrow.target) for arrow in picture.arrows if arrow.is_back}
    assert reading.nodes == Counter(name(picture, node) for node in picture.boxes)
    assert reading.starts == {name(picture, box.id) for box in picture.boxes.values() if box.is_start}
    assert reading.outputs == {name(picture, box.id) for box in picture.boxes.values() if box.is_output}


def name(picture: Picture, node: str) -> str:
    """How a node is called in a drawing; a group without what it says of its policy."""
    box = picture.boxes[node]
    return box.text if box.kind == "map" else box.label


# ---- what it looks like ----


def test_a_chain_leads_down() -> None:
    assert (
        show(draw(chain(make("fetch"), make("clean"), make("report"))))
        == """
 ▶[fetch]
    ▼
 [clean]
    ▼
[report]■"""
    )


def test_lines_fork_and_join() -> None:
    graph = TaskGraph("diamond")
    graph.add(*map(make, ["a", "left", "right", "d"]))
    for source, target in [("a", "left"), ("a", "right"), ("left", "d"), ("right", "d")]:
        graph.add_edge(source, target)
    assert (
        show(draw(graph))
        == """
      ▶[a]
  ┌────┴───┐
  ▼        ▼
[left]  [right]
  └───┬────┘
      ▼
     [d]■"""
    )


@pytest.mark.parametrize(("sign", "instead"), [("┐", "─"), ("┴", "─"), ("┌", " "), ("▼", "✗"), ("─", " "), ("[left]", "[lost]"), ("■", "")])
def test_a_single_wrong_character_is_noticed(sign: str, instead: str) -> None:
    graph = TaskGraph("diamond")
    graph.add(*map(make, ["a", "left", "right", "d"]))
    for source, target in [("a", "left"), ("a", "right"), ("left", "d"), ("right", "d")]:
        graph.add_edge(source, target)
    drawing = draw(graph)
    check(read(drawing), picture_of(graph))
    with pytest.raises((AssertionError, KeyError)):
        check(read(drawing.replace(sign, instead, 1)), picture_of(graph))


def test_a_group_is_a_frame_around_its_members() -> None:
    both = parallel(chain(make("b"), make("c")), make("other"), name="both", policy=best_effort)
    assert (
        show(draw(chain(make("a"), both, make("d"))))
        == """
          ▶[a]
           ▼
╭─ both (best_effort) ─╮
│ [b]  [other]         │
│  ▼                   │
│ [c]                  │
╰──────────────────────╯
           ▼
          [d]■"""
    )


def test_edges_that_wait_for_a_failure_are_dashed_and_have_a_head_of_their_own() -> None:
    with workflow("w") as wf:
        wf.add(make("pay") >> make("ship"))
        wf.add_edge("pay", make("refund"), on="failure")
        wf.add_edge("pay", make("log"), on="always")
    drawing = draw(wf)
    assert (
        show(drawing)
        == """
           ▶[pay]
   ┌───────┘ ╎ └╌╌╌╌╌╌┐
   ▼         ✗        ◆
[ship]■  [refund]■  [log]■"""
    )
    assert "✗ on failure   ◆ always" in drawing


def test_what_closes_a_loop_is_written_below_its_scope() -> None:
    agent, tool, answer = make("agent"), make("tool"), make("answer")
    with workflow("w") as wf:
        wf.add(agent >> tool >> agent >> answer)
    drawing = draw(wf)
    assert (
        show(drawing)
        == """
     ▶[agent]
   ┌────┴────┐
   ▼         ▼
[tool]■  [answer]■
↺ tool → agent"""
    )
    assert drawing.endswith("↺ again\n")


def test_a_drawing_can_do_with_the_characters_of_ascii() -> None:
    with workflow("w") as wf:
        wf.add(make("a") >> parallel(make("b"), make("c"), name="g") >> make("d"))
        wf.add_edge("a", make("e"), on="failure")
    drawing = draw(wf, plain=True)
    assert drawing.isascii()
    assert len(drawing.splitlines()) == len(draw(wf).splitlines())


def test_wide_characters_take_two_columns() -> None:
    assert (
        show(draw(chain(make("任务"), make("e\u0301"))))
        == """
▶[任务]
   ▼
  [e\u0301]■"""
    )


def test_a_graph_without_nodes_says_so() -> None:
    assert draw(TaskGraph("empty")) == "(no nodes)\n"


def test_what_is_too_wide_is_listed() -> None:
    graph = TaskGraph("wide")
    sources, targets = [make(f"source{n}") for n in range(9)], [make(f"t{n}") for n in range(9)]
    for number, source in enumerate(sources):
        for target in targets[number:]:
            graph.add_edge(source, target)
    reading = read(draw(graph, width=20))
    assert reading.listed
    check(reading, picture_of(graph))


# ---- reading it back ----


@given(flat_graphs())
def test_every_node_is_drawn_once_and_every_edge_can_be_followed(graph: TaskGraph) -> None:
    check(read(draw(graph, width=250)), picture_of(graph))


@given(flat_graphs(cyclic=True))
def test_edges_can_be_followed_in_graphs_with_loops(graph: TaskGraph) -> None:
    check(read(draw(graph, width=250)), picture_of(graph))


@given(graphs(words))
def test_edges_can_be_followed_in_and_around_groups(graph: TaskGraph) -> None:
    picture = picture_of(graph)
    reading = read(draw(graph, width=390))
    check(reading, picture)
    assert reading.parents == {name(picture, box.id): box.parent for box in picture.boxes.values()}


@given(flat_graphs(most=30), st.integers(60, 120))
def test_thirty_nodes_are_drawn_or_listed_in_an_ordinary_terminal(graph: TaskGraph, width: int) -> None:
    check(read(draw(graph, width=width)), picture_of(graph))


@given(graphs(), st.integers(20, 120), st.booleans())
def test_no_line_is_wider_than_asked(graph: TaskGraph, width: int, plain: bool) -> None:
    for line in draw(graph, width=width, plain=plain).split("\n"):
        assert len(cells_of(line)) <= width


@pytest.mark.parametrize("width", [20, 40, 80, 400, 5000])
def test_groups_may_nest_as_deep_as_they_like(width: int) -> None:
    node = make("inmost")
    for depth in range(2000):
        node = parallel(node, name=f"g{depth}")
    drawing = draw(node, width=width)
    assert drawing.count("[i") == 1
    assert max(len(line) for line in drawing.split("\n")) <= width


def test_ten_thousand_nodes_are_listed_rather_than_drawn() -> None:
    drawing = draw(chain(*[make(f"t{n}") for n in range(10_000)]))
    assert drawing.count("[") == 10_000
