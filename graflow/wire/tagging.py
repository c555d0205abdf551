"""The way out: values that msgpack has no type for become extensions, anywhere inside a value."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import datetime
import decimal
import enum
import pathlib
import struct
import sys
import uuid
from typing import TYPE_CHECKING, Any, Final, cast

import msgspec
from msgspec.msgpack import Ext

from graflow.wire.extensions import MAX_DEPTH, SCALARS, Code
from graflow.wire.records import (
    builtin_base,
    builtin_content,
    class_of,
    dataclass_state,
    is_plain_object,
    once_per_class,
    struct_state,
)
from graflow.wire.refusals import Refused, segment
from graflow.wire.signing import Pickled

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    Method = Callable[["Tagger", Any, int], Any]

_encode: Final = msgspec.msgpack.Encoder().encode
_SORTABLE: Final = frozenset({int, str, bytes})
_MICROSECOND: Final = datetime.timedelta(microseconds=1)

FACTORIES: Final[dict[str, type]] = {
    factory.__name__: factory for factory in (list, dict, set, frozenset, tuple, int, float, str, bytes, bool)
}
"""What may make the defaults of a ``defaultdict`` that travels."""


class Tagger:
    """Turns a value into plain ones and extensions, which the encoder takes.

    What needs no change is handed back itself, so that a large plain part of a value is not copied. ``careful`` also
    looks at each int and str, for those that msgpack can not hold. They are rare, and finding them takes a look at
    every one, so it is done only after the encoder has met one.
    """

    __slots__ = ("_careful", "_scalars")

    def __init__(self, *, careful: bool) -> None:
        self._careful = careful
        self._scalars = SCALARS - {int, str} if careful else SCALARS

    def tag(self, value: object, depth: int = 0) -> Any:
        """``value``, or what stands for it on the wire. Raises :class:`Refused` for what cannot travel."""
        kind = type(value)
        if kind in self._scalars:
            return value
        if depth > MAX_DEPTH:
            raise Refused(value, deep=True)
        return (_METHODS.get(kind) or _method_for(kind))(self, value, depth)

    # ---- scalars that msgpack can not hold -----------------------------------------------------------------------

    def integer(self, value: int, depth: int) -> Any:
        if -(2**63) <= value < 2**64:
            return value
        return Ext(Code.INT, value.to_bytes(value.bit_length() // 8 + 1, "big", signed=True))

    def text(self, value: str, depth: int) -> Any:
        if value.isascii():
            return value
        data = value.encode("utf-8", "surrogatepass")
        try:
            data.decode("utf-8")
        except UnicodeDecodeError:
            return Ext(Code.TEXT, data)
        return value

    def complex_(self, value: complex, depth: int) -> Any:
        return Ext(Code.COMPLEX, struct.pack(">dd", value.real, value.imag))

    def bytearray_(self, value: bytearray, depth: int) -> Any:
        return Ext(Code.BYTEARRAY, bytes(value))

    def decimal_(self, value: decimal.Decimal, depth: int) -> Any:
        return Ext(Code.DECIMAL, str(value).encode())

    def uuid_(self, value: uuid.UUID, depth: int) -> Any:
        return Ext(Code.UUID, value.bytes)

    def datetime_(self, value: datetime.datetime, depth: int) -> Any:
        return _moment(Code.DATETIME, value, value.utcoffset())

    def date_(self, value: datetime.date, depth: int) -> Any:
        return Ext(Code.DATE, value.isoformat().encode())

    def time_(self, value: datetime.time, depth: int) -> Any:
        return _moment(Code.TIME, value, value.utcoffset())

    def timedelta_(self, value: datetime.timedelta, depth: int) -> Any:
        return Ext(Code.TIMEDELTA, _encode([value.days, value.seconds, value.microseconds]))

    def path(self, value: pathlib.PurePath, depth: int) -> Any:
        return Ext(Code.PATH, _encode([type(value).__name__, self.tag(str(value), depth)]))

    def range_(self, value: range, depth: int) -> Any:
        return Ext(Code.RANGE, _encode([self.tag(part, depth) for part in (value.start, value.stop, value.step)]))

    def unset(self, value: Any, depth: int) -> Any:
        return Ext(Code.UNSET, b"")

    # ---- containers ------------------------------------------------------------------------------------------------

    def list_(self, value: list[Any], depth: int) -> Any:
        return value if self._scalars.issuperset(map(type, value)) else self._items(value, depth)

    def tuple_(self, value: tuple[Any, ...], depth: int) -> Any:
        return Ext(Code.TUPLE, _encode(self._items(value, depth)))

    def set_(self, value: set[Any], depth: int) -> Any:
        return Ext(Code.SET, self._sorted(value, depth))

    def frozenset_(self, value: frozenset[Any], depth: int) -> Any:
        return Ext(Code.FROZENSET, self._sorted(value, depth))

    def deque(self, value: collections.deque[Any], depth: int) -> Any:
        return Ext(Code.DEQUE, _encode([value.maxlen, self._items(value, depth)]))

    def dict_(self, value: dict[Any, Any], depth: int) -> Any:
        if self._scalars.issuperset(map(type, value)):
            return value if self._scalars.issuperset(map(type, value.values())) else self._values(value, depth)
        keys = self._keys(value, depth)
        if SCALARS.issuperset(map(type, keys)):
            return self._values(value, depth)
        return Ext(Code.MAP, _encode(_flat(keys, self._values(value, depth))))

    def ordered_dict(self, value: collections.OrderedDict[Any, Any], depth: int) -> Any:
        return Ext(Code.ORDERED_DICT, _encode(_flat(self._keys(value, depth), self._values(value, depth))))

    def default_dict(self, value: collections.defaultdict[Any, Any], depth: int) -> Any:
        factory = value.default_factory
        name = None if factory is None else getattr(factory, "__name__", "")
        if name is not None and FACTORIES.get(name) is not factory:
            raise Refused(value)
        pairs = _flat(self._keys(value, depth), self._values(value, depth))
        return Ext(Code.DEFAULT_DICT, _encode([name, pairs]))

    # ---- the user's own classes ------------------------------------------------------------------------------------

    def member(self, value: enum.Enum, depth: int) -> Any:
        payload: list[Any] = [class_of(value), value.name]
        # Otherwise the name will do: only who does not have the class needs the value.
        with contextlib.suppress(Refused):
            payload.append(self.tag(value.value, depth + 1))
        return Ext(Code.ENUM, _encode(payload))

    def dataclass(self, value: Any, depth: int) -> Any:
        return self._record(Code.DATACLASS, value, dataclass_state(value), depth)

    def struct(self, value: msgspec.Struct, depth: int) -> Any:
        return self._record(Code.STRUCT, value, struct_state(value), depth)

    def subclass(self, value: Any, depth: int) -> Any:
        base = cast("type", builtin_base(cast("type[object]", type(value))))
        content = builtin_content(value, base)
        try:
            # As deep as the value itself: it is the same container.
            tagged = self.tag(content, depth)
        except Refused as refusal:
            refusal.inside(value, "")
            raise
        attributes = self._attributes(value, getattr(value, "__dict__", None), depth)
        return Ext(Code.SUBCLASS, _encode([class_of(value), base.__name__, tagged, attributes or None]))

    def pickled(self, value: Pickled[Any], depth: int) -> Any:
        envelope = value.envelope()
        if envelope is None:
            raise Refused(value)
        return Ext(Code.PICKLED, envelope)

    def refuse(self, value: Any, depth: int) -> Any:
        raise Refused(value)

    # ---- parts -----------------------------------------------------------------------------------------------------

    def _items(self, values: Collection[Any], depth: int) -> list[Any]:
        if self._scalars.issuperset(map(type, values)):
            return [*values]
        tagged: list[Any] = [None] * len(values)
        index = 0
        try:
            for index, item in enumerate(values):
                tagged[index] = self.tag(item, depth + 1)
        except Refused as refusal:
            refusal.inside(values, f"[{index}]")
            raise
        return tagged

    def _keys(self, value: dict[Any, Any], depth: int) -> list[Any]:
        tagged: list[Any] = [None] * len(value)
        key = None
        try:
            for index, key in enumerate(value):
                tagged[index] = self.tag(key, depth + 1)
        except Refused as refusal:
            refusal.inside(value, f".keys(){segment(key)}")
            raise
        return tagged

    def _values(self, value: dict[Any, Any], depth: int) -> dict[Any, Any]:
        if self._scalars.issuperset(map(type, value.values())):
            return value
        tagged: dict[Any, Any] = {}
        key = None
        try:
            for key, item in value.items():
                tagged[key] = self.tag(item, depth + 1)
        except Refused as refusal:
            refusal.inside(value, segment(key))
            raise
        return tagged

    def _attributes(self, owner: Any, attributes: dict[str, Any] | None, depth: int) -> dict[str, Any] | None:
        if not attributes:
            return attributes
        tagged: dict[str, Any] = {}
        name = ""
        try:
            for name, content in attributes.items():
                tagged[name] = self.tag(content, depth + 1)
        except Refused as refusal:
            refusal.inside(owner, f".{name}")
            raise
        return tagged

    def _record(self, code: int, value: Any, state: tuple[dict[str, Any], dict[str, Any] | None], depth: int) -> Any:
        fields, attributes = (self._attributes(value, part, depth) for part in state)
        return Ext(code, _encode([class_of(value), fields, attributes]))

    def _sorted(self, values: Collection[Any], depth: int) -> bytes:
        """The items of a set, encoded in an order that does not depend on the process's hash seed."""
        kinds = set(map(type, values))
        if len(kinds) == 1 and kinds <= _SORTABLE and not self._careful:
            return _encode(sorted(values))
        tagged: list[bytes] = []
        try:
            tagged.extend(_encode(self.tag(item, depth + 1)) for item in values)
        except Refused as refusal:
            refusal.inside(values, "{...}")
            raise
        return _encode([msgspec.Raw(item) for item in sorted(tagged)])


