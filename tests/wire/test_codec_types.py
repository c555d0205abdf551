"""Types survive the wire."""

from __future__ import annotations

import datetime
import os
import pathlib
import subprocess
import sys
import uuid
import zoneinfo
from collections import Counter, OrderedDict, defaultdict, deque
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graflow.wire.codec import decode, encode, roundtrip
from tests.wire.shapes import (
    Access,
    Box,
    Colour,
    Count,
    Item,
    Kind,
    Level,
    Loose,
    Metres,
    Normalised,
    Opaque,
    Order,
    Pair,
    Point,
    Row,
    Settings,
    Stack,
    UserId,
    same,
)

BERLIN = zoneinfo.ZoneInfo("Europe/Berlin")
ZONES = (None, datetime.UTC, datetime.timezone(datetime.timedelta(hours=-3, minutes=-30, seconds=7)), BERLIN)


def short(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """The same values, from a strategy whose repr does not grow with each level of nesting."""
    return st.deferred(lambda: strategy)


hashable_leaves = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from([2**63, 2**64, -(2**63), -(2**63) - 1, 10**40, -(10**40)]),
    st.floats(allow_nan=False),
    st.complex_numbers(allow_nan=False),
    st.text(max_size=8),
    st.text(st.characters(exclude_categories=()), max_size=4),
    st.binary(max_size=8),
    st.decimals(allow_nan=False),
    st.uuids(),
    st.builds(
        lambda moment, zone, fold: moment.replace(tzinfo=zone, fold=fold),
        st.datetimes(),
        st.sampled_from(ZONES),
        st.integers(0, 1),
    ),
    st.dates(),
    st.builds(lambda time, zone: time.replace(tzinfo=zone), st.times(), st.sampled_from(ZONES)),
    st.timedeltas(),
    st.builds(range, st.integers(), st.integers(), st.integers(1)),
    st.builds(pathlib.PurePosixPath, st.text("ab/.\udcff", max_size=6)),
    st.builds(pathlib.Path, st.text("ab/.", max_size=6)),
    st.builds(pathlib.PureWindowsPath, st.just("c:/"), st.text("ab.", max_size=6)),
    st.sampled_from([*Colour, *Level, *Kind, *Access, *Opaque, Access.READ | Access.WRITE, Access(0)]),
    st.builds(UserId, st.text(max_size=5)),
    st.builds(Count, st.integers()),
    st.builds(Metres, st.floats(allow_nan=False)),
    st.just(msgspec.UNSET),
)


