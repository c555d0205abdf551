"""The records that the scripts read say what the plan says."""

from __future__ import annotations

from itertools import pairwise
from random import Random
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graflow.backends.redis.keys import stream_name
from graflow.backends.redis.plans import LARGE_JOIN, needs_of, plan_records, stream_of
from graflow.core.calls import plan_call
from graflow.core.compiler import connect
from graflow.core.edge import CONDITIONS
from graflow.core.outcome import TaskError
from graflow.core.plan import Plan, PlanEdge
from graflow.core.policy import critical
from graflow.core.task import Task, task
from graflow.wire.plans import encode_plan
from tests.model.generate import Drawing, Shape
from tests.model.plans import make_plan
from tests.wire.plans_to_send import load, plan_of, price, various

POLICIES = ["strict", "best_effort", "at_least_n", "critical", "custom"]
PLANS = various()


async def asks(t1: Any, t2: Any = None, g3: Any = None, *, t4: Any, g5: Any = 1, item: Any = None, error: TaskError | None = None) -> None:
    """Asks for the results of nodes that the random graphs may have."""


ASKS: Task[..., Any] = task(asks)


def records_of(plan: Plan) -> dict[str, Any]:
    """The records, decoded."""
    records = plan_records(plan)
    assert records.pop("blob") == encode_plan(plan)
    return {field: checked(msgspec.msgpack.decode(record)) for field, record in records.items()}


def checked(value: Any) -> Any:
    """A value, if the scripts' decoder would make the same of it."""
    assert type(value) in (list, int, str, bool)
    if isinstance(value, list):
        for item in value:
            checked(item)
    elif isinstance(value, bool):
        assert value is False
    elif isinstance(value, int):
        assert abs(value) <= 2**53
    return value


def grouped(flat: list[Any], size: int) -> list[tuple[Any, ...]]:
    assert len(flat) % size == 0
    return [tuple(flat[place : place + size]) for place in range(0, len(flat), size)]


def span(ranges: list[int]) -> list[int]:
    """Ranges as the numbers that they stand for; those that could be one are refused."""
    pairs = grouped(ranges, 2)
    assert all(first <= last for first, last in pairs)
    assert all(before[1] + 1 != after[0] for before, after in pairwise(pairs))
    return [number for first, last in pairs for number in range(first, last + 1)]


def edges_of(runs: list[Any]) -> list[tuple[int, int, str]]:
    """Runs as edges with their other ends and conditions; a run that could be longer is refused."""
    edges: list[tuple[int, int, str]] = []
    run: list[tuple[int, int, str]] = []
    for first, last, begin, step, on in grouped(runs, 5):
        assert first <= last
        if run and run[-1][0] == first - 1 and run[-1][2] == CONDITIONS[on]:
            assert begin - run[-1][1] not in ((0, 1) if len(run) == 1 else (run[1][1] - run[0][1],))
        run = [(edge, begin + step * (edge - first), CONDITIONS[on]) for edge in range(first, last + 1)]
        edges += run
    return edges


def spelt_out(records: dict[str, Any]) -> dict[str, Any]:
    """A record for each node, where one stands for many."""
    alike = records.get("alike", [])
    assert records["head"][7] == len(alike)
    found = {name: record for name, record in records.items() if name not in ("alike", "groups", "joins")}
    for first, last, scope, branch, limit, stream, needs in alike:
        assert last - first >= 15
        for node in range(first, last + 1):
            assert str(node) not in found
            found[str(node)] = [0, scope, branch + node - first, [], [], False, False, limit, stream, needs, 0, False]
    return found


def assert_says(records: dict[str, Any], plan: Plan) -> None:
    """Whether the records say neither more nor less than the plan."""
    assert span(records.get("groups", [])) == [node for node, group in enumerate(plan.groups) if group is not None]
    assert span(records.get("joins", [])) == [node for node, count in enumerate(plan.indegree) if count > LARGE_JOIN]
    records = spelt_out(records)
    loops = {f"L{number}" for number in range(len(plan.loops))}
    assert records.keys() == {"head", *map(str, range(len(plan.ids))), *loops}
    top = plan.top
    *numbers, roots, _ = records["head"]
    assert numbers == [len(plan.ids), len(plan.edges), top.start, top.stop - 1, len(plan.loops), 10_000]
    assert span(roots) == [node for node in top if not plan.ins[node]]
    for node in range(len(plan.ids)):
        assert_says_node(records[str(node)], plan, node)
    for number in range(len(plan.loops)):
        assert_says_loop(records[f"L{number}"], plan, number)


