"""MessagePack in plain Python, for children that have no msgspec: an image needs nothing but Python.

Only what Graflow's messages are made of: the types of JSON, bytes, and extensions. The format is that of the MessagePack specification.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from collections.abc import Callable

_SHORT_STR, _SHORT_LIST, _SHORT_MAP = 0xA0, 0x90, 0x80
_FIXED_EXT = {1: 0xD4, 2: 0xD5, 4: 0xD6, 8: 0xD7, 16: 0xD8}
_WIDTHS = ("B", "H", "I", "Q")
_SIZES = (1, 2, 4, 8)


class Ext:
    """A value of an extension type: a code and its payload."""

    __slots__ = ("code", "data")

    def __init__(self, code: int, data: bytes) -> None:
        self.code: int = code
        self.data: bytes = data


# ---- writing -----------------------------------------------------------------------------------------------------------


def pack(value: Any) -> bytes:
    """``value`` as MessagePack.

    Raises:
        TypeError: it has no such type.
        OverflowError: an int beyond 64 bits.
    """
    out = bytearray()
    _write(out, value)
    return bytes(out)


def _write(out: bytearray, value: Any) -> None:
    kind = cast("Any", type(value))
    if value is None:
        out.append(0xC0)
    elif kind is bool:
        out.append(0xC3 if value else 0xC2)
    elif kind is int:
        _write_int(out, value)
    elif kind is float:
        out += struct.pack(">Bd", 0xCB, value)
    elif kind is str:
        data = value.encode()
        _head(out, len(data), (_SHORT_STR, 32), 0xD9, 0)
        out += data
    elif kind is bytes:
        _head(out, len(value), None, 0xC4, 0)
        out += value
    elif kind is list or kind is tuple:
        _head(out, len(value), (_SHORT_LIST, 16), 0xDC, 1)
        for item in value:
            _write(out, item)
    elif kind is dict:
        _head(out, len(value), (_SHORT_MAP, 16), 0xDE, 1)
        for key, item in value.items():
            _write(out, key)
            _write(out, item)
    elif kind is Ext:
        _write_ext(out, value)
    else:
        raise TypeError(f"{kind.__name__} has no form in MessagePack")


def _head(out: bytearray, size: int, short: tuple[int, int] | None, first: int, smallest: int) -> None:
    """The mark and the length of what follows, as short as can be."""
    if short is not None and size < short[1]:
        out.append(short[0] | size)
        return
    for place in range(smallest, 3):
        if size < 1 << 8 * _SIZES[place]:
            out += struct.pack(f">B{_WIDTHS[place]}", first + place - smallest, size)
            return
    raise OverflowError("longer than MessagePack can say")


def _write_int(out: bytearray, value: int) -> None:
    if -32 <= value < 128:
        out.append(value & 0xFF)
        return
    for place, width in enumerate(_WIDTHS):
        bits = 8 * _SIZES[place]
        if 0 <= value < 1 << bits:
            out += struct.pack(f">B{width}", 0xCC + place, value)
            return
        if value < 0 and value >= -(1 << bits - 1):
            out += struct.pack(f">B{width.lower()}", 0xD0 + place, value)
            return
    raise OverflowError("an int beyond 64 bits")


def _write_ext(out: bytearray, value: Ext) -> None:
    size = len(value.data)
    if size in _FIXED_EXT:
        out.append(_FIXED_EXT[size])
    else:
        _head(out, size, None, 0xC7, 0)
    out += struct.pack(">b", value.code)
    out += value.data


# ---- reading -----------------------------------------------------------------------------------------------------------


def unpack(data: bytes, rebuild: Callable[[int, bytes], Any]) -> Any:
    """The value of a MessagePack text; ``rebuild`` makes values of extensions.

    Raises:
        ValueError: the bytes are none, or more than one.
    """
    reader = _Reader(data, rebuild)
    value = reader.value()
    if reader.place != len(data):
        raise ValueError("bytes are left over")
    return value


class _Reader:
    __slots__ = ("_data", "_rebuild", "place")

    def __init__(self, data: bytes, rebuild: Callable[[int, bytes], Any]) -> None:
        self._data = data
        self._rebuild = rebuild
        self.place = 0

    def value(self) -> Any:
        mark = self._take(1)[0]
        if mark < 0x80:
            return mark
        if mark >= 0xE0:
            return mark - 256
        if mark < 0x90:
            return self._map(mark & 0x0F)
        if mark < 0xA0:
            return self._list(mark & 0x0F)
        if mark < 0xC0:
            return self._text(mark & 0x1F)
        return self._marked(mark)

    def _marked(self, mark: int) -> Any:
        if mark in (0xC0, 0xC2, 0xC3):
            return {0xC0: None, 0xC2: False, 0xC3: True}[mark]
        if 0xC4 <= mark <= 0xC6:
            return self._take(self._number(mark - 0xC4))
        if 0xC7 <= mark <= 0xC9:
            return self._ext(self._number(mark - 0xC7))
        if mark in (0xCA, 0xCB):
            return struct.unpack(">f" if mark == 0xCA else ">d", self._take(4 if mark == 0xCA else 8))[0]
        if 0xCC <= mark <= 0xCF:
            return self._number(mark - 0xCC)
        if 0xD0 <= mark <= 0xD3:
            return self._number(mark - 0xD0, signed=True)
        if 0xD4 <= mark <= 0xD8:
            return self._ext(1 << mark - 0xD4)
        if 0xD9 <= mark <= 0xDB:
            return self._text(self._number(mark - 0xD9))
        if mark in (0xDC, 0xDD):
            return self._list(self._number(mark - 0xDB))
        if mark in (0xDE, 0xDF):
            return self._map(self._number(mark - 0xDD))
        raise ValueError(f"{mark:#x} begins no value")

    def _take(self, size: int) -> bytes:
        end = self.place + size
        if end > len(self._data):
            raise ValueError("the bytes end in the middle of a value")
        data = self._data[self.place : end]
        self.place = end
        return data

    def _number(self, place: int, *, signed: bool = False) -> int:
        return int.from_bytes(self._take(_SIZES[place]), "big", signed=signed)

    def _text(self, size: int) -> str:
        return self._take(size).decode()

    def _list(self, size: int) -> list[Any]:
        return [self.value() for _ in range(size)]

    def _map(self, size: int) -> dict[Any, Any]:
        return {self.value(): self.value() for _ in range(size)}

    def _ext(self, size: int) -> Any:
        (code,) = struct.unpack(">b", self._take(1))
        return self._rebuild(code, self._take(size))
