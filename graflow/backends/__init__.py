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
    if not isinstance(backend_or_url, str):
        return backend_or_url
    url = urlsplit(backend_or_url)
    if url.scheme == "memory":
        strict = parse_qs(url.query).get("strict", ["0"])[-1] in ("1", "true", "yes")
        return MemoryBackend(strict=strict)
    raise ConfigurationError(
        f'no backend for {backend_or_url!r}: use "memory://", "memory://?strict=1", or a backend object', setting="url"
    )
