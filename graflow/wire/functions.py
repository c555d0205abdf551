"""How functions travel: by name. A worker imports what the name says; code itself never comes over the wire."""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any

import msgspec

from graflow.core.identity import code_identity, reference
from graflow.core.task import Task
from graflow.errors import FunctionNotFoundError

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

__all__ = ["code_identity", "is_importable", "reference", "resolve"]

MAIN = "__main__"


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


class Code(msgspec.Struct, frozen=True):
    reference: str
    pickled: bytes | None = None
    main: str | None = None


def code_for_child(spec: Any, signer: Any = None) -> Code:
    name = getattr(spec, "reference", None) or reference(spec.function)
    main = getattr(sys.modules[MAIN], "__file__", None) if name.startswith("__main__:") else None
    if "<" in name:
        raise _not_found(name, "cannot be sent")
    return Code(name, None, main)
