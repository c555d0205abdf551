"""Rules 22 to 25: side by side.

``a | b`` runs a and b side by side, as a *group*. Each operand is a *branch*, be it a task, a chain or another group. The
group is a node of its own: edges lead to it and from it, its result is the list of its branches' results, and its
*policy* says when it has failed. What fans out over a list is in ``test_maps.py``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress

import pytest

from graflow import (
    GroupPolicy,
    ParallelGroup,
    TaskContext,
    TaskGraph,
    WorkflowEngine,
    at_least_n,
    best_effort,
    critical,
    parallel,
    task,
    workflow,
)
from graflow.core.policy import GroupState
from graflow.errors import GraphError, ParallelGroupError, TaskFailedError
from tests.fundamentals.conftest import Steps

# ---- rule 22: what a group is --------------------------------------------------------------------------------------


async def test_a_group_is_a_node(engine: WorkflowEngine, steps: Steps, log: list[str]) -> None:
    """Rule 22: edges lead to a group and from it; its id is its members' ids joined by ``|``."""
    a, b, c, d = steps("a b c d")
    result = await engine.execute(a >> (b | c) >> d)
    assert log[0] == "a"
    assert sorted(log[1:3]) == ["b", "c"]
    assert log[3:] == ["d"]
    assert result["b|c"] == ["b", "c"]


def test_a_task_is_in_one_group_at_most(steps: Steps) -> None:
    """Rule 22: a member of two groups is an error at build that names both."""
    a, b, c = steps("a b c")
    graph = TaskGraph("w")
    graph.add(a | b)
    with pytest.raises(GraphError, match=r"'b' is a member of two groups, 'a\|b' and 'b\|c'"):
        graph.add(b | c)


@pytest.mark.parametrize("arrow", ["out of the group", "into the group"])
@pytest.mark.parametrize("drawn", ["before the group", "after the group"])
def test_no_edge_crosses_the_border_of_a_group(steps: Steps, arrow: str, drawn: str) -> None:
    """Rule 22: an edge between a member and a node outside its group is an error at build that names both."""
    a, b, outside = steps("a b outside")
    crossing = a >> outside if arrow == "out of the group" else outside >> a
    graph = TaskGraph("w")
    with pytest.raises(GraphError) as refused:
        graph.add(*((crossing, a | b) if drawn == "before the group" else (a | b, crossing)))
    assert set(refused.value.ids) == {"a", "outside"}
    assert "'a' is a member of 'a|b'" in str(refused.value)


async def test_the_same_members_again_are_the_same_group(engine: WorkflowEngine, steps: Steps, log: list[str]) -> None:
    """Rule 22: ``b | c`` written twice is one group, and so is the one that was given a policy."""
    a, b, c, d = steps("a b c d")
    with workflow("w") as wf:
        a >> (b | c)
        (b | c) >> d
        (b | c).with_policy(best_effort)
    await engine.execute(wf)
    assert len(log) == 4
    assert set(wf.graph.nodes) == {"a", "b|c", "b", "c", "d"}
    group = wf.graph.nodes["b|c"]
    assert isinstance(group, ParallelGroup)
    assert group.policy == best_effort


async def test_a_bare_group_is_flattened(engine: WorkflowEngine, steps: Steps) -> None:
    """Rule 22: ``|`` takes the branches of an unnamed group without policy or edges, wherever it stands."""
    a, b, c, d = steps("a b c d")
    result = await engine.execute((a | b) | (c | d))
    assert result["a|b|c|d"] == ["a", "b", "c", "d"]


@pytest.mark.parametrize("kept_by", ["a name", "a policy", "a limit", "an edge"])
async def test_any_other_group_is_nested(engine: WorkflowEngine, steps: Steps, kept_by: str) -> None:
    """Rule 22: a group with a name, a policy, a limit or an edge stays whole, and its result is a list in the list."""
    a, b, c, after = steps("a b c after")
    inner = {
        "a name": lambda: parallel(a, b, name="inner"),
        "a policy": lambda: (a | b).with_policy("strict"),
        "a limit": lambda: parallel(a, b, limit=1),
        "an edge": lambda: (a | b) >> after,
    }[kept_by]()
    result = await engine.execute(inner | c)
    assert result.output == ["after" if kept_by == "an edge" else ["a", "b"], "c"]


def test_with_policy_changes_the_group_and_returns_it(steps: Steps) -> None:
    """Rule 22: it is not another group."""
    a, b = steps("a b")
    group = a | b
    assert group.with_policy(best_effort) is group
    assert group.policy == best_effort


