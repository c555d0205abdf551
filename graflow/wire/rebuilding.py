"""The way in: extensions become the values that they were.

Each payload is decoded into a declared type first, so that malformed ones are refused by msgspec and not by whatever
they break.
"""

from __future__ import annotations

import collections
import dataclasses
import datetime
import decimal
import enum
import pathlib
import struct
import uuid
from typing import TYPE_CHECKING, Any, Final

import msgspec

from graflow.errors import SerializationError
from graflow.wire.extensions import Code
from graflow.wire.records import (
    BASES,
    find_class,
    is_plain_object,
    make_dataclass,
    make_member,
    make_struct,
    make_subclass,
)
from graflow.wire.signing import Pickled
from graflow.wire.tagging import FACTORIES

if TYPE_CHECKING:
    from collections.abc import Callable

_Attributes = dict[str, Any] | None
_Moment = tuple[str, int, str | None, int | None]


def rebuild(code: int, data: memoryview) -> Any:
    """The value of one extension: msgspec's ``ext_hook``.

    Raises:
        SerializationError: the code is not one of :class:`~graflow.wire.extensions.Code`.
    """
    build = _BUILDERS.get(code)
    if build is None:
        raise SerializationError(f"extension {code} is not known here: it was written by a newer Graflow, or not by Graflow")
    return build(data)


_list: Final = msgspec.msgpack.Decoder(list[Any], ext_hook=rebuild).decode
_moment: Final = msgspec.msgpack.Decoder(_Moment).decode
_numbers: Final = msgspec.msgpack.Decoder(tuple[int, int, int]).decode
_range_parts: Final = msgspec.msgpack.Decoder(tuple[Any, Any, Any], ext_hook=rebuild).decode
_path_parts: Final = msgspec.msgpack.Decoder(tuple[str, Any], ext_hook=rebuild).decode
_default_dict_parts: Final = msgspec.msgpack.Decoder(tuple[str | None, list[Any]], ext_hook=rebuild).decode
_deque_parts: Final = msgspec.msgpack.Decoder(tuple[int | None, list[Any]], ext_hook=rebuild).decode
_record_parts: Final = msgspec.msgpack.Decoder(tuple[str, dict[str, Any], _Attributes], ext_hook=rebuild).decode
_subclass_parts: Final = msgspec.msgpack.Decoder(tuple[str, str, Any, _Attributes], ext_hook=rebuild).decode


# ---- scalars -------------------------------------------------------------------------------------------------------


def _integer(data: memoryview) -> int:
    return int.from_bytes(data, "big", signed=True)


def _text(data: memoryview) -> str:
    return str(data, "utf-8", "surrogatepass")


def _complex(data: memoryview) -> complex:
    if len(data) != 16:
        raise ValueError(f"a complex number takes 16 bytes, not {len(data)}")
    real, imaginary = struct.unpack(">dd", data)
    return complex(real, imaginary)


def _decimal(data: memoryview) -> decimal.Decimal:
    return decimal.Decimal(str(data, "ascii"))


def _uuid(data: memoryview) -> uuid.UUID:
    return uuid.UUID(bytes=bytes(data))


def _datetime(data: memoryview) -> datetime.datetime:
    local, fold, zone, offset = _moment(data)
    return datetime.datetime.fromisoformat(local).replace(fold=fold, tzinfo=_zone(zone, offset))


def _date(data: memoryview) -> datetime.date:
    return datetime.date.fromisoformat(str(data, "ascii"))


def _time(data: memoryview) -> datetime.time:
    local, fold, zone, offset = _moment(data)
    return datetime.time.fromisoformat(local).replace(fold=fold, tzinfo=_zone(zone, offset))


def _zone(name: str | None, offset: int | None) -> datetime.tzinfo | None:
    if name is not None:
        import zoneinfo  # with the system's configuration 0.3 MB, and few processes ever meet a zone

        try:
            return zoneinfo.ZoneInfo(name)
        except zoneinfo.ZoneInfoNotFoundError:
            # This machine's tz database lacks it. The offset keeps at least the instant.
            pass
    if offset is None:
        return None
    return datetime.timezone(datetime.timedelta(microseconds=offset)) if offset else datetime.UTC


def _timedelta(data: memoryview) -> datetime.timedelta:
    days, seconds, microseconds = _numbers(data)
    return datetime.timedelta(days, seconds, microseconds)


