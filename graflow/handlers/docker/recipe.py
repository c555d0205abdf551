"""What the engine is told about a container: settings as Docker's own interface names them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from graflow.handlers.docker.settings import CODE

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from graflow.handlers.docker.settings import DockerSettings

SHARED_MEMORY: Final = 64 << 20
"""bytes of /dev/shm; they count as the container's memory"""
QUIET: Final = {"PYTHONDONTWRITEBYTECODE": "1", "PYTHONUNBUFFERED": "1"}
"""Python would try to write beside code that is mounted read-only."""
HOMELESS: Final = {"HOME": "/tmp"}
"""The user of the default has no home; an image that names one has put there what its programs look for."""


def recipe(
    settings: DockerSettings, program: str, mounts: Mapping[str, str], labels: Mapping[str, str], *, preset: Collection[str] = ()
) -> dict[str, Any]:
    """The body of a request to create a container.

    Args:
        settings: the handler's.
        program: what ``python -c`` is given; the same for every container.
        mounts: paths of the host that hold code, by their name below :data:`CODE`.
        labels: what tells whose it is.
        preset: names of the variables that the image sets by itself.
    """
    home = {} if "HOME" in preset else HOMELESS
    return {
        "Image": settings.image,
        "Entrypoint": [settings.python, "-c", program],
        "Cmd": [],
        "User": settings.user,
        "Env": [f"{name}={value}" for name, value in {**QUIET, **home, **settings.environment}.items()],
        "Labels": {**settings.labels, **labels},
        "Tty": False,
        "OpenStdin": True,
        "StdinOnce": True,  # when the worker is gone, so is the container's standard input, on which its program ends by itself
        "AttachStdin": True,
        "AttachStdout": True,
        "AttachStderr": True,
        "HostConfig": _limits(settings) | _walls(settings) | {"Mounts": _mounts(settings, mounts)} | _devices(settings),
        **_place(settings),
    }


def _place(settings: DockerSettings) -> dict[str, str]:
    """Where the program begins. Code that is the image's own may lie in the image's own directory, which counts if none is named."""
    if settings.workdir is not None:
        return {"WorkingDir": settings.workdir}
    return {} if settings.code == "image" else {"WorkingDir": "/"}


def _limits(settings: DockerSettings) -> dict[str, Any]:
    return {
        "Memory": settings.memory,
        "MemorySwap": settings.memory,  # both together: so there is no swap
        "ShmSize": min(SHARED_MEMORY, settings.memory),
        "NanoCpus": round(settings.cpus * 1e9),
        "PidsLimit": settings.pids,
        "Ulimits": [{"Name": "core", "Soft": 0, "Hard": 0}],
        "LogConfig": {"Type": "none", "Config": {}},  # all that is written is ours to read: the engine need not keep a copy on its disk
    }


def _walls(settings: DockerSettings) -> dict[str, Any]:
    return {
        "Init": True,  # something must reap what a task's own children leave behind, and pass signals on
        "AutoRemove": False,  # why a container died can be asked only while it is there; it is removed by us, or by the reaper
        "NetworkMode": settings.network,
        "ReadonlyRootfs": settings.read_only,
        "Tmpfs": dict(settings.tmpfs),
        "CapDrop": list(settings.cap_drop),
        "CapAdd": list(settings.cap_add),
        "SecurityOpt": list(settings.security_opt),
        "RestartPolicy": {"Name": "no"},
    }


def _mounts(settings: DockerSettings, code: Mapping[str, str]) -> list[dict[str, Any]]:
    """As mounts and not as "binds": those would make a missing directory on the host, as root, instead of saying so."""
    found: list[dict[str, Any]] = [
        {"Type": "bind", "Source": source, "Target": f"{CODE}/{name}", "ReadOnly": True} for name, source in sorted(code.items())
    ]
    for volume in settings.volumes:
        kind = "bind" if volume.is_path else "volume"
        found.append({"Type": kind, "Source": volume.source, "Target": volume.target, "ReadOnly": volume.read_only})
    return found


def _devices(settings: DockerSettings) -> dict[str, Any]:
    if settings.gpus is None:
        return {}
    which: dict[str, Any] = {"Count": settings.gpus} if isinstance(settings.gpus, int) else {"DeviceIDs": list(settings.gpus)}
    return {"DeviceRequests": [{"Driver": "", "Capabilities": [["gpu"]], **which}]}
