"""How functions travel: by name. What has no name that can be imported travels as a signed pickle, where there is a key, and else not at all.

Names are looked up in :mod:`graflow.wire.finding`; this is the front.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakKeyDictionary

import msgspec

from graflow.core.function import FunctionSpec
from graflow.core.identity import code_identity, reference
from graflow.errors import FunctionNotFoundError
from graflow.wire.finding import MAIN, FunctionRegistry, is_importable, registry, resolve
from graflow.wire.keys import Signer
from graflow.wire.local import unsendable
from graflow.wire.standins import HeldFunction, SentFunction

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "Code",
    "FunctionRegistry",
    "code_for_child",
    "code_identity",
    "is_importable",
    "reference",
    "register",
    "registry",
    "resolve",
]

register: Final = registry.register
"""Give a function a name to travel by; see :meth:`FunctionRegistry.register`."""


class Code(msgspec.Struct, frozen=True):
    """How a child process gets at a function.

    Attributes:
        reference: ``module:qualname``; for messages only where there is a pickle.
        pickled: the function as a pickle that may be opened: made here, or verified.
        main: what was run, where the function is one of ``__main__``: the path of a script, or ``-m`` and the name of a module. The child runs it
            under another name first.
    """

    reference: str
    pickled: bytes | None = None
    main: str | None = None


_known: Final[WeakKeyDictionary[FunctionSpec, Code]] = WeakKeyDictionary()
"""What functions of this process were sent as, so that one of 10 000 tasks is pickled once."""


def code_for_child(spec: FunctionSpec, signer: Signer | None, *, task_id: str = "", again: bool = False) -> Code:
    """How a child process gets at the function of a task: by import, from the main script, or as a pickle.

    Args:
        spec: the function of a task, made here or sent.
        signer: the keys of this process; without one nothing is pickled.
        task_id: what the task is called in errors, instead of what its function is.
        again: look at the function anew, as what it holds may have changed since it was pickled.

    Raises:
        FunctionNotFoundError: it has no name that a child could import, and there is no key.
        SerializationError: it holds something that cannot be pickled; the message says where.
        ConfigurationError: cloudpickle is not installed.

    Example::

        code_for_child(fetch.spec, None)        # Code(reference="shop:fetch", pickled=None, main=None)
    """
    if isinstance(spec, SentFunction) and not isinstance(spec, HeldFunction):
        if spec.is_signed:
            return Code(spec.reference.partition(":")[2], spec.pickled())
        if not spec.reference.startswith("<"):
            return Code(spec.reference)  # not looked for: the child may have modules that this process lacks
    code = None if again else _known.get(spec)
    if code is None:
        code = _known[spec] = _code_of(spec, signer, task_id or spec.name)
    return code


def _code_of(spec: FunctionSpec, signer: Signer | None, task_id: str) -> Code:
    function = spec.function
    name = reference(function)
    if name.startswith(f"{MAIN}:"):
        code = _in_main(name, function)
        if code is not None:
            return code
    elif is_importable(function):
        return Code(name)
    if signer is None:
        raise unsendable(function, task_id, "a process or container of its own")
    from graflow.wire import pickling  # when it is first needed: most processes never pickle

    return Code(name, pickling.dumps(function, f"task {task_id}"))


def _in_main(name: str, function: Callable[..., Any]) -> Code | None:
    """As ``multiprocessing`` does it when it spawns: the child runs the main program again under another name, be it a script or a module."""
    try:
        if resolve(name) != function:
            return None
    except FunctionNotFoundError:
        return None
    main: Any = sys.modules[MAIN]
    spec = getattr(main, "__spec__", None)
    if spec is not None:
        return Code(name, main=f"-m {spec.name}") if not spec.name.endswith(f".{MAIN}") and spec.name != MAIN else None
    path = getattr(main, "__file__", None)
    # No look at the file: this is asked on the event loop, and the child will say what it does not find.
    return Code(name, main=os.path.abspath(path)) if isinstance(path, str) and not path.startswith("<") else None
