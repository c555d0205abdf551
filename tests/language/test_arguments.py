"""What is known of a function's parameters."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Optional

import msgspec
import pytest

from graflow.core.arguments import FunctionSignature
from graflow.core.context import BaseContext, SyncTaskContext, TaskContext
from graflow.core.outcome import TaskError
from graflow.errors import ArgumentTypeError, GraphError


@dataclass
class Point:
    x: int


class MyContext(TaskContext):
    """A context of the user's own."""

    __slots__ = ()


def signature(function: Any, **options: Any) -> FunctionSignature:
    return FunctionSignature(function, **options)


def roles(function: Any, **options: Any) -> dict[str, str]:
    return {each.name: each.role for each in signature(function, **options).parameters}


def test_parameters_say_how_they_are_passed_and_what_they_default_to() -> None:
    def function(a: int, /, b: str, *args: Any, c: float = 1.0, **kwargs: Any) -> None: ...

    first, second, third = signature(function).parameters
    assert (first.name, first.kind, first.required, first.annotation) == ("a", "positional_only", True, int)
    assert (second.name, second.kind, second.default) == ("b", "positional_or_keyword", msgspec.UNSET)
    assert (third.name, third.kind, third.required, third.default) == ("c", "keyword_only", False, 1.0)
    assert signature(function).accepts_any


def test_the_context_is_found_by_its_annotation_however_that_is_written() -> None:
    def plain(x: int, ctx: SyncTaskContext) -> None: ...

    def base(ctx: BaseContext) -> None: ...

    def own(ctx: MyContext) -> None: ...

    def perhaps(ctx: TaskContext | None) -> None: ...

    def optional(ctx: Optional[TaskContext]) -> None: ...  # noqa: UP045

    def noted(ctx: Annotated[TaskContext, "for the log"]) -> None: ...

    def elsewhere(ctx: not_here.TaskContext) -> None: ...  # noqa: F821

    for function in (plain, base, own, perhaps, optional, noted, elsewhere):
        assert roles(function)["ctx"] == "context", function
    assert roles(plain)["x"] == "value"


def test_annotations_need_not_be_text() -> None:
    def function(ctx: Any, error: Any, n: Any) -> None: ...

    function.__annotations__ = {"ctx": TaskContext | None, "error": TaskError, "n": int}
    assert roles(function) == {"ctx": "context", "error": "error", "n": "value"}


def test_the_first_parameter_takes_the_context_when_that_is_asked_for() -> None:
    def function(first: Any, second: int) -> None: ...

    def nothing() -> None: ...

    assert roles(function, inject_context=True) == {"first": "context", "second": "value"}
    with pytest.raises(GraphError, match="the function has none"):
        signature(nothing, inject_context=True)


def test_an_error_is_asked_for_by_annotation_and_may_be_none() -> None:
    def must(error: TaskError) -> None: ...

    def may(reserve: str, error: TaskError | None = None) -> None: ...

    def unresolved(error: missing.TaskError | None) -> None: ...  # noqa: F821

    assert roles(must) == {"error": "error"}
    assert roles(may) == {"reserve": "value", "error": "error"}
    assert roles(unresolved) == {"error": "error"}
    assert [signature(each).parameters[-1].accepts_none for each in (must, may, unresolved)] == [False, True, True]


def test_a_dict_is_wanted_where_the_annotation_says_so() -> None:
    def function(
        a: dict[str, int],
        b: Mapping[str, int] | None,
        c: dict,
        d: list[int],
        e: Any,
    ) -> None: ...

    assert [each.wants_mapping for each in signature(function).parameters] == [True, True, True, False, False]


def test_annotations_are_resolved_at_first_use_so_that_they_may_name_what_comes_later() -> None:
    known = signature(names_a_later_class)
    assert known.parameters[0].annotation is Later


def names_a_later_class(value: Later) -> None: ...


class Later(msgspec.Struct):
    n: int


def test_an_annotation_that_cannot_be_resolved_counts_as_any_and_spoils_no_other() -> None:
    def function(a: nowhere.Thing, b: Point) -> None: ...  # noqa: F821

    first, second = signature(function).parameters
    assert first.annotation is Any
    assert second.annotation is Point


def test_partials_methods_objects_and_wrapped_functions_are_seen_through() -> None:
    class Service:
        def method(self, p: Point) -> None: ...

        def __call__(self, p: Point) -> None: ...

    def function(n: int, p: Point) -> None: ...

    @functools.wraps(function)
    def wrapped(*args: Any, **kwargs: Any) -> None: ...

    for each in (Service().method, Service(), functools.partial(function, 1), wrapped):
        assert signature(each).parameters[-1].annotation is Point
    assert [each.name for each in signature(functools.partial(function, 1)).parameters] == ["p"]


def test_the_first_open_parameter_is_the_first_that_takes_a_value_and_has_none() -> None:
    def function(ctx: TaskContext, error: TaskError, a: int, b: int = 1) -> None: ...

    known = signature(function)
    assert known.first_open() == "a"
    assert known.first_open({"a": 1}) == "b"
    assert known.first_open(["a", "b"]) is None


def test_a_parameter_is_found_by_name() -> None:
    def function(a: int) -> None: ...

    known = signature(function)
    assert known.get("a") is known.parameters[0]
    assert known.get("b") is None


def test_a_value_that_does_not_fit_is_refused_with_what_was_expected_and_what_was_given() -> None:
    def function(points: list[Point]) -> None: ...

    known = signature(function)
    assert known.convert([{"x": 1}], known.parameters[0]) == [Point(1)]
    with pytest.raises(ArgumentTypeError, match=r"'points' of task 'draw' is annotated .*at `\$\[0\]\.x`") as caught:
        known.convert([{"x": "one"}], known.parameters[0], "draw")
    error = caught.value
    assert (error.task_id, error.parameter, error.got) == ("draw", "points", "list")
    assert "Point" in error.expected


def test_a_long_value_is_shown_in_short() -> None:
    def function(n: int) -> None: ...

    known = signature(function)
    with pytest.raises(ArgumentTypeError) as caught:
        known.convert("x" * 10_000, known.parameters[0], "t")
    assert len(str(caught.value)) < 300


def test_a_call_passes_by_position_what_can_be_passed_no_other_way() -> None:
    def function(a: int, b: int = 2, /, c: int = 3, *, d: int = 4, **rest: int) -> tuple[Any, ...]:
        return (a, b, c, d, rest)

    known = signature(function)
    assert known.call(function, {"a": 1}) == (1, 2, 3, 4, {})
    assert known.call(function, {"a": 1, "c": 5, "e": 6}) == (1, 2, 5, 4, {"e": 6})
    assert known.call(function, {"d": 0, "b": 9, "a": 1}) == (1, 9, 3, 0, {})
    with pytest.raises(TypeError, match="'a'"):
        known.call(function, {"b": 9})


def test_a_builtin_without_a_signature_is_refused() -> None:
    with pytest.raises(GraphError, match="wrap it in a function"):
        signature(dict.fromkeys.__self__)
