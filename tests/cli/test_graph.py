from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pydot
import pytest

from tests.cli.conftest import Command, environment
from tests.draw.mermaid import read as read_mermaid
from tests.draw.terminal import read as read_drawing

Write = Callable[[str, str], Path]

FLOW = """
@task
def fetch() -> list[int]: ...
@task
def square(n: int): ...
@task
def check(): ...
@task
def undo(): ...
@task
def report(): ...
with workflow("flow") as wf:
    wf.add(fetch >> (square.map(fetch, limit=2) | check).with_policy(best_effort) >> report)
    wf.add_edge(fetch, undo, on="failure")
    wf.add_edge(report, fetch)
"""


@pytest.fixture(autouse=True)
def flow(write: Write) -> Path:
    return write("flow.py", FLOW)


def test_a_graph_is_drawn_for_the_terminal_unless_asked_otherwise(graflow: Command) -> None:
    ran = graflow("graph", "flow.py")
    reading = read_drawing(ran.out)
    assert (ran.code, ran.err) == (0, "")
    assert set(reading.edges) == {("fetch", "square|check", "success"), ("square|check", "report", "success"), ("fetch", "undo", "failure")}
    assert set(reading.again) == {("report", "fetch")}


def test_a_drawing_is_as_wide_as_the_terminal_at_most(graflow: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "30")
    assert max(map(len, graflow("graph", "flow.py").out.splitlines())) <= 30


def test_a_graph_is_drawn_as_mermaid(graflow: Command) -> None:
    chart = read_mermaid(graflow("graph", "flow.py:wf", "--format", "mermaid").out)
    assert "square[*] (limit 2)" in chart.labels.values()


@pytest.mark.filterwarnings("ignore::DeprecationWarning:pydot")
def test_a_graph_is_drawn_as_dot(graflow: Command) -> None:
    graphs = pydot.graph_from_dot_data(graflow("graph", "flow.py", "-f", "dot").out)
    assert graphs is not None
    assert len(graphs[0].get_edge_list()) == 4


def test_a_graph_is_told_as_json(graflow: Command) -> None:
    told = json.loads(graflow("graph", "flow.py", "--json").out)
    assert told["name"] == "flow"
    assert told["nodes"][0] == {"id": "fetch", "kind": "task", "group": None, "start": True, "output": False}
    assert {"id": "square", "kind": "map", "group": "square|check", "start": False, "output": False} in told["nodes"]
    assert {"source": "fetch", "target": "undo", "on": "failure", "back": False} in told["edges"]
    assert {"source": "report", "target": "fetch", "on": "success", "back": True} in told["edges"]
    assert told["groups"] == [
        {"id": "square|check", "members": ["square", "check"], "policy": "best_effort", "limit": None, "task": None, "items": None},
        {"id": "square", "members": [], "policy": None, "limit": 2, "task": "square", "items": "fetch"},
    ]


@pytest.mark.parametrize("arguments", [["--format", "mermaid"], ["--format", "dot"], ["--json"], []])
def test_a_drawing_is_written_to_a_file(graflow: Command, project: Path, arguments: list[str]) -> None:
    printed = graflow("graph", "flow.py", *arguments).out
    ran = graflow("graph", "flow.py", *arguments, "--output", "drawn.txt")
    assert (ran.code, ran.out, ran.err) == (0, "", "")
    assert (project / "drawn.txt").read_text("utf-8") == printed


def test_a_terminal_that_knows_only_ascii_gets_only_ascii(project: Path) -> None:
    command = [sys.executable, "-m", "graflow", "graph", "flow.py"]
    ran = subprocess.run(command, capture_output=True, cwd=project, env={**environment(), "PYTHONIOENCODING": "ascii"}, check=True)
    assert b"[report]#" in ran.stdout
    assert b"+- square|check (best_effort)" in ran.stdout


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--json", "--format", "dot"], "--json and --format dot exclude each other; give one of them"),
        (["--output", "none/drawn.txt"], "--output none/drawn.txt cannot be written: No such file or directory"),
    ],
)
def test_what_cannot_be_drawn_as_asked_is_one_line(graflow: Command, arguments: list[str], complaint: str) -> None:
    ran = graflow("graph", "flow.py", *arguments)
    assert (ran.code, ran.out, ran.complaint) == (2, "", complaint)


def test_an_unknown_format_is_one_line(graflow: Command) -> None:
    ran = graflow("graph", "flow.py", "--format", "png")
    assert (ran.code, ran.out) == (2, "")
    assert ran.complaint.startswith("Invalid value for '--format'")


def test_a_graph_that_cannot_run_is_drawn_with_the_reason_why_not(graflow: Command, write: Write) -> None:
    write("circle.py", "@task\nasync def a(): ...\ngraph = TaskGraph('g')\ngraph.add_edge(a, a)")
    ran = graflow("graph", "circle.py")
    assert "↺ a → a" in ran.out
    assert (ran.code, ran.complaint.partition(";")[0]) == (2, "'a' leads to itself and would never end")


def test_what_makes_no_graph_is_one_line(graflow: Command, write: Write) -> None:
    write("twice.py", "@task\nasync def a(): ...\n@task('a')\nasync def b(): ...\nboth = a >> b")
    ran = graflow("graph", "twice.py:both")
    assert (ran.code, ran.out) == (2, "")
    assert ran.complaint.startswith("two different nodes of the graph 'a' have the id 'a'")
