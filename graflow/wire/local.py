"""Code that has no importable name, for workers in the process that defined it."""

from __future__ import annotations

import uuid
import weakref
from typing import TYPE_CHECKING, Any, Final

from graflow.core.identity import reference
from graflow.errors import FunctionNotFoundError
from graflow.wire.finding import MAIN, is_importable, registry, resolve

if TYPE_CHECKING:
    from collections.abc import Callable

_MARK: Final = "<local>:"


class LocalCode:
    """Lambdas, local functions, partials and the functions of the main module, by names that mean something in this process only.

    Functions are not kept alive: whoever submits a plan keeps it for as long as its run may ask for them.
    """

    __slots__ = ("__weakref__", "_found", "_names")

    def __init__(self) -> None:
        self._names: dict[int, str] = {}
        self._found: dict[str, Callable[[], Any]] = {}

    def refer(self, code: Any) -> str:
        """``<local>:<uuid>`` and what it was called; the same for the same object, another for every other one."""
        known = self._names.get(id(code), "")
        kept = self._found.get(known)
        if kept is not None and kept() is code:
            return known
        name = f"{_MARK}{uuid.uuid4()}:{reference(code)}"
        number = id(code)

        def forget(_: object) -> None:  # holds what it needs, not this registry, which may be gone by then
            found.pop(name, None)
            if names.get(number) == name:
                del names[number]

        found, names = self._found, self._names
        try:
            found[name] = weakref.ref(code, forget)
        except TypeError:  # an object of a class with slots: it stays
            found[name] = lambda: code
        names[number] = name
        return name

    def find(self, name: str) -> Any:
        """The object of that name. Raises FunctionNotFoundError."""
        found = self._found.get(name)
        code = None if found is None else found()
        if code is None:
            raise FunctionNotFoundError(
                f"{name!r} exists only in the process that defined it, being a lambda, a local function, a method of an object, a partial "
                "or part of its main module; define it with def at the top level of a module that the workers can import",
                reference=name,
            )
        return code


this_process: Final = LocalCode()
"""The registry of this process. An uuid leads nowhere in another one, so there is no harm in looking here whenever a plan is read."""


def refer(code: Any, local: LocalCode | None) -> str | None:
    """The name by which a function or class travels; None if it has none that another process could find.

    Args:
        code: what is to be named.
        local: gives a name to what no import could find, where the workers are in this process.
    """
    named = registry.reference_of(code)
    if named is not None:
        return named
    name = reference(code)
    if not name.startswith(f"{MAIN}:") and is_importable(code):
        return name
    return None if local is None else local.refer(code)


def unsendable(code: Any, task_id: str, where: str = "other processes") -> FunctionNotFoundError:
    """The error for code that has no name to travel by, where it cannot travel signed either."""
    name = reference(code)
    if name.startswith(f"{MAIN}:"):
        problem = "stands in the main module, and that of a worker is another one"
    elif "<" in name:
        problem = "is a lambda, a local function, a method of an object or a partial"
    else:
        problem = "is not what that name leads to"
    return FunctionNotFoundError(
        f"{task_id!r} cannot be run by {where}: {name!r} {problem}; define it with def at the top level of a module that the workers can "
        "import, or set GRAFLOW_SECRET_KEY to one secret here and at the workers, and it travels as a signed pickle",
        reference=name,
    )


def find(name: str, local: LocalCode | None) -> Any:
    """The function or class of a name made by :func:`refer`; imports its module if need be. Raises FunctionNotFoundError."""
    if name.startswith(_MARK):
        return (local or _NOBODY).find(name)
    return resolve(name)


_NOBODY: Final = LocalCode()
