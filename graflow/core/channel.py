"""A run's shared key-value space, as tasks see it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import AbstractAsyncContextManager, AbstractContextManager, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar, cast, overload

import msgspec

from graflow.core.conversion import describe, make_converter
from graflow.core.staying import StaysHere
from graflow.errors import ChannelTypeError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator

T = TypeVar("T")
D = TypeVar("D")

_MISSING: Any = object()


class Channel(StaysHere, ABC):
    """Values that the tasks of one run share, by key.

    Each operation is atomic between tasks, processes and machines; types survive.
    """

    instead = "take `ctx.channel` inside the task"

    __slots__ = ()

    @overload
    async def get(self, key: str, /) -> Any: ...
    @overload
    async def get(self, key: str, default: T, /) -> T | Any: ...
    @abstractmethod
    async def get(self, key: str, default: Any = None, /) -> Any:
        """The value under ``key``, or ``default`` where there is none."""

    @abstractmethod
    async def set(self, key: str, value: Any, /, ttl: float | None = None) -> None:
        """Put ``value`` under ``key``, for ``ttl`` seconds or as long as the run is kept.

        Raises:
            SerializationError: the value cannot travel.
        """

    @abstractmethod
    async def delete(self, key: str, /) -> bool:
        """Remove ``key``; whether it was there."""

    @abstractmethod
    async def exists(self, key: str, /) -> bool:
        """Whether there is a value under ``key``."""

    @abstractmethod
    async def keys(self) -> list[str]:
        """All keys, sorted."""

    @abstractmethod
    async def clear(self) -> None:
        """Remove every key of this run."""

    @abstractmethod
    async def append(self, key: str, *values: Any) -> int:
        """Put values at the end of the list under ``key``, which is made when it is missing; the new length.

        Raises:
            ChannelTypeError: something other than a list is there.
        """

    @abstractmethod
    async def prepend(self, key: str, *values: Any) -> int:
        """Put values at the front of the list under ``key``, in the order given; the new length.

        Raises like :meth:`append`.
        """

    @overload
    async def atomic_add(self, key: str, n: int = 1, /) -> int: ...
    @overload
    async def atomic_add(self, key: str, n: float, /) -> float: ...
    @abstractmethod
    async def atomic_add(self, key: str, n: float = 1, /) -> float:
        """Add ``n`` to the number under ``key``, 0 when it is missing; the new value.

        Raises:
            ChannelTypeError: something other than a number is there.
        """

    @abstractmethod
    def lock(self, key: str, /, *, wait: float | None = None, ttl: float = 30.0) -> AbstractAsyncContextManager[None]:
        """Hold the lock called ``key`` for the length of an ``async with``.

        Args:
            wait: seconds to wait for it, None for as long as it takes.
            ttl: seconds after which it is free again should its holder die.

        Raises:
            TimeoutError: another held it all through ``wait``.
        """

    @abstractmethod
    async def wait(self, key: str, /, timeout: float | None = None) -> Any:
        """The value under ``key``, as soon as there is one.

        Raises:
            TimeoutError: there was none within ``timeout`` seconds.
        """


class Caller(Protocol):
    """Runs a coroutine function on the event loop for a thread that waits for its result."""

    def __call__(self, function: Callable[..., Awaitable[T]], /, *args: Any) -> T: ...


class SyncChannel(StaysHere):
    """The channel for ``def`` tasks: the same methods, which block the thread of the task."""

    instead = "take `ctx.channel` inside the task"

    __slots__ = ("_call", "_channel")

    def __init__(self, channel: Channel, call: Caller) -> None:
        self._channel = channel
        self._call = call

    @overload
    def get(self, key: str, /) -> Any: ...
    @overload
    def get(self, key: str, default: T, /) -> T | Any: ...
    def get(self, key: str, default: Any = None, /) -> Any:
        """See :meth:`Channel.get`."""
        return self._call(self._channel.get, key, default)

    def set(self, key: str, value: Any, /, ttl: float | None = None) -> None:
        """See :meth:`Channel.set`."""
        self._call(partial(self._channel.set, ttl=ttl), key, value)

    def delete(self, key: str, /) -> bool:
        """See :meth:`Channel.delete`."""
        return self._call(self._channel.delete, key)

    def exists(self, key: str, /) -> bool:
        """See :meth:`Channel.exists`."""
        return self._call(self._channel.exists, key)

    def keys(self) -> list[str]:
        """See :meth:`Channel.keys`."""
        return self._call(self._channel.keys)

    def clear(self) -> None:
        """See :meth:`Channel.clear`."""
        self._call(self._channel.clear)

    def append(self, key: str, *values: Any) -> int:
        """See :meth:`Channel.append`."""
        return self._call(self._channel.append, key, *values)

    def prepend(self, key: str, *values: Any) -> int:
        """See :meth:`Channel.prepend`."""
        return self._call(self._channel.prepend, key, *values)

    @overload
    def atomic_add(self, key: str, n: int = 1, /) -> int: ...
    @overload
    def atomic_add(self, key: str, n: float, /) -> float: ...
    def atomic_add(self, key: str, n: float = 1, /) -> float:
        """See :meth:`Channel.atomic_add`."""
        return self._call(self._channel.atomic_add, key, n)

    def lock(self, key: str, /, *, wait: float | None = None, ttl: float = 30.0) -> AbstractContextManager[None]:
        """See :meth:`Channel.lock`; for a plain ``with``."""
        return self._hold(self._channel.lock(key, wait=wait, ttl=ttl))

    @contextmanager
    def _hold(self, held: AbstractAsyncContextManager[None]) -> Generator[None, None, None]:
        self._call(held.__aenter__)
        try:
            yield
        finally:
            self._call(held.__aexit__, None, None, None)

    def wait(self, key: str, /, timeout: float | None = None) -> Any:
        """See :meth:`Channel.wait`."""
        return self._call(partial(self._channel.wait, timeout=timeout), key)


class TypedChannel(StaysHere, Generic[T]):
    """A channel whose values are all of one type, checked when they are put in and when they are taken out.

    Example::

        scores = TypedChannel(ctx.channel, int)
        await scores.set("best", 3)
    """

    instead = "take `ctx.channel` inside the task"

    __slots__ = ("_channel", "_converter", "_type")

    def __init__(self, channel: Channel, type: type[T], /) -> None:
        if not isinstance(channel, Channel):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"TypedChannel takes the channel of an async task, not {channel!r}")
        self._channel = channel
        self._type = type
        self._converter = make_converter(type)

    @overload
    async def get(self, key: str, /) -> T | None: ...
    @overload
    async def get(self, key: str, default: D, /) -> T | D: ...
    async def get(self, key: str, default: Any = None, /) -> Any:
        """The value under ``key``, or ``default`` where there is none.

        Raises ChannelTypeError when it is of another type.
        """
        value = await self._channel.get(key, _MISSING)
        return default if value is _MISSING else self._checked(key, value)

    async def set(self, key: str, value: T, /, ttl: float | None = None) -> None:
        """Put ``value`` under ``key``, for ``ttl`` seconds or as long as the run is kept.

        Raises ChannelTypeError for another type.
        """
        await self._channel.set(key, self._checked(key, value), ttl=ttl)

    async def delete(self, key: str, /) -> bool:
        """Remove ``key``; whether it was there."""
        return await self._channel.delete(key)

    async def exists(self, key: str, /) -> bool:
        """Whether there is a value under ``key``."""
        return await self._channel.exists(key)

    async def wait(self, key: str, /, timeout: float | None = None) -> T:
        """The value under ``key``, as soon as there is one.

        Raises TimeoutError, and ChannelTypeError when it is of another type.
        """
        return self._checked(key, await self._channel.wait(key, timeout))

    def _checked(self, key: str, value: Any) -> T:
        if self._converter is None:
            return cast("T", value)
        try:
            return cast("T", self._converter(value))
        except msgspec.ValidationError as error:
            expected, got = describe(self._type), type(value).__qualname__
            raise ChannelTypeError(
                f"the channel holds {expected} under {key!r}, not {got}: {error}", key=key, expected=expected, got=got
            ) from error
