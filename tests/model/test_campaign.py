"""The random campaign: 2 000 cases with every run of the suite; GRAFLOW_MODEL_CASES=24000 for the big one.

``pytest -rP tests/model/test_campaign.py -k broken`` tells after how many cases each broken machine was caught.
"""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

from graflow.core.run import RunState
from tests.model import campaign
from tests.model.mutants import MUTANTS, NothingIsFenced, cases_until_caught

CASES = int(os.environ.get("GRAFLOW_MODEL_CASES", "2000"))
CHUNK = 100
BUDGET = 2000
"""How many cases a broken machine may survive: those that every run of the suite has."""


@pytest.mark.parametrize("first", range(0, CASES, CHUNK))
def test_random_runs_break_no_rule(first: int) -> None:
    for number in range(first, min(first + CHUNK, CASES)):
        campaign.run_case(number)


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.__name__)
def test_a_broken_machine_is_caught(mutant: type[RunState], record_property: Callable[[str, object], None]) -> None:
    caught = cases_until_caught(mutant, BUDGET)
    assert caught is not None, f"it survived {BUDGET} cases"
    record_property("cases", caught[0])
    print(f"{mutant.__name__} is caught after {caught[0]} cases: {caught[1]}")


def test_a_failure_tells_the_command_that_repeats_it() -> None:
    with pytest.raises(AssertionError) as caught:
        campaign.run_case(17, NothingIsFenced)
    assert "python -m tests.model.campaign --case 17" in caught.value.__notes__[0]


def test_one_case_can_be_repeated_from_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert campaign.main(["--case", "17"]) == 0
    assert campaign.main(["8", "--first", "16"]) == 0
    assert "8 cases, 0 failures" in capsys.readouterr().out
