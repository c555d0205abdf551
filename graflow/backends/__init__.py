"""Where queues, runs and channels live."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

from graflow.errors import ConfigurationError
from graflow.wire.signing import signer_of

if TYPE_CHECKING:
    from graflow.backends.base import Backend


REMOTE = ("redis", "rediss", "unix")
"""the schemes of a server"""


def open_backend(
    backend_or_url: str | Backend,
    *,
    namespace: str = "graflow",
    local_code: bool = False,
    retention: float | None = None,
    secret_key: str | None = None,
) -> Backend:
    """The backend that a URL names; a backend is returned as it is.

    ``memory://`` is this process; ``memory://?strict=1`` passes every value through the wire codec. ``redis://``, ``rediss://`` and ``unix://``
    are a Redis server.

    Args:
        backend_or_url: the backend, or where it is.
        namespace: keeps applications that share a server apart.
        local_code: let functions that only this process has be run, by a worker in this process.
        retention: seconds that a run is kept on a server after its end, None for its default.
        secret_key: signs and verifies code and values that travel as pickles, see :meth:`graflow.wire.signing.Signer.of`; None for that of the
            environment (``GRAFLOW_SECRET_KEY``), or for that of the backend where an object is given.

    Raises:
        ConfigurationError: the URL names no backend that there is, or the client for it is not installed.
    """
    if isinstance(backend_or_url, str):
        url = urlsplit(backend_or_url)
        if url.scheme == "memory":
            return _memory(backend_or_url, url.query, secret_key)
        if url.scheme in REMOTE:
            return _redis(backend_or_url, url.scheme, namespace, local_code, retention, secret_key)
    elif hasattr(backend_or_url, "coordinator"):
        if secret_key is not None:
            backend_or_url.signer = signer_of(secret_key)
        return backend_or_url
    raise ConfigurationError(
        f'no backend for {backend_or_url!r}: use "memory://", "memory://?strict=1", "redis://...", or a backend object', setting="url"
    )


def _memory(url: str, query: str, secret_key: str | None) -> Backend:
    """Imported when it is asked for: a worker of a server has no use for it, and it takes 1 MB."""
    from graflow.backends.memory import MemoryBackend

    return MemoryBackend(strict=_is_strict(url, query), secret_key=secret_key)


def _redis(url: str, scheme: str, namespace: str, local_code: bool, retention: float | None, secret_key: str | None) -> Backend:
    """Imported when it is asked for: the client is an extra."""
    try:
        from graflow.backends.redis.backend import DAY, RedisBackend
    except ModuleNotFoundError as error:
        if error.name is not None and error.name.startswith("graflow"):
            raise
        raise ConfigurationError(
            f"{scheme}:// needs the Redis client, which is not installed: pip install 'graflow[redis]'", setting="url"
        ) from error
    keep = DAY if retention is None else retention
    return RedisBackend(url, namespace=namespace, local_code=local_code, retention=keep, secret_key=secret_key)


def _is_strict(url: str, query: str) -> bool:
    options = parse_qs(query, keep_blank_values=True)
    value = options.pop("strict", ["0"])[-1]
    if options or value not in ("0", "1"):
        raise ConfigurationError(f"{url!r} has an option that there is not; the only one is strict=1 (or 0)", setting="url")
    return value == "1"
