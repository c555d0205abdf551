"""The removal of containers: in the background, so that nobody's cancellation can keep one from it."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final

from graflow.errors import GraflowError

if TYPE_CHECKING:
    from graflow.handlers.docker.engine import Engine

logger: logging.Logger = logging.getLogger("graflow.handlers.docker")

AT_ONCE: Final = 8
"""containers that are removed at the same time"""


class ContainerBin:
    """Removes what is thrown into it. What could not be removed, as the engine was away, is kept in mind and tried again."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._gate = asyncio.Semaphore(AT_ONCE)
        self._removals: dict[str, asyncio.Task[None]] = {}
        self.left: set[str] = set()
        """containers that are still to be removed"""

    def discard(self, container: str) -> asyncio.Task[None]:
        """Remove a container, by id or name; what is returned ends when that is done, or has failed for now, and raises nothing."""
        removal = self._removals.get(container)
        if removal is None:
            removal = self._removals[container] = asyncio.create_task(
                self._remove(container), name=f"graflow-docker-remove-{container[:12]}"
            )
            removal.add_done_callback(lambda _: self._removals.pop(container, None))
        return removal

    async def again(self) -> None:
        """Try those once more that could not be removed."""
        await self._all([self.discard(container) for container in self.left])

    async def empty(self) -> None:
        """Wait for all removals, and try once more what has failed."""
        await self._all(list(self._removals.values()))
        await self.again()
        if self.left:
            names = ", ".join(sorted(container[:12] for container in self.left))
            logger.error(
                "containers are left behind, for the next worker on this host to remove: %s", names, extra={"left": sorted(self.left)}
            )

    async def _all(self, removals: list[asyncio.Task[None]]) -> None:
        if removals:
            await asyncio.wait(removals)

    async def _remove(self, container: str) -> None:
        self.left.add(container)
        async with self._gate:
            try:
                await self._engine.remove(container)
            except GraflowError as error:
                logger.warning("container %s could not be removed yet: %s", container[:12], error, extra={"container": container})
            else:
                self.left.discard(container)
