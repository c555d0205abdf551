"""Values as bytes where Graflow's own codec is not to be had: the same bytes, by the standard library alone.

:mod:`graflow.wire.extensions` has the table of codes, and :mod:`graflow.wire.codec` says what survives. A msgspec Struct does not exist in a
child without msgspec: it arrives as the mapping of its fields.
"""

from __future__ import annotations

import collections
import dataclasses
import datetime
import decimal
import enum
import pathlib
import struct
import sys
import uuid
from typing import TYPE_CHECKING, Any, cast

from graflow.handlers.inside.errors import cannot_travel
from graflow.handlers.inside.msgpack import Ext, pack, unpack

if TYPE_CHECKING:
    from collections.abc import Callable

(TUPLE, SET, FROZENSET, MAP, INT, TEXT, COMPLEX, BYTEARRAY, DECIMAL, UUID, DATETIME, DATE, TIME, TIMEDELTA, PATH, RANGE, ORDERED_DICT, DEFAULT_DICT,
 DEQUE, UNSET, ENUM, DATACLASS, STRUCT, SUBCLASS) = range(1, 25)  # fmt: skip
_BASES: dict[str, Any] = {base.__name__: base for base in (str, bytes, int, float, tuple, list, dict, set, frozenset)}
_FILLED_BY = {"list": "extend", "dict": "update", "set": "update"}
_DEFAULTS: dict[str, Any] = {kind.__name__: kind for kind in (list, dict, set, frozenset, tuple, int, float, str, bytes, bool)}
_MICROSECOND = datetime.timedelta(microseconds=1)
_DEEPEST = 128


# ---- writing -----------------------------------------------------------------------------------------------------------


def encode(value: Any, name: str = "value") -> bytes:
    """``value`` as bytes; ``name`` is what it is called in errors.

    Raises:
        GraflowError: (SerializationError) a part of it has no form on the wire; the message says where it stands.
    """
    return pack(_tag(value, name, 0))


def _tag(value: Any, path: str, depth: int) -> Any:
    kind = cast("Any", type(value))
    if value is None or kind in (bool, float, bytes):
        return value
    if depth > _DEEPEST:
        raise cannot_travel(path, kind.__qualname__, f"is nested deeper than {_DEEPEST} levels: flatten it")
    write = _WRITERS.get(kind)
    return write(value, path, depth) if write is not None else _tag_object(value, path, depth)


