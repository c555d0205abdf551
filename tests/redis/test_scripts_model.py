"""The scripts and the state machine do the same: random runs, and broken scripts that must be noticed.

300 cases with every run of the suite and on every server; GRAFLOW_MODEL_CASES=6000 for more.
``pytest -rP tests/redis/test_scripts_model.py -k broken`` tells after how many cases each broken script was caught.
"""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest
import redis

from tests.redis import script_cases
from tests.redis.script_mutants import MODEL_MUTANTS, Mutant, cases_until_caught

CASES = int(os.environ.get("GRAFLOW_MODEL_CASES", "300"))
CHUNK = 60
NAMED = {
    12392: "the run ends in the step in which a group has drained whose policy is the user's own: nobody asks for the verdict any more",
}
"""Cases beyond those of every run that have found something."""
BUDGET = 600
"""How many cases a broken script may survive."""


@pytest.mark.parametrize("first", range(0, CASES, CHUNK))
def test_random_runs_are_the_same_on_the_scripts_as_in_memory(server: redis.Redis, first: int) -> None:
    for number in range(first, min(first + CHUNK, CASES)):
        script_cases.run_case(server, number)


@pytest.mark.parametrize("number", NAMED)
def test_a_case_that_has_found_something_stays(server: redis.Redis, number: int) -> None:
    script_cases.run_case(server, number)


def test_a_failure_tells_the_command_that_repeats_it(server: redis.Redis) -> None:
    mutant = next(mutant for mutant in MODEL_MUTANTS if mutant.name == "an attempt is not checked")
    found = cases_until_caught(server, mutant, BUDGET)
    assert found is not None
    with pytest.raises(AssertionError) as caught:
        script_cases.run_case(server, mutant.first + found[0] - 1, mutant.scripts())
    assert "python -m tests.redis.script_cases --case" in caught.value.__notes__[0]


def test_one_case_can_be_repeated_from_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert script_cases.main(["--case", "17"]) == 0
    assert script_cases.main(["6", "--first", "12"]) == 0
    assert "6 cases, 0 failures" in capsys.readouterr().out


@pytest.mark.parametrize("mutant", MODEL_MUTANTS, ids=lambda mutant: mutant.name)
def test_a_broken_script_is_caught(broken_server: redis.Redis, mutant: Mutant, record_property: Callable[[str, object], None]) -> None:
    caught = cases_until_caught(broken_server, mutant, BUDGET)
    assert caught is not None, f"it survived {BUDGET} cases"
    record_property("cases", caught[0])
    print(f"{mutant.name}: caught after {caught[0]} cases: {caught[1]}")
