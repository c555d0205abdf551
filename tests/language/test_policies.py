"""Group policies, and when a task is tried again."""

from __future__ import annotations

import pickle
from typing import Any

import pytest

from graflow.core.policy import GroupPolicy, GroupState, at_least_n, best_effort, coerce_policy, critical, strict
from graflow.core.retry import RetryLater, RetryPolicy, coerce_retry
from graflow.core.task import task
from graflow.errors import GraphError, InvalidPolicyError


def majority(state: GroupState) -> bool:
    return len(state.succeeded) > len(state.failed)


def test_a_policy_may_be_given_by_name_as_a_function_or_as_itself() -> None:
    assert coerce_policy("strict") is strict
    assert coerce_policy("best_effort") is best_effort
    assert coerce_policy(best_effort) is best_effort
    assert coerce_policy(majority) == GroupPolicy("custom", function=majority)
    assert coerce_policy(GroupPolicy("custom", function=majority)).function is majority


def test_at_least_n_and_critical_keep_what_they_were_given() -> None:
    a = task("a")(lambda: 1)
    assert at_least_n(2, early=True) == GroupPolicy("at_least_n", n=2, early=True)
    assert critical(["b", a, "b"]) == GroupPolicy("critical", ids=("a", "b"))
    assert (str(at_least_n(2)), str(critical({"b"})), str(strict)) == ("at_least_n(2)", "critical(['b'])", "strict")


def no_arguments() -> bool:
    return True


def two_arguments(state: GroupState, more: int) -> bool:
    return True


async def awaited(state: GroupState) -> bool:
    return True


@task
async def a_task(state: GroupState) -> bool:
    return True


@pytest.mark.parametrize(
    ("policy", "says"),
    [
        ("lenient", "'lenient' is no group policy; use strict, best_effort"),
        (3, "is no group policy"),
        (None, "is no group policy"),
        (GroupState, "is no group policy"),
        (at_least_n, "lacks its argument"),
        (critical, "lacks its argument"),
        (no_arguments, "no_arguments must take one argument, the GroupState"),
        (two_arguments, "two_arguments must take one argument"),
        (awaited, "awaited is async"),
        (a_task, "is async"),
        (GroupPolicy("at_least_n"), "at_least_n"),
        (GroupPolicy("critical"), "no ids"),
        (GroupPolicy("custom"), "needs function="),
        (GroupPolicy("other"), "'other' is no kind"),
    ],
)
def test_a_policy_that_makes_no_sense_is_refused(policy: Any, says: str) -> None:
    with pytest.raises(InvalidPolicyError, match=says):
        coerce_policy(policy)


@pytest.mark.parametrize("n", [0, -1, 1.5, True, "2"])
def test_at_least_n_takes_a_number_above_zero(n: Any) -> None:
    with pytest.raises(InvalidPolicyError, match="1 or more"):
        at_least_n(n)


@pytest.mark.parametrize(("ids", "says"), [("abc", r"critical\(\['abc'\]\)"), ([], "no ids"), (3, "in a list or set"), ([3], "not 3")])
def test_critical_takes_a_collection_of_tasks_or_ids(ids: Any, says: str) -> None:
    with pytest.raises(InvalidPolicyError, match=says):
        critical(ids)


# ---- retries ----


class Declined(Exception):
    """An error that no retry will mend."""


def test_the_waits_grow_by_the_factor_up_to_the_longest() -> None:
    policy = RetryPolicy(10, initial_interval=1.0, backoff_factor=3.0, max_interval=20.0, jitter=False)
    assert [policy.delay(n, lambda: 0.0) for n in (1, 2, 3, 4, 5)] == [1.0, 3.0, 9.0, 20.0, 20.0]
    assert policy.delay(100_000, lambda: 0.0) == 20.0
    assert RetryPolicy(1, initial_interval=0.0, jitter=False).delay(100_000, lambda: 0.0) == 0.0


def test_jitter_spreads_a_wait_from_nothing_to_its_full_length() -> None:
    policy = RetryPolicy(3, initial_interval=2.0)
    assert [policy.delay(2, lambda share=share: share) for share in (0.0, 0.25, 1.0)] == [0.0, 1.0, 4.0]


def test_only_errors_that_are_to_be_retried_are() -> None:
    policy = RetryPolicy(3, retry_on=(OSError, Declined), give_up_on=(FileNotFoundError,))
    assert policy.retries(ConnectionError())
    assert policy.retries(Declined())
    assert not policy.retries(FileNotFoundError())
    assert not policy.retries(ValueError())
    assert RetryPolicy(3).retries(ValueError())
    assert not RetryPolicy(3).retries(KeyboardInterrupt())


def test_a_single_class_and_a_list_are_taken_for_a_tuple() -> None:
    policy = RetryPolicy(3, retry_on=OSError, give_up_on=[Declined])
    assert (policy.retry_on, policy.give_up_on) == ((OSError,), (Declined,))
    assert hash(policy) == hash(RetryPolicy(3, retry_on=(OSError,), give_up_on=(Declined,)))


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"max_retries": -1}, "max_retries=-1"),
        ({"max_retries": 1.5}, "max_retries=1.5"),
        ({"max_retries": True}, "max_retries=True"),
        ({"initial_interval": -1.0}, "initial_interval=-1.0"),
        ({"initial_interval": "1"}, "initial_interval='1'"),
        ({"max_interval": float("nan")}, "max_interval=nan"),
        ({"backoff_factor": 0.5}, "backoff_factor=0.5: give a number, 1 or more"),
        ({"retry_on": (3,)}, "retry_on takes exception classes, not 3"),
        ({"give_up_on": ("ValueError",)}, "give_up_on takes exception classes"),
    ],
)
def test_a_retry_policy_out_of_range_is_refused(values: dict[str, Any], says: str) -> None:
    with pytest.raises(GraphError, match=says):
        RetryPolicy(**{"max_retries": 1, **values})


def test_a_number_of_retries_stands_for_a_policy_and_none_for_no_retries() -> None:
    assert coerce_retry(2) == RetryPolicy(2)
    assert coerce_retry(0) is None
    assert coerce_retry(None) is None
    assert coerce_retry(RetryPolicy(0)) == RetryPolicy(0)


def test_retry_later_says_when_and_travels() -> None:
    error = RetryLater(after=90)
    assert error.after == 90.0
    assert "90 s" in str(error)
    assert pickle.loads(pickle.dumps(error)).after == 90.0


@pytest.mark.parametrize("after", [-1, float("inf"), float("nan"), "1", None])
def test_retry_later_takes_seconds(after: Any) -> None:
    with pytest.raises(GraphError, match="give the seconds to wait"):
        RetryLater(after=after)