def _tag_int(value: int, path: str, depth: int) -> Any:
    if -(2**63) <= value < 2**64:
        return value
    return Ext(INT, value.to_bytes(value.bit_length() // 8 + 1, "big", signed=True))


def _tag_str(value: str, path: str, depth: int) -> Any:
    try:
        value.encode()
    except UnicodeEncodeError:
        return Ext(TEXT, value.encode("utf-8", "surrogatepass"))
    return value


def _tag_list(value: Any, path: str, depth: int) -> list[Any]:
    return [_tag(item, f"{path}[{place}]", depth + 1) for place, item in enumerate(value)]


def _tag_dict(value: Any, path: str, depth: int) -> Any:
    flat = _flat(value, path, depth)
    if all(key is None or type(key) in (bool, int, float, str, bytes) for key in flat[::2]):
        return dict(zip(flat[::2], flat[1::2], strict=True))
    return Ext(MAP, pack(flat))


def _flat(value: Any, path: str, depth: int) -> list[Any]:
    flat: list[Any] = []
    for key, item in value.items():
        flat += (_tag(key, f"{path}.keys()", depth + 1), _tag(item, f"{path}[{key!r}]", depth + 1))
    return flat


def _tag_set(code: int) -> Callable[[Any, str, int], Ext]:
    def write(value: Any, path: str, depth: int) -> Ext:
        items = sorted(pack(_tag(item, f"{path}{{...}}", depth + 1)) for item in value)
        return Ext(code, pack([None] * len(items))[: -len(items) or None] + b"".join(items))

    return write


def _tag_deque(value: Any, path: str, depth: int) -> Ext:
    return Ext(DEQUE, pack([value.maxlen, _tag_list(value, path, depth)]))


def _tag_default_dict(value: Any, path: str, depth: int) -> Ext:
    factory = value.default_factory
    name = None if factory is None else getattr(factory, "__name__", "")
    if name is not None and _DEFAULTS.get(name) is not factory:
        raise cannot_travel(path, "defaultdict", "is a defaultdict, whose default_factory is code: hand on dict(...) of it")
    return Ext(DEFAULT_DICT, pack([name, _flat(value, path, depth)]))


def _tag_moment(code: int) -> Callable[[Any, str, int], Ext]:
    def write(value: Any, path: str, depth: int) -> Ext:
        zone, offset = getattr(value.tzinfo, "key", None), value.utcoffset()
        return Ext(
            code, pack([value.replace(tzinfo=None).isoformat(), value.fold, zone, None if offset is None else offset // _MICROSECOND])
        )

    return write


def _tag_object(value: Any, path: str, depth: int) -> Any:
    kind = cast("Any", type(value))
    name = _class_name(kind)
    if isinstance(value, enum.Enum):
        return Ext(ENUM, pack([name, value.name, _tag(value.value, path, depth + 1)]))
    if dataclasses.is_dataclass(kind) and not isinstance(value, BaseException):
        fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(kind) if hasattr(value, field.name)}
        others = {key: item for key, item in getattr(value, "__dict__", {}).items() if key not in fields}
        told = [_attributes(part, path, depth) for part in (fields, others)]
        return Ext(DATACLASS, pack([name, told[0], told[1] or None]))
    for base_name, base in _BASES.items():
        if isinstance(value, base):
            content = base(value) if base not in (str, int, float) else getattr(base, f"__{base_name}__")(value)
            others = _attributes(getattr(value, "__dict__", {}), path, depth)
            return Ext(SUBCLASS, pack([name, base_name, _tag(content, path, depth), others or None]))
    called = name.replace(":", ".").removeprefix("builtins.")
    raise cannot_travel(path, called, f"is a {called}, which cannot travel: hand on plain values, or make its class a dataclass")


def _attributes(values: dict[str, Any], path: str, depth: int) -> dict[str, Any]:
    return {key: _tag(item, f"{path}.{key}", depth + 1) for key, item in values.items()}


def _class_name(kind: type) -> str:
    module = "__main__" if kind.__module__ == "__mp_main__" else kind.__module__
    return f"{module}:{kind.__qualname__}"


def _tag_path(value: Any, path: str, depth: int) -> Ext:
    return Ext(PATH, pack([type(value).__name__, _tag(str(value), path, depth)]))


_WRITERS: dict[type, Callable[[Any, str, int], Any]] = {
    int: _tag_int, str: _tag_str, list: _tag_list, dict: _tag_dict, set: _tag_set(SET), frozenset: _tag_set(FROZENSET),
    tuple: lambda value, path, depth: Ext(TUPLE, pack(_tag_list(value, path, depth))),
    complex: lambda value, path, depth: Ext(COMPLEX, struct.pack(">dd", value.real, value.imag)),
    bytearray: lambda value, path, depth: Ext(BYTEARRAY, bytes(value)),
    decimal.Decimal: lambda value, path, depth: Ext(DECIMAL, str(value).encode()),
    uuid.UUID: lambda value, path, depth: Ext(UUID, value.bytes),
    datetime.datetime: _tag_moment(DATETIME), datetime.time: _tag_moment(TIME),
    datetime.date: lambda value, path, depth: Ext(DATE, value.isoformat().encode()),
    datetime.timedelta: lambda value, path, depth: Ext(TIMEDELTA, pack([value.days, value.seconds, value.microseconds])),
    range: lambda value, path, depth: Ext(RANGE, pack(_tag_list((value.start, value.stop, value.step), path, depth))),
    collections.OrderedDict: lambda value, path, depth: Ext(ORDERED_DICT, pack(_flat(value, path, depth))),
    collections.defaultdict: _tag_default_dict, collections.deque: _tag_deque,
    pathlib.PurePosixPath: _tag_path, pathlib.PureWindowsPath: _tag_path, pathlib.PosixPath: _tag_path, pathlib.WindowsPath: _tag_path,
}  # fmt: skip


# ---- reading -----------------------------------------------------------------------------------------------------------


def decode(data: bytes) -> Any:
    """The value that was encoded. Classes are looked for among the modules that are imported here; what is not found stays what it was made from.

    Raises:
        ValueError: the bytes are not such a value.
    """
    return unpack(data, _rebuild)


def _rebuild(code: int, data: bytes) -> Any:
    read = _READERS.get(code)
    if read is None:
        raise ValueError(f"extension {code} is not known here")
    return read(data)


def _pairs(flat: list[Any]) -> Any:
    return zip(flat[::2], flat[1::2], strict=True)


def _hashed(kind: Any, items: list[Any]) -> Any:
    try:
        return kind(items)
    except TypeError:
        return items


def _moment(kind: Any, data: bytes) -> Any:
    local, fold, zone, offset = decode(data)
    return kind.fromisoformat(local).replace(fold=fold, tzinfo=_zone(zone, offset))


def _zone(name: str | None, offset: int | None) -> datetime.tzinfo | None:
    import zoneinfo

    if name is not None:
        try:
            return zoneinfo.ZoneInfo(name)
        except zoneinfo.ZoneInfoNotFoundError:
            pass  # a small image has no tz database. The offset keeps at least the instant
    if offset is None:
        return None
    return datetime.timezone(datetime.timedelta(microseconds=offset)) if offset else datetime.timezone.utc  # noqa: UP017 - also for older Pythons


def _path(data: bytes) -> pathlib.PurePath:
    name, text = decode(data)
    if name in ("PosixPath", "WindowsPath") and name == type(pathlib.Path(".")).__name__:
        return pathlib.Path(text)
    return pathlib.PureWindowsPath(text) if "Windows" in name else pathlib.PurePosixPath(text)


def _default_dict(data: bytes) -> Any:
    name, flat = decode(data)
    return collections.defaultdict(None if name is None else _DEFAULTS[name], _pairs(flat))


def _deque(data: bytes) -> Any:
    longest, items = decode(data)
    return collections.deque(items, longest)


def _found(name: str) -> Any:
    module, _, qualname = name.partition(":")
    found: Any = sys.modules.get(module)
    for part in qualname.split("."):
        found = getattr(found, "__dict__", {}).get(part)
    return found if isinstance(found, type) else None


def _member(data: bytes) -> Any:
    name, member, *value = decode(data)
    kind = _found(name)
    if kind is None or not issubclass(kind, enum.Enum):
        return value[0] if value else member
    return kind[member] if member in kind.__members__ else kind(value[0] if value else member)


def _dataclass(data: bytes) -> Any:
    name, fields, others = decode(data)
    kind: Any = _found(name)
    if kind is None or not dataclasses.is_dataclass(kind):
        return fields
    value = _blank(kind)
    items: dict[str, Any] = {**fields, **(others or {})}
    for key, item in items.items():
        object.__setattr__(value, key, item)
    return value


def _blank(kind: Any) -> Any:
    return object.__new__(kind)


def _subclass(data: bytes) -> Any:
    name, base_name, content, others = decode(data)
    base, kind = _BASES[base_name], _found(name)
    if kind is None or not issubclass(kind, base):
        return content
    fill = _FILLED_BY.get(base_name)
    value = base.__new__(kind) if fill else base.__new__(kind, content)
    if fill:
        getattr(base, fill)(value, content)
    if others:
        value.__dict__.update(others)
    return value


_READERS: dict[int, Callable[[bytes], Any]] = {
    TUPLE: lambda data: tuple(decode(data)), SET: lambda data: _hashed(set, decode(data)),
    FROZENSET: lambda data: _hashed(frozenset, decode(data)), MAP: lambda data: dict(_pairs(decode(data))),
    INT: lambda data: int.from_bytes(data, "big", signed=True), TEXT: lambda data: data.decode("utf-8", "surrogatepass"),
    COMPLEX: lambda data: complex(*struct.unpack(">dd", data)), BYTEARRAY: bytearray,
    DECIMAL: lambda data: decimal.Decimal(data.decode()), UUID: lambda data: uuid.UUID(bytes=data),
    DATETIME: lambda data: _moment(datetime.datetime, data), TIME: lambda data: _moment(datetime.time, data),
    DATE: lambda data: datetime.date.fromisoformat(data.decode()), TIMEDELTA: lambda data: datetime.timedelta(*decode(data)),
    PATH: _path, RANGE: lambda data: range(*decode(data)), UNSET: lambda data: None,
    ORDERED_DICT: lambda data: collections.OrderedDict(_pairs(decode(data))), DEFAULT_DICT: _default_dict, DEQUE: _deque,
    ENUM: _member, DATACLASS: _dataclass, STRUCT: lambda data: decode(data)[1], SUBCLASS: _subclass,
}  # fmt: skip
