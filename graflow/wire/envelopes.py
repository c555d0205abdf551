"""What is around a plan or a task when it travels: the version of the protocol, in front of a body."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Final, TypeVar

import msgspec

from graflow.errors import GraflowError, SerializationError
from graflow.wire.messages import PROTOCOL_VERSION

B = TypeVar("B")

_MALFORMED: Final = (ValueError, TypeError, ArithmeticError, LookupError, RecursionError, MemoryError, GraflowError)
"""What bytes of a wrong shape can lead to; the last from what checks itself when it is made, such as TaskOptions."""

_encode: Final = msgspec.msgpack.Encoder().encode


class _Envelope(msgspec.Struct, array_like=True, frozen=True):
    version: int
    body: msgspec.Raw


_envelope: Final = msgspec.msgpack.Decoder(_Envelope).decode


def enveloped(body: msgspec.Struct, what: str) -> bytes:
    """A body with the protocol's version in front; ``what`` it is called in errors."""
    try:
        return _encode((PROTOCOL_VERSION, body))
    except (UnicodeEncodeError, OverflowError, TypeError) as error:  # half a character in an id, a number beyond 64 bits, another type
        raise SerializationError(f"{what} cannot travel: {error}") from error


def opened(data: bytes, decoder: msgspec.msgpack.Decoder[B], what: str) -> B:
    """The body that was put in an envelope. Raises SerializationError when it was written by a newer version."""
    envelope = _envelope(data)
    if envelope.version > PROTOCOL_VERSION:
        raise SerializationError(
            f"a {what} of protocol version {envelope.version} arrived, and this process knows versions up to {PROTOCOL_VERSION}: "
            "upgrade graflow here, or leave it to a process as new as its sender",
            type_name=what,
        )
    if envelope.version < 1:
        raise ValueError(f"{envelope.version} is no protocol version")
    return decoder.decode(envelope.body)


@contextmanager
def reading(data: bytes, what: str) -> Generator[None]:
    """Whatever bytes of a wrong shape lead to inside the block becomes a SerializationError."""
    try:
        yield
    except SerializationError:
        raise
    except _MALFORMED as error:
        raise SerializationError(f"{len(data)} bytes arrived that are no {what}: {error}", type_name=what) from error
