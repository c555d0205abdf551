"""Classes that values in these tests are of, and a comparison that types count in."""

from __future__ import annotations

import datetime
import enum
import math
from collections import deque
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, Generic, NamedTuple, TypeVar

import msgspec

T = TypeVar("T")


class Colour(enum.Enum):
    RED = 1
    GREEN = (0, 255, 0)


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Kind(enum.StrEnum):
    CAT = "cat"


class Access(enum.Flag):
    READ = 1
    WRITE = 2


class Opaque(enum.Enum):
    """Members whose values could not travel."""

    LAMBDA = (lambda: 0,)
    OBJECT = object()


@dataclass
class Row:
    id: int
    tags: list[Any] = field(default_factory=list)
    parent: Row | None = None


@dataclass(frozen=True, slots=True)
class Point:
    x: Any
    y: Any = 0


@dataclass
class Box(Generic[T]):
    content: T


@dataclass
class Normalised:
    """What a constructor that ran again would spoil, and what it adds besides the fields."""

    amount: float
    made: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        self.amount *= 2
        self.made += 1
        self.note = f"made {self.made} times"


@dataclass
class DeclinedError(Exception):
    reason: str


class Item(msgspec.Struct):
    id: int
    tags: list[Any] = []


class Order(msgspec.Struct, frozen=True, kw_only=True, rename="camel", tag="order"):
    order_id: int
    placed_by: Any
    note: str | msgspec.UnsetType = msgspec.UNSET


class Checked(msgspec.Struct):
    n: int

    def __post_init__(self) -> None:
        if self.n < 0:
            raise LookupError("n is below 0")


class Loose(msgspec.Struct, dict=True):
    id: int


class Pair(NamedTuple):
    left: Any
    right: Any


class UserId(str):
    @property
    def short(self) -> str:
        return self[:3]

    def __str__(self) -> str:
        return "not the text itself"


class Metres(float):
    pass


class Count(int):
    pass


class Stack(list[Any]):
    def __init__(self, *items: Any) -> None:
        super().__init__(items)


class Settings(dict[str, Any]):
    def __getitem__(self, key: str) -> Any:
        return "not what is stored"


class Slotted(list[Any]):
    __slots__ = ("extra",)


def same(left: Any, right: Any) -> bool:
    """Whether two values are equal and of the same types throughout, NaN being equal to itself."""
    if type(left) is not type(right):
        return False
    if isinstance(left, float):
        both_nan = math.isnan(left) and math.isnan(right)
        return both_nan or (float(left) == float(right) and _sign(left) == _sign(right))
    if isinstance(left, complex):
        return same(left.real, right.real) and same(left.imag, right.imag)
    if isinstance(left, datetime.datetime | datetime.time):
        zones = [str(moment.tzinfo) for moment in (left, right)]
        return left == right and left.fold == right.fold and zones[0] == zones[1]
    if isinstance(left, set | frozenset):
        return left == right and all(any(same(item, other) for other in right) for item in left)
    return _same_parts(left, right)


def _same_parts(left: Any, right: Any) -> bool:
    if isinstance(left, dict):
        pairs = zip(dict.items(left), dict.items(right), strict=False)
        factories = getattr(left, "default_factory", None), getattr(right, "default_factory", None)
        return len(left) == len(right) and factories[0] is factories[1] and all(same(a, b) and same(x, y) for (a, x), (b, y) in pairs)
    if isinstance(left, list | tuple | deque):
        longest = getattr(left, "maxlen", None), getattr(right, "maxlen", None)
        return len(left) == len(right) and longest[0] == longest[1] and all(map(same, left, right)) and _same_dicts(left, right)
    if isinstance(left, msgspec.Struct):
        return all(same(getattr(left, name), getattr(right, name)) for name in left.__struct_fields__)
    if is_dataclass(left):
        parts = (same(getattr(left, part.name), getattr(right, part.name)) for part in fields(left))
        return all(parts) and _same_dicts(left, right)
    return bool(left == right)


def _same_dicts(left: Any, right: Any) -> bool:
    return same(getattr(left, "__dict__", None), getattr(right, "__dict__", None))


def _sign(number: float) -> float:
    return math.copysign(1.0, number)
