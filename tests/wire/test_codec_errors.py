"""What cannot travel is refused where it stands, and what is no value is refused as such."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import io
import socket
import sys
import threading
from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graflow.errors import SerializationError
from graflow.wire.codec import decode, encode
from graflow.wire.extensions import MAX_DEPTH
from tests.wire.shapes import Box, Item, Pair, Point, Row, Stack


def refused(value: Any, **options: Any) -> SerializationError:
    with pytest.raises(SerializationError) as caught:
        encode(value, **options)
    return caught.value


@pytest.mark.parametrize(
    ("wrap", "path"),
    [
        (lambda bad: bad, "value"),
        (lambda bad: {"rows": [1, 2, 3, Box(bad)]}, 'value["rows"][3].content'),
        (lambda bad: (1, bad), "value[1]"),
        (lambda bad: {7: {None: bad}}, "value[7][None]"),
        (lambda bad: {(1, 2): bad}, "value[<tuple>]"),
        (lambda bad: {"a": {bad: 1}}, 'value["a"].keys()[<_thread.lock>]'),
        (lambda bad: {(bad,): 1}, "value.keys()[<tuple>][0]"),
        (lambda bad: {bad}, "value{...}"),
        (lambda bad: deque([bad]), "value[0]"),
        (lambda bad: OrderedDict(a=bad), 'value["a"]'),
        (lambda bad: defaultdict(list, a=[bad]), 'value["a"][0]'),
        (lambda bad: Row(1, [Point(bad)]), "value.tags[0].x"),
        (lambda bad: Item(1, [bad]), "value.tags[0]"),
        (lambda bad: Pair(1, bad), "value[1]"),
        (lambda bad: Stack(bad), "value[0]"),
        (lambda bad: [10**30, "\udcff", bad], "value[2]"),
    ],
)
def test_the_error_names_the_path_and_the_type(wrap: Callable[[Any], Any], path: str) -> None:
    error = refused(wrap(threading.Lock()))
    assert error.path == path
    assert error.type_name == "_thread.lock"
    assert str(error).startswith(f"{path} is a _thread.lock, which cannot travel: ")


def test_the_outermost_value_can_be_given_a_name() -> None:
    assert refused({"db": threading.Lock()}, name="inputs").path == 'inputs["db"]'


@dataclass
class Model:
    client: Any


def plain_function() -> None: ...


async def coroutine_function() -> None: ...


class Convertible:
    def model_dump(self) -> dict[str, Any]:
        return {}


class Odd:
    pass


class FrozenTime(datetime):
    pass


@pytest.mark.parametrize(
    ("make", "remedy"),
    [
        (threading.Lock, "lifespan="),
        (threading.RLock, "lifespan="),
        (asyncio.Lock, "lifespan="),
        (asyncio.Queue, "lifespan="),
        (io.StringIO, "lifespan="),
        (threading.local, "lifespan="),
        (lambda: (n for n in range(3)), "list(...)"),
        (lambda: iter([1]), "list(...)"),
        (lambda: {}.keys(), "list(...)"),
        (lambda: plain_function, "make it a task"),
        (lambda: len, "make it a task"),
        (lambda: Odd, "make it a task"),
        (lambda: sys, "make it a task"),
        (lambda: ValueError("x"), "text"),
        (lambda: memoryview(b"x"), "bytes(...)"),
        (lambda: defaultdict(lambda: 1), "dict(...)"),
        (Convertible, ".model_dump()"),
        (Odd, "dataclass"),
        (lambda: FrozenTime(2026, 1, 1), "plain datetime"),
        (lambda: ..., "plain values"),
    ],
)
def test_the_error_says_what_to_do_instead(make: Callable[[], Any], remedy: str) -> None:
    error = refused(Model(make()))
    assert remedy in str(error)
    assert error.path == "value.client"


def test_a_socket_and_a_coroutine_are_refused_with_a_remedy() -> None:
    with socket.socket() as connection:
        assert "lifespan=" in str(refused([connection]))
    coroutine = coroutine_function()
    assert "await it" in str(refused([coroutine]))
    coroutine.close()


def test_a_redis_client_is_refused_as_something_of_this_process() -> None:
    redis = pytest.importorskip("redis")
    error = refused(Model(redis.Redis()))
    assert error.type_name == "redis.client.Redis"
    assert "lifespan=" in str(error)


def make_cycles() -> list[tuple[Any, str]]:
    items: list[Any] = [1]
    items.append(items)
    wide: list[Any] = []
    wide.extend([wide, wide])
    mapping: dict[str, Any] = {"a": {}}
    mapping["a"]["up"] = mapping
    row = Row(1)
    row.parent = row
    inner: list[Any] = []
    inner.append((inner,))
    stack = Stack()
    stack.append(stack)
    return [
        (items, "value[1]"),
        (wide, "value[0]"),
        (mapping, 'value["a"]["up"]'),
        (row, "value.parent"),
        ({"x": [inner]}, 'value["x"][0][0][0]'),
        (stack, "value[0]"),
    ]


@pytest.mark.parametrize(("value", "path"), make_cycles())
def test_what_contains_itself_is_refused_where_it_does(value: Any, path: str) -> None:
    error = refused(value)
    assert error.path == path
    assert "contains itself" in str(error)


def nested(depth: int, wrap: Callable[[Any], Any]) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = wrap(value)
    return value


WRAPS: list[Callable[[Any], Any]] = [
    lambda value: [value],
    lambda value: {"a": value},
    lambda value: (value,),
    lambda value: frozenset({value}),
    lambda value: Box(value),
    lambda value: Pair(1, value),
    lambda value: OrderedDict(a=value),
    lambda value: {(1,): value},
]


@pytest.mark.parametrize("wrap", WRAPS)
def test_values_may_be_nested_up_to_the_limit(wrap: Callable[[Any], Any]) -> None:
    value = nested(MAX_DEPTH, wrap)
    assert encode(decode(encode(value))) == encode(value)


@pytest.mark.parametrize("wrap", WRAPS)
@pytest.mark.parametrize("depth", [MAX_DEPTH + 2, 600])
def test_deeper_ones_are_refused(wrap: Callable[[Any], Any], depth: int) -> None:
    assert "nested" in str(refused(nested(depth, wrap)))


def test_a_nearly_exhausted_stack_is_no_recursion_error() -> None:
    value = nested(MAX_DEPTH, lambda inner: (inner,))

    def call(depth: int) -> SerializationError:
        return refused(value) if depth == 0 else call(depth - 1)

    used = len(inspect.stack())
    assert "nested" in str(call(sys.getrecursionlimit() - used - 100))


def test_a_value_above_the_limit_is_refused_with_both_figures() -> None:
    value = "x" * 5000
    error = refused(value, limit=4096, name="result of fetch")
    assert "result of fetch takes 5,003 bytes, and the limit is 4,096" in str(error)
    assert encode(value, limit=5003)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_value_or_a_serialization_error(data: bytes) -> None:
    with contextlib.suppress(SerializationError):
        decode(data)


SAMPLE = encode([Row(1, [(1,), {2}]), Item(2), Pair(datetime(2026, 1, 1), 10**30), {("k",): 1j}, "\udcff"])


@given(st.integers(0, len(SAMPLE) - 1), st.integers(0, 255))
def test_an_altered_byte_is_a_value_or_a_serialization_error(place: int, byte: int) -> None:
    data = bytearray(SAMPLE)
    data[place] = byte
    with contextlib.suppress(SerializationError):
        decode(bytes(data))


@pytest.mark.parametrize("size", range(len(SAMPLE)))
def test_a_value_cut_off_is_a_serialization_error(size: int) -> None:
    with pytest.raises(SerializationError):
        decode(SAMPLE[:size])


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xc1",
        b"\xdd\xff\xff\xff\xff",  # an array of 4 G items
        b"\xdf\xff\xff\xff\xff",
        b"\xc9\xff\xff\xff\xff\x01",
        b"\x91" * 100_000,
        b"\xc7\x02\x01\x91" * 2000,
        b"\xd4\x7f\x00",  # an extension that nobody defined
        b"\xa1\xff",
        b"\x01\x02",
    ],
)
def test_particular_nonsense_is_a_serialization_error(data: bytes) -> None:
    with pytest.raises(SerializationError):
        decode(data)
