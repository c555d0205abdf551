"""A task's context in a child where Graflow is installed: the real one, over requests to the worker.

The child's program imports this, nobody else does.
"""

from __future__ import annotations

import time
from contextlib import asynccontextmanager
from functools import cache
from typing import TYPE_CHECKING, Any, Final, TypeVar

from graflow.core.channel import Channel
from graflow.core.context import BaseContext, SyncTaskContext, TaskContext
from graflow.handlers.inside.link import finish
from graflow.wire import codec
from graflow.wire.keys import Signer, signer_of
from graflow.wire.signing import signing_for
from graflow.wire.tasks import encode_task

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
    from contextlib import AbstractAsyncContextManager, AbstractContextManager

    from graflow.handlers.inside.calls import Requests

T = TypeVar("T")


class RemoteChannel(Channel):
    """The run's channel, each operation a request."""

    __slots__ = ("_ask",)

    def __init__(self, ask: Callable[..., Awaitable[Any]]) -> None:
        self._ask = ask

    async def get(self, key: str, default: Any = None, /) -> Any:
        found, value = await self._ask("channel.find", key)
        return value if found else default

    async def set(self, key: str, value: Any, /, ttl: float | None = None) -> None:
        await self._ask("channel.set", key, value, ttl=ttl)

    async def delete(self, key: str, /) -> bool:
        return bool(await self._ask("channel.delete", key))

    async def exists(self, key: str, /) -> bool:
        return bool(await self._ask("channel.exists", key))

    async def keys(self) -> list[str]:
        found: list[str] = await self._ask("channel.keys")
        return found

    async def clear(self) -> None:
        await self._ask("channel.clear")

    async def append(self, key: str, *values: Any) -> int:
        return int(await self._ask("channel.append", key, *values))

    async def prepend(self, key: str, *values: Any) -> int:
        return int(await self._ask("channel.prepend", key, *values))

    async def atomic_add(self, key: str, n: float = 1, /) -> Any:
        return await self._ask("channel.atomic_add", key, n)

    def lock(self, key: str, /, *, wait: float | None = None, ttl: float = 30.0) -> AbstractAsyncContextManager[None]:
        return self._hold(key, wait, ttl)

    @asynccontextmanager
    async def _hold(self, key: str, wait: float | None, ttl: float) -> AsyncGenerator[None]:
        held = await self._ask("lock", key, wait=wait, ttl=ttl)
        try:
            yield
        finally:
            await self._ask("unlock", held)

    async def wait(self, key: str, /, timeout: float | None = None) -> Any:
        return await self._ask("channel.wait", key, timeout=timeout)


class RemoteServices:
    """What a context needs of the world outside, over requests.

    A ``def`` task drives coroutines itself (:meth:`call`), so its requests block; those of an ``async def`` wait.
    """

    def __init__(self, requests: Requests, *, is_async: bool) -> None:
        self._requests = requests
        self._ask = requests.ask if is_async else requests.ask_at_once

    @property
    def channel(self) -> Channel:
        return RemoteChannel(self._ask)

    async def result_of(self, node_id: str) -> Any:
        return await self._ask("result_of", node_id)

    def publish(self, type: str, data: Mapping[str, Any]) -> None:
        self._requests.tell(type, dict(data))

    def is_cancelled(self) -> bool:
        return self._requests.cancelled

    def now(self) -> float:
        return time.monotonic()

    def call(self, function: Callable[..., Awaitable[T]], /, *args: Any) -> T:
        return finish(_awaited(function, args))


async def _awaited(function: Callable[..., Awaitable[T]], args: tuple[Any, ...]) -> T:
    return await function(*args)


def make_context(requests: Requests, who: dict[str, Any], is_async: bool) -> BaseContext:
    """The context of a call."""
    kind = TaskContext if is_async else SyncTaskContext
    return kind(RemoteServices(requests, is_async=is_async), resources={}, **who)


def directives(context: BaseContext) -> dict[str, Any] | None:
    """What the task asked of its run, in plain values: what can only be said in Graflow's own types, as bytes.

    Raises:
        FunctionNotFoundError: a new task whose code has no importable name.
    """
    asked = context.requested
    if asked is None:
        return None
    told: dict[str, Any] = {"goto": asked.goto, "end_loop": asked.end_loop, "terminate": asked.terminate, "cancel": asked.cancel}
    if asked.iteration is not None:
        data = [asked.iteration.data] if asked.iteration.has_data else []
        told["iteration"] = codec.encode([data, dict(asked.iteration.arguments)], name="next_iteration")
    told["new"] = [[encode_task(request.task), request.ignore_existing, request.goto] for request in asked.new]
    return told


def scope(run_id: str) -> AbstractContextManager[Any]:
    """Around a call: values that opted in are signed and verified for its run, with the keys of the worker, or of the environment."""
    return signing_for(_given[0] if _given else _of_environment(), run_id)


_given: Final[list[Signer]] = []


def use_keys(secrets: Mapping[str, bytes]) -> None:
    """Sign and verify with what the worker has handed over: a key that was given in code is in no environment."""
    _given[:] = [Signer(secrets)]


@cache
def _of_environment() -> Signer | None:
    return signer_of()
