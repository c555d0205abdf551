"""What a function is called on the wire, and what tells its code from any other.

Neither depends on the process: no address, hash seed, line number or file path goes into them.
"""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import functools
import hashlib
import inspect
import pathlib
import struct
import uuid
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType
from typing import TYPE_CHECKING, Any, Final, cast

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping

_LITERALS: Final = (type(None), bool, int, float, complex, str, bytes, type(Ellipsis))
_TELLING: Final = (
    str, bytes, int, float, datetime.date, datetime.time, datetime.timedelta, decimal.Decimal, uuid.UUID,
    pathlib.PurePath, range,
)  # fmt: skip
"""Types whose ``repr`` says all there is to say, and the same in every process."""

_FLAGS_THAT_MATTER: Final = (
    inspect.CO_VARARGS
    | inspect.CO_VARKEYWORDS
    | inspect.CO_GENERATOR
    | inspect.CO_COROUTINE
    | inspect.CO_ITERABLE_COROUTINE
    | inspect.CO_ASYNC_GENERATOR
)
"""The others say how the code was compiled, such as which ``__future__`` imports its module has."""


def reference(function: Callable[..., Any]) -> str:
    """The name by which a function travels: ``module:qualname``.

    Never fails. What has no name that an import could find (a partial, a callable object, a method of an instance) gets
    one in angle brackets, like the ones that Python gives to lambdas and local functions, so that it is readable and
    can not be mistaken for one.

    Example::

        reference(json.dumps)              # "json:dumps"
        reference(partial(pow, 2))         # "functools:<partial builtins:pow>"
    """
    if isinstance(function, functools.partial):
        return f"functools:<partial {reference(cast('Any', function).func)}>"
    if isinstance(function, MethodType):
        owner: object = function.__self__
        name = str(getattr(function.__func__, "__name__", "?"))
        if isinstance(owner, type):
            return f"{owner.__module__}:{owner.__qualname__}.{name}"
        return f"{type(owner).__module__}:<method {type(owner).__qualname__}.{name}>"
    module: object = getattr(function, "__module__", None)
    qualname: object = getattr(function, "__qualname__", None)
    if isinstance(qualname, str):
        return f"{module if isinstance(module, str) else 'builtins'}:{qualname}"
    return f"{type(function).__module__}:<object {type(function).__qualname__}>"


def code_identity(function: Callable[..., Any]) -> bytes:
    """32 bytes that are the same wherever the same code is loaded, and differ once the function was edited.

    Counted are the module and name, the bytecode with its constants and names (nested functions included), parameter
    defaults, what it closes over, and the function under each ``functools.wraps``. Not counted: where the source
    stands, annotations, what the function calls, and the inside of objects that are neither plain values, dataclasses,
    Structs nor functions (their class counts). Bytecode depends on the minor version of Python and on ``-O``, and so
    does the identity.
    """
    fingerprint = _Fingerprint()
    fingerprint.add(function)
    return fingerprint.digest()