# ---- rule 23: branches ---------------------------------------------------------------------------------------------


async def test_the_last_task_of_a_branch_stands_for_it(engine: WorkflowEngine, steps: Steps) -> None:
    """Rule 23: each operand of ``|`` is a branch; the result is that of each branch's last task, in order."""
    fetch, parse, other = steps("fetch parse other")
    result = await engine.execute(parallel(fetch >> parse, other, name="both"))
    assert result["both"] == ["parse", "other"]
    assert result["fetch"] == "fetch"


async def test_a_branch_fails_if_any_of_its_tasks_fails(engine: WorkflowEngine, steps: Steps, log: list[str]) -> None:
    """Rule 23: policies count branches and name them by their last task, whichever task of it failed."""
    parse, other = steps("parse other")

    @task
    async def fetch() -> None:
        raise ConnectionError("no net")

    with pytest.raises(ParallelGroupError) as failed:
        await engine.execute(parallel(fetch >> parse, other, name="both"))
    assert list(failed.value.failed) == ["parse"]
    cause = failed.value.failed["parse"]
    assert isinstance(cause, TaskFailedError)
    assert (cause.task_id, cause.error_type) == ("fetch", "ConnectionError")


async def test_what_failed_or_was_skipped_is_left_out_of_the_result(engine: WorkflowEngine, steps: Steps) -> None:
    """Rule 23: a failed member is never passed on as a value, and a skipped one leaves no hole."""
    taken, not_taken = steps("taken not_taken")

    @task
    async def choose(ctx: TaskContext) -> str:
        ctx.goto(taken)
        return "choose"

    @task
    async def fails() -> str:
        raise ValueError("no")

    with workflow("w") as wf:
        parallel(choose, taken, not_taken, fails, name="group", policy=best_effort)
        choose >> taken
        choose >> not_taken
    assert (await engine.execute(wf))["group"] == ["choose", "taken"]


async def test_what_was_cancelled_is_left_out_of_the_result(engine: WorkflowEngine, steps: Steps) -> None:
    """Rule 23: so is what the group did not wait for."""
    first, second = steps("first second")

    @task
    async def endless() -> None:
        await asyncio.Event().wait()

    group = parallel(first, endless, second, name="race", policy=at_least_n(2, early=True))
    assert (await engine.execute(group))["race"] == ["first", "second"]


async def test_a_parameter_annotated_as_a_dict_takes_the_results_by_id(engine: WorkflowEngine, steps: Steps) -> None:
    """Rule 23: ``dict[str, T]`` says which branch each result is of."""
    a, c = steps("a c")

    @task
    async def b() -> str:
        raise ValueError("no")

    @task
    async def by_id(group: dict[str, str]) -> Mapping[str, str]:
        return group

    @task
    async def in_order(group: list[str]) -> list[str]:
        return group

    with workflow("w") as wf:
        parallel(a, b, c, name="group", policy=best_effort) >> by_id
        wf.add_edge("group", in_order)
    result = await engine.execute(wf)
    assert result[by_id] == {"a": "a", "c": "c"}
    assert result[in_order] == ["a", "c"]


# ---- rule 24: policies ---------------------------------------------------------------------------------------------


async def test_strict_fails_with_the_first_failure_and_cancels_the_rest(engine: WorkflowEngine, log: list[str]) -> None:
    """Rule 24: a policy that can no longer be met fails the group at once; the error lists what became of every branch."""
    endless_runs = asyncio.Event()

    @task
    async def quick() -> None: ...

    @task
    async def endless() -> None:
        endless_runs.set()
        try:
            await asyncio.Event().wait()
        finally:
            log.append("endless was stopped")

    @task
    async def fails() -> None:
        await endless_runs.wait()
        raise ValueError("no")

    with pytest.raises(ParallelGroupError) as failed:
        await engine.execute(parallel(quick, endless, fails, name="group"))
    error = failed.value
    assert (error.group_id, list(error.failed), error.succeeded, error.cancelled) == ("group", ["fails"], ["quick"], ["endless"])
    assert isinstance(error.failed["fails"].__cause__, ValueError)
    assert log == ["endless was stopped"]


