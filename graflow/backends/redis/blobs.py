"""Bytes inside messages for the scripts: Redis's own msgpack knows neither bin nor ext, so bytes travel as text that need not be valid."""

from __future__ import annotations

from typing import Final

import msgspec

encode: Final = msgspec.msgpack.Encoder().encode
"""plain values as msgpack"""


def as_text(data: bytes) -> msgspec.Raw:
    """Bytes as a msgpack text, to be put into a message."""
    size = len(data)
    if size < 32:
        head = bytes((0xA0 | size,))
    elif size < 256:
        head = b"\xd9" + bytes((size,))
    elif size < 65536:
        head = b"\xda" + size.to_bytes(2, "big")
    else:
        head = b"\xdb" + size.to_bytes(4, "big")
    return msgspec.Raw(head + data)


def from_text(raw: msgspec.Raw) -> bytes:
    """The bytes of a msgpack text. Raises ValueError for anything else."""
    data = bytes(raw)
    kind = data[0] if data else 0
    if 0xA0 <= kind <= 0xBF:
        return data[1:]
    if 0xD9 <= kind <= 0xDB:
        return data[1 + (1, 2, 4)[kind - 0xD9] :]
    raise ValueError(f"{data[:8]!r} is no text")
