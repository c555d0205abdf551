"""The names of things in Redis."""

from __future__ import annotations

import binascii

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graflow.backends.redis.keys import PRIORITIES, Keys, parse_stream, stream_name
from graflow.errors import ConfigurationError

NO_METHODS = {"namespace", "partition", "topics"}


def every_name(keys: Keys) -> list[str]:
    """All names that there can be, by their attributes and by methods given the same argument."""
    names = [value for name in Keys.__slots__ if name not in NO_METHODS and isinstance(value := getattr(keys, name), str)]
    one = ("stream", "plan", "run", "results", "failed", "events", "channel", "channel_ttl", "once", "barrier")
    one += ("inbox", "told", "changed", "door")
    return [*names, *(getattr(keys, name)("x") for name in one), keys.value("x", 1, "t"), keys.barrier("x", "r")]


def test_every_key_is_in_the_slot_of_its_partition() -> None:
    keys = Keys("shop", 3)
    assert {slot(name) for name in every_name(keys)} == {slot("{shop:3}")}


def test_no_two_kinds_of_key_have_one_name() -> None:
    names = every_name(Keys("shop"))
    assert len(set(names)) == len(names)


def test_partitions_and_namespaces_are_apart() -> None:
    assert not set(every_name(Keys("a"))) & (set(every_name(Keys("a", 1))) | set(every_name(Keys("b"))))


def test_the_prefix_is_what_scripts_build_names_from() -> None:
    keys = Keys("graflow")
    assert keys.prefix == "{graflow:0}:"
    assert keys.stream("2:direct:default") == "{graflow:0}:q:2:direct:default"
    assert keys.run("r") == "{graflow:0}:run:r"


@given(st.text(), st.text(min_size=1), st.sampled_from(PRIORITIES))
def test_a_stream_name_can_be_read_back(queue: str, handler: str, priority: str) -> None:
    name = stream_name(queue, handler, priority)
    assert parse_stream(name) == (queue, handler, priority)


def test_stream_names_sort_by_priority() -> None:
    names = [stream_name("q", "h", priority) for priority in PRIORITIES]
    assert names == sorted(names)
    assert names[0].startswith("0:")


@given(st.tuples(st.text(), st.integers(0, 99), st.text()), st.tuples(st.text(), st.integers(0, 99), st.text()))
def test_two_results_never_share_a_key(one: tuple[str, int, str], other: tuple[str, int, str]) -> None:
    keys = Keys("n")
    assert (keys.value(*one) == keys.value(*other)) == (one == other)


@given(st.tuples(st.text(), st.none() | st.text(":1ab")), st.tuples(st.text(), st.none() | st.text(":1ab")))
def test_two_barriers_never_share_a_key(one: tuple[str, str | None], other: tuple[str, str | None]) -> None:
    keys = Keys("n")
    assert (keys.barrier(*one) == keys.barrier(*other)) == (one == other)


@pytest.mark.parametrize("namespace", ["", "a{b", "a}b", "two words", "line\nbreak"])
def test_a_namespace_that_would_break_the_hash_tag_is_refused(namespace: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Keys(namespace)
    assert caught.value.setting == "namespace"


def slot(key: str) -> int:
    """Redis Cluster's own rule: what is between the first braces, or all of it."""
    start = key.find("{")
    end = key.find("}", start + 1)
    tag = key[start + 1 : end] if start >= 0 and end > start + 1 else key
    return binascii.crc_hqx(tag.encode(), 0) % 16384
