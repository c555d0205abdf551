"""The scripts of channels, and how each is called. Of a run that there is none of, each says None.

Every one has the partition's prefix as ``KEYS[1]``, and as ``ARGV`` the client's shift, the run, and what its function here takes. Those that take an
operation may be sent twice: the second time they answer as they did the first. What a key's field looks like is said in
:mod:`graflow.backends.redis.channel`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple, cast

from graflow.backends.redis.scripts import Script

if TYPE_CHECKING:
    from graflow.backends.redis.client import RedisClient

_COMMON: Final = "channel_common"

GET: Final = Script("channel_get", _COMMON, "channel_get")
EXISTS: Final = Script("channel_exists", _COMMON, "channel_exists")
KEYS: Final = Script("channel_keys", _COMMON, "channel_keys")
SET: Final = Script("channel_set", _COMMON, "channel_set")
DELETE: Final = Script("channel_delete", _COMMON, "channel_delete")
CLEAR: Final = Script("channel_clear", _COMMON, "channel_clear")
EXTEND: Final = Script("channel_extend", _COMMON, "channel_extend")
ADD: Final = Script("channel_add", _COMMON, "channel_add")
SWAP: Final = Script("channel_swap", _COMMON, "channel_swap")


class Refusal(NamedTuple):
    """Nothing was done. ``why`` is ``b"type"``, it is of the wrong one, or ``b"large"``, it is not for Lua to do; ``field`` is what was found."""

    why: bytes
    field: bytes | None


async def get(client: RedisClient, run: str, key: bytes) -> tuple[bytes, bytes | None, list[bytes]] | None:
    """The state of the run, the field of the key, and the elements of its list."""
    reply = await client.call(GET, (client.shift, run, key))
    return None if reply is None else (reply[0], reply[1], reply[2])


async def exists(client: RedisClient, run: str, key: bytes) -> bool | None:
    """Whether the key is there."""
    reply = await client.call(EXISTS, (client.shift, run, key))
    return None if reply is None else reply == 1


async def keys(client: RedisClient, run: str) -> list[bytes] | None:
    """Every key, in any order."""
    while (reply := await client.call(KEYS, (client.shift, run))) == b"more":
        pass
    return cast("list[bytes] | None", reply)


async def set_(client: RedisClient, run: str, operation: str, key: bytes, field: bytes, ttl: int | None) -> bool | None:
    """Put a field under the key, for ``ttl`` milliseconds or for good."""
    reply = await client.call(SET, (client.shift, run, operation, key, field, "" if ttl is None else ttl))
    return None if reply is None else True


async def delete(client: RedisClient, run: str, operation: str, key: bytes) -> bool | None:
    """Remove the key; whether it was there."""
    reply = await client.call(DELETE, (client.shift, run, operation, key))
    return None if reply is None else reply == b"1"


async def clear(client: RedisClient, run: str, operation: str) -> bool | None:
    """Remove every key."""
    reply = await client.call(CLEAR, (client.shift, run, operation))
    return None if reply is None else True


async def extend(
    client: RedisClient, run: str, operation: str, key: bytes, *, front: bool, count: int, items: bytes
) -> int | Refusal | None:
    """Put ``count`` items, encoded one after the other, at one end of a list; the new length."""
    reply = await client.call(EXTEND, (client.shift, run, operation, key, "front" if front else "back", count, items))
    return int(reply) if isinstance(reply, bytes) else _refusal(reply)


async def add(client: RedisClient, run: str, operation: str, key: bytes, number: bytes) -> bytes | Refusal | None:
    """Add an encoded number; the sum."""
    reply = await client.call(ADD, (client.shift, run, operation, key, number))
    return reply if isinstance(reply, bytes) else _refusal(reply)


async def swap(client: RedisClient, run: str, operation: str, key: bytes, expected: bytes | None, field: bytes) -> bytes | Refusal | None:
    """Put a number's field in the place of ``expected``, if that is still there; the number."""
    reply = await client.call(SWAP, (client.shift, run, operation, key, expected or b"", field))
    return reply if isinstance(reply, bytes) else _refusal(reply)


def _refusal(reply: list[bytes | None] | None) -> Refusal | None:
    return None if reply is None else Refusal(reply[0] or b"", reply[1])
