"""A graph's digest: the same for the same graph in every process, another after any change."""

from __future__ import annotations

import os
import subprocess
import sys
from array import array
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from graflow.core.graph import TaskGraph
from graflow.core.group import parallel
from graflow.core.policy import at_least_n, best_effort, strict
from graflow.core.task import task

ROOT = Path(__file__).parents[2]


@dataclass
class Point:
    x: int


def double(n: int, by: int = 2) -> int:
    return n * by


def triple(n: int, by: int = 2) -> int:
    return n * by + n


@task
async def a() -> list[int]:
    return []


b, c = a.clone("b"), a.clone("c")
step = task(double)


def digest(*nodes: Any, name: str = "g") -> str:
    graph = TaskGraph(name)
    graph.add(*nodes)
    return graph.digest()


def made_by(factor: int) -> Callable[[int], int]:
    def scaled(n: int) -> int:
        return n * factor

    return scaled


def test_the_same_drawing_has_the_same_digest() -> None:
    assert digest(a >> (b | c)) == digest(a >> (b | c))
    assert len(digest(a)) == 64
    graph = TaskGraph("g")
    graph.add(a >> b)
    assert graph.copy().digest() == graph.digest() == graph.calculate_hash()


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (a >> b, b >> a),
        (a | b, b | a),
        (a | b, (a | b).with_policy(best_effort)),
        ((a | b).with_policy(at_least_n(1)), (a | b).with_policy(at_least_n(2))),
        ((a | b).with_policy(lambda state: True), (a | b).with_policy(lambda state: False)),
        (parallel(a, b, limit=1), parallel(a, b, limit=2)),
        (a >> b | c, a | b >> c),
        (step, step.bind(n=1)),
        (step.bind(n=1), step.bind(n=2)),
        (step.bind(n=1), step.bind(n=True)),
        (step.bind(n="1"), step.bind(n=1)),
        (step.bind(n=[1]), step.bind(n=[2])),
        (step.bind(n={"a": 1}), step.bind(n={"a": 2})),
        (step.bind(n={1: 1}), step.bind(n={1: 2})),
        (step.bind(n=2**70), step.bind(n=2**71)),
        (step.bind(n=Point(1)), step.bind(n=Point(2))),
        (step.bind(n=array("d", [1.0])), step.bind(n=array("d", [2.0]))),
        (step.bind(n=double), step.bind(n=triple)),
        (step, task(retry=1)(double)),
        (step, task(timeout=1)(double)),
        (task("x")(double), task("x")(triple)),
        (task(made_by(1)), task(made_by(2))),
        (step.map([1]), step.map([2])),
        (a >> step.map(a), a >> step.map(a, parameter="by")),
        (a >> step.map(a), a >> step.bind(by=3).map(a)),
    ],
)
def test_another_drawing_has_another_digest(one: Any, other: Any) -> None:
    assert digest(one) != digest(other)


def test_the_name_and_the_conditions_of_edges_count() -> None:
    assert digest(a) != digest(a, name="other")
    plain, conditional = TaskGraph("g"), TaskGraph("g")
    plain.add_edge(a, b)
    conditional.add_edge(a, b, on="always")
    assert plain.digest() != conditional.digest()


def test_an_explicit_default_is_no_change() -> None:
    assert digest(a | b) == digest((a | b).with_policy(strict))


def test_the_order_in_which_arguments_are_bound_does_not_count() -> None:
    assert digest(step.bind(n=1, by=2)) == digest(step.bind(by=2, n=1))


PROGRAM = """
from tests.language.test_digests import *
mapped = step.map([1, {"x", "y", "z"}, Point(3)])
print(digest(a >> (mapped | b >> c).with_policy(lambda state: True), step.clone("other", n=object())))
"""


def test_the_digest_is_the_same_in_every_process() -> None:
    seen = {
        subprocess.run(
            [sys.executable, "-c", PROGRAM],
            capture_output=True,
            text=True,
            check=True,
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": seed},
        ).stdout
        for seed in ("1", "2")
    }
    assert len(seen) == 1
