"""What a run has come to, as its caller sees it."""

from __future__ import annotations

import pytest

from graflow.core.result import RunResult, RunStatus
from graflow.core.task import task


@task
async def fetch() -> int:
    return 1


@task
async def clean(fetch: int) -> int:
    return fetch


@pytest.fixture
def result() -> RunResult[int]:
    return RunResult(
        run_id="r1",
        status=RunStatus.FAILED,
        duration=1.5,
        output=3,
        results={"fetch": 1, "nothing": None},
        errors={"clean": ValueError("bad")},
        groups={"fetch|clean": [1]},
        others={"report": "skipped"},
    )


def test_results_are_found_by_task_group_or_id(result: RunResult[int]) -> None:
    assert result[fetch] == result["fetch"] == 1
    assert result[fetch | clean] == result["fetch|clean"] == [1]
    assert result["nothing"] is None
    assert (fetch in result, "report" in result) == (True, False)


@pytest.mark.parametrize(
    ("wanted", "says"),
    [
        ("clean", r"it failed with ValueError\('bad'\)"),
        ("report", "it was skipped"),
        ("fetsh", "did you mean 'fetch'"),
        ("x", "there are results of 'fetch', 'nothing'"),
    ],
)
def test_a_result_that_is_not_there_says_why(result: RunResult[int], wanted: str, says: str) -> None:
    with pytest.raises(KeyError, match=says):
        result[wanted]


def test_a_run_without_results_says_so() -> None:
    with pytest.raises(KeyError, match="results of no task"):
        RunResult("r1", RunStatus.CANCELLED)["x"]


def test_a_result_never_changes(result: RunResult[int]) -> None:
    with pytest.raises(AttributeError):
        result.output = 4


def test_a_status_is_its_text() -> None:
    assert RunStatus.SUCCEEDED == "succeeded"
    assert f"{RunStatus('running')}" == "running"
    assert [status.value for status in RunStatus] == ["succeeded", "failed", "cancelled", "suspended", "running"]