def _flat(keys: Collection[Any], values: dict[Any, Any]) -> list[Any]:
    flat: list[Any] = [None] * (2 * len(keys))
    flat[::2] = keys
    flat[1::2] = values.values()
    return flat


def _moment(code: int, value: datetime.datetime | datetime.time, offset: datetime.timedelta | None) -> Ext:
    """A zone travels by its name and offset: the name where it is one of the tz database, any other becomes its offset
    at that time."""
    zone: Any = value.tzinfo
    zones: Any = sys.modules.get("zoneinfo")  # whoever has such a zone has imported it
    name = zone.key if zones is not None and type(zone) is zones.ZoneInfo else None
    local = value.replace(tzinfo=None).isoformat()
    return Ext(code, _encode([local, value.fold, name, None if offset is None else offset // _MICROSECOND]))


@once_per_class
def _method_for(kind: type[Any]) -> Method:
    """How values of a class that is not in the table are taken apart."""
    if issubclass(kind, enum.Enum):
        return Tagger.member
    if issubclass(kind, msgspec.Struct):
        return Tagger.struct
    if dataclasses.is_dataclass(kind) and is_plain_object(kind):
        return Tagger.dataclass
    if builtin_base(kind) is not None:
        return Tagger.subclass
    return Tagger.refuse


_METHODS: Final[dict[type, Method]] = {
    int: Tagger.integer,
    str: Tagger.text,
    complex: Tagger.complex_,
    bytearray: Tagger.bytearray_,
    decimal.Decimal: Tagger.decimal_,
    uuid.UUID: Tagger.uuid_,
    datetime.datetime: Tagger.datetime_,
    datetime.date: Tagger.date_,
    datetime.time: Tagger.time_,
    datetime.timedelta: Tagger.timedelta_,
    pathlib.PurePosixPath: Tagger.path,
    pathlib.PureWindowsPath: Tagger.path,
    pathlib.PosixPath: Tagger.path,
    pathlib.WindowsPath: Tagger.path,
    range: Tagger.range_,
    Pickled: Tagger.pickled,
    msgspec.UnsetType: Tagger.unset,
    list: Tagger.list_,
    tuple: Tagger.tuple_,
    set: Tagger.set_,
    frozenset: Tagger.frozenset_,
    dict: Tagger.dict_,
    collections.deque: Tagger.deque,
    collections.OrderedDict: Tagger.ordered_dict,
    collections.defaultdict: Tagger.default_dict,
}
