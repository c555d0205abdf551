"""Names of functions, and what they lead to: by import, or by a name that was registered."""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any, Final, TypeVar, overload

from graflow.core.identity import reference
from graflow.core.task import Task
from graflow.errors import ConfigurationError, FunctionNotFoundError

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

F = TypeVar("F", bound="Callable[..., Any]")

MAIN: Final = "__main__"
NAMED: Final = "<named>:"
"""what a reference by a registered name begins with"""


class FunctionRegistry:
    """Functions by names of the user's own choice, which stay when code is moved or renamed.

    A name means something where the module that registers it has been imported: tell workers of it with ``--app``.
    """

    def __init__(self) -> None:
        self._functions: dict[str, Callable[..., Any]] = {}
        self._names: dict[int, str] = {}

    @overload
    def register(self, name: str, function: F) -> F: ...
    @overload
    def register(self, name: str) -> Callable[[F], F]: ...
    def register(self, name: str, function: F | None = None) -> F | Callable[[F], F]:
        """Give a function, or the function of a task, a name to travel by. Without a function, a decorator.

        Raises:
            ConfigurationError: the name is no text, or another function has it.

        Example::

            @register("pricing.total")
            @task
            def total(order: dict) -> float: ...
        """
        if not isinstance(name, str) or not name:  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ConfigurationError(f"register({name!r}): give a name, such as register('pricing.total')", setting="name")
        if function is None:
            return lambda found: self.register(name, found)
        given: Any = function
        plain: Callable[..., Any] = given.function if isinstance(given, Task) else given
        known = self._functions.get(name)
        if known is not None and known is not plain and reference(known) != reference(plain):  # the same again: its module was loaded again
            raise ConfigurationError(
                f"register({name!r}): that is the name of {reference(known)!r} already; choose another for {reference(plain)!r}",
                setting="name",
            )
        self._functions[name] = plain
        self._names[id(plain)] = name
        return function

    def get(self, name: str) -> Callable[..., Any]:
        """The function of that name. Raises FunctionNotFoundError."""
        found = self._functions.get(name)
        if found is None:
            raise FunctionNotFoundError(
                f"no function is registered here as {name!r}; import the module that does it first, as with graflow-aworker --app MODULE",
                reference=f"{NAMED}{name}",
            )
        return found

    def reference_of(self, function: object) -> str | None:
        """The reference by the name that the function was registered under; None if it was not."""
        name = self._names.get(id(function))
        return f"{NAMED}{name}" if name is not None and self._functions.get(name) is function else None


registry: Final = FunctionRegistry()
"""The names of this process."""


def resolve(name: str) -> Callable[..., Any]:
    """The function of that name, imported if need be; of a task, the function that it was made from.

    Args:
        name: ``module:qualname``, as :func:`reference` gives it.

    Raises:
        FunctionNotFoundError: the name leads nowhere, to something that cannot be called, or to code that has no
            importable name; or importing its module failed, which is then the cause.

    Example::

        resolve("json:dumps")({"a": 1})
    """
    if name.startswith(NAMED):
        return registry.get(name.removeprefix(NAMED))
    module_name, colon, qualname = name.partition(":")
    if not colon or not module_name or not qualname:
        raise _not_found(name, "is no function reference; one reads module:qualname")
    if "<" in qualname:
        raise _not_found(
            name,
            "has no name that can be imported, being a lambda, a local function, a method of an object or a partial; "
            "define it with def at the top level of a module",
        )
    found: Any = _module(module_name, name)
    place = module_name
    for part in qualname.split("."):
        try:
            found = getattr(found, part)
        except (AttributeError, ImportError):  # the latter from a module that imports its parts when they are asked for
            raise _not_found(name, f"was not found: {place} has no {part!r}; {_remedy(module_name)}") from None
        place = f"{place}.{part}"
    if isinstance(found, Task):
        return found.function
    if not callable(found):
        raise _not_found(name, f"is a {type(found).__name__}, not a function")
    function: Callable[..., Any] = found
    return function


def is_importable(function: Callable[..., Any]) -> bool:
    """Whether another process could find the function by its :func:`reference`.

    Not so for what is defined in the main module: the main module of a worker is another one.
    """
    name = reference(function)
    if name.startswith(f"{MAIN}:"):
        return False
    try:
        return resolve(name) == function
    except FunctionNotFoundError:
        return False


def _module(name: str, reference: str) -> ModuleType:
    module = sys.modules.get(name)
    if module is not None:
        return module
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        missing = f"there is no module {error.name!r}"
        if error.name is not None and error.name != name and not name.startswith(f"{error.name}."):
            missing = f"importing {name} needs {error.name!r}, which is not installed here"
        raise _not_found(reference, f"was not found: {missing}; {_remedy(name)}") from error
    except (Exception, SystemExit) as error:  # the module's own code runs, and may raise anything, or call exit()
        raise _not_found(reference, f"was not found: importing {name} raised {type(error).__name__}: {error}") from error


def _remedy(module_name: str) -> str:
    if module_name == MAIN:
        return "the main module here is another program: move the function into a module that both can import"
    return "install or mount there the same version of the code as where the run was submitted, and check PYTHONPATH"


def _not_found(reference: str, problem: str) -> FunctionNotFoundError:
    return FunctionNotFoundError(f"{reference!r} {problem}", reference=reference)
