"""Declaring tasks: the decorator, its options, and the instances made from one function."""

from __future__ import annotations

import copy
import functools
import sys
from typing import Any

import pytest

from graflow.core.context import SyncTaskContext, TaskContext
from graflow.core.retry import RetryPolicy
from graflow.core.task import AsyncTask, SyncTask, Task, TaskOptions, task
from graflow.errors import GraphError


@task
async def double(n: int, times: int = 2) -> int:
    return n * times


@task(retry=3, timeout=1.5, handler="process", queue="slow", priority="high", max_cycles=4)
def configured(n: int) -> int:
    return n


def plain(n: int) -> int:
    return n


def test_a_task_takes_its_name_from_the_function_unless_it_is_given_an_id() -> None:
    assert double.id == "double"
    assert task(plain).id == "plain"
    assert task("other")(plain).id == "other"
    assert task(id="other")(plain).id == "other"


def test_without_options_nothing_is_retried_timed_or_bounded() -> None:
    assert double.options == TaskOptions(None, None, None, "default", "normal", None)


def test_options_are_kept_as_they_were_given_and_a_number_of_retries_becomes_a_policy() -> None:
    assert configured.options == TaskOptions(RetryPolicy(3), 1.5, "process", "slow", "high", 4)


def test_async_functions_and_plain_ones_make_different_tasks_with_different_handlers() -> None:
    assert isinstance(double, AsyncTask)
    assert double.is_async
    assert double.handler_kind == "coroutine"
    sync = task(plain)
    assert isinstance(sync, SyncTask)
    assert not sync.is_async
    assert sync.handler_kind == "thread"
    assert configured.handler_kind == "process"


async def test_calling_a_task_calls_its_function() -> None:
    assert await double(4) == 8
    assert configured(3) == 3
    assert await double.clone("triple", times=3)(5) == 15
    assert await double.bind(n=1, times=3)() == 3


def test_the_function_can_be_found_from_the_task() -> None:
    sync = task(plain)
    assert sync.function is plain
    assert sync.__wrapped__ is plain


def test_a_task_never_changes() -> None:
    for name in ("id", "options", "_id", "anything"):
        with pytest.raises(AttributeError, match="clone"):
            setattr(double, name, "x")
    with pytest.raises(AttributeError):
        del double._id
    with pytest.raises(TypeError):
        double.bind(n=1).bound["n"] = 2
    assert copy.copy(double) is double
    assert copy.deepcopy(double) is double


def test_clone_and_bind_fix_arguments_and_leave_the_original_alone() -> None:
    first = double.clone("first", n=1)
    both = first.bind(times=5)
    assert (first.id, dict(first.bound)) == ("first", {"n": 1})
    assert (both.id, dict(both.bound)) == ("first", {"n": 1, "times": 5})
    assert dict(both.bind(n=2).bound) == {"n": 2, "times": 5}
    assert dict(double.bound) == {}
    assert first.options is double.options
    assert type(first) is type(double)


def test_tasks_are_equal_when_function_id_options_and_bound_values_are() -> None:
    again = task(double.function)
    assert double == again
    assert hash(double) == hash(again)
    assert double.clone("x", n=[1]) == double.clone("x", n=[1])
    assert double != double.clone("x")
    assert double != double.bind(n=1)
    assert double != task(retry=1)(double.function)
    assert double != task("double")(lambda n, times=2: n * times)
    assert double != "double"


class Grudging:
    """Compares like an array: not to a truth value."""

    def __eq__(self, other: object) -> Any:
        raise ValueError("the truth value of an array is ambiguous")

    __hash__ = None


def test_comparing_tasks_neither_trips_over_arrays_nor_takes_one_for_true() -> None:
    array = Grudging()
    assert double.bind(n=array) == double.bind(n=array)
    assert double.bind(n=Grudging()) != double.bind(n=Grudging())
    assert double.bind(n=1) != double.bind(n=True)
    assert double.bind(n=1) != double.bind(n=1.0)


def test_methods_partials_and_callable_objects_can_be_tasks() -> None:
    class Service:
        def fetch(self, url: str) -> str:
            return url

        async def __call__(self, n: int) -> int:
            return n

    service = Service()
    assert task(service.fetch).id == "fetch"
    assert task(service.fetch)("u") == "u"
    assert task(service.fetch) == task(service.fetch)
    partial = task(functools.partial(plain, n=3))
    assert partial.id == "plain"
    assert partial() == 3
    assert task("call")(service).is_async
    assert task(functools.partial(double.function, times=3)).is_async
    assert task(len).signature.names == {"obj"}


def test_a_lambda_needs_an_id() -> None:
    with pytest.raises(GraphError, match="give the task an id"):
        task(lambda n: n)
    assert task("same")(lambda n: n)(3) == 3


def test_generators_are_refused_since_nobody_would_collect_their_values() -> None:
    def lines() -> Any:
        yield 1

    async def tokens() -> Any:
        yield 1

    @functools.wraps(lines)
    def wrapped() -> Any:
        return lines()

    class Stream:
        def __call__(self) -> Any:
            yield 1

    for generator in (lines, tokens, wrapped, functools.partial(tokens), Stream()):
        with pytest.raises(GraphError, match="generator"):
            task(generator)


