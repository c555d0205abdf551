"""The workflow of ``graflow demo``: a census of a tree of Python files, by default the standard library of the Python that runs it.

It is a workflow like any other, and can be run from a program too::

    result = await engine.execute(census, inputs={"root": "/usr/lib/python3", "limit": 100})
    print(result.output.totals)
"""

from __future__ import annotations

import ast
import io
import os
import threading
import tokenize
from collections import Counter
from pathlib import Path
from typing import Any, Literal

import msgspec

from graflow.core.node import ParallelGroup
from graflow.core.policy import best_effort
from graflow.core.task import task
from graflow.core.workflow import Workflow, workflow

LISTED = 10
"""how many of the largest modules, the longest functions and the most imported modules are listed"""
LEFT_OUT = frozenset({"site-packages", "dist-packages", "__pycache__"})
SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)

_parser = threading.Lock()
"""One at a time: CPython 3.11 counts the depth of the tree that it builds in one place for all threads, and fails when they interleave."""


class Definition(msgspec.Struct, frozen=True):
    """A function, an ``async def`` or a class in a module: its dotted name and how many lines it has."""

    kind: Literal["function", "async function", "class"]
    name: str
    lines: int


class Outline(msgspec.Struct, frozen=True):
    """What the syntax tree of a file says, and the text that it was made from."""

    path: str
    encoding: str
    text: str
    definitions: tuple[Definition, ...]
    imports: tuple[str, ...]
    """the top-level packages that it imports, each once"""


class Measure(msgspec.Struct, frozen=True):
    """A file in figures. ``code`` are the lines that are neither blank nor only a comment."""

    path: str
    encoding: str
    lines: int
    code: int
    functions: int
    async_functions: int
    classes: int
    longest: Definition | None
    imports: tuple[str, ...]


class Totals(msgspec.Struct, frozen=True):
    """All files together."""

    files: int
    lines: int
    code: int
    functions: int
    async_functions: int
    classes: int


class LongFunction(msgspec.Struct, frozen=True):
    """A function that is among the longest."""

    path: str
    name: str
    lines: int


class Census(msgspec.Struct, frozen=True):
    """What the workflow finds out.

    Attributes:
        totals: sums over all files that could be read.
        largest: the files with the most lines.
        longest: the longest functions.
        imported: the packages that the most files import, with how many do.
        encodings: files in another encoding than UTF-8, by path.
    """

    totals: Totals
    largest: list[Measure]
    longest: list[LongFunction]
    imported: list[tuple[str, int]]
    encodings: dict[str, str]


@task
def discover(root: str, limit: int = 0) -> list[str]:
    """Paths of the Python files below ``root``, relative to it and in order; no more than ``limit``, unless that is 0."""
    found: list[str] = []
    for folder, folders, files in os.walk(root):
        folders[:] = sorted(set(folders) - LEFT_OUT)
        found += (os.path.relpath(os.path.join(folder, name), root) for name in sorted(files) if name.endswith(".py"))
    return found[:limit] if limit else found


@task
def parse(path: str, root: str) -> Outline:
    """Read a file, find out its encoding as Python itself does (PEP 263), and parse it.

    Raises:
        SyntaxError: it is no Python, is not encoded as it says, or names an encoding that does not exist.
    """
    data = Path(root, path).read_bytes()
    encoding, _ = tokenize.detect_encoding(io.BytesIO(data).readline)
    text = io.TextIOWrapper(io.BytesIO(data), encoding).read()
    with _parser:
        tree = ast.parse(text, path)
    definitions, imports = _outline(tree)
    return Outline(path, encoding, text, definitions, imports)


@task
def measure(outline: Outline) -> Measure:
    """Count."""
    lines = outline.text.splitlines()
    kinds = Counter(definition.kind for definition in outline.definitions)
    functions = [definition for definition in outline.definitions if definition.kind != "class"]
    return Measure(
        path=outline.path,
        encoding=outline.encoding,
        lines=len(lines),
        code=sum(1 for line in lines if (begin := line.lstrip()) and not begin.startswith("#")),
        functions=kinds["function"],
        async_functions=kinds["async function"],
        classes=kinds["class"],
        longest=max(functions, key=lambda definition: definition.lines, default=None),
        imports=outline.imports,
    )


@task
def sums(measure: list[Measure]) -> Totals:
    """Add up."""
    return Totals(
        files=len(measure),
        lines=sum(each.lines for each in measure),
        code=sum(each.code for each in measure),
        functions=sum(each.functions for each in measure),
        async_functions=sum(each.async_functions for each in measure),
        classes=sum(each.classes for each in measure),
    )


@task
def largest(measure: list[Measure]) -> list[Measure]:
    """The files with the most lines."""
    return sorted(measure, key=lambda each: (-each.lines, each.path))[:LISTED]


@task
def longest(measure: list[Measure]) -> list[LongFunction]:
    """The longest functions, at most one of each file."""
    found = [LongFunction(each.path, each.longest.name, each.longest.lines) for each in measure if each.longest is not None]
    return sorted(found, key=lambda each: (-each.lines, each.path))[:LISTED]


@task
def imported(measure: list[Measure]) -> list[tuple[str, int]]:
    """The packages that the most files import."""
    counts = Counter(package for each in measure for package in each.imports)
    return sorted(counts.items(), key=lambda each: (-each[1], each[0]))[:LISTED]


@task
def report(
    measure: list[Measure], sums: Totals, largest: list[Measure], longest: list[LongFunction], imported: list[tuple[str, int]]
) -> Census:
    """Put everything together."""
    encodings = {each.path: each.encoding for each in measure if not each.encoding.startswith("utf-8")}
    return Census(sums, largest, longest, imported, encodings)


census: Workflow[Census] = workflow("census", output=report)
with census:
    parsed: ParallelGroup[Outline] = parse.map(discover).with_policy(best_effort)
    census.add(discover >> parsed >> measure.map("parse") >> (sums | largest | longest | imported) >> report)


def _outline(tree: ast.Module) -> tuple[tuple[Definition, ...], tuple[str, ...]]:
    """What is defined and imported anywhere in a file. Expressions are not looked into: they are most of a tree."""
    definitions: list[Definition] = []
    imports: set[str] = set()
    work: list[tuple[list[Any], str]] = [(tree.body, "")]
    while work:
        statements, around = work.pop()
        for node in statements:
            name = around
            if isinstance(node, SCOPES):
                name = f"{around}.{node.name}" if around else node.name
                definitions.append(Definition(_kind(node), name, (node.end_lineno or node.lineno) - node.lineno + 1))
            elif isinstance(node, ast.Import):
                imports.update(alias.name.partition(".")[0] for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module is not None and not node.level:
                imports.add(node.module.partition(".")[0])
            work += [
                (inside, name) for part in ("body", "handlers", "orelse", "finalbody", "cases") if (inside := getattr(node, part, None))
            ]
    return tuple(definitions), tuple(sorted(imports))


def _kind(node: ast.AST) -> Literal["function", "async function", "class"]:
    if isinstance(node, ast.ClassDef):
        return "class"
    return "async function" if isinstance(node, ast.AsyncFunctionDef) else "function"
