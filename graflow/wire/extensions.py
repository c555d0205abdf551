"""The msgpack extension codes by which types survive the wire.

Plain values (None, bool, int of 64 bits, float, str, bytes, list, and dict with keys of these but list and dict) are
plain msgpack, readable by any client. Every other value is an extension whose payload is msgpack again, or raw bytes
where the table says so. A code is never given a second meaning.
"""

from __future__ import annotations

from typing import Final

SCALARS: Final = frozenset({type(None), bool, int, float, str, bytes})
"""Types that msgpack has itself and that hold nothing else."""

MAX_DEPTH: Final = 128
"""Containers within containers, at most. Fixed, so that what one process could encode another can decode, whatever its
stack."""


class Code:
    """Extension codes and their payloads. Plain ints, since that is what msgspec takes."""

    TUPLE: Final = 1
    """array of the items"""
    SET: Final = 2
    """array of the items, sorted, so that equal sets give equal bytes in every process"""
    FROZENSET: Final = 3
    """as ``SET``"""
    MAP: Final = 4
    """array of key, value, key, value...: a dict with other keys than plain ones"""
    INT: Final = 5
    """raw: two's complement, big-endian; an int beyond 64 bits"""
    TEXT: Final = 6
    """raw: UTF-8 with surrogates passed through; a str that is not valid Unicode, such as an undecodable file name"""
    COMPLEX: Final = 7
    """raw: two big-endian doubles"""
    BYTEARRAY: Final = 8
    """raw"""
    DECIMAL: Final = 9
    """raw: its text"""
    UUID: Final = 10
    """raw: 16 bytes"""
    DATETIME: Final = 11
    """array: ISO 8601 without offset, fold, zone name or nil, offset in microseconds or nil"""
    DATE: Final = 12
    """raw: ISO 8601"""
    TIME: Final = 13
    """as ``DATETIME``"""
    TIMEDELTA: Final = 14
    """array: days, seconds, microseconds"""
    PATH: Final = 15
    """array: name of the class in ``pathlib``, text"""
    RANGE: Final = 16
    """array: start, stop, step"""
    ORDERED_DICT: Final = 17
    """as ``MAP``"""
    DEFAULT_DICT: Final = 18
    """array: name of the built-in type that makes defaults or nil, then array as ``MAP``"""
    DEQUE: Final = 19
    """array: greatest length or nil, array of the items"""
    UNSET: Final = 20
    """raw, empty: ``msgspec.UNSET``"""
    ENUM: Final = 21
    """array: class, name or nil, then the value where it can travel"""
    DATACLASS: Final = 22
    """array: class, map of its fields, map of other instance attributes or nil"""
    STRUCT: Final = 23
    """array: class, map of its fields by the names they are encoded by, map of other instance attributes or nil"""
    SUBCLASS: Final = 24
    """array: class, name of the built-in base, content as that base, map of instance attributes or nil"""
    PICKLED: Final = 25
    """raw: an envelope, see :mod:`graflow.wire.keys`"""
