"""What stands for code that came by name, until it is used: a worker need not have every module of a plan, only those of what it runs."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Final, cast
from weakref import WeakValueDictionary

from graflow.core.function import FunctionSpec
from graflow.core.identity import reference
from graflow.errors import FunctionNotFoundError, GraphError
from graflow.wire.local import LocalCode, find

if TYPE_CHECKING:
    from collections.abc import Callable

    from graflow.core.arguments import FunctionSignature
    from graflow.core.policy import GroupState

_specs: Final[WeakValueDictionary[tuple[int, bool], FunctionSpec]] = WeakValueDictionary()
"""What is known of functions that were found, for all plans that name them. A spec holds its function, whose id so stays its own."""

_FOUND_LATER: Final = frozenset({"function", "name", "signature"})


class SentFunction(FunctionSpec):
    """The function of a task that came over the wire; it is imported when something of it is first asked for.

    Raises FunctionNotFoundError, whenever it is asked, where the function cannot be had.
    """

    __slots__ = ("_local", "_spec", "reference")

    def __init__(self, reference: str, *, is_async: bool, inject_context: bool, local: LocalCode | None) -> None:
        # Not FunctionSpec's: the attributes that take a function to fill are left unset, so that __getattr__ is asked for them.
        self.reference: str = reference
        self.is_async = is_async
        self.inject_context = inject_context
        self._identity = None
        self._local = local

    def __getattr__(self, name: str) -> Any:
        if name not in _FOUND_LATER:
            raise AttributeError(name)
        spec = self._spec = _spec_of(self.reference, self.is_async, self.inject_context, self._local)
        self.name: str = spec.name
        self.signature: FunctionSignature = spec.signature
        self.function: Callable[..., Any] = spec.function
        return getattr(spec, name)


def _spec_of(name: str, is_async: bool, inject_context: bool, local: LocalCode | None) -> FunctionSpec:
    function = find(name, local)
    key = (id(function), inject_context)
    spec = _specs.get(key)
    if spec is None:
        try:
            spec = _specs[key] = FunctionSpec(function, inject_context=inject_context)
        except GraphError as error:
            raise FunctionNotFoundError(f"{name!r} was found, but cannot be run as a task: {error}", reference=name) from error
    if spec.is_async != is_async:
        here, there = ("an async def", "a def") if spec.is_async else ("a def", "an async def")
        raise FunctionNotFoundError(
            f"{name!r} is {here} here and was {there} where the run was submitted; install the same version of the code here",
            reference=name,
        )
    return spec


# ---- policies ----


class SentPolicy:
    """A group policy of the user's own, by name."""

    __slots__ = ("_local", "reference")

    def __init__(self, reference: str, local: LocalCode | None) -> None:
        self.reference: str = reference
        self._local = local

    def __call__(self, state: GroupState) -> bool:
        return bool(find(self.reference, self._local)(state))

    def __eq__(self, other: object) -> bool:
        return self.reference == (other.reference if isinstance(other, SentPolicy) else reference(cast("Any", other)))

    def __hash__(self) -> int:
        return hash(self.reference)

    def __repr__(self) -> str:
        return f"<policy {self.reference}>"


def policy_function(name: str, local: LocalCode | None) -> Any:
    """The function of a policy, or what stands for it where that would have to be imported."""
    found = _at_hand(name, local)
    return SentPolicy(name, local) if found is None else found


# ---- exceptions ----


class SentClass(type):
    """The type of what stands for an exception class: ``isinstance`` looks for the class itself.

    The stand-in bears the name of the class, by which the two count as equal.
    """

    reference: str
    local: LocalCode | None

    def found(cls) -> type[BaseException]:
        """The class. Raises FunctionNotFoundError."""
        found = find(cls.reference, cls.local)
        if not _is_error_class(found):
            raise FunctionNotFoundError(f"{cls.reference!r} is no exception class", reference=cls.reference)
        return cast("type[BaseException]", found)

    def __instancecheck__(cls, instance: object) -> bool:
        return isinstance(instance, cls.found())

    def __subclasscheck__(cls, subclass: type) -> bool:
        return super().__subclasscheck__(subclass) or issubclass(subclass, cls.found())

    def __eq__(cls, other: object) -> bool:
        return cls is other or (isinstance(other, type) and reference(cls) == reference(other))

    def __hash__(cls) -> int:
        return hash(cls.found())


def error_class(name: str, local: LocalCode | None) -> type[BaseException]:
    """The exception class of that name, or what stands for it where it would have to be imported."""
    found = _at_hand(name, local)
    if _is_error_class(found):
        return cast("type[BaseException]", found)
    module, _, qualname = name.partition(":")
    fields = {"__module__": module, "__qualname__": qualname, "reference": name, "local": local}
    return cast("type[BaseException]", SentClass(qualname, (Exception,), fields))


def _is_error_class(found: object) -> bool:
    return isinstance(found, type) and issubclass(found, BaseException)


def _at_hand(name: str, local: LocalCode | None) -> Any:
    """What a name leads to if that takes no import; None where it does, or where it leads nowhere."""
    module = name.partition(":")[0]
    if module in sys.modules or module.startswith("<"):
        try:
            return find(name, local)
        except FunctionNotFoundError:
            pass
    return None


def sent_reference(code: object) -> str | None:
    """The name of what is a stand-in; None for everything else."""
    return code.reference if isinstance(code, SentFunction | SentPolicy | SentClass) else None