async def test_best_effort_succeeds_even_if_every_branch_fails(engine: WorkflowEngine) -> None:
    """Rule 24: with all failed, the result is the empty list; the errors can still be read."""

    @task
    async def fails() -> None:
        raise ValueError("no")

    @task
    async def count(group: list[None]) -> int:
        return len(group)

    result = await engine.execute(parallel(fails, fails.clone("fails too"), name="group", policy=best_effort) >> count)
    assert result.output == 0
    assert set(result.errors) == {"fails", "fails too"}


async def test_success_waits_for_all_branches(engine: WorkflowEngine, log: list[str]) -> None:
    """Rule 24: at_least_n(1) is met by the first, and waits for the second all the same."""
    first_done = asyncio.Event()

    @task
    async def first() -> int:
        first_done.set()
        return 1

    @task
    async def second() -> int:
        await first_done.wait()
        return 2

    group = parallel(first, second, name="group", policy=at_least_n(1))
    assert (await engine.execute(group))["group"] == [1, 2]


async def test_early_success_does_not_wait(engine: WorkflowEngine, log: list[str]) -> None:
    """Rule 24: ``at_least_n(n, early=True)`` ends the group with the n-th success and cancels the rest."""
    endless_runs = asyncio.Event()

    @task
    async def first() -> int:
        await endless_runs.wait()
        return 1

    @task
    async def endless() -> None:
        endless_runs.set()
        try:
            await asyncio.Event().wait()
        finally:
            log.append("endless was stopped")

    group = parallel(first, endless, name="group", policy=at_least_n(1, early=True))
    assert (await engine.execute(group))["group"] == [1]
    assert log == ["endless was stopped"]


async def test_at_least_n_fails_as_soon_as_too_few_are_left(engine: WorkflowEngine) -> None:
    """Rule 24: of three branches two must succeed; with the second failure that has become impossible."""

    @task
    async def fails() -> None:
        raise ValueError("no")

    @task
    async def endless() -> None:
        await asyncio.Event().wait()

    with pytest.raises(ParallelGroupError) as failed:
        await engine.execute(parallel(fails, endless, fails.clone("fails too"), name="group", policy=at_least_n(2)))
    assert (set(failed.value.failed), failed.value.cancelled) == ({"fails", "fails too"}, ["endless"])


@pytest.mark.parametrize("failing", ["payment", "newsletter"])
async def test_critical_branches_must_succeed_and_others_may_fail(engine: WorkflowEngine, failing: str) -> None:
    """Rule 24: ``critical`` names the branches that decide."""

    @task
    async def work(ctx: TaskContext) -> str:
        if ctx.task_id == failing:
            raise ValueError("no")
        return ctx.task_id

    payment, newsletter = work.clone("payment"), work.clone("newsletter")
    group = parallel(payment, newsletter, name="order", policy=critical([payment]))
    if failing == "newsletter":
        assert (await engine.execute(group))["order"] == ["payment"]
    else:
        with pytest.raises(ParallelGroupError):
            await engine.execute(group)


@pytest.mark.parametrize("policy", ["strict", at_least_n(3), at_least_n(3, early=True), critical(["not_taken"])])
async def test_a_skipped_branch_counts_as_succeeded(engine: WorkflowEngine, steps: Steps, policy: GroupPolicy) -> None:
    """Rule 24: what was not needed has not failed."""
    taken, not_taken = steps("taken not_taken")

    @task
    async def choose(ctx: TaskContext) -> str:
        ctx.goto(taken)
        return "choose"

    with workflow("w") as wf:
        parallel(choose, taken, not_taken, name="group", policy=policy)
        choose >> taken
        choose >> not_taken
    assert (await engine.execute(wf))["group"] == ["choose", "taken"]


@pytest.mark.parametrize("enough", [2, 3])
async def test_a_policy_of_ones_own_is_asked_once_when_all_have_ended(engine: WorkflowEngine, steps: Steps, enough: int) -> None:
    """Rule 24: a function of GroupState says whether the group has succeeded."""
    a, b = steps("a b")
    asked: list[GroupState] = []

    @task
    async def fails() -> None:
        raise ValueError("no")

    def quorum(state: GroupState) -> bool:
        asked.append(state)
        return len(state.results) >= enough

    group = parallel(a, fails, b, name="group", policy=quorum)
    if enough == 2:
        assert (await engine.execute(group))["group"] == ["a", "b"]
    else:
        with pytest.raises(ParallelGroupError):
            await engine.execute(group)
    assert asked == [GroupState(succeeded=("a", "b"), failed=("fails",), results={"a": "a", "b": "b"})]