def assert_says_node(record: list[Any], plan: Plan, node: int) -> None:
    kind, scope, branch, outs, ins, released, around, max_cycles, stream, needs, flags, group = record
    task = plan.tasks[node]
    assert (kind, scope, branch) == (int(task is None), plan.scope[node], plan.branch[node])
    leaving = edges_of(outs)
    assert [edge for edge, _, _ in leaving] == list(plan.outs[node])
    assert all((plan.edges[edge].target, plan.edges[edge].on) == (end, on) for edge, end, on in leaving)
    entering = edges_of([part for run in grouped(ins, 4) for part in (*run, 0)])
    assert [edge for edge, _, _ in entering] == list(plan.ins[node])
    assert all(plan.edges[edge].source == end for edge, end, _ in entering)
    assert (released is False) == (plan.released[node] == plan.outs[node])
    if released is not False:
        assert [edge for edge, _, _ in edges_of(released)] == list(plan.released[node])
    assert around == (list(plan.around[node]) if node in plan.around else False)
    assert max_cycles == plan.max_cycles.get(node, False)
    assert flags == (node in plan.map_sources) + 2 * (node in plan.forks)
    if task is None:
        assert (stream, needs) == ("", False)
        assert_says_group(group, plan, node)
    else:
        assert (stream, group) == (stream_of(task), False)
        assert needs == needs_of(plan_call(plan, node, task))


def assert_says_group(record: list[Any], plan: Plan, node: int) -> None:
    begin, last, policy, n, early, named, limit, depth, roots, lasts, sizes, mapping, plain, length = record
    group = plan.groups[node]
    assert group is not None
    assert range(begin, last + 1) == group.members
    assert (POLICIES[policy], n, bool(early)) == (group.policy.kind, group.policy.n, group.policy.early)
    assert named == sorted(group.critical)
    assert limit == (False if group.limit is None else group.limit)
    assert depth == plan.group_depth[node]
    assert span(roots) == [member for member in group.members if not plan.ins[member]]
    assert span(lasts) == list(group.lasts)
    branches = [plan.branch[member] for member in group.members]
    assert bool(plain) == all(plan.tasks[member] is not None and member not in plan.around for member in group.members)
    assert not length or branches == [branch for branch in range(len(group.lasts)) for _ in range(length)]
    if early:
        assert sizes == [branches.count(branch) for branch in range(len(group.lasts))]
    else:
        assert sizes is False
    if group.mapping is None:
        assert mapping is False
        return
    source, task_id, max_cycles, stream, needs, taken, places = mapping
    mapped = group.mapping.task
    assert (source, task_id, stream) == (group.mapping.source, mapped.id, stream_of(mapped))
    assert max_cycles == (mapped.options.max_cycles or False)
    assert needs == needs_of(plan_call(plan, node, mapped, item=group.mapping.parameter))
    free = [place for place in range(len(plan.ids) + 1) if f"{task_id}[{place}]" not in plan.index]
    assert taken is False or f"{task_id}[{taken}]" in plan.index
    assert free[0] == (0 if taken != 0 or taken is False else free[0])
    assert len(places) == len(group.policy.ids)
    for name, place in zip(group.policy.ids, places, strict=True):
        assert name == f"{task_id}[{place}]" or (place == -1 and not name.startswith(f"{task_id}["))


def assert_says_loop(record: list[Any], plan: Plan, number: int) -> None:
    header, body, back, leaving, exits, depth, scope = record
    loop, edges = plan.loops[number], plan.edges
    assert (header, depth, scope) == (loop.header, loop.depth, loop.scope)
    assert span(body) == sorted(loop.body)
    assert grouped(back, 2) == [(edge, edges[edge].source) for edge in loop.back]
    assert grouped(leaving, 3) == [(edge, edges[edge].source, edges[edge].target) for edge in loop.leaving]
    assert grouped(exits, 3) == [(edge, edges[edge].source, edges[edge].target) for edge in loop.exits]


@given(st.integers(0, 2**32))
def test_the_records_of_any_graph_say_what_the_plan_says(seed: int) -> None:
    plan = make_plan(Drawing(Random(seed), Shape(wild=True, early=True)).draw())
    assert_says(records_of(plan), plan)


