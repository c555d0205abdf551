"""What a Redis URL says, checked before anything is connected."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, cast
from urllib.parse import parse_qs, urlsplit

import msgspec
from redis.asyncio import BlockingConnectionPool, Connection
from redis.asyncio.connection import SSLConnection, parse_url
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from graflow.errors import ConfigurationError

if TYPE_CHECKING:
    import ssl
    from collections.abc import Awaitable, Callable

SOCKET_TIMEOUT: Final = 5.0
"""Seconds for which a reply is waited for; a blocking read adds the time for which it blocks."""

CONNECT_TIMEOUT: Final = 3.0
POOL_SIZE: Final = 8
POOL_WAIT: Final = 20.0

_OPTIONS: Final = frozenset(
    {
        "db",
        "username",
        "password",
        "socket_timeout",
        "socket_connect_timeout",
        "socket_keepalive",
        "max_connections",
        "timeout",
        "ssl_keyfile",
        "ssl_certfile",
        "ssl_password",
        "ssl_cert_reqs",
        "ssl_ca_certs",
        "ssl_ca_data",
        "ssl_ca_path",
        "ssl_check_hostname",
        "ssl_min_version",
        "ssl_ciphers",
        "ssl_include_verify_flags",
        "ssl_exclude_verify_flags",
    }
)
"""What a URL may say behind its question mark. redis-py knows more, such as retries or the protocol, which are not for the user to choose."""


class RedisSettings(msgspec.Struct, frozen=True):
    """A URL, taken apart.

    Attributes:
        where: the server's name for messages and logs, without the password.
        host: the server's name or address; the path of a socket file for ``unix://``.
        port: 0 for ``unix://``.
        kind: redis-py's class for such a connection.
        options: its arguments, timeouts included.
        pool_size: how many connections ordinary commands may take.
        pool_wait: seconds for which they wait for one.
    """

    where: str
    host: str
    port: int
    kind: type[Any]
    options: dict[str, Any]
    socket_timeout: float = SOCKET_TIMEOUT
    connect_timeout: float = CONNECT_TIMEOUT
    pool_size: int = POOL_SIZE
    pool_wait: float = POOL_WAIT

    def __repr__(self) -> str:
        return f"RedisSettings({self.where!r})"  # and not the options: the password is among them

    @classmethod
    def parse(cls, url: str) -> RedisSettings:
        """Read ``redis://``, ``rediss://`` and ``unix://`` URLs.

        Raises:
            ConfigurationError: no such URL, or an option that is unknown or not for users to set. The message has no password in it.
        """
        options = _checked(url)
        kind: type[Any] = options.pop("connection_class", Connection)
        size, wait = options.pop("max_connections", POOL_SIZE), options.pop("timeout", POOL_WAIT)
        answer = options.setdefault("socket_timeout", SOCKET_TIMEOUT)
        connect = options.setdefault("socket_connect_timeout", CONNECT_TIMEOUT)
        if not (size > 0 and wait > 0 and answer > 0 and connect > 0):
            raise _wrong("max_connections and timeouts must be positive")
        if "path" in options:
            host, port, where = options["path"], 0, options["path"]
        else:
            host, port = options.setdefault("host", "localhost"), options.setdefault("port", 6379)
            where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        return cls(where, host, port, kind, options, answer, connect, size, wait)

    @property
    def db(self) -> int:
        """Number of the database."""
        return int(self.options.get("db", 0))

    @property
    def credentials(self) -> tuple[str, ...]:
        """The arguments of AUTH, none if there is nothing to say."""
        name, password = self.options.get("username"), self.options.get("password")
        return (name, password or "") if name else (password,) if password else ()

    @property
    def encrypted(self) -> bool:
        """Whether it is a ``rediss://`` URL."""
        return issubclass(self.kind, SSLConnection)

    def tls(self) -> ssl.SSLContext | None:
        """How to encrypt, as redis-py would; None for a connection in the clear. It reads certificates from disk: not for an event loop."""
        if not self.encrypted:
            return None
        unused: Any = self.kind(**self.options, driver_info=None)
        return cast("ssl.SSLContext", unused.ssl_context.get())

    def pool(
        self, size: int | None = None, *, answer: float | None = None, greet: Callable[[Any], Awaitable[None]]
    ) -> BlockingConnectionPool:
        """Connections that do as they are told: nothing is sent twice behind our back, and every wait ends.

        ``answer`` is the bound for a reply, and ``greet`` is called with every new connection.
        """
        options: dict[str, Any] = {
            **self.options,
            "protocol": 2,  # nothing of the newer one is needed, and with it a connection that the server has closed is not noticed
            "retry": Retry(NoBackoff(), 0),
            "driver_info": None,
            "redis_connect_func": greet,
        }
        if answer is not None:
            options["socket_timeout"] = answer
        return BlockingConnectionPool(size or self.pool_size, self.pool_wait, connection_class=self.kind, **options)


def _checked(url: str) -> dict[str, Any]:
    # Errors of the parsers are not chained: they may quote the URL, and so the password.
    try:
        parts = urlsplit(url)
        names, parsed = parse_qs(parts.query, keep_blank_values=True), dict(parse_url(url))
    except ValueError:
        raise _wrong("it cannot be read") from None
    if unknown := sorted(names.keys() - _OPTIONS):
        raise _wrong(f"it has options that cannot be set: {', '.join(unknown)}")
    if parts.scheme == "unix":
        if not parsed.get("path"):
            raise _wrong("it names no socket file, as in unix:///run/redis.sock")
    elif parts.path.strip("/") and "db" not in parsed:
        raise _wrong("what follows the host is the number of a database, as in redis://localhost:6379/0")
    return parsed


def _wrong(reason: str) -> ConfigurationError:
    return ConfigurationError(f"the Redis URL is wrong: {reason}", setting="url")
