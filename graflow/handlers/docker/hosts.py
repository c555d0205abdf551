"""Where an engine can be: what ``DockerHandler(host=...)`` and ``DOCKER_HOST`` may say, by one rule."""

from __future__ import annotations

import re
from typing import Any, Final
from urllib.parse import urlsplit

from graflow.errors import ConfigurationError

UNIX: Final = "unix://"
TCP: Final = ("tcp://", "http://", "https://")

_FORMS: Final = "give unix:///path/to/docker.sock, or tcp://, http:// or https:// with host and port"
_NOT_SPOKEN: Final = {
    "ssh": "; for ssh, forward the socket: ssh -L /tmp/docker.sock:/var/run/docker.sock USER@HOST, and give unix:///tmp/docker.sock",
    "npipe": "; for the engine of Windows, let it listen on tcp://localhost:2375",
}
"""schemes that Docker's own client knows, and the way round"""


def check_host(value: Any, *, said: str) -> str:
    """The URL of an engine, as it was given.

    The client that asks the engine finds out about some mistakes only amid the first request, and tells each in another way.

    Args:
        value: what was given.
        said: where, such as ``DOCKER_HOST``, and what: for the beginning of the error.

    Raises:
        ConfigurationError: no engine can be reached by it.
    """
    if not isinstance(value, str) or not _is_usable(value):
        scheme = value.partition("://")[0].lower() if isinstance(value, str) else ""
        raise ConfigurationError(f"{said}: {_FORMS}{_NOT_SPOKEN.get(scheme, '')}", setting="host")
    return value


def _is_usable(url: str) -> bool:
    if url.startswith(UNIX):
        return url.startswith(f"{UNIX}/") and "\0" not in url
    if not url.startswith(TCP):
        return False
    try:
        parts = urlsplit(url)
        return parts.port != 0 and re.fullmatch(r"[\w.:-]+", parts.hostname or "", re.ASCII) is not None
    except ValueError:  # a port that is none, or an address of IPv6 without its end
        return False
