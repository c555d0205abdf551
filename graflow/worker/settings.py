"""What ``graflow-aworker`` is told by its environment and its options, checked before anything is connected."""

from __future__ import annotations

import importlib
import traceback
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from graflow.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping

LEVELS: Final = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
LOCAL: Final = "redis://localhost:6379/0"

HANDLERS: Final = ("coroutine", "thread")
ALSO_CALLED: Final = {"inprocess": "coroutine", "async": "thread"}
"""names that other versions of Graflow had for them"""
PLANNED: Final = ("process", "docker")


def url_of(given: str | None, environment: Mapping[str, str]) -> str:
    """Where the server is: as given, or put together from REDIS_HOST, REDIS_PORT, REDIS_DB and REDIS_PASSWORD.

    Raises:
        ConfigurationError: a port or database that is no number.
    """
    if given is not None:
        return given
    host, password = environment.get("REDIS_HOST") or "localhost", environment.get("REDIS_PASSWORD")
    port, db = _number(environment, "REDIS_PORT", 6379), _number(environment, "REDIS_DB", 0)
    if ":" in host and not host.startswith("["):  # an address of IPv6
        host = f"[{host}]"
    access = f":{quote(password, safe='')}@" if password else ""
    return f"redis://{access}{host}:{port}/{db}"


def handlers_of(text: str | None) -> tuple[str, ...] | None:
    """The handlers to serve, by name; None for all.

    Raises:
        ConfigurationError: one that there is not.
    """
    names = names_in(text or "")
    served: list[str] = []
    for name in names:
        known = ALSO_CALLED.get(name.lower(), name.lower())
        if known in PLANNED:
            raise ConfigurationError(
                f"the handler {name!r} is not in this version; a worker serves coroutine and thread", setting="handlers"
            )
        if known not in HANDLERS:
            raise ConfigurationError(f"there is no handler {name!r}; use coroutine, thread, or both with a comma", setting="handlers")
        served.append(known)
    return tuple(dict.fromkeys(served)) or None


def names_in(text: str) -> list[str]:
    """What is between the commas."""
    return [name.strip() for name in text.split(",") if name.strip()]


def level_of(text: str) -> str:
    """A level of logging.

    Raises:
        ConfigurationError: there is none of that name.
    """
    if text.upper() not in LEVELS:
        raise ConfigurationError(f"--log-level {text}: use one of {', '.join(LEVELS)}", setting="log_level")
    return text.upper()


def import_app(module: str) -> None:
    """Import a module of tasks.

    Raises:
        ConfigurationError: it is not there, or its own code raised.
    """
    try:
        importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise _broken(module, error) from error
        remedy = "run the command where the module can be found, or install it"
        raise ConfigurationError(f"--app {module}: cannot be imported ({error}); {remedy}", setting="app") from error
    except (TypeError, ValueError) as error:
        if module.strip(".") and not module.startswith("."):
            raise _broken(module, error) from error
        raise ConfigurationError(f"--app {module}: give the full name of a module, such as shop.tasks", setting="app") from error
    except (Exception, SystemExit) as error:
        raise _broken(module, error) from error


def _broken(module: str, error: BaseException) -> ConfigurationError:
    frames = traceback.extract_tb(error.__traceback__)
    inside = [frame for frame in frames if "importlib" not in frame.filename and frame.filename != __file__]
    place = f" at {inside[-1].filename}:{inside[-1].lineno}" if inside else ""
    if isinstance(error, SyntaxError):
        place = f" at {error.filename}:{error.lineno}"
    what = " ".join(f"{type(error).__name__}: {error}".split())
    return ConfigurationError(f"--app {module}: importing it failed{place}: {what}", setting="app")


def _number(environment: Mapping[str, str], name: str, default: int) -> int:
    text = environment.get(name) or str(default)
    if not (text.isascii() and text.isdigit()):
        raise ConfigurationError(f"{name}={text}: give a number", setting=name.lower())
    return int(text)
