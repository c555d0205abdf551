"""Values are made to fit what a parameter is annotated with."""

from __future__ import annotations

import datetime
import enum
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, NewType, Protocol, TypedDict, TypeVar

import msgspec
import pytest

from graflow.core.conversion import describe, make_converter

T = TypeVar("T")


@dataclass
class Point:
    x: int


@dataclass
class Point3(Point):
    z: int = 0


class Record(msgspec.Struct):
    point: Point


class Options(TypedDict):
    depth: int


class Colour(enum.Enum):
    RED = "red"


class Pair(NamedTuple):
    a: int
    b: str


class Client:
    """A class that no wire knows."""


class Speaks(Protocol):
    def speak(self) -> str: ...


UserId = NewType("UserId", int)
CLIENT = Client()
NOW = datetime.datetime(2026, 11, 21, 12, 30, tzinfo=datetime.UTC)


def convert(value: Any, annotation: Any) -> Any:
    converter = make_converter(annotation)
    return value if converter is None else converter(value)


@pytest.mark.parametrize(
    ("wire", "annotation", "value"),
    [
        ({"x": 1}, Point, Point(1)),
        ([{"x": 1}], list[Point], [Point(1)]),
        ({"a": {"x": 1}}, dict[str, Point], {"a": Point(1)}),
        ({"point": {"x": 1}}, Record, Record(Point(1))),
        ({"depth": 1}, Options, {"depth": 1}),
        ("red", Colour, Colour.RED),
        ("2026-11-21T12:30:00Z", datetime.datetime, NOW),
        (str(uuid.UUID(int=3)), uuid.UUID, uuid.UUID(int=3)),
        ("1.50", Decimal, Decimal("1.50")),
        ([1, "b"], Pair, Pair(1, "b")),
        ([1, 2], tuple[int, ...], (1, 2)),
        ([1, 2, 2], set[int], {1, 2}),
        ({"x": 1}, Point | None, Point(1)),
        ("docs/a.md", Path, Path("docs/a.md")),
        (["a"], list[Path], [Path("a")]),
        (3, float, 3.0),
        (3, UserId, UserId(3)),
    ],
)
def test_a_value_that_came_over_the_wire_becomes_what_the_annotation_says(wire: Any, annotation: Any, value: Any) -> None:
    converted = convert(wire, annotation)
    assert converted == value
    assert type(converted) is type(value)
    assert convert(value, annotation) == value


@pytest.mark.parametrize(
    ("value", "annotation"),
    [
        (Point(1), Point),
        (Point3(1), Point),
        (True, int),
        (CLIENT, Client),
        (CLIENT, Client | None),
        ([CLIENT], list[Client]),
        ([Point3(1, 2)], list[Point]),
        ({"a": Point3(1)}, Mapping[str, Point]),
        ((Point3(1), 2), tuple[Point, int]),
        ([True], list[int]),
        (range(3), Sequence[int]),
        (CLIENT, Client | int),
        (3, Client | int),
        (Point(1), Point | Record),
        (CLIENT, Speaks),
        ([CLIENT], list[Speaks]),
        (len, Callable[..., int]),
        (iter([1]), Iterable[int]),
        (CLIENT, Any),
        (CLIENT, object),
        (CLIENT, T),
        (CLIENT, "unresolved"),
        ("a", Literal["a", "b"]),
    ],
)
def test_what_fits_already_is_passed_on_as_it_is(value: Any, annotation: Any) -> None:
    assert convert(value, annotation) == value


def test_an_instance_of_a_plain_class_is_not_rebuilt() -> None:
    point, record = Point(1), Record(Point(1))
    assert convert(point, Point) is point
    assert convert(record, Record) is record
    assert convert([point], list[Point])[0] is point
    numbers = [1, 2]
    assert convert(numbers, list) is numbers


@pytest.mark.parametrize(
    ("value", "annotation"),
    [
        ("3", int),
        (3, str),
        (b"a", str),
        (None, int),
        ({"y": 1}, Point),
        ({"x": "one"}, Point),
        ([1, "2"], list[int]),
        ("blue", Colour),
        ({}, Options),
        (3, Client),
        ([3], list[Client]),
        (3, Path),
        (0, Annotated[int, msgspec.Meta(gt=0)]),
        ("c", Literal["a", "b"]),
        ((Point3(1), "2"), tuple[Point, int]),
        ((1,), tuple[Point, int]),
    ],
)
def test_what_does_not_fit_is_refused(value: Any, annotation: Any) -> None:
    with pytest.raises(msgspec.ValidationError):
        convert(value, annotation)


def test_annotations_are_shown_as_they_would_be_written() -> None:
    assert describe(int) == "int"
    assert describe(list[int]) == "list[int]"
    assert describe(int | None) == "int | None"
    assert describe(Any) == "Any"
