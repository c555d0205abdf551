"""What a :class:`DockerHandler` is told, checked when it is told."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, cast

from graflow.handlers.docker import checks
from graflow.handlers.docker.checks import wrong
from graflow.handlers.docker.hosts import check_host
from graflow.handlers.sizes import bytes_in, check_count, check_seconds

TMPFS: Final[Mapping[str, str]] = {"/tmp": "rw,noexec,nosuid,size=100m"}
LEAST_MEMORY: Final = 6 << 20
"""bytes; what Docker itself takes for the least"""
RESERVED: Final = "graflow."
"""what the names of our own labels begin with"""
CODE: Final = "/graflow/code"
"""where a container has the code that is mounted into it"""

Isolation = Literal["task", "worker"]
CodeFrom = Literal["mount", "image"]
Pull = Literal["missing", "never", "always"]


@dataclass(frozen=True, slots=True)
class Volume:
    """Something of the host's, a directory or a named volume, that a container sees at a path of its own."""

    source: str
    target: str
    read_only: bool

    @property
    def is_path(self) -> bool:
        """Whether it is a directory of the host, and not a volume that Docker keeps."""
        return self.source.startswith("/")


@dataclass(frozen=True, slots=True)
class DockerSettings:
    """How containers are made and used; what each field means is told by :class:`DockerHandler`."""

    image: str
    environment: Mapping[str, str]
    volumes: tuple[Volume, ...]
    gpus: int | tuple[str, ...] | None
    memory: int
    cpus: float
    pids: int
    network: str
    user: str
    read_only: bool
    tmpfs: Mapping[str, str]
    cap_drop: tuple[str, ...]
    cap_add: tuple[str, ...]
    security_opt: tuple[str, ...]
    isolation: Isolation
    prewarm: int
    concurrency: int
    timeout: float | None
    code: CodeFrom
    packages: tuple[str, ...]
    workdir: str | None
    python: str
    pull: Pull
    output_limit: int
    host: str | None
    labels: Mapping[str, str]
    engine_grace: float


def check(given: Mapping[str, Any]) -> DockerSettings:
    """The settings, from the constructor's arguments.

    Raises:
        ConfigurationError: one of them cannot be meant; ``setting`` names it.
    """
    return DockerSettings(
        image=checks.image("image", given["image"]),
        environment=_environment(given["environment"]),
        volumes=_volumes(given["volumes"]),
        gpus=_gpus(given["gpus"]),
        memory=_memory(given["memory"]),
        cpus=checks.number("cpus", given["cpus"], what="how many CPUs, such as 0.5 or 2", least=0.01),
        pids=check_count(given["pids"], "pids", least=1),
        network=checks.matching("network", given["network"], r"[A-Za-z0-9][\w.:-]*", "none, bridge, or the name of a network"),
        user=checks.matching("user", given["user"], r"[\w.-]+(:[\w.-]+)?", "a user and perhaps a group, such as 65534:65534"),
        read_only=checks.flag("read_only", given["read_only"]),
        tmpfs=_tmpfs(given["tmpfs"]),
        cap_drop=checks.texts("cap_drop", given["cap_drop"], example="('ALL',)"),
        cap_add=checks.texts("cap_add", given["cap_add"], example="('NET_RAW',)"),
        security_opt=checks.texts("security_opt", given["security_opt"], example="('no-new-privileges',)"),
        isolation=checks.choice("isolation", given["isolation"], ("task", "worker")),
        prewarm=check_count(given["prewarm"], "prewarm", least=0),
        concurrency=check_count(given["concurrency"], "concurrency", least=1),
        timeout=None if given["timeout"] is None else check_seconds(given["timeout"], "timeout"),
        code=checks.choice("code", given["code"], ("mount", "image")),
        packages=_packages(given["packages"]),
        workdir=None
        if given["workdir"] is None
        else checks.matching("workdir", given["workdir"], r"/[^\0]*", "an absolute path in the container"),
        python=checks.matching("python", given["python"], r"\S+", "the name or path of Python in the image, such as python3"),
        pull=checks.choice("pull", given["pull"], ("missing", "never", "always")),
        output_limit=bytes_in(given["output_limit"], "output_limit"),
        host=_host(given["host"]),
        labels=_labels(given["labels"]),
        engine_grace=checks.number("engine_grace", given["engine_grace"], what="seconds to wait for an engine that is away", least=0.0),
    )


