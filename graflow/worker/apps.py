"""Modules of the user's, imported by the name that a worker was told: what goes wrong is one line that says where."""

from __future__ import annotations

import importlib
import traceback
from typing import TYPE_CHECKING, Final

from graflow.errors import ConfigurationError

if TYPE_CHECKING:
    from types import ModuleType

    from graflow.worker.given import Given

_OURS: Final = (__file__,)


def import_module(module: str, given: Given) -> ModuleType:
    """Import a module that was named there.

    Raises:
        ConfigurationError: it is not there, or its own code raised.
    """
    label = f"{given.place}: {given.value}" if given.key else f"{given.source} {given.value}"
    setting = given.key or given.source.removeprefix("--")
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise _broken(label, setting, error) from error
        remedy = "run the command where the module can be found, or install it"
        raise ConfigurationError(f"{label}: cannot be imported ({error}); {remedy}", setting=setting) from error
    except (TypeError, ValueError) as error:
        if module.strip(".") and not module.startswith("."):
            raise _broken(label, setting, error) from error
        raise ConfigurationError(f"{label}: give the full name of a module, such as shop.tasks", setting=setting) from error
    except (Exception, SystemExit) as error:
        raise _broken(label, setting, error) from error


def _broken(label: str, setting: str, error: BaseException) -> ConfigurationError:
    frames = traceback.extract_tb(error.__traceback__)
    inside = [frame for frame in frames if "importlib" not in frame.filename and frame.filename not in _OURS]
    place = f" at {inside[-1].filename}:{inside[-1].lineno}" if inside else ""
    if isinstance(error, SyntaxError):
        place = f" at {error.filename}:{error.lineno}"
    what = " ".join(f"{type(error).__name__}: {error}".split())
    return ConfigurationError(f"{label}: importing it failed{place}: {what}", setting=setting)
