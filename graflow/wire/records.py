"""Classes on the wire: how a value of the user's own class is taken apart, and put together again where the class is
known.

A class travels as ``module:qualname``, and is looked for among the modules that this process *has imported*: importing
a module because a message names it would execute code that a message chose. Nor does the search run any code of those
modules. What is not found stays what it was made from (a mapping, a tuple, a plain value), which ``msgspec.convert``
turns into the class that a parameter is annotated with.
"""

from __future__ import annotations

import dataclasses
import enum
import sys
from functools import lru_cache
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

import msgspec

from graflow.errors import SerializationError

if TYPE_CHECKING:
    from collections.abc import Callable

_HEAP_TYPE: Final = 1 << 9
"""The flag of classes made by a ``class`` statement (``Py_TPFLAGS_HEAPTYPE``)."""

BASES: Final[dict[str, type]] = {base.__name__: base for base in (str, bytes, int, float, tuple, list, dict, set, frozenset)}
"""Built-in types that a class of the user's may extend and still travel."""

_FILLED_BY: Final[dict[type, str]] = {list: "extend", dict: "update", set: "update"}
"""The method that puts content into those of them that can be changed."""

T = TypeVar("T")


def once_per_class(find_out: Callable[[type[Any]], T]) -> Callable[[type[Any]], T]:
    """Remember what was found out about the classes met last."""
    return cast("Callable[[type[Any]], T]", lru_cache(maxsize=1024)(find_out))


def class_reference(cls: type[object]) -> str:
    """The name by which a class travels. In a child process the main program has another name."""
    module = cls.__module__
    return f"{'__main__' if module == '__mp_main__' else module}:{cls.__qualname__}"


def class_of(value: object) -> str:
    """The name by which a value's class travels."""
    return class_reference(type(value))


def find_class(reference: str) -> type | None:
    """The class of this name, if the module that defines it was imported already; else None."""
    module_name, _, qualname = reference.partition(":")
    module = sys.modules.get(module_name)
    if not isinstance(module, ModuleType):
        return None
    # Straight from the dictionaries: getattr could run a module's __getattr__, a lazy import or a descriptor.
    found: object = module
    for part in qualname.split("."):
        namespace: Any = type.__getattribute__(found, "__dict__") if isinstance(found, type) else _namespace(found)
        found = None if namespace is None else namespace.get(part)
    return found if isinstance(found, type) else None


def _namespace(found: object) -> Any:
    return object.__getattribute__(found, "__dict__") if isinstance(found, ModuleType) else None


# ---- dataclasses ---------------------------------------------------------------------------------------------------


@once_per_class
def dataclass_fields(cls: type) -> tuple[dataclasses.Field[Any], ...]:
    """The fields of a dataclass, without asking it each time."""
    return dataclasses.fields(cls)


def is_plain_object(cls: type) -> bool:
    """Whether attributes are all that an instance has. Not so for an exception, or a dict, that is a dataclass too."""
    return all(kind is object or kind.__flags__ & _HEAP_TYPE for kind in cls.__mro__)


def dataclass_state(value: object) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """A dataclass taken apart: its fields, those outside ``__init__`` too, and attributes that are no fields."""
    fields = dataclass_fields(type(value))
    state = {field.name: getattr(value, field.name) for field in fields if hasattr(value, field.name)}
    return state, extras(value, state)


def make_dataclass(cls: type[object], state: dict[str, Any], attributes: dict[str, Any] | None) -> Any:
    """A copy of the dataclass that was sent, or its fields where this process's version of the class needs one that was
    not.

    The state is copied, as ``copy.copy`` does: neither ``__init__`` nor ``__post_init__`` runs. The sender's did, so a
    field that was normalised there is not normalised twice, and a message runs none of the class's code.
    """
    value = object.__new__(cls)
    for field in dataclass_fields(cls):
        if field.name in state:
            content = state[field.name]
        elif field.default is not dataclasses.MISSING:
            content = field.default
        elif field.default_factory is not dataclasses.MISSING:
            content = field.default_factory()
        else:
            return state
        object.__setattr__(value, field.name, content)  # also where the class is frozen
    return _with_attributes(value, attributes)


# ---- msgspec Structs -----------------------------------------------------------------------------------------------


