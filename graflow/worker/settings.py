"""What ``graflow-aworker`` is told by its options, its environment and a file, checked before anything is connected.

An option beats a variable, a variable the file; there, what is said of one worker beats what is said of all. The parser is Python's own and not the
one of the ``graflow`` command: a worker is one of many processes, and keeps what it has imported for as long as it lives.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NoReturn
from urllib.parse import quote, urlsplit, urlunsplit

from graflow.errors import ConfigurationError
from graflow.worker import given as values
from graflow.worker.assembly import BY_DEFAULT, KINDS, HandlerPlan, kind_of, known_kind
from graflow.worker.given import LEVELS, Given, checked, listed

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from graflow.worker.entries import ConfigFile, Entry

LOCAL: Final = "redis://localhost:6379/0"

VARIABLES: Final = {
    "redis": "GRAFLOW_REDIS_URL", "namespace": "REDIS_KEY_PREFIX", "concurrency": "MAX_CONCURRENT_TASKS", "handlers": "HANDLER_TYPE",
    "docker_image": "DOCKER_IMAGE", "task_timeout": "TASK_TIMEOUT", "worker_id": "WORKER_ID", "log_level": "LOG_LEVEL",
}  # fmt: skip
"""the environment variable that an option falls back to"""

DEFAULTS: Final[Mapping[str, Any]] = {
    "namespace": "graflow", "concurrency": 100, "queues": ("default",), "task_timeout": None, "grace": 25.0, "log_level": "INFO",
    "worker_id": None, "apps": (),
}  # fmt: skip


@dataclass(frozen=True)
class Settings:
    """What a worker process is to do.

    Attributes:
        given: each setting with its source, by name: redis, namespace, apps, concurrency, queues, task_timeout, worker_id, grace and log_level.
        handlers: the handlers to serve, by name.
        file: the configuration file, None without one.
    """

    given: Mapping[str, Given]
    handlers: Mapping[str, HandlerPlan]
    file: str | None = None

    @property
    def url(self) -> str:
        """The server."""
        return str(self.given["redis"].value)

    @property
    def namespace(self) -> str:
        """Keeps applications that share a server apart."""
        return str(self.given["namespace"].value)

    @property
    def apps(self) -> Sequence[Given]:
        """Modules to import."""
        apps = self.given["apps"]
        return [apps.item(number, module) for number, module in enumerate(apps.value)]

    @property
    def concurrency(self) -> int:
        """Tasks at once, for each handler that has no limit of its own."""
        return int(self.given["concurrency"].value)

    @property
    def queues(self) -> Sequence[str]:
        """The queues to serve."""
        return list(self.given["queues"].value)

    @property
    def task_timeout(self) -> float | None:
        """Seconds for tasks that set no timeout of their own, None for any."""
        found: float | None = self.given["task_timeout"].value
        return found

    @property
    def worker_id(self) -> str | None:
        """What the worker is called, None for a name of its own."""
        found: str | None = self.given["worker_id"].value
        return found

    @property
    def grace(self) -> float:
        """Seconds that running tasks are given when the worker is told to stop."""
        return float(self.given["grace"].value)

    @property
    def log_level(self) -> str:
        """What is logged."""
        return str(self.given["log_level"].value)

    def placed(self, error: ConfigurationError) -> ConfigurationError:
        """An error about a setting that the file has, with its place there."""
        name = {"url": "redis"}.get(error.setting, error.setting)
        given = self.given.get(name)
        if given is None or not given.key:
            return error
        return ConfigurationError(f"{given.place}: {error}", setting=given.key)


@dataclass(frozen=True)
class Command:
    """What the command line says, besides settings.

    Attributes:
        workers: the settings of each worker that is meant. Without a file, and with a worker of it that was chosen, it is one.
        check: only look whether all is well.
        as_json: for a program.
        lifeline: the descriptor that ends when the supervisor does, None without one.
    """

    workers: Sequence[Settings]
    check: bool
    as_json: bool
    lifeline: int | None


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ConfigurationError(f"{message}; see {self.prog} --help")


def read_command(arguments: Sequence[str], environment: Mapping[str, str]) -> Command:
    """Options, else environment variables, else the file, else defaults.

    Raises:
        ConfigurationError: one of them makes no sense; the message is one line.
        SystemExit: help was asked for, and given.
    """
    options: dict[str, Any] = vars(_parser().parse_args(arguments))
    layers = Layers(options, environment)
    lifeline = None if options["lifeline"] is None else values.whole(Given(options["lifeline"], "--lifeline"))
    if options["json"] and not options["check"]:
        raise ConfigurationError("--json is for --check; give both", setting="json")
    return Command(layers.workers(options["config"], options["worker"]), bool(options["check"]), bool(options["json"]), lifeline)


def read_entry(path: Any, worker: str | None, environment: Mapping[str, str]) -> Settings:
    """The settings of a worker of a file, with what the environment has to say; of its only one, if none is named.

    Raises:
        ConfigurationError: a mistake in it, no such worker, or a choice that was not made.
    """
    found = Layers({}, environment).workers(path, worker)
    if len(found) > 1:
        raise ConfigurationError(
            f"{path} has {len(found)} workers; say which, worker={found[0].worker_id!r} for instance", setting="worker"
        )
    return found[0]


class Layers:
    """Options over environment over file."""

    def __init__(self, options: Mapping[str, Any], environment: Mapping[str, str]) -> None:
        self._options = options
        self._environment = environment

    def workers(self, path: Any, worker: str | None) -> Sequence[Settings]:
        """The settings of the workers that are meant."""
        if path is None:
            if worker is not None:
                raise ConfigurationError(f"--worker {worker}: is a worker of a file; name it with --config", setting="worker")
            return [self._settings(None, None)]
        from graflow.worker.entries import read_file  # the many workers without a file do without what it imports

        file = read_file(path)
        chosen = [file.entry(worker)] if worker is not None else list(file.entries.values())
        own = self._over("worker_id")
        if own is not None and len(chosen) > 1:
            known = listed(list(file.entries))
            raise own.refuse(f"{file.name} has several workers, each with an id; leave it out, or choose with --worker ({known})")
        return [self._settings(file, entry) for entry in chosen]

    def _over(self, name: str) -> Given | None:
        """What an option or a variable says, which is text."""
        if self._options.get(name) is not None:
            return Given(self._options[name], f"--{name.replace('_', '-')}")
        variable = VARIABLES.get(name, "")
        return Given(self._environment[variable], variable) if self._environment.get(variable) else None

    def _settings(self, file: ConfigFile | None, entry: Entry | None) -> Settings:
        below: dict[str, Given] = {}
        if file is not None and entry is not None:
            below = {**file.settings, **entry.settings, "worker_id": entry.name}
        found: dict[str, Given] = {}
        for name, default in DEFAULTS.items():
            over = self._over(name)
            found[name] = checked(name, over) if over is not None else below.get(name, Given(default))
        if self._options.get("app"):
            found["apps"] = Given(tuple(self._options["app"]), "--app")
        found["redis"] = self._redis(below.get("redis"))
        plans = self._handlers(entry)
        return Settings(found, _limited(plans, found, below), None if file is None else file.name)

    def _redis(self, below: Given | None) -> Given:
        over = self._over("redis")
        if over is not None:
            return checked("redis", over)
        parts = [name for name in ("REDIS_HOST", "REDIS_PORT", "REDIS_DB") if self._environment.get(name)]
        if parts or below is None:
            if self._environment.get("REDIS_PASSWORD"):
                parts.append("REDIS_PASSWORD")
            return Given(url_of(None, self._environment), ", ".join(parts) or values.DEFAULT)
        return below.but(_with_password(below.value, self._environment.get("REDIS_PASSWORD")))

    # ---- handlers ----

    def _handlers(self, entry: Entry | None) -> dict[str, HandlerPlan]:
        own = self._own_handlers()
        filed = dict(entry.handlers or {}) if entry is not None else {}
        known = {**filed, **own}
        chosen = self._over("handlers")
        if chosen is not None:
            served = {name: _chosen(name, known, chosen) for name in dict.fromkeys(known_kind(n) or n for n in values.names(chosen))}
        else:
            served = filed or {name: HandlerPlan(name, Given(name)) for name in BY_DEFAULT}
        served.update(own)
        image = self._over("docker_image")
        if self._options.get("docker_image") is not None and not filed:
            served.setdefault("docker", HandlerPlan("docker", Given("docker", "--docker-image")))
        if image is not None and "docker" in served and served["docker"].kind.value == "docker":
            served["docker"] = served["docker"].having(image=image)
        return {name: self._reached(plan) for name, plan in served.items()}

    def _reached(self, plan: HandlerPlan) -> HandlerPlan:
        """A handler for containers with ``DOCKER_HOST``, which decides where nothing else is said: so that it is checked, and shown, as it is."""
        host = self._environment.get("DOCKER_HOST")
        if plan.kind.value != "docker" or not host or ("host" in plan.options and plan.options["host"].value is not None):
            return plan
        return plan.having(host=Given(host, "DOCKER_HOST"))

    def _own_handlers(self) -> dict[str, HandlerPlan]:
        """``--handler NAME=module:Class``."""
        plans: dict[str, HandlerPlan] = {}
        for word in self._options.get("handler") or ():
            given = Given(word, "--handler")
            name, equals, what = str(word).partition("=")
            if not name or not equals:
                raise given.refuse("give a name and a class, as in gpu=shop.handlers:GpuHandler")
            if name in plans:
                raise given.refuse(f"there are two of the name {name!r}")
            kind = given.but(what)
            if ":" not in what:
                raise given.refuse("give the module:Class of a handler of your own")
            plans[name] = HandlerPlan(name, kind_of(kind))
        return plans


def _chosen(name: str, known: Mapping[str, HandlerPlan], source: Given) -> HandlerPlan:
    if name in known:
        return known[name]
    if name in KINDS:
        return HandlerPlan(name, source.but(name))
    every = listed(list(dict.fromkeys([*KINDS, *known])), "or")
    raise ConfigurationError(
        f"{source.source}: there is no handler {name!r}; use {every}, with commas, or add one of your own: --handler {name}=module:Class",
        setting="handlers",
    )


def _limited(plans: dict[str, HandlerPlan], found: Mapping[str, Given], below: Mapping[str, Given]) -> dict[str, HandlerPlan]:
    """The handlers with the limits that were set for the worker.

    A worker with one handler is that handler: what was said of the worker holds for it, and an option or a variable beats what the file says of
    either. With several, what the file says of one of them is more particular than what anybody says of the worker. A worker's time limit takes the
    place of a handler's default in any case, as that of its own would.
    """
    limited: dict[str, HandlerPlan] = {}
    for name, plan in plans.items():
        for option, setting in (("concurrency", "concurrency"), ("timeout", "task_timeout")):
            given = found[setting]
            beats_the_file = len(plans) == 1 and given is not below.get(setting)
            mine = option in plan.options and not beats_the_file
            if not mine and given.source != values.DEFAULT and (option == "timeout" or len(plans) == 1):
                plan = plan.having(**{option: given})
        limited[name] = plan
    return limited


# ---- the command line -----------------------------------------------------------------------------------------------


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="graflow-aworker", allow_abbrev=False,
        description="Run tasks until told to stop: SIGTERM or SIGINT once to finish what runs, twice to stop now.",
        epilog="GRAFLOW_SECRET_KEY is read from the environment only.",
    )  # fmt: skip

    def option(name: str, metavar: str, help: str, action: str = "store") -> None:
        variable = VARIABLES.get(name.replace("-", "_"))
        parser.add_argument(f"--{name}", metavar=metavar, action=action, help=help + (f" [{variable}]" if variable else ""))

    option("config", "FILE", "workers in YAML or TOML; without --worker all of them are started, each as a process")
    option("worker", "ID", "the worker of the file to be")
    option("app", "MODULE", "module to import, so that its tasks are known; may be repeated", "append")
    option(
        "redis", "URL", f"server that the runs live on; by default of REDIS_HOST, REDIS_PORT, REDIS_DB and REDIS_PASSWORD, or else {LOCAL}"
    )
    option("namespace", "NAME", "keeps applications that share a server apart; graflow")
    option("concurrency", "N", "tasks at once; 100")
    option("queues", "A,B", "queues to serve; default")
    option("handlers", "A,B", f"handlers to serve, of {listed(list(KINDS))}; {listed(BY_DEFAULT)}")
    option("handler", "NAME=MODULE:CLASS", "a handler of your own to serve too; may be repeated", "append")
    option(
        "docker-image",
        "IMAGE",
        "where tasks with the handler docker run; as an option, and without a file that says which, it serves them, too",
    )
    option("task-timeout", "SECONDS", "for tasks that set no timeout of their own; none, and in docker 300")
    option("worker-id", "ID", "what the worker is called; unique by default")
    option("grace", "SECONDS", "that running tasks are given when the worker is told to stop; 25")
    option("log-level", "LEVEL", f"one of {', '.join(LEVELS)}; INFO")
    parser.add_argument("--check", action="store_true", help="print what the worker would do and who said so, and whether all answer")
    parser.add_argument("--json", action="store_true", help="with --check: for programs")
    parser.add_argument("--lifeline", help=argparse.SUPPRESS)
    return parser


def url_of(given: str | None, environment: Mapping[str, str]) -> str:
    """Where the server is: as given, or put together from REDIS_HOST, REDIS_PORT, REDIS_DB and REDIS_PASSWORD.

    Raises:
        ConfigurationError: a port or database that is no number.
    """
    if given is not None:
        return given
    host, password = environment.get("REDIS_HOST") or "localhost", environment.get("REDIS_PASSWORD")
    port = values.whole(Given(environment.get("REDIS_PORT") or "6379", "REDIS_PORT"))
    db = values.whole(Given(environment.get("REDIS_DB") or "0", "REDIS_DB"))
    if ":" in host and not host.startswith("["):  # an address of IPv6
        host = f"[{host}]"
    access = f":{quote(password, safe='')}@" if password else ""
    return f"redis://{access}{host}:{port}/{db}"


def _with_password(url: str, password: str | None) -> str:
    """A URL from a file, which is no place for a password, with that of the environment."""
    try:
        parts = urlsplit(url)
    except ValueError:  # whoever connects says what is wrong with it
        return url
    if not password or parts.scheme not in ("redis", "rediss") or "password=" in parts.query:
        return url
    user, at, host = parts.netloc.rpartition("@")
    if ":" in user:
        return url
    return urlunsplit(parts._replace(netloc=f"{user if at else ''}:{quote(password, safe='')}@{host}"))
