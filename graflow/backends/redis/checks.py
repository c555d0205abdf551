"""What a server is, asked when it is first connected to, and whether it will do."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final

import msgspec
from redis.exceptions import ResponseError

from graflow.backends.redis.faults import code_of
from graflow.backends.redis.link import pack
from graflow.errors import BackendUnsuitableError

if TYPE_CHECKING:
    from graflow.backends.redis.link import Link

_log = logging.getLogger("graflow.redis")

OLDEST: Final = (6, 2)
_VALKEY_IS: Final = (7, 2, 4)
"""The version of Redis that every Valkey says it is, and from which on the two differ."""

_REFUSED: Final = frozenset({"NOPERM", "ERR", ""})
"""What a command answers that the user may not use, that the provider has renamed, or that a proxy does not know."""


class Facts(msgspec.Struct, frozen=True):
    """A server. What could not be found out is None.

    Attributes:
        version: the Redis version whose commands it has.
        run_id: is another after each start of the server.
        policy: what it throws away when its memory is full.
        maxmemory: how much memory that is in bytes, 0 for no limit.
        persistent: whether it writes its data to disk.
    """

    version: tuple[int, ...] | None
    run_id: str | None
    policy: str | None
    maxmemory: int
    persistent: bool | None


async def look(link: Link) -> Facts:
    """Find out about the server at the other end, as far as the user may. Other errors than refusals are raised."""
    hello = await _hello(link)
    info = read_info(await _ask(link, "INFO", "default") or b"")
    policy = info.get("maxmemory_policy") or await _configured(link, "maxmemory-policy") or None
    persistent = None
    if info.get("aof_enabled") == "1":
        persistent = True
    elif (saves := await _configured(link, "save")) is not None:
        persistent = bool(saves) or (None if "aof_enabled" not in info else False)
    version = read_version(info.get("redis_version", ""))
    if version is None:
        version = _VALKEY_IS if hello.get("server") == "valkey" else read_version(hello.get("version", ""))
    return Facts(version, info.get("run_id"), policy, int(info.get("maxmemory", "0")), persistent)


def judge(facts: Facts, where: str) -> None:
    """Refuse a server that would lose work or lacks what is needed, and say in the log what could not be looked at.

    Raises:
        BackendUnsuitableError: it is too old, or throws keys away when its memory is full.
    """
    if facts.version is None:
        _log.warning("Redis at %s does not tell its version: it must be at least %d.%d", where, *OLDEST)
    elif facts.version < OLDEST:
        raise BackendUnsuitableError(f"Redis at {where} is version {'.'.join(map(str, facts.version))}: it must be at least 6.2")
    if facts.policy is None:
        _log.warning("Redis at %s lets this user see neither INFO nor CONFIG: make sure that its maxmemory-policy is noeviction", where)
    elif facts.policy != "noeviction":
        raise BackendUnsuitableError(
            f"Redis at {where} has the maxmemory-policy {facts.policy}, with which it throws tasks and results away when its memory is full: "
            "set it to noeviction"
        )
    if facts.persistent is None:
        _log.info("Redis at %s does not let this user see whether it keeps its data on disk", where)
    elif not facts.persistent:
        _log.warning("Redis at %s keeps nothing on disk: runs that are under way are lost when it stops (set appendonly yes)", where)


def read_info(text: bytes) -> dict[str, str]:
    """The fields of an INFO reply."""
    lines = text.decode("utf-8", "replace").splitlines()
    return {name: value for name, colon, value in (line.partition(":") for line in lines) if colon and not name.startswith("#")}


def read_version(text: str) -> tuple[int, ...] | None:
    """``"7.0.15"`` as numbers; None for what is no version."""
    numbers: list[int] = []
    for part in text.split("."):
        digits = part[: len(part) - len(part.lstrip("0123456789"))]
        if not digits:
            break
        numbers.append(int(digits))
    return tuple(numbers) or None


async def run_id_of(link: Link) -> str | None:
    """Which start of which server this is; None when the user may not know."""
    return read_info(await _ask(link, "INFO", "server") or b"").get("run_id")


async def _hello(link: Link) -> dict[str, str]:
    # HELLO is allowed to everybody, so the version is known where INFO is not permitted.
    reply: list[Any] = await _ask(link, "HELLO") or []
    fields = dict(zip(reply[::2], reply[1::2], strict=False))
    return {name.decode(): value.decode() for name, value in fields.items() if isinstance(value, bytes)}


async def _configured(link: Link, name: str) -> str | None:
    reply = await _ask(link, "CONFIG", "GET", name)
    return reply[1].decode() if reply else None


async def _ask(link: Link, *words: str) -> Any:
    try:
        return await link.ask(pack(words))
    except ResponseError as error:
        if code_of(error) not in _REFUSED:
            raise
        return None