def struct_state(value: msgspec.Struct) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """A Struct taken apart, under the names that it is encoded by, and with its tag: what ``msgspec.convert`` takes."""
    config = value.__struct_config__
    state: dict[str, Any] = {}
    if config.tag is not None and config.tag_field is not None:
        state[config.tag_field] = config.tag
    defaults = struct_defaults(type(value))
    for name, encoded in zip(value.__struct_fields__, value.__struct_encode_fields__, strict=True):
        content = getattr(value, name)
        # Left out as msgspec does, whose convert takes no UNSET.
        if content is not msgspec.UNSET or defaults[name] is not msgspec.UNSET:
            state[encoded] = content
    return state, extras(value, ())


def make_struct(cls: type[msgspec.Struct], state: dict[str, Any], attributes: dict[str, Any] | None) -> Any:
    """The Struct that was sent, or its fields where this process's version of the class needs one that was not.

    It is made by its constructor, the only way there is, so ``__post_init__`` runs. It is the receiver's own code, as
    it would be for any other use of the class. Types of fields are not checked again: they arrive as they left.
    """
    names = dict(zip(cls.__struct_encode_fields__, cls.__struct_fields__, strict=True))
    arguments = {names[encoded]: content for encoded, content in state.items() if encoded in names}
    if any(default is msgspec.NODEFAULT and name not in arguments for name, default in struct_defaults(cls).items()):
        return state
    try:
        value = cls(**arguments)
    except Exception as error:  # whatever a __post_init__ of the user's raises
        raise SerializationError(
            f"a {cls.__qualname__} arrived that its own __post_init__ refuses: {error}", type_name=class_reference(cls)
        ) from error
    return _with_attributes(value, attributes)


@once_per_class
def struct_defaults(cls: type[msgspec.Struct]) -> dict[str, Any]:
    """The default of each field; ``NODEFAULT`` for those that the constructor insists on."""
    fields, defaults = cls.__struct_fields__, cls.__struct_defaults__
    # Defaults belong to the last fields; keyword-only ones among them may still have none.
    return dict(zip(fields, (msgspec.NODEFAULT,) * (len(fields) - len(defaults)) + defaults, strict=True))


# ---- enums and subclasses of built-in types ------------------------------------------------------------------------


def make_member(cls: type[enum.Enum], name: str | None, value: Any) -> Any:
    """The member of that name; a combination of flags by its value; the bare value where this process's class has no
    such member."""
    member = cls.__members__.get(name) if name is not None else None
    if member is not None:
        return member
    if issubclass(cls, enum.Flag) and isinstance(value, int):
        return cls(value)
    return value


@once_per_class
def builtin_base(cls: type) -> type | None:
    """The built-in type that a class of the user's extends, if that is all there is to its instances besides
    ``__dict__``.

    None where copying the built-in part would lose something: classes written in C (``numpy.float64``) and such with
    ``__slots__``.
    """
    for base in BASES.values():
        if not issubclass(cls, base):
            continue
        added = cls.__mro__[: cls.__mro__.index(base)]
        if all(kind.__flags__ & _HEAP_TYPE and not vars(kind).get("__slots__") for kind in added):
            return base
    return None


def builtin_content(value: Any, base: type) -> Any:
    """The built-in part of such a value, whatever the class made of ``__str__``, ``__iter__`` or ``__getitem__``."""
    built_in: Any = base
    if base is str or base is int or base is float:
        getters: dict[type, Any] = {str: str.__str__, int: int.__int__, float: float.__float__}
        return getters[base](value)
    if base is dict:
        return built_in.copy(value)
    if base is set or base is frozenset:
        return built_in(built_in.__iter__(value))
    return built_in.__getitem__(value, slice(None))


def make_subclass(cls: type, base: type, content: Any, attributes: dict[str, Any] | None) -> Any:
    """The reverse of :func:`builtin_content`, again without any code of the class."""
    built_in: Any = base
    fill = _FILLED_BY.get(base)
    if fill is None:
        return _with_attributes(built_in.__new__(cls, content), attributes)
    made = built_in.__new__(cls)
    getattr(built_in, fill)(made, content)
    return _with_attributes(made, attributes)


# ---- instance attributes -------------------------------------------------------------------------------------------


def extras(value: Any, fields: Any) -> dict[str, Any] | None:
    """Instance attributes that are not among the fields; None if there are none."""
    attributes: dict[str, Any] = getattr(value, "__dict__", None) or {}
    return {name: content for name, content in attributes.items() if name not in fields} or None


def _with_attributes(value: Any, attributes: dict[str, Any] | None) -> Any:
    if attributes and hasattr(value, "__dict__"):
        # Into the dictionary, not by setattr, which a name of the message's choosing could lead to a property or to
        # __class__.
        value.__dict__.update(attributes)
    return value
