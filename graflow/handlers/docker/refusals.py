"""What the engine refuses, as an error that says what to do."""

from __future__ import annotations

import re
from typing import Final

from graflow.errors import ConfigurationError, ContainerEngineError, ContainerLostError, GraflowError, ImageNotFoundError

_SETTINGS: Final = (
    (r"bind source path does not exist", "volumes", "make the directory where the engine runs, or correct volumes= and packages="),
    ("could not select device driver", "gpus", "the engine has no GPUs to give: install its container toolkit, or leave gpus= away"),
    (r"range of cpus", "cpus", "ask for fewer"),
    (r"memory limit", "memory", "give another memory="),
    (r"network \S+ not found", "network", "make that network first, or use none or bridge"),
    (r"no such container|non running container", "network", "start the container whose network that is first, or use none or bridge"),
    (r"unable to find (user|group)|uids and gids must be", "user", "give a user and a group that the image has, or numbers: 65534:65534"),
    (r"container init:.*\b(mkdir|chdir|cwd)\b", "workdir", "give a directory that the image has, or that can be made in it"),
    (r"capabilit(y|ies)\b.*(unknown|invalid|not valid)|(unknown|invalid) capability", "cap_add", "correct cap_add= or cap_drop="),
    (r"tmpfs", "tmpfs", "correct tmpfs="),
    (r"security-?opt|security option|seccomp|apparmor", "security_opt", "correct security_opt="),
)
"""patterns of what the engine says, what setting that concerns, and the remedy"""


def refusal(status: int, message: str, what: str, *, host: str, image: str = "", container: str = "") -> GraflowError:
    """The error for an answer of the engine's that is none.

    Args:
        status: of HTTP.
        message: the engine's own words.
        what: was asked.
        host: where the engine is.
        image: the image that was asked for, if any.
        container: the container that was asked about, if any.
    """
    words = message.lower()
    if status == 404 and "no such image" in words:
        text = f"the engine at {host} has no image {image!r}: build, load or pull it there"
        return ImageNotFoundError(text, image=image)
    if status == 404 and "no such container" in words and container.lower() in words:
        text = f"the container {container[:12]} is gone: somebody has removed it, or the engine was started anew"
        return ContainerLostError(text, container=container)
    if status in (400, 404, 409, 500):
        for part, setting, remedy in _SETTINGS:
            if re.search(part, words):
                return ConfigurationError(f"the engine refuses a container ({what}): {message}; {remedy}", setting=setting)
    if status == 400:
        return ConfigurationError(f"the engine refuses what the DockerHandler asks for ({what}): {message}", setting="handlers")
    return ContainerEngineError(f"the Docker engine at {host} refuses ({what}): [{status}] {message}", host=host)
