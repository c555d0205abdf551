"""A run's channel on Redis: every operation is one script, so it is atomic between tasks, processes and machines.

What is stored, under the partition's prefix:

* ``ch:<run>``, a hash: key -> one byte, the mark, and what it says. Keys are UTF-8, surrogates passed through.

  ==== ==========================================================================================================
  mark content
  ==== ==========================================================================================================
  v    any value but those of n, a list that was ``set`` included: the bytes of :mod:`graflow.wire.codec`
  n    an int or a float, what ``atomic_add`` adds to: the same bytes
  l    a list that was appended or prepended to: its length in decimal; the items are in a list of their own
  ==== ==========================================================================================================

  A capital mark, V N L, says that the key has a time to live, which must be looked at. So one ``HGET`` gives a value, but for l and capitals, which
  :meth:`RedisChannel.read_field` looks up.
* ``chl:<length of run>:<run>:<key>``, a list: the codec's bytes of items, in each element one or several, one after the other. Behind the head of a
  msgpack array, the elements put together are the bytes of the whole list.
* ``cht:<run>``, a sorted set: keys by the millisecond, on the server's clock, at which their time is up. What has outlived it is removed by whatever
  is done next in this channel.
* ``chx:<run>``, a set: the names of the lists and of ``cht:<run>``, as there are such, for the script that gives a run its end.

All of it lives as long as the run. Locks are kept apart: see :mod:`graflow.backends.redis.locks`. Whoever sets a key publishes its name on
``changed:<run>``.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final, TypeVar, overload

from msgspec import UNSET

from graflow.backends.redis.asking import check_wait, key_bytes, key_text, milliseconds, operation, wrong_type
from graflow.backends.redis.locks import hold
from graflow.backends.redis.looking import Look
from graflow.backends.redis.scripts import channels
from graflow.backends.redis.watch import lost, unknown
from graflow.core.channel import Channel
from graflow.errors import GraflowError, UnknownRunError
from graflow.wire.codec import decode, encode

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from contextlib import AbstractAsyncContextManager

    from graflow.backends.redis.client import RedisClient
    from graflow.backends.redis.waiting import Waiting

T = TypeVar("T")

_VALUE, _NUMBER, _LIST = b"v", b"n", b"l"
_NUMBERS: Final = frozenset({int, float})
_RUNNING: Final = b"r"


def write_inputs(run_id: str, inputs: Mapping[str, Any], *, limit: int | None = None) -> list[bytes]:
    """The first values of a run's channel as they lie in its hash: key, field, key, field...

    Raises:
        SerializationError: a value cannot travel, or has more than ``limit`` bytes.
    """
    words: list[bytes] = []
    for key, value in inputs.items():
        words += key_bytes(key), _field(value, name=f'inputs["{key}"]', limit=limit)
    return words


class RedisChannel(Channel):
    """The key-value space of one run. Making one costs nothing and sends nothing; that there is no such run shows when it is used.

    Times to live are measured by the server's clock, how long to wait by the loop's. After the run's end values can be read and written until the run
    is forgotten, and nobody waits any more.

    Every operation raises UnknownRunError for a run that there is none of, and BackendUnavailableError when the server is away for too long. What
    changes something is carried out once, even if its answer was lost and it was sent again.
    """

    __slots__ = ("_client", "_run_id", "_waiting")

    def __init__(self, client: RedisClient, waiting: Waiting, run_id: str) -> None:
        self._client = client
        self._waiting = waiting
        self._run_id = run_id

    async def ping(self) -> bool:
        """Whether the server answers; if not, the log says why."""
        return await self._client.ping()

    async def health_check(self) -> dict[str, Any]:
        """How the server is; see :meth:`graflow.backends.redis.client.RedisClient.health_check`."""
        return await self._client.health_check()

    async def read_field(self, key: str, field: bytes) -> Any:
        """The value of a field that was read from the run's hash, UNSET if there is none any more. Asks the server only for lists and for what has a
        time to live."""
        return decode(memoryview(field)[1:]) if field[:1] in (_VALUE, _NUMBER) else await self.get(key, UNSET)

    # ---- single values ----

    @overload
    async def get(self, key: str, /) -> Any: ...
    @overload
    async def get(self, key: str, default: T, /) -> T | Any: ...
    async def get(self, key: str, default: Any = None, /) -> Any:
        """The value under ``key``, or ``default`` where there is none."""
        _, value = await self._look(key_bytes(key))
        return default if value is UNSET else value

    async def set(self, key: str, value: Any, /, ttl: float | None = None) -> None:
        """Put ``value`` under ``key``, for ``ttl`` seconds or as long as the run is kept. A ttl set before is void.

        Raises:
            SerializationError: the value cannot travel.
            ValueError: ``ttl`` is not above 0.
        """
        name = key_bytes(key)
        span = None if ttl is None else milliseconds(ttl)
        field = _field(value, name=f'channel["{key}"]', mortal=span is not None)
        self._known(await channels.set_(self._client, self._run_id, operation(), name, field, span))

    async def delete(self, key: str, /) -> bool:
        """Remove ``key``; whether it was there."""
        return self._known(await channels.delete(self._client, self._run_id, operation(), key_bytes(key)))

    async def exists(self, key: str, /) -> bool:
        """Whether there is a value under ``key``."""
        return self._known(await channels.exists(self._client, self._run_id, key_bytes(key)))

    async def keys(self) -> list[str]:
        """All keys, sorted."""
        return sorted(map(key_text, self._known(await channels.keys(self._client, self._run_id))))

    async def clear(self) -> None:
        """Remove every key. Locks are held on, and who waits for a key waits on."""
        self._known(await channels.clear(self._client, self._run_id, operation()))

    # ---- lists and numbers ----

    async def append(self, key: str, *values: Any) -> int:
        """Put values at the end of the list under ``key``, which is made when it is missing; the new length. A ttl goes on running. It costs the same
        however long the list is.

        Raises:
            ChannelTypeError: something other than a list is there.
            SerializationError: a value cannot travel.
        """
        return await self._extend(key, values, front=False)

    async def prepend(self, key: str, *values: Any) -> int:
        """Put values at the front of the list under ``key``, in the order given; the new length. Raises like :meth:`append`."""
        return await self._extend(key, values, front=True)

    async def _extend(self, key: str, values: tuple[Any, ...], *, front: bool) -> int:
        name = key_bytes(key)
        items = b"".join(encode(value, name=f'channel["{key}"]') for value in values)
        reply = await channels.extend(self._client, self._run_id, operation(), name, front=front, count=len(values), items=items)
        if reply is None:
            raise unknown(self._run_id)
        if isinstance(reply, channels.Refusal):
            raise wrong_type(key, "a list", _type_in(reply.field))
        return reply

    @overload
    async def atomic_add(self, key: str, n: int = 1, /) -> int: ...
    @overload
    async def atomic_add(self, key: str, n: float, /) -> float: ...
    async def atomic_add(self, key: str, n: float = 1, /) -> float:
        """Add ``n`` to the number under ``key``, 0 when it is missing; the new value. A ttl goes on running. Ints of any size are exact.

        Raises:
            ChannelTypeError: ``n``, or what is there, is not an int or a float; True and False are not.
        """
        name = key_bytes(key)
        if type(n) not in _NUMBERS:
            raise wrong_type(key, "a number", type(n))
        client, run, once = self._client, self._run_id, operation()
        reply = await channels.add(client, run, once, name, encode(n))
        while isinstance(reply, channels.Refusal):
            # Too large for Lua: we add, and put the sum there if nobody has put another in the meantime. One of those who try at once succeeds.
            field = reply.field
            if reply.why == b"type" or (field is not None and field[:1].lower() != _NUMBER):
                raise wrong_type(key, "a number", _type_in(field))
            mark, number = (_NUMBER, 0) if field is None else (field[:1], decode(field[1:]))
            reply = await channels.swap(client, run, once, name, field, mark + encode(number + n))
        if reply is None:
            raise unknown(run)
        total: float = decode(reply)
        return total

    # ---- waiting ----

    def lock(self, key: str, /, *, wait: float | None = None, ttl: float = 30.0) -> AbstractAsyncContextManager[None]:
        """Hold the lock called ``key`` for the length of an ``async with``. Who waited longest is next. Locks are not keys.

        It is not reentrant: a task that takes a lock it holds waits for itself, until its first holding's ttl is up. A holding that outlasts its ttl
        loses the lock to the next; its own exit then frees nothing and logs a warning.

        Args:
            wait: seconds to wait for it, None for as long as it takes, 0 to try once.
            ttl: seconds after which it is free again should its holder have vanished.

        Raises:
            TimeoutError: others held it all through ``wait``.
            ValueError: ``ttl`` is not above 0.
        """
        return hold(self._client, self._waiting, self._run_id, key, wait=wait, ttl=ttl)

    async def wait(self, key: str, /, timeout: float | None = None) -> Any:
        """The value under ``key``, as soon as there is one. Nothing is sent while waiting. A value that is gone again at once may be missed.

        Raises:
            TimeoutError: there was none within ``timeout`` seconds.
            GraflowError: there is none, and the run has ended.
            RunLostError: the server has lost the run meanwhile.
        """
        name = key_bytes(key)
        check_wait("timeout", timeout)
        loop = asyncio.get_running_loop()
        # With no time to wait there is still time to look.
        until = loop.time() + timeout if timeout is not None and timeout > 0 else None
        value = UNSET
        try:
            async with asyncio.timeout_at(until):
                value = await self._there(key, name)
                if value is UNSET and (timeout is None or until is not None):
                    value = await self._until_there(key, name)
        except TimeoutError:
            pass
        if value is UNSET:
            raise TimeoutError(f"there was no value under {key!r} within {timeout} s")
        return value

    async def _until_there(self, key: str, name: bytes) -> Any:
        async with _KeyLook(self._client, self._waiting, self._run_id, name) as look:
            try:
                while (value := await self._there(key, name)) is UNSET:
                    await look.sleep()
            except UnknownRunError:  # it was there before
                raise lost(self._run_id, self._client.where) from None
            return value

    async def _there(self, key: str, name: bytes) -> Any:
        state, value = await self._look(name)
        if value is UNSET and state != _RUNNING:
            raise GraflowError(f"there will be no value under {key!r}: the run has ended")
        return value

    async def _look(self, name: bytes) -> tuple[bytes, Any]:
        state, field, elements = self._known(await channels.get(self._client, self._run_id, name))
        return state, UNSET if field is None else _read(field, elements)

    def _known(self, reply: T | None) -> T:
        if reply is None:
            raise unknown(self._run_id)
        return reply


class _KeyLook(Look):
    """Waits for a key: woken when it is set, and when the run ends."""

    __slots__ = ("_name",)

    def __init__(self, client: RedisClient, waiting: Waiting, run_id: str, name: bytes) -> None:
        super().__init__(client, waiting, client.keys.changed(run_id))
        self._name = name

    def told(self, message: bytes) -> bool:
        return not message or message == self._name


def _field(value: Any, *, name: str, mortal: bool = False, limit: int | None = None) -> bytes:
    mark = _NUMBER if type(value) in _NUMBERS else _VALUE
    return (mark.upper() if mortal else mark) + encode(value, name=name, limit=limit)


def _read(field: bytes, elements: Sequence[bytes]) -> Any:
    if field[:1].lower() != _LIST:
        return decode(memoryview(field)[1:])
    return decode(b"\xdd" + int(field[1:]).to_bytes(4, "big") + b"".join(elements))


def _type_in(field: bytes | None) -> type[Any]:
    """The type of what is in a field; of a list without looking at its items."""
    value: object = [] if field is None or field[:1].lower() == _LIST else decode(field[1:])
    return type(value)
