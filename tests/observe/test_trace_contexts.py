"""A trace goes through headers unharmed, and what others put there does no harm."""

from __future__ import annotations

from typing import Any

import pytest

from graflow.errors import ConfigurationError
from graflow.observe.tracing import TraceContext

SPAN = TraceContext("t1", "s2", "s1")


def test_what_is_sent_in_headers_is_read_from_them() -> None:
    assert SPAN.to_headers() == {"X-Trace-Id": "t1", "X-Span-Id": "s2", "X-Parent-Span-Id": "s1"}
    assert TraceContext.from_headers(SPAN.to_headers()) == SPAN
    first = TraceContext("t1", "s1")
    assert first.to_headers() == {"X-Trace-Id": "t1", "X-Span-Id": "s1"}
    assert TraceContext.from_headers(first.to_headers()) == first


def test_the_case_of_headers_does_not_matter_and_others_are_passed_over() -> None:
    assert TraceContext.from_headers({"x-trace-id": "t1", "X-SPAN-ID": "s2", "x-parent-Span-id": "s1", "Accept": "*/*"}) == SPAN


def test_a_child_is_of_the_same_trace_and_knows_its_parent() -> None:
    parent = TraceContext.new()
    child = parent.child()
    assert (child.trace_id, child.parent_span_id) == (parent.trace_id, parent.span_id)
    assert (len(parent.trace_id), len(parent.span_id), parent.parent_span_id) == (32, 16, None)
    assert len({parent.span_id, child.span_id, parent.child().span_id, TraceContext.new().trace_id, parent.trace_id}) == 5


@pytest.mark.parametrize("wrong", ["", "two words", "a\r\nSet-Cookie: x", "ä", "x" * 129])
def test_what_could_not_be_a_header_is_no_id(wrong: str) -> None:
    for headers in ({"X-Trace-Id": wrong, "X-Span-Id": "s"}, {"X-Trace-Id": "t", "X-Span-Id": wrong}, {"X-Trace-Id": "t"}, {}):
        assert TraceContext.from_headers(headers) is None
    assert TraceContext.from_headers({"X-Trace-Id": "t", "X-Span-Id": "s", "X-Parent-Span-Id": wrong}) == TraceContext("t", "s")
    for ids in ((wrong, "s"), ("t", wrong), ("t", "s", wrong)):
        with pytest.raises(ConfigurationError, match="give 1 to 128 visible characters of ASCII"):
            TraceContext(*ids)


@pytest.mark.parametrize("wrong", [None, 5])
def test_what_is_no_text_is_no_id(wrong: Any) -> None:
    with pytest.raises(ConfigurationError) as caught:
        TraceContext("t", wrong)
    assert caught.value.setting == "span_id"
