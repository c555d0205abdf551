"""Rules 26 and 27: a task for each item of a list.

``t.map(values)`` is a group with one instance of t for each value. ``t.map(source)`` does the same with the list that an
earlier task will return, and makes the instances when the run gets there.
"""

from __future__ import annotations

import asyncio

import pytest

from graflow import RunResult, TaskContext, WorkflowEngine, at_least_n, best_effort, parallel, task, workflow
from graflow.errors import ArgumentTypeError, GraphError, InvalidPolicyError, TaskFailedError, UnknownTaskError
from tests.fundamentals.conftest import Steps


@task
async def numbers() -> list[int]:
    return [1, 2, 3]


@task
async def square(n: int) -> int:
    return n * n


@task
async def total(square: list[int]) -> int:
    return sum(square)


# ---- rule 26: empty groups -----------------------------------------------------------------------------------------


async def test_an_empty_group_completes_at_once(engine: WorkflowEngine) -> None:
    """Rule 26: ``t.map([])`` is a group without members, whose result is the empty list."""
    result = await engine.execute(square.map([]) >> total)
    assert result["square"] == []
    assert result[total] == 0


async def test_a_group_may_turn_out_to_be_empty(engine: WorkflowEngine) -> None:
    """Rule 26: so it is with a list that is only known when the run gets there."""

    @task
    async def nothing() -> list[int]:
        return []

    with workflow("w") as wf:
        nothing >> square.map(nothing) >> total
    result = await engine.execute(wf)
    assert (result["square"], result[total]) == ([], 0)


def test_a_group_of_nothing_is_a_mistake() -> None:
    """Rule 26: ``parallel()`` with nothing is an error."""
    with pytest.raises(GraphError, match="no nodes"):
        parallel()


def test_more_successes_than_branches_are_refused_at_build(steps: Steps) -> None:
    """Rule 26: ``at_least_n(n)`` above the number of branches can never be met."""
    a, b = steps("a b")
    with pytest.raises(InvalidPolicyError, match="2 branches"):
        (a | b).with_policy(at_least_n(3))
    with pytest.raises(InvalidPolicyError):
        square.map([1, 2]).with_policy(at_least_n(3))


async def test_more_successes_than_members_fail_a_mapped_group_when_it_is_expanded(engine: WorkflowEngine) -> None:
    """Rule 26: of a mapped group the number of members is known only then."""
    group = square.map(numbers).with_policy(at_least_n(4))
    with workflow("w") as wf:
        numbers >> group
    with pytest.raises(TaskFailedError) as failed:
        await engine.execute(wf)
    assert failed.value.task_id == "square"
    assert isinstance(failed.value.__cause__, InvalidPolicyError)


# ---- rule 27: mapped groups ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("source", [numbers, "numbers"], ids=["by task", "by id"])
async def test_there_is_one_member_for_each_item(engine: WorkflowEngine, source: str) -> None:
    """Rule 27: in order, called t[0], t[1] and so on; the group is called like the task."""
    with workflow("sum of squares") as wf:
        numbers >> square.map(source) >> total
    result = await engine.execute(wf)
    assert result["square"] == [1, 4, 9]
    assert (result["square[0]"], result["square[2]"]) == (1, 9)
    assert result.output == 14


async def test_the_edge_from_the_source_is_implied(engine: WorkflowEngine) -> None:
    """Rule 27: where both stand in the same scope, nobody needs to draw it."""
    with workflow("w") as wf:
        wf.add(numbers, square.map(numbers) >> total)
    assert wf.graph.predecessors("square") == ("numbers",)
    assert (await engine.execute(wf)).output == 14


async def test_a_mapped_group_can_be_given_a_name(engine: WorkflowEngine) -> None:
    """Rule 27: the group's id is ``name``; so one task can be mapped twice."""

    @task
    async def both(small: list[int], large: list[int]) -> list[int]:
        return small + large

    with workflow("w") as wf:
        (square.clone("s").map([1, 2], name="small") | square.clone("l").map([10], name="large")) >> both
    assert (await engine.execute(wf)).output == [1, 4, 100]


async def test_the_list_may_be_known_when_the_graph_is_drawn(engine: WorkflowEngine) -> None:
    """Rule 27: ``t.map(values)`` is the same at build: ids, order and result are the same."""
    result = await engine.execute(square.map([1, 2, 3]) >> total)
    assert (result["square"], result["square[1]"], result.output) == ([1, 4, 9], 4, 14)


async def test_a_parameter_can_be_named_to_take_the_item(engine: WorkflowEngine) -> None:
    """Rule 27: unless ``parameter=`` says otherwise, the first open one takes it; the others are found as ever."""

    @task
    async def power(base: int, exponent: int) -> int:
        return base**exponent

    assert (await engine.execute(power.map([1, 2, 3]), inputs={"exponent": 2}))["power"] == [1, 4, 9]
    assert (await engine.execute(power.bind(base=2).map([1, 2, 3])))["power"] == [2, 4, 8]
    assert (await engine.execute(power.map([1, 2, 3], parameter="exponent"), inputs={"base": 3}))["power"] == [3, 9, 27]