@given(st.integers(0, 2**32))
def test_what_tasks_need_is_what_their_calls_look_for(seed: int) -> None:
    random = Random(seed)
    plan = make_plan(Drawing(random, Shape(wild=True)).draw())
    for node, known in enumerate(plan.tasks):
        if known is not None:
            names = random.choice(([], [], ["t1"], ["t2", "g3"], ["error"], ["t1", "t2", "g3", "t4", "g5", "item", "error"]))
            plan.tasks[node] = ASKS.clone(known.id, **dict.fromkeys(names, 0))
    assert_says(records_of(plan), plan)


@pytest.mark.parametrize("what", PLANS)
def test_the_records_say_whatever_the_language_can_draw(what: str) -> None:
    assert_says(records_of(PLANS[what]), PLANS[what])


def test_the_members_of_a_fan_out_are_a_few_numbers() -> None:
    records = records_of(plan_of(load >> price.map(range(2000), name="all") >> load.clone("end")))
    assert records["1"][11] == [3, 2002, 0, 0, 0, [], False, 1, [3, 2002], [3, 2002], False, False, 1, 1]
    assert max(len(msgspec.msgpack.encode(record)) for record in records.values()) < 100


def test_edges_that_follow_one_another_are_a_run() -> None:
    plan = plan_of(load, *(price.clone(f"t{place}") for place in range(1000)))
    graph = plan_of(load >> price)
    assert records_of(graph)["0"][3:5] == [[0, 0, 1, 0, 0], []]
    connect(plan, [*(PlanEdge(0, place) for place in range(1, 1001)), *(PlanEdge(5, 6, on) for on in ("failure", "failure", "always"))])
    records = records_of(plan)
    assert records["0"][3] == [0, 999, 1, 1, 0]
    assert records["5"][3:5] == [[1000, 1001, 6, 0, 1, 1002, 1002, 6, 0, 2], [4, 4, 0, 0]]
    assert records["5"][10] == 2


def test_a_step_has_its_options_in_its_record() -> None:
    record = records_of(PLANS["options"])["1"]
    assert record[7:10] == [7, "1:process:slow lane", [0, -1, 0, "item", 1, 0, 1, "load", 0]]
    assert record[8] == stream_name("slow lane", "process", "high")


def test_tasks_that_need_nothing_say_so() -> None:
    assert records_of(PLANS["a task"])["0"][9] is False
    assert records_of(plan_of(price.bind(item=1, load=[])))["0"][9] is False
    assert records_of(plan_of(price.bind(item="no number", load=[])))["0"][9] is False  # found out where it is run


def test_an_error_and_an_item_are_flags() -> None:
    assert records_of(PLANS["a retry policy"])["0"][9] == [1]
    mapping = records_of(PLANS["a mapped group"])["1"][11][11]
    assert mapping[4] == [2, 0, 1, "load", 0]
    assert mapping[6] == [0, -1]


@pytest.mark.parametrize(
    ("ids", "taken"),
    [
        ([], False),
        (["item[3]", "item[2]", "item[10]"], 2),
        (["item[0]"], 0),
        (["item[00]", "item[-1]", "item[]", "item[x]", "item[1", "item1]", "items[1]", "item[²]", "item[٣]", "item[1] "], False),
        (["item[1][2]"], False),
    ],
)
def test_the_first_id_of_a_member_that_is_taken_is_known(ids: list[str], taken: int | bool) -> None:
    plan = plan_of(load >> price.clone("item").map(load, name="all"), *(load.clone(name) for name in ids))
    found = records_of(plan)[str(plan.index["all"])][11][11][5]
    assert (type(found), found) == (type(taken), taken)


def test_critical_members_are_places() -> None:
    names = ["item[7]", "item[007]", "other[1]", f"item[{10**30}]"]
    plan = plan_of(load >> price.clone("item").map(load).with_policy(critical(names)))
    places = dict(zip(critical(names).ids, records_of(plan)["1"][11][11][6], strict=True))
    assert places == {"item[7]": 7, "item[007]": -1, "other[1]": -1, f"item[{10**30}]": -1}


def test_bounds_beyond_the_numbers_of_the_scripts_are_none_to_speak_of() -> None:
    plan = plan_of(task("bounded", max_cycles=2**60)(asks))
    assert records_of(plan)["0"][7] == 2**53
