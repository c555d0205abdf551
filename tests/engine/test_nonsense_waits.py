"""An exception's attributes are its owner's: a wait or a reason that is none fails the task that raised it, and nobody else's run."""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Any

import pytest

from graflow import RetryLater, RetryPolicy, task, testing
from graflow.core.retry import LONGEST, seconds_to_wait
from graflow.core.suspension import SuspendStep
from graflow.errors import TaskFailedError


class Absurd(RetryPolicy, frozen=True):
    """A policy with waits of its own."""

    def delay(self, retry_number: int, random: Callable[[], float]) -> float:
        return float("nan")


class Reason(str, enum.Enum):  # noqa: UP042 - one of the kinds that there are
    APPROVAL = "approval"


def later(after: Any) -> RetryLater:
    error = RetryLater(1.0)
    error.after = after
    return error


async def failure_of(error: BaseException, **options: Any) -> str:
    @task(**options)
    async def poison() -> None:
        raise error

    async with testing.engine() as engine:
        with pytest.raises(TaskFailedError) as caught:
            await engine.execute(poison)
    return str(caught.value)


@pytest.mark.parametrize("after", [float("nan"), float("inf"), -1.0, -(10**400), "x", None, True, [1]], ids=lambda after: repr(after)[:9])
async def test_a_wait_that_is_none_fails_the_task_and_says_so(after: Any) -> None:
    told = await failure_of(later(after))
    assert "task 'poison' is to be tried again after" in told
    assert "RetryLater(after=...): give a number, 0 or more" in told


async def test_so_does_one_of_a_policy_of_the_users_own() -> None:
    assert "after nan s, by delay() of its Absurd: give a number" in await failure_of(ValueError("no"), retry=Absurd(3))


@pytest.mark.parametrize("reason", [5, None, b"bytes", ["a"], "\ud800"])
async def test_a_reason_that_is_no_text_fails_the_task_and_says_so(reason: Any) -> None:
    assert "task 'poison' suspends with the reason" in await failure_of(SuspendStep(reason))


async def test_an_exception_without_what_it_should_have_fails_the_task() -> None:
    error = RetryLater(1.0)
    del error.after
    assert "AttributeError" in await failure_of(error)


async def test_a_reason_may_be_a_text_of_an_enum() -> None:
    @task
    async def asking() -> None:
        raise SuspendStep(Reason.APPROVAL)

    async with testing.engine() as engine:
        result = await (await engine.submit(asking)).result()
    assert dict(result.others) == {"asking": "suspended: approval"}


def test_a_wait_beyond_all_bounds_is_one_that_can_be_written() -> None:
    assert seconds_to_wait(1e300) == seconds_to_wait(10**400) == LONGEST
    assert seconds_to_wait(3) == 3.0
