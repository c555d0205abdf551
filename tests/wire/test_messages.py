"""Messages carry their protocol version, and are refused when they are newer or malformed."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime, timedelta, timezone
from typing import Any, get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graflow.core.task import Priority
from graflow.errors import SerializationError
from graflow.wire.messages import PROTOCOL_VERSION, EventType, RunEvent, TaskSpec, decode_message, encode_message

texts = st.text(max_size=10)
counts = st.integers(0, 2**40)
specs = st.builds(
    TaskSpec,
    run_id=texts,
    node=counts,
    task_id=texts,
    cycle=counts.map(lambda n: n + 1),
    attempt=counts.map(lambda n: n + 1),
    retries=counts,
    queue=texts,
    handler=texts,
    priority=st.sampled_from(get_args(Priority)),
    plan=st.none() | texts,
)
events = st.builds(
    RunEvent,
    texts,
    st.sampled_from(get_args(EventType)),
    st.none() | texts,
    st.datetimes(timezones=st.just(UTC)),
    st.none() | st.integers(1, 9),
    st.dictionaries(texts, st.integers() | st.tuples(texts) | st.dates(), max_size=3),
)

SPEC = TaskSpec(run_id="r", node=3, task_id="fetch", attempt=2, retries=1, plan="abc")
EVENT = RunEvent("7", "progress", "fetch", datetime(2026, 5, 1, tzinfo=UTC), 2, {"done": 1.5, "ids": {1, 2}})


@given(specs)
def test_a_spec_comes_back(spec: TaskSpec) -> None:
    assert decode_message(encode_message(spec)) == spec


@given(events)
def test_an_event_comes_back_with_the_types_of_its_data(event: RunEvent) -> None:
    after = decode_message(encode_message(event), RunEvent)
    assert after == event
    assert [type(value) for value in after.data.values()] == [type(value) for value in event.data.values()]


def test_a_spec_is_small_and_can_be_read_by_a_script() -> None:
    data = encode_message(SPEC)
    assert len(data) < 150
    assert msgspec.msgpack.decode(data) == [PROTOCOL_VERSION, msgspec.to_builtins(SPEC)]


@pytest.mark.parametrize("message", [SPEC, EVENT])
def test_a_newer_version_is_refused_and_both_are_named(message: TaskSpec | RunEvent) -> None:
    _, body = msgspec.msgpack.decode(encode_message(message))
    newer = msgspec.msgpack.encode([PROTOCOL_VERSION + 4, body, "more"])
    with pytest.raises(SerializationError, match=r"version 5 arrived.* up to 1.*upgrade graflow"):
        decode_message(newer, type(message))


def test_a_newer_version_is_refused_whatever_its_body_looks_like() -> None:
    with pytest.raises(SerializationError, match="version 2 arrived"):
        decode_message(msgspec.msgpack.encode([2, "anything"]))


def test_a_field_that_was_added_later_is_passed_over() -> None:
    body = {**msgspec.to_builtins(SPEC), "colour": "green"}
    assert decode_message(msgspec.msgpack.encode([1, body])) == SPEC


@pytest.mark.parametrize(
    "change",
    [
        {"node": -1},
        {"node": "3"},
        {"cycle": 0},
        {"attempt": 0},
        {"retries": -1},
        {"priority": "urgent"},
        {"run_id": None},
    ],
)
def test_a_field_out_of_its_range_is_refused_by_name(change: dict[str, Any]) -> None:
    body = {**msgspec.to_builtins(SPEC), **change}
    with pytest.raises(SerializationError, match=f"no TaskSpec.*{next(iter(change))}"):
        decode_message(msgspec.msgpack.encode([1, body]))


@pytest.mark.parametrize("version", [0, -1, "1", 1.5, None])
def test_what_is_no_version_is_refused(version: Any) -> None:
    with pytest.raises(SerializationError):
        decode_message(msgspec.msgpack.encode([version, msgspec.to_builtins(SPEC)]))


def test_one_message_is_not_taken_for_another() -> None:
    with pytest.raises(SerializationError, match="no RunEvent"):
        decode_message(encode_message(SPEC), RunEvent)
    with pytest.raises(SerializationError, match="no TaskSpec"):
        decode_message(encode_message(EVENT))


@given(st.binary(max_size=100), st.sampled_from([TaskSpec, RunEvent]))
def test_any_bytes_are_a_message_or_a_serialization_error(data: bytes, kind: type[TaskSpec]) -> None:
    with contextlib.suppress(SerializationError):
        decode_message(data, kind)


@given(st.data(), st.sampled_from([SPEC, EVENT]))
def test_an_altered_message_is_a_message_or_a_serialization_error(data: st.DataObject, message: TaskSpec) -> None:
    encoded = bytearray(encode_message(message))
    encoded[data.draw(st.integers(0, len(encoded) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(SerializationError):
        decode_message(bytes(encoded), type(message))


@given(st.integers())
def test_a_time_beyond_all_calendars_is_a_serialization_error(microseconds: int) -> None:
    _, body = msgspec.msgpack.decode(encode_message(EVENT))
    body["microseconds"] = min(max(microseconds * 10**9, -(2**63)), 2**63)
    with contextlib.suppress(SerializationError):
        decode_message(msgspec.msgpack.encode([1, body]), RunEvent)


def test_an_event_has_its_time_in_utc() -> None:
    there = datetime(2026, 5, 1, 12, tzinfo=timezone(timedelta(hours=2)))
    event = RunEvent("1", "run_started", None, there)
    assert event.time == there
    assert event.time.tzinfo is UTC
    with pytest.raises(ValueError, match="needs a timezone"):
        RunEvent("1", "run_started", None, datetime(2026, 5, 1))


def test_an_event_that_cannot_travel_says_which_part_of_its_data() -> None:
    with pytest.raises(SerializationError) as caught:
        encode_message(RunEvent("1", "message", "fetch", datetime.now(UTC), 1, {"at": object()}))
    assert caught.value.path == 'data["at"]'


def test_messages_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        SPEC.attempt = 3  # type: ignore[misc]
    with pytest.raises(AttributeError):
        EVENT.type = "message"  # type: ignore[misc]
