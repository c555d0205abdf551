"""Which code a container needs of the worker's, and where that is on the host."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from graflow.errors import ConfigurationError
from graflow.handlers.docker.settings import CODE

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from types import ModuleType

    from graflow.wire.functions import Code

MAIN: Final = "__main__"
RUN_MODULE: Final = "-m "
"""what a main program begins with that is a module and not a script"""
PICKLER: Final = "cloudpickle"
"""what pickled functions are loaded with; it is pure Python, so that the worker's does in any image of the same minor version"""
_SUFFIXES: Final = tuple(importlib.machinery.all_suffixes())


@dataclass(frozen=True, slots=True)
class Needs:
    """What one function needs.

    Attributes:
        mounts: paths of the host, by their name below :data:`CODE`.
        main: where the container has the main program, for functions that are defined there.
    """

    mounts: Mapping[str, str]
    main: str | None = None


NOTHING: Final = Needs({})


def needs_of(code: Code) -> Needs:
    """What a function needs. Looks at the file system, so it is not for the event loop.

    A function of an installed package needs that package; what it imports besides is in the image, or named by ``packages=``.
    """
    if code.main is not None and code.main.startswith(RUN_MODULE):
        module = code.main.removeprefix(RUN_MODULE)
        return Needs(_package(module.partition(".")[0], sys.modules.get(MAIN)))
    if code.main is not None:
        path = Path(code.main).resolve()
        return Needs({path.name: str(path)}, f"{CODE}/{path.name}")
    module = code.reference.partition(":")[0]
    found = _package(module.partition(".")[0], sys.modules.get(module))
    if code.pickled is not None:  # which may refer to its module, and is read by what wrote it
        return Needs({**found, **_named((PICKLER,), strict=False)})
    return Needs(found)


def packages(names: Iterable[str]) -> Mapping[str, str]:
    """Where the packages are that the user names.

    Raises:
        ConfigurationError: one of them is not here.
    """
    return _named(names, strict=True)


def _named(names: Iterable[str], *, strict: bool) -> Mapping[str, str]:
    found: dict[str, str] = {}
    for name in names:
        places = _package(name, sys.modules.get(name))
        if strict and not places:
            raise ConfigurationError(
                f"DockerHandler(packages=...): there is no package {name!r} here that could be mounted", setting="packages"
            )
        found.update(places)
    return found


def _package(top: str, inner: ModuleType | None) -> Mapping[str, str]:
    """A top-level package or module as mounts; nothing for what Python brings along itself."""
    if top in sys.stdlib_module_names or top == MAIN:
        return {}
    within = getattr(inner, "__file__", None)
    places, is_namespace = _places(top)
    real = [place.resolve() for place in places]
    if is_namespace and len(real) > 1:
        parts = _parts(top, real)
        there = within is None or any(Path(within).resolve().is_relative_to(place) for place in real)
        return parts if there else {}
    for place in real:
        if place.is_dir() and (within is None or Path(within).resolve().is_relative_to(place)):
            return {top: str(place)}
        if place.is_file():
            return {places[real.index(place)].name: str(place)}
    return {}


def _parts(name: str, places: list[Path]) -> dict[str, str]:
    """The packages and modules of a namespace package that has several directories, so that a container sees what the worker sees.

    Where two of them have a part of the same name it is the first one's, as it is for an import; if it is a namespace itself, it is both's.
    """
    found: dict[str, str] = {}
    inner: dict[str, list[Path]] = {}
    for child in (child for place in places if place.is_dir() for child in sorted(place.iterdir())):
        within = f"{name}/{child.name}"
        if within in found or child.name.startswith((".", "__pycache__")):
            continue
        if not child.is_dir():
            if child.name.endswith(_SUFFIXES):
                found[within] = str(child.resolve())
        elif any((child / f"__init__{suffix}").is_file() for suffix in _SUFFIXES):
            inner.pop(within, None)  # a package goes before namespaces, wherever it is
            found[within] = str(child.resolve())
        else:
            inner.setdefault(within, []).append(child)
    for within, several in inner.items():
        found.update({within: str(several[0].resolve())} if len(several) == 1 else _parts(within, several))
    return found


def _places(top: str) -> tuple[list[Path], bool]:
    """Its directories, or its one file; and whether it is a namespace package, of which other directories hold other parts."""
    module = sys.modules.get(top)
    try:
        spec = getattr(module, "__spec__", None) or importlib.util.find_spec(top)
    except (ImportError, ValueError):
        spec = None
    inside = getattr(module, "__path__", None) or (spec.submodule_search_locations if spec is not None else None)
    file = getattr(module, "__file__", None) or (spec.origin if spec is not None else None)
    if inside:
        return [Path(each) for each in inside], file is None
    return [Path(file)] if file else [], False
