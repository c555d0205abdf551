"""What cannot travel, and what to do instead."""

from __future__ import annotations

import collections
import collections.abc
import datetime
import decimal
import enum
import inspect
import pathlib
import types
import uuid
from typing import Final

from graflow.errors import SerializationError
from graflow.wire.extensions import MAX_DEPTH
from graflow.wire.signing import VARIABLE, Pickled

_BELONGS_TO_PROCESS: Final = (
    "_thread.", "threading.", "asyncio.", "_asyncio.", "uvloop.", "anyio.", "socket.", "ssl.", "_ssl.", "_io.", "io.",
    "tempfile.", "select.", "selectors.", "mmap.", "subprocess.", "multiprocessing.", "concurrent.futures.", "queue.",
    "_queue.", "logging.", "contextvars.", "_contextvars.", "weakref.", "sqlite3.", "redis.", "httpx.", "aiohttp.",
    "requests.", "urllib3.", "sqlalchemy.", "psycopg.", "psycopg2.", "asyncpg.", "pymongo.", "motor.", "boto3.",
    "botocore.", "aiobotocore.", "aiodocker.", "docker.", "kafka.", "openai.", "anthropic.", "google.cloud.", "grpc.",
)  # fmt: skip
"""Modules whose objects hold something of this process: a lock, a connection, a file, a loop, a pool."""

_CODE: Final = (
    types.FunctionType, types.BuiltinFunctionType, types.MethodType, types.ModuleType, types.CodeType, type,
    staticmethod, classmethod, property,
)  # fmt: skip

_FINAL_TYPES: Final = (
    datetime.datetime, datetime.date, datetime.time, datetime.timedelta, decimal.Decimal, uuid.UUID, pathlib.PurePath,
    bytearray, complex, collections.OrderedDict, collections.deque,
)  # fmt: skip

_IN_PROCESS: Final = "it belongs to this process: open it in `lifespan=` and take it from `ctx.resources` where it is needed"
_GRAFLOW: Final = "it belongs to this process: hand on its id, and take channel, context and engine from where the task runs"


class Refused(Exception):
    """Raised at the value that cannot travel; each container on the way out adds where it held it.

    ``kind`` is the type found there, None where the nesting was too deep.
    """

    def __init__(self, value: object, *, deep: bool = False) -> None:
        super().__init__()
        self.kind: type[object] | None = None if deep else type(value)
        self.remedy: str = "" if deep else _remedy(value)
        self.trail: list[tuple[int, str]] = []

    def inside(self, container: object, segment: str) -> None:
        """Note that the value so far stood at ``segment`` of ``container``."""
        self.trail.append((id(container), segment))

    def error(self, name: str) -> SerializationError:
        """The error for the user; ``name`` is what the outermost value is called."""
        trail = self.trail[::-1]
        if self.kind is None:
            return _nesting_error(name, trail)
        path = name + "".join(segment for _, segment in trail)
        type_name = _type_name(self.kind)
        return SerializationError(f"{path} is a {type_name}, which cannot travel: {self.remedy}", path=path, type_name=type_name)


def segment(key: object) -> str:
    """How a path shows the key of a dict."""
    if isinstance(key, str) and not isinstance(key, enum.Enum):
        return f'["{key}"]' if len(key) <= 60 else f'["{key[:57]}..."]'
    return f"[{key!r}]" if type(key) in {int, bool, float, type(None)} else f"[<{_type_name(type(key))}>]"


def too_large(name: str, size: int, limit: int) -> SerializationError:
    """The error for a value that takes more bytes than it may."""
    return SerializationError(
        f"{name} takes {size:,} bytes, and the limit is {limit:,}: store it elsewhere and hand on where it is, or raise the limit",
        path=name,
    )


def _nesting_error(name: str, trail: list[tuple[int, str]]) -> SerializationError:
    seen: dict[int, int] = {}
    for depth, (container, _) in enumerate(trail):
        if container in seen:
            outer = name + "".join(part for _, part in trail[: seen[container]])
            path = name + "".join(part for _, part in trail[:depth])
            return SerializationError(
                f"{path} is {outer} again, and what contains itself cannot travel: hand on the parts, or ids in place of objects",
                path=path,
            )
        seen[container] = depth
    path = name + "".join(part for _, part in trail[:6]) + "..."
    return SerializationError(f"{path} is nested deeper than {MAX_DEPTH} levels: flatten it, or hand it on as text or bytes", path=path)


def _type_name(kind: type) -> str:
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def _remedy(value: object) -> str:
    kind = type(value)
    if isinstance(value, _CODE):
        return "code does not travel as a value: make it a task, or hand on its name and look it up where it is needed"
    if isinstance(value, BaseException):
        return "hand on its text, or let the task raise it"
    if inspect.isawaitable(value):
        return "await it, and hand on the result"
    names = [f"{base.__module__}.{base.__qualname__}" for base in kind.__mro__]
    if isinstance(value, Pickled):
        return f"a pickle needs a signature, and there is no key here: set {VARIABLE} to one secret here and at the workers"
    if any(name.startswith("graflow.") for name in names):
        return _GRAFLOW
    if any(name.startswith(_BELONGS_TO_PROCESS) for name in names):
        return _IN_PROCESS
    return _conversion(value)


def _conversion(value: object) -> str:
    kind = type(value)
    if isinstance(value, memoryview):
        return "hand on bytes(...) of it"
    if isinstance(value, collections.defaultdict):
        return "its default_factory is code: hand on dict(...) of it"
    for base in _FINAL_TYPES:
        if isinstance(value, base):
            return f"only {base.__name__} itself can, not its subclasses: hand on a plain {base.__name__}"
    # By the class, so that no attribute of the object is run.
    for method in ("model_dump", "to_dict", "tolist", "asdict", "_asdict"):
        if hasattr(kind, method):
            return f"hand on .{method}() of it"
    if isinstance(value, collections.abc.Iterator | collections.abc.Iterable):
        return "hand on list(...) or dict(...) of it"
    if isinstance(value, collections.abc.AsyncIterable):
        return "collect its items into a list"
    return "make its class a dataclass or a msgspec.Struct, or hand on plain values"
