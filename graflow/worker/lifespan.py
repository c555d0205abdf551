"""What tasks share for as long as their worker runs: pools, clients, models."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any

from graflow.errors import ConfigurationError

if TYPE_CHECKING:
    from types import TracebackType

Lifespan = Callable[[], AbstractAsyncContextManager[Mapping[str, Any]]]


class LifespanKeeper:
    """Enters a lifespan and leaves it again, both in one asyncio task of its own.

    Task groups and cancel scopes, which lifespans like to hold, must be left by the task that entered them. The task that stops a worker is
    often another than the one that started it.

    Example:
        >>> async with LifespanKeeper(lifespan) as resources:
        ...     ...
    """

    def __init__(self, lifespan: Lifespan) -> None:
        self._lifespan = lifespan
        self._leave = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Mapping[str, Any]:
        """Start it up; what that raises is raised here."""
        manager = self._lifespan()
        if not hasattr(manager, "__aenter__"):
            raise ConfigurationError(
                f"lifespan= gives an object of type {type(manager).__name__}, which is no async context manager; decorate the function with "
                f"@contextlib.asynccontextmanager",
                setting="lifespan",
            )
        entered: asyncio.Future[Mapping[str, Any]] = asyncio.get_running_loop().create_future()
        self._task = asyncio.create_task(self._keep(manager, entered), name="graflow-lifespan")
        try:
            await asyncio.wait((entered, self._task), return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            self._task.cancel()
            await asyncio.wait((self._task,))
            raise
        if not entered.done():
            await self._task  # which raises
        return entered.result()

    async def _keep(self, manager: AbstractAsyncContextManager[Mapping[str, Any]], entered: asyncio.Future[Mapping[str, Any]]) -> None:
        async with manager as resources:
            if not isinstance(resources, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]
                raise ConfigurationError(
                    f"lifespan= yielded a {type(resources).__name__}; yield a mapping of names to what tasks find in ctx.resources",
                    setting="lifespan",
                )
            entered.set_result(resources)
            await self._leave.wait()

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Shut it down; what that raises, or what ended it before its time, is raised here."""
        self._leave.set()
        if self._task is not None:
            await self._task
