"""The identity of code: equal wherever the same code is loaded, different once it was edited."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from graflow.core.identity import code_identity
from tests.wire import functions_to_find as found
from tests.wire.shapes import Colour, Point

BASE = """
def f(n, *, scale=2.0):
    "The docstring."
    def inner(x):
        return x + 1
    try:
        total = len(str(n))
    except ValueError:
        return inner(0)
    return total * scale if n in {"a", "b", "c"} else inner(n)
"""


def load(text: str, name: str = "f", module: str = "app") -> Callable[..., Any]:
    namespace: dict[str, Any] = {"__name__": module}
    exec(text, namespace)
    function: Callable[..., Any] = namespace[name]
    return function


def test_lines_and_comments_do_not_count() -> None:
    moved = "# a comment\n\n\n" + BASE.replace("    try:", "    # why\n\n    try:")
    assert code_identity(load(moved)) == code_identity(load(BASE))
    assert len(code_identity(load(BASE))) == 32


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("x + 1", "x - 1"),
        ("x + 1", "x + 1.0"),
        ("x + 1", "x + True"),
        ("scale=2.0", "scale=3.0"),
        ("scale=2.0", "scale=2"),
        ("scale=2.0", "rate=2.0"),
        ("n, *, scale", "n, scale"),
        ("len(str(n))", "len(repr(n))"),
        ("len(str(n))", "abs(str(n))"),
        ("ValueError", "KeyError"),
        ('"c"', '"d"'),
        ("inner(0)", "inner(-0)"),
        ("def f(n,", "async def f(n,"),
        ("        total = len(str(n))\n", "        total = str(n)\n        total = len(total)\n"),
    ],
)
def test_an_edit_counts(old: str, new: str) -> None:
    assert old in BASE
    edited = BASE.replace(old, new)
    if old == "scale=2.0" and new == "rate=2.0":
        edited = edited.replace("* scale", "* rate")
    changed = code_identity(load(edited)) != code_identity(load(BASE))
    assert changed is (new != "inner(-0)")  # which Python reads as 0


def test_a_statement_moved_out_of_a_try_block_counts() -> None:
    inside = "def f():\n    try:\n        a()\n        b()\n    except OSError:\n        pass\n"
    outside = "def f():\n    try:\n        a()\n    except OSError:\n        pass\n    b()\n"
    assert code_identity(load(inside)) != code_identity(load(outside))


def test_which_instructions_a_handler_covers_counts() -> None:
    function, changed = load(BASE), load(BASE)
    changed.__code__ = changed.__code__.replace(co_exceptiontable=b"")
    assert code_identity(function) != code_identity(changed)


def test_module_and_name_count() -> None:
    assert code_identity(load(BASE, module="app")) != code_identity(load(BASE, module="other"))
    assert code_identity(load(BASE)) != code_identity(load(BASE.replace("def f", "def g"), "g"))


def make(value: Any) -> Callable[[], Any]:
    def closure() -> Any:
        return value

    return closure


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (1, 2),
        (0.0, -0.0),
        ([1], (1,)),
        ({"a": 1}, {"a": 2}),
        (len, abs),
        (int, str),
        (Colour.RED, Colour.GREEN),
        (Point(1), Point(2)),
        ({1, 2}, {1, 3}),
        (make(1), make(2)),
        (functools.partial(pow, 2), functools.partial(pow, 3)),
    ],
)
def test_what_a_function_closes_over_counts(one: Any, other: Any) -> None:
    assert code_identity(make(one)) == code_identity(make(one))
    assert code_identity(make(one)) != code_identity(make(other))


def test_the_function_under_a_wrapper_counts() -> None:
    def variant(text: str) -> Callable[..., Any]:
        return found.logged(load(text))

    assert code_identity(variant(BASE)) == code_identity(variant(BASE))
    assert code_identity(variant(BASE)) != code_identity(variant(BASE.replace("x + 1", "x + 2")))
    cached = functools.lru_cache(load(BASE)), functools.lru_cache(load(BASE.replace("x + 1", "x + 2")))
    assert code_identity(cached[0]) != code_identity(cached[1])


def test_partials_methods_and_callable_objects_have_an_identity() -> None:
    tools = found.Tools()
    functions = [found.plain, found.half, functools.partial(found.plain, 2), tools.method, tools, found.Tools, len, abs]
    assert len({code_identity(function) for function in functions}) == len(functions)
    assert code_identity(found.Tools().method) == code_identity(tools.method)


def test_a_function_that_refers_to_itself_has_an_identity() -> None:
    def recursive(n: int) -> int:
        return recursive(n - 1) if n else 0

    def again(n: int) -> int:
        return ping(n)

    def ping(n: int) -> int:
        return again(n) if n else 0

    assert len({code_identity(function) for function in (recursive, again, ping)}) == 3


def test_a_closure_that_is_not_filled_yet_has_an_identity() -> None:
    identities = []

    def early(function: Callable[..., Any]) -> Callable[..., Any]:
        identities.append(code_identity(function))
        return function

    @early
    def recursive(n: int) -> int:
        return recursive(n - 1) if n else 0

    assert len(identities[0]) == 32


def test_it_is_the_same_in_every_process() -> None:
    program = (
        "from graflow.core.identity import code_identity;"
        f"namespace = {{'__name__': 'app'}}; exec({BASE!r}, namespace);"
        "print(code_identity(namespace['f']).hex(), code_identity(__import__('json').dumps).hex())"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(sys.path)},
            capture_output=True,
            check=True,
            text=True,
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(outputs) == 1
    assert outputs.pop().split()[0] == code_identity(load(BASE)).hex()


def test_running_a_function_does_not_change_its_identity() -> None:
    function = load("def f(n):\n    return sum(i * 2 for i in range(n))")
    before = code_identity(function)
    for _ in range(200):  # the interpreter specialises bytecode that runs often
        function(10)
    assert code_identity(function) == before
