"""Modules of the user's, imported by the name that a worker was told: what goes wrong is one line that says where."""

from __future__ import annotations

import importlib
import signal
import threading
import traceback
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from graflow.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Generator
    from types import FrameType, ModuleType

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
        with keyboard():
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
    except RaisedInterrupt as error:
        raise _broken(label, setting, error.interrupt) from error
    except (Exception, SystemExit) as error:
        raise _broken(label, setting, error) from error


class RaisedInterrupt(Exception):
    """Code of the user's has raised ``KeyboardInterrupt``, and nobody has pressed any key."""

    def __init__(self, interrupt: KeyboardInterrupt) -> None:
        super().__init__(*interrupt.args)
        self.interrupt = interrupt


@contextmanager
def keyboard() -> Generator[None]:
    """Tell a ``KeyboardInterrupt`` that the keyboard sent from one that the code inside made up: the former leaves as it is.

    Raises:
        RaisedInterrupt: it was the latter.
    """
    pressed = False

    def press(number: int, frame: FrameType | None) -> None:
        nonlocal pressed
        pressed = True
        signal.default_int_handler(number, frame)

    ours = threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if ours:
        signal.signal(signal.SIGINT, press)
    try:
        yield
    except KeyboardInterrupt as interrupt:
        if pressed or not ours:
            raise
        raise RaisedInterrupt(interrupt) from None
    finally:
        if ours and signal.getsignal(signal.SIGINT) is press:
            signal.signal(signal.SIGINT, signal.default_int_handler)


def _broken(label: str, setting: str, error: BaseException) -> ConfigurationError:
    frames = traceback.extract_tb(error.__traceback__)
    inside = [frame for frame in frames if "importlib" not in frame.filename and frame.filename not in _OURS]
    place = f" at {inside[-1].filename}:{inside[-1].lineno}" if inside else ""
    if isinstance(error, SyntaxError):
        place = f" at {error.filename}:{error.lineno}"
    what = " ".join(f"{type(error).__name__}: {error}".split())
    return ConfigurationError(f"{label}: importing it failed{place}: {what}", setting=setting)
