"""What ``graflow-aworker`` is told by its options and its environment, checked before anything is connected.

The parser is Python's own and not the one of the ``graflow`` command: a worker is one of many processes, and keeps what it has imported for as long
as it lives.
"""

from __future__ import annotations

import argparse
import importlib
import traceback
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NoReturn
from urllib.parse import quote

from graflow.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

LEVELS: Final = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
LOCAL: Final = "redis://localhost:6379/0"

HANDLERS: Final = ("coroutine", "thread")
ALSO_CALLED: Final = {"inprocess": "coroutine", "async": "thread"}
"""names that other versions of Graflow had for them"""
PLANNED: Final = ("process", "docker")

VARIABLES: Final = {
    "redis": "GRAFLOW_REDIS_URL", "namespace": "REDIS_KEY_PREFIX", "concurrency": "MAX_CONCURRENT_TASKS", "handlers": "HANDLER_TYPE",
    "task_timeout": "TASK_TIMEOUT", "worker_id": "WORKER_ID", "log_level": "LOG_LEVEL",
}  # fmt: skip
"""the environment variable that an option falls back to"""


@dataclass(frozen=True)
class Settings:
    """What a worker process is to do.

    Attributes:
        apps: modules to import.
        url: the server.
        namespace: keeps applications that share a server apart.
        concurrency: tasks at once.
        queues: the queues to serve.
        handlers: the handlers to serve, None for all.
        task_timeout: seconds for tasks that set no timeout of their own, None for any.
        worker_id: what the worker is called, None for a name of its own.
        grace: seconds that running tasks are given when the worker is told to stop.
        log_level: what is logged.
    """

    apps: Sequence[str]
    url: str
    namespace: str
    concurrency: int
    queues: Sequence[str]
    handlers: Sequence[str] | None
    task_timeout: float | None
    worker_id: str | None
    grace: float
    log_level: str


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ConfigurationError(f"{message}; see {self.prog} --help")


def read(arguments: Sequence[str], environment: Mapping[str, str]) -> Settings:
    """Options, else environment variables, else defaults.

    Raises:
        ConfigurationError: one of them makes no sense; the message is one line.
        SystemExit: help was asked for, and given.
    """
    options: dict[str, str | list[str] | None] = vars(_parser().parse_args(arguments))

    def given(name: str, default: str | None = None) -> str | None:
        value = options[name]
        assert not isinstance(value, list)
        return value if value is not None else environment.get(VARIABLES.get(name, "")) or default

    def named(name: str) -> str:
        return f"--{name.replace('_', '-')}" if options[name] is not None else VARIABLES.get(name, name)

    timeout = given("task_timeout")
    apps = options["app"]
    return Settings(
        apps=apps if isinstance(apps, list) else (),
        url=url_of(given("redis"), environment),
        namespace=given("namespace") or "graflow",
        concurrency=whole(given("concurrency") or "100", named("concurrency")),
        queues=names_in(given("queues") or "default"),
        handlers=handlers_of(given("handlers")),
        task_timeout=None if timeout is None else seconds(timeout, named("task_timeout"), least=0.001),
        worker_id=given("worker_id"),
        grace=seconds(given("grace") or "25", named("grace"), least=0.0),
        log_level=level_of(given("log_level") or "INFO", named("log_level")),
    )


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="graflow-aworker", allow_abbrev=False,
        description="Run tasks until told to stop: SIGTERM or SIGINT once to finish what runs, twice to stop now.",
    )  # fmt: skip

    def option(name: str, metavar: str, help: str, action: str = "store") -> None:
        variable = VARIABLES.get(name.replace("-", "_"))
        parser.add_argument(f"--{name}", metavar=metavar, action=action, help=help + (f" [{variable}]" if variable else ""))

    option("app", "MODULE", "module to import, so that its tasks are known; may be repeated", "append")
    option(
        "redis", "URL", f"server that the runs live on; by default of REDIS_HOST, REDIS_PORT, REDIS_DB and REDIS_PASSWORD, or else {LOCAL}"
    )
    option("namespace", "NAME", "keeps applications that share a server apart; graflow")
    option("concurrency", "N", "tasks at once; 100")
    option("queues", "A,B", "queues to serve; default")
    option("handlers", "A,B", "handlers to serve, of coroutine and thread; all of them")
    option("task-timeout", "SECONDS", "for tasks that set no timeout of their own; none")
    option("worker-id", "ID", "what the worker is called; unique by default")
    option("grace", "SECONDS", "that running tasks are given when the worker is told to stop; 25")
    option("log-level", "LEVEL", f"one of {', '.join(LEVELS)}; INFO")
    return parser


def url_of(given: str | None, environment: Mapping[str, str]) -> str:
    """Where the server is: as given, or put together from REDIS_HOST, REDIS_PORT, REDIS_DB and REDIS_PASSWORD.

    Raises:
        ConfigurationError: a port or database that is no number.
    """
    if given is not None:
        return given
    host, password = environment.get("REDIS_HOST") or "localhost", environment.get("REDIS_PASSWORD")
    port = whole(environment.get("REDIS_PORT") or "6379", "REDIS_PORT")
    db = whole(environment.get("REDIS_DB") or "0", "REDIS_DB")
    if ":" in host and not host.startswith("["):  # an address of IPv6
        host = f"[{host}]"
    access = f":{quote(password, safe='')}@" if password else ""
    return f"redis://{access}{host}:{port}/{db}"


def handlers_of(text: str | None) -> tuple[str, ...] | None:
    """The handlers to serve, by name; None for all.

    Raises:
        ConfigurationError: one that there is not.
    """
    served: list[str] = []
    for name in names_in(text or ""):
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


def level_of(text: str, what: str = "--log-level") -> str:
    """A level of logging.

    Raises:
        ConfigurationError: there is none of that name.
    """
    if text.upper() not in LEVELS:
        raise ConfigurationError(f"{what} {text}: use one of {', '.join(LEVELS)}", setting="log_level")
    return text.upper()


def whole(text: str, what: str) -> int:
    """A whole number, 0 or more.

    Raises:
        ConfigurationError: it is none.
    """
    if not (text.isascii() and text.isdigit()):
        raise ConfigurationError(f"{what} {text}: give a whole number", setting=what)
    return int(text)


def seconds(text: str, what: str, *, least: float) -> float:
    """A time in seconds.

    Raises:
        ConfigurationError: it is none, or less than the least.
    """
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not least <= number < float("inf"):
        raise ConfigurationError(f"{what} {text}: give a number of seconds, {least:g} or more", setting=what)
    return number


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
