"""Where queues, runs and channels live."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

from graflow.backends.memory import MemoryBackend
from graflow.errors import ConfigurationError

if TYPE_CHECKING:
    from graflow.backends.base import Backend


def open_backend(backend_or_url: str | Backend) -> Backend:
    """The backend that a URL names; a backend is returned as it is.

    ``memory://`` is this process; ``memory://?strict=1`` passes every value through the wire codec.

    Raises:
        ConfigurationError: the URL names no backend that there is.
    """
    if isinstance(backend_or_url, str):
        url = urlsplit(backend_or_url)
        if url.scheme == "memory":
            return MemoryBackend(strict=_is_strict(backend_or_url, url.query))
        if url.scheme in ("redis", "rediss", "unix"):
            raise ConfigurationError(
                f'{url.scheme}:// needs the Redis backend, which is not in this version; use "memory://"', setting="url"
            )
    elif hasattr(backend_or_url, "coordinator"):
        return backend_or_url
    raise ConfigurationError(
        f'no backend for {backend_or_url!r}: use "memory://", "memory://?strict=1", or a backend object', setting="url"
    )


def _is_strict(url: str, query: str) -> bool:
    options = parse_qs(query, keep_blank_values=True)
    value = options.pop("strict", ["0"])[-1]
    if options or value not in ("0", "1"):
        raise ConfigurationError(f"{url!r} has an option that there is not; the only one is strict=1 (or 0)", setting="url")
    return value == "1"