def test_the_wrong_kind_of_context_is_refused_when_the_task_is_declared() -> None:
    def blocking(ctx: TaskContext) -> None: ...

    async def awaiting(ctx: SyncTaskContext) -> None: ...

    def perhaps(ctx: TaskContext | None) -> None: ...

    def by_module(ctx: graflow.TaskContext) -> None: ...  # noqa: F821

    for function in (blocking, perhaps, by_module):
        with pytest.raises(GraphError, match="annotate 'ctx' with SyncTaskContext"):
            task(function)
    with pytest.raises(GraphError, match="takes a TaskContext"):
        task(awaiting)


def test_the_right_kind_of_context_is_accepted() -> None:
    def blocking(ctx: SyncTaskContext) -> None: ...

    async def awaiting(ctx: TaskContext) -> None: ...

    assert task(blocking).signature.injected["ctx"].role == "context"
    assert task(awaiting).signature.injected["ctx"].role == "context"


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"timeout": 0}, "timeout=0"),
        ({"timeout": -1.0}, "timeout=-1.0"),
        ({"timeout": True}, "timeout=True"),
        ({"timeout": float("inf")}, "timeout=inf"),
        ({"timeout": "3"}, "timeout='3'"),
        ({"max_cycles": 0}, "max_cycles=0"),
        ({"max_cycles": 1.5}, "max_cycles=1.5"),
        ({"retry": -1}, "retry=-1"),
        ({"retry": True}, "retry=True"),
        ({"retry": "3"}, "RetryPolicy"),
        ({"priority": "urgent"}, "'critical', 'high', 'normal', 'low'"),
        ({"handler": ""}, "handler="),
        ({"queue": ""}, "queue= must be a text that is not empty"),
        ({"queue": "two\nlines"}, "without commas, and without blanks at the ends"),
        ({"queue": "a,b"}, "queue='a,b': give printable characters, without commas, and without blanks at the ends"),
        ({"queue": " a"}, "queue=' a': give printable"),
        ({"queue": "\ud800"}, "give printable"),
        ({"handler": "a,b"}, "handler='a,b': give printable"),
        ({"id": ""}, "the id of a task"),
    ],
)
def test_an_option_out_of_range_is_refused_at_once_and_named(options: dict[str, Any], says: str) -> None:
    with pytest.raises(GraphError, match=says.replace("(", r"\(")):
        task(**options)


def test_what_is_no_function_is_refused() -> None:
    with pytest.raises(GraphError, match="takes a function or an id, not 3"):
        task(3)
    with pytest.raises(GraphError, match=r"double.clone\('other-id'\)"):
        task(double)


def test_a_name_that_is_no_parameter_cannot_be_bound() -> None:
    with pytest.raises(GraphError, match="no parameter 'm' to bind; it takes 'n', 'times'") as caught:
        double.clone("x", m=1)
    assert caught.value.ids == ("x",)

    def with_args(*numbers: int) -> None: ...

    with pytest.raises(GraphError, match="no parameter 'numbers'"):
        task(with_args).bind(numbers=(1,))


def test_the_context_cannot_be_bound() -> None:
    async def page(ctx: TaskContext, url: str) -> None: ...

    with pytest.raises(GraphError, match="'ctx' of task 'page' is its context"):
        task(page).bind(ctx=None)


def test_keyword_arguments_take_any_bound_name() -> None:
    def free(ctx: SyncTaskContext, **rest: Any) -> Any:
        return rest

    assert dict(task(free).bind(anything=1).bound) == {"anything": 1}
    with pytest.raises(GraphError, match="context"):
        task(free).bind(ctx=1)


@pytest.mark.parametrize("bad", ["", None, 3])
def test_a_clone_needs_an_id(bad: Any) -> None:
    with pytest.raises(GraphError, match="the id of a task"):
        double.clone(bad)


def test_a_parameter_called_id_can_be_bound() -> None:
    def look_up(id: int) -> int:
        return id

    assert task(look_up).clone("first", id=3)() == 3


def test_parameters_that_go_by_position_only_can_be_bound_and_called() -> None:
    def area(width: int, height: int = 2, /, scale: int = 1) -> int:
        return width * height * scale

    assert task(area).bind(width=3)() == 6
    assert task(area).bind(width=3, scale=2)() == 12
    assert task(area).bind(height=5, scale=2)(width=1) == 10


def test_a_clone_is_small() -> None:
    clone = double.clone("clone", n=1)
    assert sys.getsizeof(clone) + sys.getsizeof(clone.id) < 200
    assert double.clone("one").bound is double.clone("two").bound
    assert isinstance(clone, Task)
    assert not hasattr(clone, "__dict__")


def test_a_task_is_shown_with_what_is_bound() -> None:
    assert repr(double.clone("x", n=1)) == "<AsyncTask x (n=1)>"