def _path(data: memoryview) -> pathlib.PurePath:
    """A path of the other system's kind becomes a pure one: it can be taken apart here, and leads nowhere."""
    name, text = _path_parts(data)
    windows = name in {"WindowsPath", "PureWindowsPath"}
    here = pathlib.Path(".")
    if name in {"PosixPath", "WindowsPath"} and isinstance(here, pathlib.PureWindowsPath) == windows:
        return pathlib.Path(text)
    return pathlib.PureWindowsPath(text) if windows else pathlib.PurePosixPath(text)


def _range(data: memoryview) -> range:
    start, stop, step = _range_parts(data)
    return range(start, stop, step)


def _unset(data: memoryview) -> Any:
    return msgspec.UNSET


# ---- containers ----------------------------------------------------------------------------------------------------


def _tuple(data: memoryview) -> tuple[Any, ...]:
    return tuple(_list(data))


def _set(data: memoryview) -> Any:
    return _hashed(set, _list(data))


def _frozenset(data: memoryview) -> Any:
    return _hashed(frozenset, _list(data))


def _hashed(kind: type, items: list[Any]) -> Any:
    """A list where the items are of a class not known here, of which only unhashable mappings are left;
    ``msgspec.convert`` takes either."""
    try:
        return kind(items)
    except TypeError:
        return items


def _pairs(flat: list[Any]) -> zip[tuple[Any, Any]]:
    return zip(flat[::2], flat[1::2], strict=True)


def _map(data: memoryview) -> dict[Any, Any]:
    return dict(_pairs(_list(data)))


def _ordered_dict(data: memoryview) -> collections.OrderedDict[Any, Any]:
    return collections.OrderedDict(_pairs(_list(data)))


def _default_dict(data: memoryview) -> collections.defaultdict[Any, Any]:
    name, flat = _default_dict_parts(data)
    return collections.defaultdict(None if name is None else FACTORIES[name], _pairs(flat))


def _deque(data: memoryview) -> collections.deque[Any]:
    longest, items = _deque_parts(data)
    return collections.deque(items, longest)


# ---- the user's own classes ----------------------------------------------------------------------------------------


def _member(data: memoryview) -> Any:
    reference, name, *value = _list(data)
    cls = find_class(reference)
    if cls is None or not issubclass(cls, enum.Enum):
        return value[0] if value else name
    return make_member(cls, name, value[0] if value else name)


def _dataclass(data: memoryview) -> Any:
    reference, state, attributes = _record_parts(data)
    cls = find_class(reference)
    if cls is None or not dataclasses.is_dataclass(cls) or not is_plain_object(cls):
        return state
    return make_dataclass(cls, state, attributes)


def _struct(data: memoryview) -> Any:
    reference, state, attributes = _record_parts(data)
    cls = find_class(reference)
    return make_struct(cls, state, attributes) if cls is not None and issubclass(cls, msgspec.Struct) else state


def _subclass(data: memoryview) -> Any:
    reference, base_name, content, attributes = _subclass_parts(data)
    base, cls = BASES[base_name], find_class(reference)
    if cls is None or not issubclass(cls, base) or type(content) is not base:
        return content
    try:
        return make_subclass(cls, base, content, attributes)
    except TypeError:
        # Here the class is written in C, and insists on its own constructor.
        return content


def _pickled(data: memoryview) -> Any:
    """Unopened: that takes somebody who asks for it, and a key."""
    return Pickled.sent(bytes(data))


_BUILDERS: Final[dict[int, Callable[[memoryview], Any]]] = {
    Code.TUPLE: _tuple,
    Code.SET: _set,
    Code.FROZENSET: _frozenset,
    Code.MAP: _map,
    Code.INT: _integer,
    Code.TEXT: _text,
    Code.COMPLEX: _complex,
    Code.BYTEARRAY: bytearray,
    Code.DECIMAL: _decimal,
    Code.UUID: _uuid,
    Code.DATETIME: _datetime,
    Code.DATE: _date,
    Code.TIME: _time,
    Code.TIMEDELTA: _timedelta,
    Code.PATH: _path,
    Code.RANGE: _range,
    Code.UNSET: _unset,
    Code.ORDERED_DICT: _ordered_dict,
    Code.DEFAULT_DICT: _default_dict,
    Code.DEQUE: _deque,
    Code.ENUM: _member,
    Code.DATACLASS: _dataclass,
    Code.STRUCT: _struct,
    Code.SUBCLASS: _subclass,
    Code.PICKLED: _pickled,
}
