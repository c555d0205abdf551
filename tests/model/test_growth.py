"""What a step costs does not grow with the run: ten times the graph takes ten times as long, not a hundred."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable

import pytest

from graflow.core.attempts import Start
from graflow.core.edge import Edge
from graflow.core.outcome import Directives, NewTask, Outcome, Success
from graflow.core.policy import at_least_n, best_effort, critical
from graflow.core.run import RunState
from tests.model.plans import GraphSpec, NodeSpec, a_task, make_plan
from tests.model.play import BAD, OK

SMALL, LARGE = 500, 4000
TOLERANCE = 3.0
"""How much dearer a step may be in the large run: what grew with the run would make it eight times as dear."""

Make = Callable[[int], GraphSpec]
Behave = Callable[[int, RunState, Start], Outcome]


def tasks(names: str, count: int, group: str | None = None) -> list[NodeSpec]:
    return [NodeSpec(f"{names}{number}", group, number if group else 0) for number in range(count)]


def graph(nodes: list[NodeSpec], *edges: tuple[str, str]) -> GraphSpec:
    return GraphSpec(tuple(nodes), tuple(Edge(*edge) for edge in edges))


def chain(count: int) -> GraphSpec:
    return graph(tasks("t", count), *((f"t{n}", f"t{n + 1}") for n in range(count - 1)))


def fan(count: int) -> GraphSpec:
    middle = [(source, target) for n in range(count) for source, target in (("a", f"t{n}"), (f"t{n}", "z"))]
    return graph([NodeSpec("a"), *tasks("t", count), NodeSpec("z")], *middle)


def group(count: int, **options: object) -> GraphSpec:
    return graph([NodeSpec("g", is_group=True, **options), *tasks("t", count, "g")])  # type: ignore[arg-type]


def loop(count: int) -> GraphSpec:
    return graph(tasks("t", 3), ("t0", "t1"), ("t1", "t2"), ("t2", "t0"))


def groups_in_a_loop(count: int) -> GraphSpec:
    members = [NodeSpec(f"t{n}", f"g{n}") for n in range(count)]
    edges = [edge for n in range(count) for edge in (("a", f"g{n}"), (f"g{n}", "z"))]
    return graph([NodeSpec("a"), *(NodeSpec(f"g{n}", is_group=True) for n in range(count)), NodeSpec("z"), *members], *edges, ("z", "a"))


def mapped(count: int) -> GraphSpec:
    return graph([NodeSpec("a"), NodeSpec("g", is_group=True, mapped="a")], ("a", "g"))


def succeed(count: int, state: RunState, start: Start) -> Outcome:
    return OK


def fail(count: int, state: RunState, start: Start) -> Outcome:
    return BAD


def fail_by_halves(count: int, state: RunState, start: Start) -> Outcome:
    return BAD if int(state.ids[start.node][1:]) >= count // 2 else OK


def leave_after(rounds: Callable[[int], int]) -> Behave:
    def behave(count: int, state: RunState, start: Start) -> Outcome:
        return Success(1, Directives(end_loop=True)) if start.cycle >= rounds(count) and state.ids[start.node] in ("t2", "z") else OK

    return behave


def make_one(count: int, state: RunState, start: Start) -> Outcome:
    name = state.ids[start.node]
    return OK if name[0] == "d" else Success(1, Directives(new=[NewTask(a_task(f"d{name}"))]))


def go_to_z(count: int, state: RunState, start: Start) -> Outcome:
    return Success(1, Directives(goto=["z"])) if state.ids[start.node][0] == "t" else OK


def give_items(count: int, state: RunState, start: Start) -> Outcome:
    return Success([0] * count, None, count) if start.node == 0 else OK


RUNS: dict[str, tuple[Make, Behave]] = {
    "a chain": (chain, succeed),
    "a fan out and a join": (fan, succeed),
    "a group in which all fail": (lambda n: group(n, policy=best_effort), fail),
    "a group with many critical branches": (lambda n: group(n, policy=critical(f"t{i}" for i in range(n // 2))), fail_by_halves),
    "a group that half of must succeed": (lambda n: group(n, policy=at_least_n(n // 2)), fail_by_halves),
    "a group that succeeds early": (lambda n: group(n, policy=at_least_n(n, early=True)), succeed),
    "a group with a limit": (lambda n: group(n, limit=10), succeed),
    "a mapped group": (mapped, give_items),
    "many rounds of a small loop": (loop, leave_after(lambda n: n)),
    "many groups in a loop": (groups_in_a_loop, leave_after(lambda n: 3)),
    "tasks that make tasks": (lambda n: group(n), make_one),
    "gotos to a node that waits": (lambda n: graph([NodeSpec("a"), NodeSpec("z"), *tasks("t", n)], ("a", "z")), go_to_z),
    "gotos out of a group": (lambda n: graph([NodeSpec("g", is_group=True), NodeSpec("z"), *tasks("t", n, "g")], ("g", "z")), go_to_z),
}


def seconds_per_step(spec: GraphSpec, behave: Behave, count: int) -> float:
    """The fastest of three runs, oldest attempts last."""
    plan, best = make_plan(spec), float("inf")
    for _ in range(3):
        gc.collect()
        began, steps = time.perf_counter(), 0
        state = RunState(plan, max_steps=10**9)
        queue = list(state.starts)
        while state.end is None:
            start = queue.pop()
            state.starts.clear()
            state.stops.clear()
            state.notes.clear()
            state.settle(start.node, start.cycle, start.attempt, behave(count, state, start))
            queue += state.starts
            steps += 1
        best = min(best, (time.perf_counter() - began) / steps)
        assert state.end.status == "succeeded"
    return best


@pytest.mark.parametrize("name", RUNS)
def test_a_step_costs_the_same_in_a_small_and_in_a_large_run(name: str) -> None:
    make, behave = RUNS[name]
    told: list[str] = []
    for _ in range(3):  # a busy machine may slow one measurement down, but hardly three
        small, large = (seconds_per_step(make(count), behave, count) for count in (SMALL, LARGE))
        if large < TOLERANCE * small:
            return
        told.append(f"{small * 1e6:.1f} us a step in the small run, {large * 1e6:.1f} us in the large one")
    pytest.fail("; ".join(told))


def test_a_loop_within_a_loop_within_a_loop_does_not_meet_the_recursion_limit() -> None:
    """A chain in which every task leads back to the one before is a loop for each of them, each inside the one before."""
    edges = [edge for n in range(1200) for edge in ((f"t{n}", f"t{n + 1}"), (f"t{n + 1}", f"t{n}"))]
    plan = make_plan(graph(tasks("t", 1201), *edges))
    assert [loop.depth for loop in plan.loops] == list(range(1200))