async def test_a_policy_that_raises_fails_its_group_with_that(engine: WorkflowEngine, steps: Steps) -> None:
    """Rule 24: what the policy raises is the group's error."""
    a, b = steps("a b")

    def broken(state: GroupState) -> bool:
        raise KeyError("no such branch")

    with pytest.raises(TaskFailedError) as failed:
        await engine.execute(parallel(a, b, name="group", policy=broken))
    assert (failed.value.task_id, failed.value.error_type) == ("group", "KeyError")
    assert isinstance(failed.value.__cause__, KeyError)


# ---- rule 25: as a whole -------------------------------------------------------------------------------------------


async def test_a_group_is_skipped_as_a_whole(engine: WorkflowEngine, steps: Steps, log: list[str]) -> None:
    """Rule 25: with only skipped edges none of its members runs or has a result, and what follows is skipped too."""
    a, b, after, elsewhere = steps("a b after elsewhere")

    @task
    async def choose(ctx: TaskContext) -> None:
        ctx.goto(elsewhere)

    with workflow("w") as wf:
        choose >> (a | b) >> after
        choose >> elsewhere
    result = await engine.execute(wf)
    assert log == ["elsewhere"]
    assert set(result.results) == {"choose", "elsewhere"}
    assert "a|b" not in result


async def test_a_group_that_is_skipped_the_next_time_loses_its_results(engine: WorkflowEngine, steps: Steps, log: list[str]) -> None:
    """Rule 25: the members ran in the first round; in the last the group is skipped, and none of them has a result."""
    a, b = steps("a b")

    @task
    async def agent(ctx: TaskContext) -> None:
        if ctx.cycle == 2:
            ctx.end_loop()

    result = await engine.execute(agent >> (a | b) >> agent)
    assert sorted(log) == ["a", "b"]
    assert set(result.results) == {"agent"}


async def test_a_group_is_broken_as_a_whole(engine: WorkflowEngine, steps: Steps, log: list[str]) -> None:
    """Rule 25: after a failure none of its members runs, and what follows is broken too."""
    a, b, after, alone = steps("a b after alone")

    @task
    async def fails() -> None:
        raise ValueError("no")

    with workflow("w") as wf:
        fails >> (a | b) >> after
        wf.add(alone)
    with pytest.raises(TaskFailedError):
        await engine.execute(wf, on_failure="continue")
    assert log == ["alone"]


async def test_each_visit_starts_the_members_afresh_and_forgets_new_ones(engine: WorkflowEngine, steps: Steps, log: list[str]) -> None:
    """Rule 25: a group that is visited again runs all of its members, and not what they made the last time."""
    first, after_first, extra = steps("first after_first extra")

    @task
    async def maker(ctx: TaskContext) -> None:
        if ctx.cycle == 1:
            ctx.next_task(extra)

    @task
    async def again(ctx: TaskContext) -> None:
        if ctx.cycle == 1:
            ctx.goto("group")

    result = await engine.execute(parallel(first >> after_first, maker, name="group") >> again)
    assert [step for step in log if step != "extra"] == ["first", "after_first"] * 2
    assert log.count("extra") == 1
    assert "extra" not in result


async def test_members_that_are_queued_when_the_group_is_decided_never_run(engine: WorkflowEngine, log: list[str]) -> None:
    """Rule 25: they stay in the queue and are dropped when fetched; an engine runs 100 at a time unless told otherwise."""
    slots_are_full = asyncio.Barrier(100)

    @task
    async def member(number: int) -> None:
        log.append("member")
        await slots_are_full.wait()
        if number == 0:
            raise ValueError("no")
        await asyncio.Event().wait()

    with pytest.raises(ParallelGroupError) as failed:
        await engine.execute(member.map(range(150), name="group"))
    assert len(log) == 100
    assert len(failed.value.cancelled) == 149


async def test_a_member_that_was_cancelled_is_fenced(engine: WorkflowEngine, steps: Steps) -> None:
    """Rule 25: a running member is cancelled when the group is decided, and what it returns all the same is refused."""
    (after,) = steps("after")
    running = asyncio.Event()

    @task
    async def stubborn() -> str:
        running.set()
        with suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        return "too late"

    @task
    async def quick() -> str:
        await running.wait()
        return "quick"

    result = await engine.execute(parallel(stubborn, quick, name="race", policy=at_least_n(1, early=True)) >> after)
    assert result["race"] == ["quick"]
    assert "stubborn" not in result
