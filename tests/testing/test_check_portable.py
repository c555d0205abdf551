"""A graph can be asked what of it could not travel to workers."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from graflow import parallel, task, testing, workflow
from graflow.core.policy import GroupState
from graflow.wire.keys import VARIABLE
from tests.wire import functions_to_find as found

pytestmark = pytest.mark.usefixtures("no_secret_key")


def holding(value: Any) -> Any:
    return lambda: value


def test_a_graph_of_importable_functions_has_no_problem() -> None:
    assert testing.check_portable(task(found.plain).bind(n=1) >> task(found.coroutine)) == []


def test_every_task_and_group_that_cannot_travel_is_told_with_the_way_to_what_is_at_fault() -> None:
    lock = threading.Lock()

    def policy(state: GroupState) -> bool:
        return lock.locked()

    with workflow("mixed") as wf:
        wf.add(parallel(task(id="held")(holding([lock])), task(found.plain), name="group", policy=policy))
        wf.add(task(id="bound")(found.plain).bind(n=lock), task(id="fine")(holding(1)))
    told = testing.check_portable(wf, signed=True)
    assert [line.split(" is a ")[0] for line in told] == [
        "bound argument bound.n",
        "task held: closure variable 'value'[0]",
        "group group: closure variable 'lock'",
    ]


def test_without_a_key_what_would_have_to_be_pickled_is_a_problem_too(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = task(id="one")(holding(1)) >> task(id="two")(found.plain)
    (told,) = testing.check_portable(graph)
    assert told.startswith("'one' cannot be run by other processes")
    monkeypatch.setenv(VARIABLE, "correct-horse-battery-staple-and-more")
    assert testing.check_portable(graph) == []


def test_the_members_of_a_mapped_group_are_looked_at_once() -> None:
    source = task(id="numbers")(found.plain).bind(n=1)
    told = testing.check_portable(source >> task(id="each")(lambda n: n).map(source))
    assert len(told) == 1
