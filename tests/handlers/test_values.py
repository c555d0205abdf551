"""The runner's own codec writes and reads what Graflow's does: a child without msgspec is told the same values."""

from __future__ import annotations

import collections
import contextlib
import datetime
import decimal
import pathlib
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graflow.errors import GraflowError
from graflow.handlers.inside import msgpack, values
from graflow.handlers.inside.errors import TREE, error_class
from graflow.wire import codec
from tests.handlers.work import Colour, Point


class Basket(list[int]):
    """A list of the user's own."""


scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary()
    | st.complex_numbers(allow_nan=False)
    | st.decimals(allow_nan=False)
    | st.uuids()
    | st.datetimes(timezones=st.none() | st.just(datetime.UTC))
    | st.dates()
    | st.times()
    | st.timedeltas()
    | st.sampled_from([Colour.RED, pathlib.PurePosixPath("a/b"), range(1, 9, 2), "\ud800", bytearray(b"x")])
)
hashable = st.integers() | st.text() | st.booleans() | st.dates() | st.tuples(st.integers(), st.text())
everything = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner)
        | st.lists(inner).map(tuple)
        | st.dictionaries(hashable, inner)
        | st.sets(hashable)
        | st.frozensets(hashable)
        | st.lists(inner).map(collections.deque)
        | st.dictionaries(st.text(), inner).map(collections.OrderedDict)
        | st.builds(Point, st.integers(), st.lists(inner))
        | st.lists(st.integers()).map(Basket)
    ),
    max_leaves=20,
)


@given(everything)
def test_each_reads_what_the_other_writes(value: Any) -> None:
    for data in (codec.encode(value), values.encode(value)):
        for read in (codec.decode, values.decode):
            again = read(data)
            assert again == value
            assert type(again) is type(value)


@given(everything)
def test_sizes_of_all_lengths_are_written_as_msgspec_writes_them(value: Any) -> None:
    assert codec.decode(values.encode(value)) == codec.decode(codec.encode(value))


@pytest.mark.parametrize("size", [0, 15, 16, 31, 32, 255, 256, 65_535, 65_536])
def test_lengths_at_the_borders_are_read_back(size: int) -> None:
    for value in ("x" * size, b"x" * size, [None] * size, dict.fromkeys(range(size))):
        assert values.decode(codec.encode(value)) == value
        assert codec.decode(values.encode(value)) == value


@given(st.binary())
def test_bytes_that_are_no_value_raise_a_value_error_or_give_a_value(data: bytes) -> None:
    # The worker's words are trusted: it is enough that nothing else happens.
    with contextlib.suppress(ValueError, TypeError, ArithmeticError, LookupError, AttributeError, RecursionError):
        values.decode(data)


def test_the_errors_of_a_child_without_graflow_are_those_of_graflow() -> None:
    def tree(kind: type[GraflowError]) -> Iterator[tuple[str, tuple[str, str]]]:
        for each in kind.__subclasses__():
            if each.__module__ == "graflow.errors":
                yield each.__name__, (kind.__name__, each.code)
                yield from tree(each)

    assert dict(tree(GraflowError)) == TREE


@pytest.mark.parametrize("value", [object(), {"a": [object()]}, collections.defaultdict(lambda: 1)])
def test_what_cannot_travel_is_named(value: Any) -> None:
    with pytest.raises(error_class("SerializationError"), match="it"):
        values.encode(value, "it")


def test_a_value_that_is_too_deep_is_refused() -> None:
    nested: Any = []
    for _ in range(200):
        nested = [nested]
    with pytest.raises(error_class("SerializationError"), match="deeper"):
        values.encode(nested)


def test_the_formats_own_types_are_all_there_is_to_it() -> None:
    with pytest.raises(TypeError):
        msgpack.pack(uuid.uuid4())
    assert values.decode(codec.encode(decimal.Decimal("1.50"))) == decimal.Decimal("1.50")