def hashable_containers(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    inner = short(inner)
    return st.one_of(
        st.lists(inner, max_size=3).map(tuple),
        st.frozensets(inner, max_size=3),
        st.builds(Point, inner, inner),
        st.builds(Pair, inner, inner),
        st.builds(Order, order_id=st.integers(), placed_by=inner),
    )


hashables = short(st.recursive(hashable_leaves, hashable_containers, max_leaves=5))
leaves = st.one_of(hashable_leaves, st.floats(), st.complex_numbers(), st.binary(max_size=5).map(bytearray))


def with_attribute(value: Any, content: Any) -> Any:
    value.attribute = content
    return value


def containers(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    inner = short(inner)
    items = st.lists(inner, max_size=4)
    mappings = st.dictionaries(hashables, inner, max_size=3)
    return st.one_of(
        items,
        items.map(tuple),
        items.map(deque),
        items.map(lambda values: deque(values, len(values))),
        st.sets(hashables, max_size=4),
        st.frozensets(hashables, max_size=4),
        st.dictionaries(st.text(max_size=4), inner, max_size=4),
        mappings,
        mappings.map(OrderedDict),
        mappings.map(lambda values: defaultdict(list, values)),
        st.dictionaries(hashables, st.integers(), max_size=3).map(Counter),
        st.builds(Row, st.integers(), items, st.none() | st.builds(Row, st.integers())),
        st.builds(Box, inner),
        st.builds(Item, st.integers(), items),
        items.map(lambda values: Stack(*values)),
        st.dictionaries(st.text(max_size=4), inner, max_size=3).map(Settings),
        st.builds(with_attribute, st.builds(Stack), st.integers()),
    )


values = short(st.recursive(leaves, containers, max_leaves=12))


@given(values)
def test_every_value_comes_back_equal_and_of_the_same_types(value: Any) -> None:
    assert same(decode(encode(value)), value)


@given(values)
def test_a_value_that_came_back_gives_the_same_bytes(value: Any) -> None:
    data = encode(value)
    assert encode(decode(data)) == data


@pytest.mark.parametrize(
    "value",
    [
        defaultdict(None, {"a": 1}),
        defaultdict(set, {"a": {1}}),
        deque([1, 2], 2),
        Counter("abca"),
        datetime.datetime(2026, 10, 25, 2, 30, tzinfo=BERLIN, fold=1),
        datetime.datetime(2026, 10, 25, 2, 30, fold=1),
        datetime.time(2, 30, tzinfo=BERLIN, fold=1),
        Decimal("-0.00"),
        Decimal("1E+400"),
        uuid.UUID(int=7),
        -0.0,
        "\udcff.txt",
        {"\udcff": "\udcff"},
        {(1, "a"): {2: b"x"}, None: True},
        [[[]], {}, ((),)],
        {1: "int", "1": "text", 1.5: "float", b"1": "bytes", None: "none"},
        [True, 1, 1.0],
        frozenset({Point(1, Colour.RED)}),
        Loose(3),
    ],
)
def test_a_particular_value_survives(value: Any) -> None:
    assert same(decode(encode(value)), value)


@pytest.mark.parametrize("name", ["NaN", "sNaN123", "-Infinity"])
def test_special_decimals_survive(name: str) -> None:
    assert str(decode(encode(Decimal(name)))) == name


def test_both_occurrences_of_an_ambiguous_hour_stay_apart() -> None:
    hour = datetime.datetime(2026, 10, 25, 2, 30, tzinfo=BERLIN)
    first, second = decode(encode([hour, hour.replace(fold=1)]))
    assert (second.astimezone(datetime.UTC) - first.astimezone(datetime.UTC)) == datetime.timedelta(hours=1)


def test_a_zone_that_the_receiver_lacks_becomes_its_offset() -> None:
    data = encode(datetime.datetime(2026, 7, 1, 12, tzinfo=BERLIN)).replace(b"Europe/Berlin", b"Europe/Boerli")
    there = decode(data)
    assert there.utcoffset() == datetime.timedelta(hours=2)


def test_a_path_of_the_other_system_becomes_a_pure_one() -> None:
    other = b"WindowsPath" if os.name != "nt" else b"\xa9PosixPath"
    mine = encode(pathlib.Path("a"))
    name = type(pathlib.Path("a")).__name__.encode()
    data = bytearray(mine.replace(bytes([0xA0 + len(name)]) + name, bytes([0xA0 + len(other)]) + other))
    data[1] += len(other) - len(name)  # the extension's length
    assert type(decode(bytes(data))) is pathlib.PureWindowsPath


def test_a_dataclass_is_copied_by_its_state_and_its_code_does_not_run_again() -> None:
    before = Normalised(1.5)
    after = roundtrip(before)
    assert (after.amount, after.made, after.note) == (3.0, 1, "made 1 times")


def test_attributes_of_a_struct_besides_its_fields_survive() -> None:
    loose = Loose(1)
    loose.extra = (1, 2)  # type: ignore[attr-defined]
    assert roundtrip(loose).extra == (1, 2)


def test_shared_values_become_separate_ones() -> None:
    shared: list[int] = []
    first, second = roundtrip([shared, shared])
    assert first is not second


def test_plain_values_are_plain_msgpack() -> None:
    value = {"a": [1, 2.5, None, True, "x", b"y", {"b": {}}]}
    assert msgspec.msgpack.decode(encode(value)) == value


def test_a_subclass_among_plain_keys_is_noticed() -> None:
    value = {"a": 1, UserId("b"): 2}
    assert [type(key) for key in roundtrip(value)] == [str, UserId]
    del value["a"]
    assert [type(key) for key in roundtrip({"rows": [value]})["rows"][0]] == [UserId]


def test_sets_give_the_same_bytes_in_every_process() -> None:
    program = (
        "from graflow.wire.codec import encode; import sys;"
        "sys.stdout.write(encode([{'a', 'b', 'c', ('d', 1)}, frozenset(map(str, range(50)))]).hex())"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(sys.path)},
            capture_output=True,
            check=True,
            text=True,
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(outputs) == 1