async def test_the_source_may_be_a_group(engine: WorkflowEngine, steps: Steps) -> None:
    """Rule 27: the result of a group is a list as well."""

    @task
    async def shout(word: str) -> str:
        return word.upper()

    group = parallel(*steps("a b"), name="words")
    with workflow("w") as wf:
        group >> shout.map(group)
    assert (await engine.execute(wf))["shout"] == ["A", "B"]


async def test_a_mapped_group_stands_inside_another_if_the_source_leads_there(engine: WorkflowEngine, steps: Steps) -> None:
    """Rule 27: inside another group, edges lead from the source to that group."""
    (other,) = steps("other")
    with workflow("w") as wf:
        numbers >> parallel(square.map(numbers) >> total, other, name="both")
    assert (await engine.execute(wf))["both"] == [14, "other"]


def test_inside_another_group_the_edge_must_be_there(steps: Steps) -> None:
    """Rule 27: else building fails with an error that names both."""
    (other,) = steps("other")
    with workflow("w") as wf:
        wf.add(numbers, parallel(square.map(numbers), other, name="both"))
    with pytest.raises(GraphError) as refused:
        wf.graph.validate()
    assert set(refused.value.ids) == {"square", "numbers"}


def test_the_source_must_be_somewhere(steps: Steps) -> None:
    """Rule 27: a source that the graph does not have, or that stands inside another group, is an error at build."""
    (other,) = steps("other")
    with workflow("without") as without:
        other >> square.map(numbers)
    with pytest.raises(UnknownTaskError, match="numbers"):
        without.graph.validate()
    with workflow("inside") as inside:
        (numbers | other) >> square.map(numbers)
    with pytest.raises(GraphError, match=r"'numbers', which is a member of the group 'numbers\|other'"):
        inside.graph.validate()


async def test_what_is_no_list_cannot_be_mapped_over(engine: WorkflowEngine) -> None:
    """Rule 27: the group fails, and says what it was given."""

    @task
    async def one() -> int:
        return 1

    with workflow("w") as wf:
        one >> square.map(one)
    with pytest.raises(TaskFailedError) as failed:
        await engine.execute(wf)
    assert isinstance(failed.value.__cause__, ArgumentTypeError)
    assert failed.value.__cause__.got == "int"


async def test_order_and_policy_are_those_of_any_group(engine: WorkflowEngine) -> None:
    """Rule 27: results come in the order of the items, whichever member ends first; failed ones are left out."""
    last_done = asyncio.Event()

    @task
    async def slow_first(n: int) -> int:
        if n == 2:
            raise ValueError("no")
        if n == 3:
            last_done.set()
        await last_done.wait()
        return n

    with workflow("w") as wf:
        numbers >> slow_first.map(numbers).with_policy(best_effort)
    assert (await engine.execute(wf))["slow_first"] == [1, 3]


async def test_each_visit_is_expanded_anew(engine: WorkflowEngine) -> None:
    """Rule 27: a mapped group is expanded when it is visited, over what its source has returned by then."""

    @task
    async def batch(ctx: TaskContext) -> list[int]:
        return [1, 2, 3] if ctx.cycle == 1 else [10]

    @task
    async def again(ctx: TaskContext, square: list[int]) -> list[int]:
        if ctx.cycle == 1:
            ctx.goto(batch)
        return square

    with workflow("w") as wf:
        batch >> square.map(batch) >> again
    result: RunResult[list[int]] = await engine.execute(wf)
    assert result.output == [100]
    assert "square[1]" not in result


@pytest.mark.parametrize("kind", ["a list", "a task", "a group"])
async def test_a_limit_bounds_how_many_run_at_once(engine: WorkflowEngine, kind: str) -> None:
    """Rule 27: ``limit=`` holds on every kind of group; the others follow as places become free."""
    running: list[int] = []
    most = 0

    @task
    async def work(n: int) -> int:
        nonlocal most
        running.append(n)
        most = max(most, len(running))
        for _ in range(3):
            await asyncio.sleep(0)
        running.remove(n)
        return n

    group = {
        "a list": lambda: work.map([1, 2, 3], name="group", limit=2),
        "a task": lambda: work.map(numbers, name="group", limit=2),
        "a group": lambda: parallel(*(work.clone(f"w{n}", n=n) for n in (1, 2, 3)), name="group", limit=2),
    }[kind]()
    with workflow("w") as wf:
        numbers >> group
    assert (await engine.execute(wf))["group"] == [1, 2, 3]
    assert most == 2
