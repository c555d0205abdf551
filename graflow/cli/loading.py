"""Finding what a command is to run: ``flow.py``, ``flow.py:nightly``, ``package.flows:nightly``."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import traceback
from pathlib import Path
from types import ModuleType
from typing import Any, Final, NamedTuple

from graflow.cli.failures import CommandError
from graflow.core.graph import TaskGraph
from graflow.core.naming import close_matches, listed
from graflow.core.node import Chain, Node
from graflow.core.task import Task
from graflow.core.workflow import Workflow
from graflow.worker.apps import RaisedInterrupt, keyboard

Runnable = Workflow[Any] | TaskGraph | Node[Any]

MISSING: Final = object()
ALONE: Final = "graflow_file_"
"""what the names of modules begin with that only this process can import"""
KINDS: Final[tuple[tuple[type[Any], str], ...]] = (
    (Workflow, "a workflow"), (TaskGraph, "a graph"), (Task, "a task"), (Chain, "a chain"), (Node, "a group"),
)  # fmt: skip


class Found(NamedTuple):
    """What was found, in which module, and the folder that must be on the path for another process to import that."""

    graph: Runnable
    module: ModuleType
    folder: Path


def load(target: str) -> Runnable:
    """What ``FILE_OR_MODULE[:WORKFLOW]`` names; see :func:`find`."""
    return find(target).graph


def load_for_workers(target: str) -> Found:
    """What a target names, when other processes are to import it too.

    Raises:
        CommandError: as :func:`find`, or they could not.
    """
    found = find(target)
    if found.module.__name__.startswith(ALONE):
        name = Path(str(found.module.__file__)).name
        raise CommandError(f"workers cannot import {name}: that is no name of a module, or that of another one; rename the file")
    return found


def find(target: str) -> Found:
    """What ``FILE_OR_MODULE[:WORKFLOW]`` names.

    A file is imported as the module that it is: with its folder on the path, or as a part of its package. Without a name, the only workflow
    of the module is taken, or else its only ``TaskGraph``.

    Raises:
        CommandError: there is no such file, module or name; importing it failed; or the name is needed.
    """
    place, name = _split(target)
    module, folder = _import(place)
    return Found(_named(module, place, name) if name is not None else _only(module, place), module, folder)


def _split(target: str) -> tuple[str, str | None]:
    place, colon, name = target.rpartition(":")
    if not colon or Path(target).is_file() or "/" in name or "\\" in name:
        return target, None
    if not place or not name:
        raise CommandError(f"{target!r} names no workflow; write FILE.py, FILE.py:WORKFLOW or package.module:WORKFLOW")
    return place, name


# ---- importing ------------------------------------------------------------------------------------------------------


def _import(place: str) -> tuple[ModuleType, Path]:
    path = Path(place)
    if path.is_dir() and (place.endswith("/") or not _is_importable(place)):
        raise CommandError(f"{place} is a folder; give a Python file in it, or the name of a module")
    if not (path.suffix == ".py" or "/" in place or "\\" in place):
        _put_on_path(Path.cwd())
        return _import_module(place, place, None), Path.cwd()
    if not path.is_file():
        raise CommandError(f"there is no file {place}; give the path of a Python file, or the name of a module")
    if path.suffix != ".py":
        raise CommandError(f"{place} is no Python file; its name should end with .py")
    folder, name = _home_of(path.resolve())
    _put_on_path(folder)
    return _import_module(name, place, path.resolve()), folder


def _is_importable(place: str) -> bool:
    return all(part.isidentifier() for part in place.split("."))


def _home_of(path: Path) -> tuple[Path, str]:
    """The folder that must be on the path, and the name of the module as seen from there."""
    parts = [] if path.stem == "__init__" else [path.stem]
    folder = path.parent
    while (folder / "__init__.py").is_file() and folder.name.isidentifier():
        parts.insert(0, folder.name)
        folder = folder.parent
    return folder, ".".join(parts)


def _put_on_path(folder: Path) -> None:
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))


def _import_module(name: str, place: str, path: Path | None) -> ModuleType:
    try:
        with keyboard():
            return _imported(name, path)
    except ModuleNotFoundError as error:
        if path is None and error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            raise CommandError(f"there is no module {error.name!r}; for a file write {name.replace('.', '/')}.py") from error
        raise _import_error(error, place, path) from error
    except RaisedInterrupt as error:
        raise CommandError(f"{place} raises KeyboardInterrupt while it is imported; nobody has pressed Ctrl-C") from error
    except SystemExit as error:
        raise CommandError(f"{place} calls sys.exit() while it is imported; move that below: if __name__ == '__main__'") from error
    except Exception as error:
        raise _import_error(error, place, path) from error


def _imported(name: str, path: Path | None) -> ModuleType:
    known = sys.modules.get(name)
    if path is not None and (not _is_importable(name) or (known is not None and not _is_from(known, path))):
        return _import_under_another_name(path)
    module = importlib.import_module(name)
    return module if path is None or _is_from(module, path) else _import_under_another_name(path)


def _is_from(module: ModuleType, path: Path) -> bool:
    origin = getattr(module, "__file__", None)
    return origin is not None and Path(origin).resolve() == path


def _import_under_another_name(path: Path) -> ModuleType:
    """For a file whose name is no module's, or is that of another module, such as ``json.py``."""
    spec = importlib.util.spec_from_file_location(f"{ALONE}{path.stem}", path)
    if spec is None or spec.loader is None:
        raise CommandError(f"{path} cannot be imported; its name should end with .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def _import_error(error: Exception, place: str, path: Path | None) -> CommandError:
    where = _line_of(error, path)
    return CommandError(f"{place} cannot be imported: {where}{type(error).__name__}: {error}")


def _line_of(error: Exception, path: Path | None) -> str:
    """The file and line of the user's own that led to the error: the last one in the file that was given, if it has any part in it."""
    if isinstance(error, SyntaxError) and error.filename is not None:
        return f"{Path(error.filename).name}, line {error.lineno}: "
    ours = ("<frozen", __file__, importlib.__file__)
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith(ours)]
    frames = [frame for frame in frames if path is not None and Path(frame.filename).resolve() == path] or frames
    return f"{Path(frames[-1].filename).name}, line {frames[-1].lineno}: " if frames else ""


