"""Drawing in a block: what ends up in the graph."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from graflow.core import launch
from graflow.core.chain import chain, parallel
from graflow.core.edge import Edge
from graflow.core.graph import TaskGraph
from graflow.core.policy import best_effort
from graflow.core.result import RunResult, RunStatus
from graflow.core.task import task
from graflow.core.workflow import Workflow, workflow
from graflow.errors import EmptyGraphError, GraflowError, GraphError, UnknownTaskError


@task
async def step() -> int:
    return 1


a, b, c, d = (step.clone(name) for name in "abcd")


def arrows(wf: Workflow[Any]) -> list[str]:
    return [f"{edge.source}>{edge.target}" for edge in wf.graph.edges]


def test_bare_statements_in_the_block_are_drawn() -> None:
    with workflow("w") as wf:
        a >> b
        c << b
    assert arrows(wf) == ["a>b", "b>c"]
    assert wf.graph.name == wf.name == "w"


def test_statements_outside_the_block_are_not_drawn() -> None:
    a >> b
    with workflow("w") as wf:
        b >> c
    c >> d
    assert arrows(wf) == ["b>c"]


def test_defining_tasks_or_naming_them_adds_nothing() -> None:
    with workflow("w") as wf:
        a.clone("x")
        step.bind()
        a >> b
    assert list(wf.graph.nodes) == ["a", "b"]


def test_parts_of_a_larger_expression_leave_nothing_behind() -> None:
    with workflow("w") as wf:
        (a | b).with_policy(best_effort) >> (c | d)
    assert wf.graph.members(None) == ("a|b", "c|d")
    with workflow("w") as wf:
        a | b | c
    assert wf.graph.members(None) == ("a|b|c",)
    with workflow("w") as wf:
        chain(a, b | c, d)
    assert arrows(wf) == ["a>b|c", "b|c>d"]
    with workflow("w") as wf:
        parallel(a >> b, c, name="g")
    assert wf.graph.members(None) == ("g",)


def test_a_part_that_is_kept_and_used_later_is_a_part_all_the_same() -> None:
    with workflow("w") as wf:
        group = a | b
        group | c
    assert wf.graph.members(None) == ("a|b|c",)
    with workflow("w") as wf:
        head = a >> b
        head >> c
        head >> d
    assert arrows(wf) == ["a>b", "b>c", "b>d"]


def test_add_draws_lone_tasks_and_whatever_else_is_drawn() -> None:
    with workflow("w") as wf:
        wf.add(a)
        wf.add(b >> c, d)
    assert wf.graph.members(None) == ("a", "b", "c", "d")
    assert arrows(wf) == ["b>c"]


def test_inside_or_outside_the_block_makes_no_difference_to_add() -> None:
    wf = workflow("w")
    wf.add(a >> b)
    wf.add_edge("b", c, on="always")
    with wf:
        c >> d
    wf.add_edge(d, "a")
    assert wf.graph.edges == (Edge("a", "b"), Edge("b", "c", "always"), Edge("c", "d"), Edge("d", "a"))


def test_an_edge_by_id_may_be_written_before_the_node_that_it_names() -> None:
    with workflow("w") as wf:
        wf.add_edge("a", "b")
        b >> c
        wf.add(a)
    assert arrows(wf) == ["a>b", "b>c"]


def test_an_edge_to_an_id_that_never_comes_is_noticed_at_the_end_of_the_block() -> None:
    wf = workflow("w")
    with pytest.raises(UnknownTaskError, match="'x' is not in the graph 'w'"), wf:
        wf.add_edge(a, "x")
    with pytest.raises(UnknownTaskError):
        workflow("w").add_edge("a", "b")


def test_a_group_that_add_edge_leads_to_is_not_flattened_afterwards() -> None:
    with workflow("w") as wf:
        group = a | b
        assert group.is_bare
        wf.add_edge(c, group)
        assert not group.is_bare
    assert arrows(wf) == ["c>a|b"]


def test_what_cannot_be_drawn_is_noticed_at_the_end_of_the_block() -> None:
    wf = workflow("w")
    wf.add(a >> b)
    with pytest.raises(GraphError, match="crosses the border"), wf:
        b | c


def test_an_error_in_the_block_is_not_hidden_by_what_it_left_half_drawn() -> None:
    def draw(wf: Workflow[Any]) -> None:
        with wf:
            wf.add_edge("a", "x")
            _ = 1 / 0

    with pytest.raises(ZeroDivisionError):
        draw(workflow("w"))


def test_blocks_nest_and_each_statement_goes_to_the_innermost() -> None:
    with workflow("outer") as outer:
        a >> b
        with workflow("inner") as inner:
            c >> d
        b >> c
    assert arrows(outer) == ["a>b", "b>c"]
    assert arrows(inner) == ["c>d"]


def test_a_block_may_be_entered_again() -> None:
    with workflow("w") as wf:
        a >> b
    with wf:
        b >> c
        with wf:
            c >> d
    assert arrows(wf) == ["a>b", "b>c", "c>d"]


def test_what_is_given_to_another_graph_by_name_does_not_go_to_the_block_too() -> None:
    other = TaskGraph("other")
    aside = workflow("aside")
    with workflow("w") as wf:
        other.add(a >> b)
        aside.add(b >> c)
        c >> d
    assert arrows(wf) == ["c>d"]
    assert arrows(aside) == ["b>c"]
    assert len(other.edges) == 1


def test_in_the_block_the_graph_is_a_copy_of_what_there_is_so_far() -> None:
    with workflow("w") as wf:
        group = a | b
        early = wf.graph
        group >> c
    assert early.members(None) == ("a|b",)
    assert wf.graph.members(None) == ("a|b", "c")
    assert wf.graph is wf.graph


def test_changes_made_to_the_graph_itself_are_kept() -> None:
    with workflow("w") as wf:
        a >> b
    wf.graph.add_edge("b", c)
    wf.add(c >> d)
    assert arrows(wf) == ["a>b", "b>c", "c>d"]


async def test_blocks_in_concurrent_coroutines_do_not_see_each_other() -> None:
    entered = asyncio.Barrier(2)

    async def draw(name: str, left: Any, right: Any) -> Workflow[Any]:
        with workflow(name) as wf:
            await entered.wait()
            left >> right
            await entered.wait()
        return wf

    first, second = await asyncio.gather(draw("one", a, b), draw("two", c, d))
    assert (arrows(first), arrows(second)) == (["a>b"], ["c>d"])


def test_start_and_output_are_kept_by_id() -> None:
    assert (workflow("w", start=a, output=b).start, workflow("w", start=a, output=b).output) == ("a", "b")
    assert (workflow("w", start="x").start, workflow("w").output) == ("x", None)
    assert workflow("w", output=a >> b).output == "b"
    with pytest.raises(GraphError, match="start="):
        workflow("w", start="")
    with pytest.raises(GraphError, match="name of a workflow"):
        workflow("")


def test_what_is_no_node_is_refused_where_it_is_written() -> None:
    with workflow("w") as wf:
        with pytest.raises(GraphError, match="a list; unpack it"):
            wf.add([a, b])
        with pytest.raises(GraphError, match="not 3"):
            wf.add_edge(a, 3)
        with pytest.raises(GraphError, match="no condition"):
            wf.add_edge(a, b, on="never")
        wf.add(c)
    assert list(wf.graph.nodes) == ["c"]


def test_an_empty_block_makes_an_empty_graph_which_cannot_run() -> None:
    with workflow("w") as wf:
        pass
    with pytest.raises(EmptyGraphError):
        wf.graph.validate()


class FakeLauncher:
    """Says what it was asked for."""

    async def execute(self, graph: Any, /, **options: Any) -> RunResult[Any]:
        return RunResult("fake", RunStatus.SUCCEEDED, output=(graph.name, options))

    def run(self, graph: Any, /, **options: Any) -> RunResult[Any]:
        return RunResult("fake", RunStatus.SUCCEEDED, output=(graph.name, options))


@pytest.fixture
def launchers(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    registered: list[Any] = []
    monkeypatch.setattr(launch, "_registered", registered)
    return registered


async def test_a_workflow_is_run_by_the_engine_that_made_itself_known(launchers: list[Any]) -> None:
    wf = workflow("w")
    with pytest.raises(GraflowError, match="no engine is loaded"):
        await wf.execute()
    launch.register(FakeLauncher())
    name, options = (await wf.execute(inputs={"n": 1}, timeout=3.0)).output
    assert name == "w"
    assert options == {
        "inputs": {"n": 1},
        "start": None,
        "run_id": None,
        "timeout": 3.0,
        "max_steps": None,
        "on_failure": "fail",
        "stubs": None,
    }
    assert wf.run(inputs={"n": 1}, timeout=3.0).output == (name, options)
    assert len(launchers) == 1
