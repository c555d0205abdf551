"""How the engine is reached: from what a URL says to a client, without blocking the event loop for files."""

from __future__ import annotations

import asyncio
import importlib
import os
import ssl
from pathlib import Path
from typing import TYPE_CHECKING, Final, cast

from graflow.errors import ConfigurationError, ContainerEngineError
from graflow.handlers.docker.hosts import TCP, UNIX, check_host

if TYPE_CHECKING:
    import aiohttp

    from graflow.handlers.docker.interface import Client

_SOCKETS: Final = ("/var/run/docker.sock", "/run/docker.sock")


async def connect(host: str | None) -> tuple[str, Client, aiohttp.BaseConnector | None]:
    """A client, which asks the engine nothing yet; where it asks, and what has to be closed after it.

    Args:
        host: a URL; None for ``DOCKER_HOST``, or the socket that there is.

    Raises:
        ConfigurationError: aiodocker is not installed, or the URL is none that it knows.
        ContainerEngineError: there is no socket.
    """
    try:
        await asyncio.to_thread(importlib.import_module, "aiodocker")  # which takes a while, so not on the event loop
        import aiodocker
        import aiohttp
    except ImportError as error:
        text = "DockerHandler needs aiodocker, which is not installed: pip install 'graflow[docker]'"
        raise ConfigurationError(text, setting="handlers") from error
    where = host if host is not None else await asyncio.to_thread(_found)
    # A container that is attached to holds its connection for all its life, so that the client's own limit of 100 would end in a standstill.
    connector: aiohttp.BaseConnector | None = None
    url = where
    if where.startswith(UNIX):
        connector, url = aiohttp.UnixConnector(where.removeprefix(UNIX), limit=0), f"{UNIX}localhost"
    elif where.startswith(TCP):
        identity = await asyncio.to_thread(_tls)
        if identity is not None:
            url = "https://" + where.partition("://")[2]
        connector = aiohttp.TCPConnector(ssl=identity if identity is not None else True, limit=0)
    try:
        return where, cast("Client", aiodocker.Docker(url=url, connector=connector)), connector
    except (ValueError, ImportError) as error:
        if connector is not None:
            await connector.close()
        raise ConfigurationError(f"DockerHandler(host={where!r}): {error}", setting="host") from error


def _found() -> str:
    told = os.environ.get("DOCKER_HOST")
    if told:
        return check_host(told, said=f"DOCKER_HOST={told}")
    for path in (*_SOCKETS, Path.home() / ".docker/run/docker.sock"):
        if Path(path).is_socket():
            return f"{UNIX}{path}"
    where = UNIX + _SOCKETS[0]
    raise ContainerEngineError(
        f"there is no Docker engine at {where}; start it, or say where it is: DockerHandler(host=...), or DOCKER_HOST", host=where
    )


def _tls() -> ssl.SSLContext | None:
    """What Docker's own client makes of the environment."""
    if os.environ.get("DOCKER_TLS_VERIFY", "0") in ("", "0"):
        return None
    folder = Path(os.environ.get("DOCKER_CERT_PATH") or Path.home() / ".docker")
    try:
        context = ssl.create_default_context(cafile=str(folder / "ca.pem"))
        context.load_cert_chain(str(folder / "cert.pem"), str(folder / "key.pem"))
    except OSError as error:
        text = f"DOCKER_TLS_VERIFY asks for ca.pem, cert.pem and key.pem in {folder}: {error}"
        raise ConfigurationError(text, setting="host") from error
    return context
