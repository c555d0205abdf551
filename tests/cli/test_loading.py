"""``FILE_OR_MODULE[:WORKFLOW]``: what it finds, and what it says when it finds nothing."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.conftest import Command

Write = Callable[[str, str], Path]

ONE = "@task\nasync def one() -> int: return 1\nwith workflow('one') as wf:\n    wf.add(one)\n"


def output(graflow: Command, target: str) -> object:
    return json.loads(graflow("run", target, "--json").out)["output"]


def complaint(graflow: Command, target: str) -> str:
    ran = graflow("run", target)
    assert (ran.code, ran.out) == (2, "")
    return ran.complaint


# ---- finding ----


@pytest.mark.parametrize("target", ["flows/one.py", "./flows/one.py:wf", "flows.one", "flows.one:wf"])
def test_a_workflow_is_found_by_file_and_by_module(graflow: Command, write: Write, target: str) -> None:
    write("flows/one.py", ONE)
    assert output(graflow, target) == 1


def test_a_workflow_is_found_by_an_absolute_path(graflow: Command, write: Write) -> None:
    assert output(graflow, str(write("flows/one.py", ONE))) == 1


def test_a_file_imports_what_stands_beside_it(graflow: Command, write: Write) -> None:
    write("elsewhere/helpers_beside.py", "ANSWER = 42")
    write(
        "elsewhere/flow.py",
        "from helpers_beside import ANSWER\n@task\nasync def answer(): return ANSWER\nflow = TaskGraph('g')\nflow.add(answer)",
    )
    assert output(graflow, "elsewhere/flow.py") == 42


def test_a_file_in_a_package_may_import_from_it_relatively(graflow: Command, write: Write) -> None:
    write("pack/__init__.py", "")
    write("pack/inner/__init__.py", "")
    write("pack/base.py", "ANSWER = 42")
    write("pack/inner/flow.py", "from ..base import ANSWER\n@task\nasync def answer(): return [ANSWER, __name__]")
    assert output(graflow, "pack/inner/flow.py:answer") == [42, "pack.inner.flow"]


@pytest.mark.parametrize("name", ["json.py", "my-flow.py", "2026 plan.py"])
def test_a_file_may_be_called_like_another_module_or_like_none(graflow: Command, write: Write, name: str) -> None:
    write(name, ONE)
    assert output(graflow, name) == 1


def test_the_main_part_of_a_file_is_not_run(graflow: Command, write: Write) -> None:
    write("flow.py", f"{ONE}\nif __name__ == '__main__':\n    raise SystemExit(5)")
    assert output(graflow, "flow.py") == 1


def test_one_workflow_with_two_names_is_still_one(graflow: Command, write: Write) -> None:
    write("flow.py", f"{ONE}\nalias = wf\nunrelated = TaskGraph('g')")
    assert output(graflow, "flow.py") == 1


def test_a_workflow_is_found_by_its_own_name_too(graflow: Command, write: Write) -> None:
    write("flow.py", f"{ONE}\nwith workflow('two') as other:\n    other.add(one)")
    assert output(graflow, "flow.py:two") == 1


def test_something_inside_something_else_can_be_named(graflow: Command, write: Write) -> None:
    write("flow.py", f"{ONE}\nclass Flows:\n    nightly = wf")
    assert output(graflow, "flow.py:Flows.nightly") == 1


# ---- not finding ----


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("none.py", "there is no file none.py; give the path of a Python file, or the name of a module"),
        ("flows/none.py:wf", "there is no file flows/none.py; give the path of a Python file, or the name of a module"),
        ("no_such_module", "there is no module 'no_such_module'; for a file write no_such_module.py"),
        ("flows.none", "there is no module 'flows.none'; for a file write flows/none.py"),
        ("flows/", "flows/ is a folder; give a Python file in it, or the name of a module"),
        ("./notes.txt", "./notes.txt is no Python file; its name should end with .py"),
        ("flow.py:", "'flow.py:' names no workflow; write FILE.py, FILE.py:WORKFLOW or package.module:WORKFLOW"),
        (":wf", "':wf' names no workflow; write FILE.py, FILE.py:WORKFLOW or package.module:WORKFLOW"),
        ("flow.py:on", "flow.py has no 'on'; did you mean 'one'? it has 'wf', 'one'"),
        ("flow.py:helper", "flow.py:helper is of type function, which cannot be run; declare it with @task"),
        ("flow.py:LIMIT", "flow.py:LIMIT is of type int, which cannot be run"),
        ("empty.py", "empty.py has nothing to run; draw a graph in it: with workflow('name') as wf: ..."),
        ("empty.py:wf", "empty.py has no 'wf'; it has nothing that can be run"),
        ("tasks.py", "tasks.py has no workflow, but there is something else to run: tasks.py:a (a task), tasks.py:both (a chain)"),
        ("two.py", "two.py has several, so say which: two.py:x (a workflow), two.py:y (a workflow)"),
        ("graphs.py", "graphs.py has several, so say which: graphs.py:g (a graph), graphs.py:h (a graph)"),
    ],
)
def test_what_cannot_be_found_is_one_line_that_says_what_to_do(
    graflow: Command, write: Write, project: Path, target: str, words: str
) -> None:
    write("flow.py", f"{ONE}\ndef helper(): ...\nLIMIT = 3")
    write("flows/__init__.py", "")
    write("empty.py", "")
    write("tasks.py", "@task\nasync def a(): ...\nboth = a >> a.clone('b')")
    write("two.py", "x, y = workflow('x'), workflow('y')")
    write("graphs.py", "g, h = TaskGraph('g'), TaskGraph('h')")
    (project / "notes.txt").write_text("none")
    assert complaint(graflow, target) == words


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("import no_such_thing", "flow.py cannot be imported: flow.py, line 2: ModuleNotFoundError: No module named 'no_such_thing'"),
        ("x = (1,\n", "flow.py cannot be imported: flow.py, line 2: SyntaxError: '(' was never closed (flow.py, line 2)"),
        ("\n\nx = 1 / 0", "flow.py cannot be imported: flow.py, line 4: ZeroDivisionError: division by zero"),
        ("import json\njson.loads('{')", "flow.py cannot be imported: flow.py, line 3: JSONDecodeError: Expecting property name"),
        ("@task\nasync def a(x): yield 1", "flow.py cannot be imported: flow.py, line 2: GraphError: "),
        ("raise ValueError('two\\nlines')", "flow.py cannot be imported: flow.py, line 2: ValueError: two lines"),
        ("import sys; sys.exit(3)", "flow.py calls sys.exit() while it is imported; move that below: if __name__ == '__main__'"),
        ("raise KeyboardInterrupt", "flow.py raises KeyboardInterrupt while it is imported; nobody has pressed Ctrl-C"),
    ],
)
def test_what_fails_while_it_is_imported_is_one_line_with_file_and_line(graflow: Command, write: Write, text: str, words: str) -> None:
    write("flow.py", text)
    assert complaint(graflow, "flow.py").startswith(words)


def test_an_error_in_an_imported_module_names_the_line_of_the_file_that_imports_it(graflow: Command, write: Write) -> None:
    write("broken_beside.py", "raise RuntimeError('broken')")
    write("flow.py", "\nimport broken_beside")
    assert complaint(graflow, "flow.py") == "flow.py cannot be imported: flow.py, line 3: RuntimeError: broken"
    assert complaint(graflow, "broken_beside") == "broken_beside cannot be imported: broken_beside.py, line 2: RuntimeError: broken"


def test_debug_shows_the_traceback_of_the_import(graflow: Command, write: Write) -> None:
    write("flow.py", "x = 1 / 0")
    ran = graflow("run", "flow.py", "--debug")
    assert ran.code == 2
    assert 'flow.py", line 2, in <module>' in ran.err
    assert ran.err.splitlines()[-1] == "graflow: flow.py cannot be imported: flow.py, line 2: ZeroDivisionError: division by zero"
