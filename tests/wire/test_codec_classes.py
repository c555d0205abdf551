"""Classes are found among what the receiver has imported; nothing runs because a message names it."""

from __future__ import annotations

import contextlib
import sys
import types
from dataclasses import dataclass, field
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graflow.errors import SerializationError
from graflow.wire.codec import decode, encode, roundtrip
from graflow.wire.extensions import Code
from tests.wire.shapes import (
    Checked,
    Colour,
    DeclinedError,
    Level,
    Opaque,
    Order,
    Pair,
    Point,
    Row,
    Slotted,
    Stack,
    UserId,
)

HERE = b"tests.wire.shapes"
GONE = b"tests.wire.shapez"


def sent_from_elsewhere(value: Any) -> bytes:
    """The bytes of a value whose classes the receiver has not imported."""
    return encode(value).replace(HERE, GONE)


def extension(code: int, payload: Any) -> bytes:
    return msgspec.msgpack.encode(msgspec.msgpack.Ext(code, encode(payload)))


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        (Row(1, ["a"], Row(2)), {"id": 1, "tags": ["a"], "parent": {"id": 2, "tags": [], "parent": None}}),
        (Pair(1, (2,)), (1, (2,))),
        (Colour.GREEN, (0, 255, 0)),
        (Opaque.OBJECT, "OBJECT"),
        (UserId("abc"), "abc"),
        (Stack(1, 2), [1, 2]),
        ({Point(1, 2)}, [{"x": 1, "y": 2}]),
        (Order(order_id=1, placed_by="me"), {"type": "order", "orderId": 1, "placedBy": "me"}),
    ],
)
def test_a_value_of_an_unknown_class_arrives_as_what_it_was_made_from(value: Any, plain: Any) -> None:
    assert decode(sent_from_elsewhere(value)) == plain


@pytest.mark.parametrize("value", [Row(1, ["a"], Row(2)), Pair(1, "b"), Level.HIGH, Order(order_id=1, placed_by="me"), Point(1, 2)])
def test_the_annotation_of_a_parameter_turns_that_into_the_class(value: Any) -> None:
    assert msgspec.convert(decode(sent_from_elsewhere(value)), type(value)) == value


def test_an_unknown_class_as_a_key_is_an_error_that_says_so() -> None:
    with pytest.raises(SerializationError, match="hashable"):
        decode(sent_from_elsewhere({Point(1, 2): "here"}))


def test_a_local_class_arrives_as_its_fields() -> None:
    @dataclass
    class Local:
        n: int

    assert roundtrip(Local(3)) == {"n": 3}


def test_decoding_imports_nothing() -> None:
    before = set(sys.modules)
    assert decode(extension(Code.DATACLASS, ["this:Zen", {"a": 1}, None])) == {"a": 1}
    assert decode(extension(Code.ENUM, ["antigravity:Fly", "UP", 1])) == 1
    assert set(sys.modules) == before


def test_looking_for_a_class_runs_no_code_of_its_module(monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("lazy_parts")
    asked: list[str] = []
    module.__getattr__ = asked.append  # type: ignore[method-assign]
    monkeypatch.setitem(sys.modules, "lazy_parts", module)
    assert decode(extension(Code.DATACLASS, ["lazy_parts:Anything", {"a": 1}, None])) == {"a": 1}
    assert asked == []


@pytest.mark.parametrize(
    "reference",
    ["os:system", "subprocess:Popen", "builtins:eval", "builtins:dict", "nowhere", ":", "os:path.join", "a:b:c", ""],
)
@pytest.mark.parametrize("code", [Code.DATACLASS, Code.STRUCT])
def test_only_a_class_of_the_right_kind_is_used(code: int, reference: str) -> None:
    assert decode(extension(code, [reference, {"args": "true"}, None])) == {"args": "true"}


def test_other_attributes_go_into_the_dictionary_and_nowhere_else() -> None:
    reference = f"{HERE.decode()}:Row"
    row = decode(extension(Code.DATACLASS, [reference, {"id": 1}, {"__class__": "Row", "extra": 2}]))
    assert type(row) is Row
    assert row.extra == 2


def test_a_field_that_the_sender_did_not_know_gets_its_default() -> None:
    assert decode(extension(Code.DATACLASS, [f"{HERE.decode()}:Row", {"id": 1}, None])) == Row(1)
    assert decode(extension(Code.DATACLASS, [f"{HERE.decode()}:Point", {"x": 1}, None])) == Point(1)


def test_a_field_that_the_receiver_does_not_know_is_left_out() -> None:
    reference = f"{HERE.decode()}:Point"
    assert decode(extension(Code.DATACLASS, [reference, {"x": 1, "y": 2, "z": 3}, None])) == Point(1, 2)


@pytest.mark.parametrize("code_and_name", [(Code.DATACLASS, "Row"), (Code.STRUCT, "Item"), (Code.STRUCT, "Order")])
def test_a_required_field_that_is_missing_leaves_the_mapping(code_and_name: tuple[int, str]) -> None:
    code, name = code_and_name
    assert decode(extension(code, [f"{HERE.decode()}:{name}", {"tags": []}, None])) == {"tags": []}


def test_an_enum_member_that_the_receiver_lacks_arrives_as_its_value() -> None:
    assert decode(extension(Code.ENUM, [f"{HERE.decode()}:Colour", "MAUVE", 9])) == 9


def test_a_struct_that_its_own_check_refuses_is_an_error_that_names_it() -> None:
    with pytest.raises(SerializationError, match=r"Checked.*n is below 0") as caught:
        decode(extension(Code.STRUCT, [f"{HERE.decode()}:Checked", {"n": -1}, None]))
    assert caught.value.type_name == f"{HERE.decode()}:Checked"
    assert roundtrip(Checked(1)) == Checked(1)


def test_what_has_more_to_it_than_its_attributes_is_refused() -> None:
    for value in (DeclinedError("no"), Slotted(), sys.float_info):
        with pytest.raises(SerializationError):
            encode([value])


def test_a_subclass_with_content_of_another_kind_stays_that_content() -> None:
    stack = f"{HERE.decode()}:Stack"
    assert decode(extension(Code.SUBCLASS, [stack, "list", "abc", None])) == "abc"
    assert decode(extension(Code.SUBCLASS, [stack, "str", "abc", None])) == "abc"


def test_a_redefined_class_takes_the_value_over(monkeypatch: pytest.MonkeyPatch) -> None:
    data = encode(Row(1))

    @dataclass
    class Row2:
        id: int
        new: list[int] = field(default_factory=list)

    monkeypatch.setattr("tests.wire.shapes.Row", Row2)
    assert decode(data) == Row2(1)


@given(
    st.sampled_from([getattr(Code, name) for name in vars(Code) if name.isupper()]),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3) | st.binary(max_size=3)
        | st.sampled_from([f"{HERE.decode()}:{name}" for name in ("Row", "Point", "Item", "Colour", "UserId", "Pair")])
        | st.sampled_from(["str", "dict", "list", "tuple", "Row", "PosixPath", "2026-01-01T00:00"]),
        lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
        max_leaves=10,
    ),
)  # fmt: skip
def test_a_forged_extension_is_a_value_or_a_serialization_error(code: int, payload: Any) -> None:
    data = extension(code, payload)
    with contextlib.suppress(SerializationError):
        decode(data)
