"""Where a child finds the function that it is told to call."""

from __future__ import annotations

import importlib
import os
import pickle
import runpy
import sys
from types import ModuleType
from typing import Any

MAIN = "__main__"
MOST = 256
"""functions that are remembered"""
STAGE = "GRAFLOW_INSIDE"
"""the environment variable that says what a child is doing, so that a main program without its guard can be told apart"""


class NotFound(Exception):
    """The function cannot be had here."""


class Functions:
    """Functions that were found, by name; and those that came as a pickle, by their bytes."""

    def __init__(self) -> None:
        self._found: dict[Any, Any] = {}
        self._main: str | None = None

    def find(self, reference: str, pickled: bytes | None, main: str | None) -> Any:
        """The function.

        Args:
            reference: ``module:qualname``.
            pickled: the function itself, from a sender whose signature was checked.
            main: the main program, for functions that are defined there: a path, or ``-m`` and the name of a module.

        Raises:
            NotFound: with what is wrong.
        """
        key = (reference, pickled)
        if key not in self._found:
            if len(self._found) >= MOST:  # pickles are keys, and may be large
                self._found.clear()
            self._found[key] = self._load(pickled, reference) if pickled is not None else self._import(reference, main)
        return self._found[key]

    def run_main(self, main: str) -> None:
        """Run the main program once, under another name, as Python's multiprocessing does, for what it defines.

        Raises:
            NotFound: it raised.
        """
        if main == self._main:
            return
        os.environ[STAGE] = "importing the main program"
        try:
            defined = _run(main)
        except Exception as error:
            text = f"running {main} again, for the functions it defines, raised {type(error).__name__}: {error}"
            raise NotFound(f"{text}; put what is to run only once under: if __name__ == '__main__'") from error
        except SystemExit as error:
            raise NotFound(f"running {main} again called exit({error.code}); put that under: if __name__ == '__main__'") from error
        finally:
            os.environ[STAGE] = "serving"
        module = ModuleType("__mp_main__")
        module.__dict__.update(defined)
        sys.modules[MAIN] = sys.modules["__mp_main__"] = module
        self._main = main

    def _load(self, pickled: bytes, reference: str) -> Any:
        try:
            return pickle.loads(pickled)
        except Exception as error:
            raise NotFound(f"{reference!r} came as a pickle that cannot be loaded here: {type(error).__name__}: {error}") from error

    def _import(self, reference: str, main: str | None) -> Any:
        module_name, _, qualname = reference.partition(":")
        if main is not None:
            self.run_main(main)
        try:
            found: Any = importlib.import_module(module_name)
        except Exception as error:
            raise NotFound(f"importing {module_name} raised {type(error).__name__}: {error}") from error
        except SystemExit as error:
            raise NotFound(f"importing {module_name} called exit({error.code})") from error
        for part in qualname.split("."):
            try:
                found = getattr(found, part)
            except AttributeError:
                raise NotFound(f"{module_name} has no {qualname!r}") from None
        return unwrapped(found)


def _run(main: str) -> dict[str, Any]:
    if main.startswith("-m "):
        return runpy.run_module(main[3:], run_name="__mp_main__", alter_sys=True)
    return runpy.run_path(main, run_name="__mp_main__")


def unwrapped(found: Any) -> Any:
    """The function that a task was made from, whichever Graflow made it."""
    kinds = [getattr(sys.modules.get(module), name, None) for module, name in (("graflow.core.task", "Task"), (_STANDINS, "StandInTask"))]
    if any(isinstance(kind, type) and isinstance(found, kind) for kind in kinds):
        return found.function
    return found


_STANDINS = "graflow.handlers.inside.standins"
