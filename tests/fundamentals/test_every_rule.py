"""No rule is left out: each number from 1 to 34 is named by a test, and each test says what it is about."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).parent
RULES = HERE.parents[1] / "docs" / "semantics.md"
LONGEST = 40
"""Lines of a test: as many as are read at a glance."""


def every_test() -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    """The tests of the folder but for these, by file and name."""
    for file in sorted(HERE.glob("test_*.py")):
        if file != Path(__file__):
            for node in ast.walk(ast.parse(file.read_text("utf-8"))):
                if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
                    yield f"{file.name}: {node.name}", node


def first_line(test: ast.FunctionDef | ast.AsyncFunctionDef) -> str:
    return (ast.get_docstring(test) or "").partition("\n")[0]


def test_each_rule_is_named_by_a_test() -> None:
    """Rule by rule, as the documentation numbers them."""
    rules = {int(number) for number in re.findall(r"^\*\*(\d+)\. ", RULES.read_text("utf-8"), re.MULTILINE)}
    subjects = [first_line(test).partition(":")[0] for _, test in every_test()]
    named = {int(number) for subject in subjects if subject.startswith("Rule") for number in re.findall(r"\d+", subject)}
    assert rules == set(range(1, 35))
    assert named == rules


def test_each_test_says_what_it_is_about() -> None:
    """The first line of the docstring begins with a rule, a fault, or what else the file is about."""
    subject = re.compile(r"(Rules? [\d, and]+|Fault \d+|Design \d+|Channels|Isolation): \S")
    assert [name for name, test in every_test() if not subject.match(first_line(test))] == []


def test_each_test_can_be_read_at_a_glance() -> None:
    """A rule that takes more to show is shown in two tests."""
    lengths = {name: (test.end_lineno or 0) - test.lineno + 1 for name, test in every_test()}
    assert {name: lines for name, lines in lengths.items() if lines > LONGEST} == {}