# ---- choosing -------------------------------------------------------------------------------------------------------


def _kind_of(value: object) -> str | None:
    return next((words for kind, words in KINDS if isinstance(value, kind)), None)


def _candidates(module: ModuleType, kind: type[Any]) -> dict[str, Any]:
    """What the module holds of a kind by name; each once, though it may have several names."""
    found: dict[int, tuple[str, Any]] = {}
    for name, value in vars(module).items():
        if isinstance(value, kind) and not name.startswith("__"):
            found.setdefault(id(value), (name, value))
    return dict(found.values())


def _named(module: ModuleType, place: str, name: str) -> Runnable:
    value: Any = module
    for part in name.split("."):
        value = getattr(value, part, MISSING)
    if _kind_of(value) is None:
        named = [each for each in _candidates(module, Workflow).values() if each.name == name]
        value = named[0] if len(named) == 1 else value
    if value is MISSING:
        known = [each for kind in (Workflow, TaskGraph, Node) for each in _candidates(module, kind)]
        raise CommandError(f"{place} has no {name!r}; {close_matches(name, known)}it has {listed(known) or 'nothing that can be run'}")
    if _kind_of(value) is None:
        hint = "; declare it with @task" if callable(value) else ""
        raise CommandError(f"{place}:{name} is of type {type(value).__name__}, which cannot be run{hint}")
    runnable: Runnable = value
    return runnable


def _only(module: ModuleType, place: str) -> Runnable:
    for kind in (Workflow, TaskGraph):
        found = _candidates(module, kind)
        if len(found) == 1:
            (only,) = found.values()
            runnable: Runnable = only
            return runnable
        if found:
            raise CommandError(f"{place} has several, so say which: {_listed(place, found)}")
    found = _candidates(module, Node)
    if found:
        raise CommandError(f"{place} has no workflow, but there is something else to run: {_listed(place, found)}")
    raise CommandError(f"{place} has nothing to run; draw a graph in it: with workflow('name') as wf: ...")


def _listed(place: str, found: dict[str, Any]) -> str:
    names = [f"{place}:{name} ({_kind_of(value)})" for name, value in found.items()]
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