class _Fingerprint:
    """A hash that is fed values. Each goes in with its kind and length, so that no two different inputs look alike."""

    __slots__ = ("_hash", "_open")

    def __init__(self, open_: dict[int, int] | None = None) -> None:
        self._hash = hashlib.sha256()
        # What is being fed just now. A recursive local function closes over itself, and would be fed for ever.
        self._open = {} if open_ is None else open_

    def digest(self) -> bytes:
        return self._hash.digest()

    def add(self, value: Any) -> None:
        if type(value) in _LITERALS:
            # By repr, since 0.0 == -0.0 and 1 == True, yet they are different code.
            self._put(type(value).__name__, repr(value).encode("utf-8", "surrogatepass"))
            return
        place = self._open.get(id(value))
        if place is not None:
            self._put("again", str(place).encode())
            return
        self._open[id(value)] = len(self._open)
        self._add_compound(value)
        del self._open[id(value)]

    def _add_compound(self, value: Any) -> None:
        if isinstance(value, CodeType):
            self._add_code(value)
        elif isinstance(value, FunctionType):
            self._add_function(value)
        elif isinstance(value, tuple | list):
            items = cast("Collection[Any]", value)
            self._add_all(_kind(items), items)
        elif isinstance(value, set | frozenset):
            members = cast("Collection[Any]", value)
            self._add_unordered(_kind(members), members)
        elif isinstance(value, dict):
            self._add_all("dict", cast("Mapping[Any, Any]", value).items())
        elif isinstance(value, type):
            self._put("class", f"{value.__module__}:{value.__qualname__}".encode())
        else:
            self._add_object(value)

    def _add_object(self, value: Any) -> None:
        self._put("object", _kind(value).encode())
        if isinstance(value, enum.Enum):
            self.add(value.name)
        elif isinstance(value, _TELLING):
            self.add(repr(value))
        elif isinstance(value, functools.partial):
            self._add_all("partial", (value.func, value.args, value.keywords))
        elif isinstance(value, MethodType):
            self._add_all("method", (value.__func__, value.__self__))
        elif isinstance(value, BuiltinFunctionType):
            self.add(reference(value))
        else:
            self._add_fields(value)
            self._add_callable(value)

    def _add_fields(self, value: Any) -> None:
        if dataclasses.is_dataclass(value):
            self._add_all("fields", (getattr(value, field.name, None) for field in dataclasses.fields(value)))
        elif isinstance(value, msgspec.Struct):
            self._add_all("fields", (getattr(value, name) for name in value.__struct_fields__))

    def _add_callable(self, value: Any) -> None:
        """A callable object counts by its ``__call__``, a wrapper such as ``lru_cache``'s by what it wraps."""
        wrapped = inspect.getattr_static(value, "__wrapped__", None)
        call = inspect.getattr_static(cast("type[object]", type(value)), "__call__", None)
        if wrapped is not None:
            self.add(wrapped)
        elif isinstance(call, FunctionType):
            self.add(call)

    def _add_function(self, function: FunctionType) -> None:
        self._add_all("name", (function.__module__, function.__qualname__))
        self.add(function.__code__)
        self.add(function.__defaults__)
        self.add(function.__kwdefaults__)
        self._add_all("closure", (_content(cell) for cell in function.__closure__ or ()))
        if "__wrapped__" in vars(function):
            self.add(vars(function)["__wrapped__"])

    def _add_code(self, code: CodeType) -> None:
        self._put("code", code.co_code)
        # Which handler covers which instructions: without it, moving a statement out of a try block could go unseen.
        self._put("handlers", code.co_exceptiontable)
        flags = code.co_flags & _FLAGS_THAT_MATTER
        arity = (code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, flags)
        names = (code.co_name, code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars)
        for part in (arity, names, code.co_consts):
            self.add(part)

    def _add_all(self, kind: str, values: Iterable[Any]) -> None:
        listed = tuple(values)
        self._put(kind, struct.pack(">Q", len(listed)))
        for value in listed:
            self.add(value)

    def _add_unordered(self, kind: str, values: Iterable[Any]) -> None:
        """The order of a set of strings differs from process to process, hence sorted by fingerprint."""
        parts: list[bytes] = []
        for value in values:
            part = _Fingerprint(self._open)
            part.add(value)
            parts.append(part.digest())
        self._put(kind, b"".join(sorted(parts)))

    def _put(self, kind: str, data: bytes) -> None:
        self._hash.update(f"{kind}:{len(data)}:".encode())
        self._hash.update(data)


def _kind(value: object) -> str:
    return f"{type(value).__module__}:{type(value).__qualname__}"


def _content(cell: Any) -> Any:
    """What a closure's cell holds; Ellipsis for one that was not filled yet, as in a decorator that runs before the
    name is bound."""
    try:
        return cell.cell_contents
    except ValueError:
        return ...