def _memory(given: Any) -> int:
    found = bytes_in(given, "memory")
    if found < LEAST_MEMORY:
        raise wrong("memory", given, "give 6m or more, which is the least that Docker takes")
    return found


def _environment(given: Any) -> Mapping[str, str]:
    found = checks.text_mapping("environment", given, example='{"MODE": "fast"}')
    for name in found:
        if not name or "=" in name or "\0" in name:
            raise wrong("environment", given, f"{name!r} is no name for a variable; it is not empty and holds no =")
    return found


def _volumes(given: Any) -> tuple[Volume, ...]:
    example = '{"/host/models": {"bind": "/models", "mode": "ro"}}'
    if given is None:
        return ()
    if not isinstance(given, Mapping):
        raise wrong("volumes", given, f"give a mapping such as {example}")
    found: dict[str, Volume] = {}
    for source, how in cast("Mapping[object, object]", given).items():
        if not isinstance(source, str) or re.fullmatch(r"/[^:]*|[A-Za-z0-9][\w.-]*", source) is None:
            raise wrong("volumes", given, f"{source!r} is neither an absolute path of the host nor the name of a volume")
        keys = set(cast("Mapping[object, object]", how)) if isinstance(how, Mapping) else set[object]()
        if not {"bind"} <= keys <= {"bind", "mode"}:
            raise wrong("volumes", given, f'{source!r} needs {{"bind": where in the container, "mode": "ro" or "rw"}}, as in {example}')
        volume = _volume(source, cast("Mapping[str, Any]", how))
        if volume.target in found:
            raise wrong("volumes", given, f"two of them are bound to {volume.target}")
        found[volume.target] = volume
    return tuple(found.values())


def _volume(source: str, how: Mapping[str, Any]) -> Volume:
    target, mode = how["bind"], how.get("mode", "ro")
    if not isinstance(target, str) or not target.startswith("/") or target.strip("/") in {"", "graflow", CODE.strip("/")}:
        raise wrong(f"volumes[{source!r}].bind", target, "give an absolute path in the container, other than / and what is Graflow's")
    if mode not in ("ro", "rw"):
        raise wrong(f"volumes[{source!r}].mode", mode, 'give "ro" or "rw"')
    return Volume(source, target, mode == "ro")


def _gpus(given: Any) -> int | tuple[str, ...] | None:
    """-1 stands for all of them, as in Docker's own interface."""
    if given is None:
        return None
    if given == "all":
        return -1
    if isinstance(given, int) and not isinstance(given, bool) and given >= 1:
        return given
    if isinstance(given, list | tuple) and given:
        devices = cast("Sequence[Any]", given)
        if all(isinstance(each, str) and each for each in devices):
            return tuple(devices)
    raise wrong("gpus", given, 'give "all", how many, or a list of device ids such as ["0", "1"]')


def _tmpfs(given: Any) -> Mapping[str, str]:
    if given is None:
        return TMPFS
    found = checks.text_mapping("tmpfs", given, example='{"/tmp": "rw,noexec,nosuid,size=100m"}')
    for path in found:
        if not path.startswith("/") or path == "/":
            raise wrong("tmpfs", given, f"{path!r} is no absolute path in the container")
    return found


def _packages(given: Any) -> tuple[str, ...]:
    found = checks.texts("packages", given, example='("mypackage",)')
    for name in found:
        if not name.replace(".", "_").isidentifier():
            raise wrong("packages", given, f"{name!r} is no name of a package, as in: import mypackage")
    return tuple(dict.fromkeys(name.partition(".")[0] for name in found))


def _host(given: Any) -> str | None:
    return None if given is None else check_host(given, said=f"DockerHandler(host={given!r})")


def _labels(given: Any) -> Mapping[str, str]:
    found = checks.text_mapping("labels", given, example='{"team": "search"}')
    for name in found:
        if not name or name.startswith(RESERVED):
            raise wrong("labels", given, f"{name!r} will not do: a name is not empty, and {RESERVED}* are Graflow's own")
    return found
