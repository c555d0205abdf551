"""Where in a trace something happens, and how that travels in the headers of HTTP."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any, Final

import msgspec

from graflow.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping

TRACE: Final = "X-Trace-Id"
SPAN: Final = "X-Span-Id"
PARENT: Final = "X-Parent-Span-Id"
LONGEST: Final = 128


class TraceContext(msgspec.Struct, frozen=True):
    """A span, the trace that it is part of, and the span that it was begun in.

    The input of a run is the way to its tasks: ``inputs={"trace": context.to_headers()}``.

    Attributes:
        trace_id: what all spans of one trace share; 32 hex digits where it was made here.
        span_id: this span; 16 hex digits where it was made here.
        parent_span_id: the span around it, None for the first one.

    Raises:
        ConfigurationError: an id that could not be a header: empty, too long, or with other characters than visible ASCII.

    Example:
        >>> context = TraceContext.from_headers(request.headers) or TraceContext.new()
        >>> await client.get(url, headers=context.child().to_headers())
    """

    trace_id: str
    span_id: str
    parent_span_id: str | None = None

    def __post_init__(self) -> None:
        for name in ("trace_id", "span_id", "parent_span_id"):
            value = getattr(self, name)
            if not _is_id(value) and (name != "parent_span_id" or value is not None):
                raise ConfigurationError(f"{name}={value!r}: give 1 to {LONGEST} visible characters of ASCII", setting=name)

    @classmethod
    def new(cls) -> TraceContext:
        """The first span of a trace of its own."""
        return cls(secrets.token_hex(16), secrets.token_hex(8))

    def child(self) -> TraceContext:
        """A span inside of this one."""
        return TraceContext(self.trace_id, secrets.token_hex(8), self.span_id)

    def to_headers(self) -> dict[str, str]:
        """``X-Trace-Id``, ``X-Span-Id`` and, where there is a parent, ``X-Parent-Span-Id``."""
        headers = {TRACE: self.trace_id, SPAN: self.span_id}
        return headers if self.parent_span_id is None else {**headers, PARENT: self.parent_span_id}

    @classmethod
    def from_headers(cls, headers: Mapping[str, str]) -> TraceContext | None:
        """What :meth:`to_headers` made, in any case of letters.

        None without a trace or a span, or for ids that are none: a request is not refused for the trace that it claims to be part of.
        """
        found = {name.lower(): value for name, value in headers.items()}
        trace, span, parent = (found.get(name.lower()) for name in (TRACE, SPAN, PARENT))
        if trace is None or span is None or not (_is_id(trace) and _is_id(span)):
            return None
        return cls(trace, span, parent if _is_id(parent) else None)


def _is_id(value: Any) -> bool:
    """A line break in it would begin another header."""
    return isinstance(value, str) and 0 < len(value) <= LONGEST and all("!" <= each <= "~" for each in value)
