from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from graflow.cli.census import census, discover, largest, measure, parse
from graflow.draw import draw
from tests.cli.conftest import Command, environment

GOOD = '''\
"""A module."""

import os
import os.path
from json import dumps
from . import sibling

# a comment
class Shape:
    async def draw(self):
        def inner():
            return dumps(os.sep)
        return inner()


if os.name:
    try:
        import sys
    except ImportError:
        def fallback(): ...
'''


@pytest.fixture
def tree(project: Path) -> Path:
    """A small tree of Python files, good and bad."""
    root = project / "tree"
    (root / "pack" / "__pycache__").mkdir(parents=True)
    (root / "site-packages").mkdir()
    (root / "good.py").write_text(GOOD, "utf-8")
    (root / "latin.py").write_bytes("# -*- coding: latin-1 -*-\nname = 'Grüße'\n".encode("latin-1"))
    (root / "empty.py").write_bytes(b"")
    (root / "pack" / "broken.py").write_text("def f(:\n", "utf-8")
    (root / "pack" / "bytes.py").write_bytes(b"name = '\xff\xfe'\n")
    (root / "pack" / "lies.py").write_bytes(b"# coding: no-such-thing\n")
    (root / "pack" / "nulls.py").write_bytes(b"x = 1\0\n")
    (root / "pack" / "__pycache__" / "cached.py").write_text("import cached", "utf-8")
    (root / "site-packages" / "other.py").write_text("import other", "utf-8")
    (root / "notes.txt").write_text("no Python", "utf-8")
    return root


def told(graflow: Command, *arguments: str) -> dict:
    ran = graflow("demo", "--json", *arguments)
    assert ran.code == 0
    return json.loads(ran.out)


# ---- the census ----


def test_files_are_counted_and_measured(graflow: Command, tree: Path) -> None:
    counted = told(graflow, "--path", str(tree))
    assert counted["files"] == 7
    assert counted["census"]["totals"] == {"files": 3, "lines": 22, "code": 16, "functions": 2, "async_functions": 1, "classes": 1}
    assert [each["path"] for each in counted["census"]["largest"]] == ["good.py", "latin.py", "empty.py"]
    assert counted["census"]["longest"] == [{"path": "good.py", "name": "Shape.draw", "lines": 4}]
    assert counted["census"]["imported"] == [["json", 1], ["os", 1], ["sys", 1]]


def test_files_in_other_encodings_are_read_and_named(graflow: Command, tree: Path) -> None:
    assert told(graflow, "--path", str(tree))["census"]["encodings"] == {"latin.py": "iso-8859-1"}


def test_files_that_are_no_python_fail_their_task_and_the_rest_goes_on(graflow: Command, tree: Path) -> None:
    unreadable = told(graflow, "--path", str(tree))["unreadable"]
    assert list(unreadable) == [str(Path("pack", name)) for name in ("broken.py", "bytes.py", "lies.py", "nulls.py")]
    assert unreadable[str(Path("pack", "broken.py"))] == "SyntaxError: invalid syntax (line 1)"
    assert "no-such-thing" in unreadable[str(Path("pack", "lies.py"))]


def test_the_report_is_a_table_for_people(graflow: Command, tree: Path) -> None:
    ran = graflow("demo", "--path", str(tree), "--quiet")
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.startswith("7 files below ")
    assert "22 lines, 16 of them code: 2 functions, 1 async functions, 1 classes" in ran.out
    assert "1 in another encoding than UTF-8\n  latin.py: iso-8859-1\n" in ran.out
    assert "4 cannot be parsed: their tasks failed, and the others went on\n" in ran.out


def test_progress_tells_of_the_files_that_fail(graflow: Command, tree: Path) -> None:
    progress = graflow("demo", "--path", str(tree)).err
    assert "parse[*] started (7 members)" in progress
    assert "7 of 7 done, 4 failed" in progress


def test_a_limit_takes_the_first_files(graflow: Command, tree: Path) -> None:
    assert told(graflow, "--path", str(tree), "--limit", "2")["files"] == 2


def test_the_standard_library_is_counted_unless_another_folder_is_given(project: Path) -> None:
    command = [sys.executable, "-m", "graflow", "demo", "--limit", "30", "--json", "--concurrency", "2"]
    ran = subprocess.run(command, capture_output=True, text=True, cwd=project, env=environment(), check=True)
    counted = json.loads(ran.stdout)
    assert counted["census"]["totals"]["lines"] > 1000
    assert counted["unreadable"] == {}


def test_the_census_is_a_workflow_like_any_other(tree: Path) -> None:
    assert "parse[*] (best_effort)" in draw(census)
    assert discover(str(tree), 1) == ["empty.py"]
    outline = parse("good.py", str(tree))
    assert outline.imports == ("json", "os", "sys")
    assert largest([measure(outline)])[0].path == "good.py"


# ---- the timeline ----


def test_a_timeline_shows_every_attempt_and_marks_the_failed_ones(graflow: Command, tree: Path, project: Path) -> None:
    ran = graflow("demo", "--path", str(tree), "--timeline", "run.svg", "--concurrency", "2", "--quiet")
    assert ran.out.endswith("\nThe timeline is in run.svg.\n")
    titles = [each.text or "" for each in ElementTree.parse(project / "run.svg").iter("{http://www.w3.org/2000/svg}title")]
    assert titles[0] == f"Census of {tree}"
    assert sum(title.startswith("parse[") for title in titles) == 7
    assert sum("\nfailed: SyntaxError" in title or "\nfailed: ValueError" in title for title in titles) == 4


def test_a_timeline_does_not_get_in_the_way_of_json(graflow: Command, tree: Path, project: Path) -> None:
    told(graflow, "--path", str(tree), "--timeline", "run.svg")
    assert (project / "run.svg").is_file()


# ---- what goes wrong ----


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--path", "none"], "--path none is no folder; give one with Python files in it"),
        (["--path", "bare"], "there is no Python file in bare or below; give another --path"),
        (["--timeline", "run.png"], "--timeline run.png: timelines are drawn as SVG only; give a name that ends with .svg"),
        (["--timeline", "none/run.svg"], "--timeline none/run.svg: there is no folder none"),
    ],
)
def test_what_cannot_be_done_is_one_line(graflow: Command, project: Path, arguments: list[str], complaint: str) -> None:
    (project / "bare").mkdir()
    ran = graflow("demo", "--quiet", *arguments)
    assert (ran.code, ran.out, ran.complaint) == (2, "", complaint)


@pytest.mark.parametrize("arguments", [["--limit", "-1"], ["--concurrency", "0"], ["--limit", "few"]])
def test_a_number_that_makes_no_sense_is_one_line(graflow: Command, arguments: list[str]) -> None:
    ran = graflow("demo", *arguments)
    assert (ran.code, ran.out) == (2, "")
    assert ran.complaint.startswith(f"Invalid value for '{arguments[0]}'")
