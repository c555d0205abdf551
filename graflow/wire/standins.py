"""What stands for code that came by name, until it is used: a worker need not have every module of a plan, only those of what it runs."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Final, cast
from weakref import WeakValueDictionary

from graflow.core.function import FunctionSpec
from graflow.core.identity import reference
from graflow.errors import FunctionNotFoundError, GraphError
from graflow.wire.sources import SIGNED, CodeSource, plain_name

if TYPE_CHECKING:
    from collections.abc import Callable

    from graflow.core.arguments import FunctionSignature
    from graflow.core.policy import GroupState
    from graflow.core.task import Task

_specs: Final[WeakValueDictionary[tuple[int, bool], FunctionSpec]] = WeakValueDictionary()
"""What is known of functions that were found, for all plans that name them. A spec holds its function, whose id so stays its own."""

_FOUND_LATER: Final = frozenset({"function", "name", "signature"})


class SentFunction(FunctionSpec):
    """The function of a task that came over the wire; it is imported, or taken out of its envelope, when something of it is first asked for.

    Raises FunctionNotFoundError, whenever it is asked, where the function cannot be had, and UntrustedPayloadError where it came signed and was
    not admitted.
    """

    __slots__ = ("_code", "_spec", "reference")

    def __init__(self, reference: str, *, is_async: bool, inject_context: bool, code: CodeSource) -> None:
        # Not FunctionSpec's: the attributes that take a function to fill are left unset, so that __getattr__ is asked for them.
        self.reference: str = reference
        self.is_async = is_async
        self.inject_context = inject_context
        self._identity = None
        self._code = code

    def __getattr__(self, name: str) -> Any:
        if name not in _FOUND_LATER:
            raise AttributeError(name)
        spec = self._spec = _spec_of(self.reference, self.is_async, self.inject_context, self._code)
        self.name: str = spec.name
        self.signature: FunctionSignature = spec.signature
        self.function: Callable[..., Any] = spec.function
        return getattr(spec, name)

    @property
    def came_along(self) -> bool:
        """Whether signed code came with the plan or task, be it this function or not."""
        return bool(self._code.signed)

    @property
    def is_signed(self) -> bool:
        """Whether the function itself came signed."""
        return self.reference.startswith(SIGNED)

    def admit(self, run_id: str, task_id: str) -> None:
        """Verify it for a run and a task. Raises UntrustedPayloadError."""
        self._code.admit("function", self.reference, run_id, task_id)

    def pickled(self) -> bytes:
        """The pickle of a function that came signed. Raises UntrustedPayloadError before it was admitted."""
        code = self._code.envelope(self.reference)
        assert code is not None
        return code.pickled()


class _Held:
    """A source of one function, which is here."""

    signed = ()

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    def find(self, name: str) -> Any:
        return self._function


class HeldFunction(SentFunction):
    """The function of a task that another function holds which was pickled: here, but perhaps not put together yet."""

    __slots__ = ()

    def __init__(self, function: Callable[..., Any], is_async: bool, inject_context: bool) -> None:
        super().__init__("<held>", is_async=is_async, inject_context=inject_context, code=cast("CodeSource", _Held(function)))


def _spec_of(name: str, is_async: bool, inject_context: bool, code: CodeSource) -> FunctionSpec:
    function = code.find(name)
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

    __slots__ = ("_code", "reference")

    def __init__(self, reference: str, code: CodeSource) -> None:
        self.reference: str = reference
        self._code = code

    def admit(self, run_id: str, group_id: str) -> None:
        """Verify it for a run and a group. Raises UntrustedPayloadError."""
        self._code.admit("policy", self.reference, run_id, group_id)

    def found(self) -> Any:
        """The policy itself. Raises FunctionNotFoundError, and UntrustedPayloadError where it was not admitted."""
        return self._code.find(self.reference)

    def __call__(self, state: GroupState) -> bool:
        return bool(self.found()(state))

    def __eq__(self, other: object) -> bool:
        return self.reference == (other.reference if isinstance(other, SentPolicy) else reference(cast("Any", other)))

    def __hash__(self) -> int:
        return hash(self.reference)

    def __repr__(self) -> str:
        return f"<policy {self.reference}>"


def policy_function(name: str, code: CodeSource) -> Any:
    """The function of a policy, or what stands for it where that would have to be imported."""
    found = _at_hand(name, code)
    return SentPolicy(name, code) if found is None else found


# ---- exceptions ----


class SentClass(type):
    """The type of what stands for an exception class: ``isinstance`` looks for the class itself.

    The stand-in bears the name of the class, by which the two count as equal.
    """

    reference: str
    code: CodeSource

    def found(cls) -> type[BaseException]:
        """The class. Raises FunctionNotFoundError, and UntrustedPayloadError where it was not admitted."""
        found = cls.code.find(cls.reference)
        if not _is_error_class(found):
            raise FunctionNotFoundError(f"{cls.reference!r} is no exception class", reference=cls.reference)
        return cast("type[BaseException]", found)

    def admit(cls, run_id: str, task_id: str) -> None:
        """Verify it for a run and a task. Raises UntrustedPayloadError."""
        cls.code.admit("error", cls.reference, run_id, task_id)

    def __instancecheck__(cls, instance: object) -> bool:
        return isinstance(instance, cls.found())

    def __subclasscheck__(cls, subclass: type) -> bool:
        return super().__subclasscheck__(subclass) or issubclass(subclass, cls.found())

    def __eq__(cls, other: object) -> bool:
        return cls is other or (isinstance(other, type) and reference(cls) == reference(other))

    def __hash__(cls) -> int:
        return hash(cls.found())


def error_class(name: str, code: CodeSource) -> type[BaseException]:
    """The exception class of that name, or what stands for it where it would have to be imported."""
    found = _at_hand(name, code)
    if _is_error_class(found):
        return cast("type[BaseException]", found)
    module, _, qualname = plain_name(name).partition(":")
    fields = {"__module__": module, "__qualname__": qualname, "reference": name, "code": code}
    return cast("type[BaseException]", SentClass(qualname, (Exception,), fields))


def _is_error_class(found: object) -> bool:
    return isinstance(found, type) and issubclass(found, BaseException)


def _at_hand(name: str, code: CodeSource) -> Any:
    """What a name leads to if that takes no import and opens no envelope; None where it does, or where it leads nowhere."""
    module = name.partition(":")[0]
    if module in sys.modules or (module.startswith("<") and not name.startswith(SIGNED)):
        try:
            return code.find(name)
        except FunctionNotFoundError:
            pass
    return None


# ---- all of them ----


def sent_reference(code: object) -> str | None:
    """The name of what is a stand-in; None for everything else, and for what came signed: its name means something in its own plan only."""
    if isinstance(code, HeldFunction) or not isinstance(code, SentFunction | SentPolicy | SentClass):
        return None
    return None if code.reference.startswith(SIGNED) else code.reference


def itself(code: Any) -> Any:
    """The code that is meant: the function of a spec, and what a stand-in stands for."""
    if isinstance(code, FunctionSpec):
        return code.function
    return code.found() if isinstance(code, SentPolicy | SentClass) else code


def admit(task: Task[..., Any], run_id: str) -> None:
    """Verify all signed code of a task that came over the wire, before any of it is used. Costs next to nothing where there is none.

    Raises:
        UntrustedPayloadError: some of it is not signed, or not for this task of this run.
    """
    spec = task.spec
    if not isinstance(spec, SentFunction) or not spec.came_along:
        return
    spec.admit(run_id, task.id)
    retry = task.options.retry
    classes: tuple[Any, ...] = () if retry is None else (*retry.retry_on, *retry.give_up_on)
    for each in classes:
        if isinstance(each, SentClass):
            each.admit(run_id, task.id)
