"""From what is executed to its plan."""

from __future__ import annotations

from graflow import WorkflowEngine, parallel, task
from graflow.engine.planning import plan_of


@task
async def double(n: int) -> int:
    return 2 * n


def test_a_task_that_is_executed_by_itself_is_compiled_once() -> None:
    assert plan_of(double, None) is plan_of(double, None)
    assert plan_of(double.clone("other"), None).ids == ["other"]


def test_arguments_that_change_in_themselves_are_seen_each_time() -> None:
    numbers: dict[str, int] = {}
    total = task("total")(lambda numbers: sum(numbers.values())).bind(numbers=numbers)
    before = plan_of(total, None).digest
    numbers["one"] = 1
    assert plan_of(total, None).digest != before


async def test_a_task_runs_alone_and_in_a_graph_alike() -> None:
    async with WorkflowEngine() as engine:
        assert (await engine.execute(double, inputs={"n": 2})).output == 4
        result = await engine.execute(parallel(double, double.clone("other")), inputs={"n": 3})
        assert result.output == [6, 6]
        assert (await engine.execute(double, inputs={"n": 4})).output == 8
