from __future__ import annotations

import pytest

from graflow import TaskGraph, parallel, task, workflow
from graflow.draw import draw, picture_of
from graflow.errors import ConfigurationError, UnknownTaskError
from tests.draw.graphs import make


def starts_and_outputs(*args, **kwargs) -> tuple[list[str], list[str]]:
    boxes = picture_of(*args, **kwargs).boxes.values()
    return [box.id for box in boxes if box.is_start], [box.id for box in boxes if box.is_output]


def test_a_run_begins_where_nothing_leads_to_and_ends_where_nothing_leads_on() -> None:
    assert starts_and_outputs(make("a") >> make("b") >> make("c")) == (["a"], ["c"])


def test_back_edges_count_neither_as_leading_to_nor_as_leading_on() -> None:
    with workflow("w") as wf:
        wf.add(make("agent") >> make("tool"))
        wf.add_edge("tool", "agent")
    assert starts_and_outputs(wf) == (["agent"], ["tool"])


def test_a_workflow_says_itself_where_it_starts_and_what_its_output_is() -> None:
    with workflow("w", start="b", output="b") as wf:
        wf.add(make("a") >> make("b") >> make("c"))
    assert starts_and_outputs(wf) == (["b"], ["b"])
    assert starts_and_outputs(wf, start="c", output="a") == (["c"], ["a"])


def test_members_of_groups_are_neither_start_nor_output() -> None:
    assert starts_and_outputs(parallel(make("a"), make("b"), name="g")) == (["g"], ["g"])


def test_a_mapped_group_is_shown_as_its_members_to_be() -> None:
    @task
    def square(n: int) -> int: ...

    @task
    def numbers() -> list[int]: ...

    picture = picture_of(numbers >> square.map(numbers, name="squares", limit=3))
    assert (picture.boxes["squares"].text, picture.boxes["squares"].kind) == ("squares: square[*] (limit 3)", "map")
    assert picture_of(numbers >> square.map(numbers)).boxes["square"].text == "square[*]"


def test_the_edge_that_a_map_implies_is_drawn() -> None:
    @task
    def square(n: int) -> int: ...

    graph = TaskGraph("g")
    graph.add(make("numbers"), square.map("numbers"))
    assert [(arrow.source, arrow.target) for arrow in picture_of(graph).arrows] == [("numbers", "square")]


def test_the_name_of_a_group_made_of_many_ids_is_cut_short() -> None:
    group = parallel(*[make(f"task_number_{n}") for n in range(20)])
    assert picture_of(group).boxes[group.id].label == "task_number_0|task_number_1|task_number_2|task_… (20 branches)"


def test_a_graph_that_cannot_run_can_be_drawn_all_the_same() -> None:
    graph = TaskGraph("g")
    graph.add(make("a"))
    graph.add_edge("a", "a")
    assert "again" in draw(graph, "mermaid")


def test_an_unknown_format_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ConfigurationError, match="format='png': use one of 'ascii', 'mermaid', 'dot'"):
        draw(make("a"), "png")


def test_a_width_that_nothing_fits_into_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="width=19"):
        draw(make("a"), width=19)


@pytest.mark.parametrize("role", ["start", "output"])
def test_an_unknown_start_or_output_is_refused(role: str) -> None:
    with pytest.raises(UnknownTaskError, match="'fetsh' is not in the graph 'fetch'; did you mean 'fetch'"):
        draw(make("fetch"), **{role: "fetsh"})
