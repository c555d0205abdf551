"""Containers for those who set up none: there from the beginning, and nothing but a name until the first task needs one."""

from __future__ import annotations

import asyncio
import importlib
from typing import TYPE_CHECKING, Any, ClassVar

from graflow.handlers.base import Handler
from graflow.handlers.sizes import CONTAINER_TIMEOUT, CONTAINERS

if TYPE_CHECKING:
    from graflow.handlers.base import TaskCall, WorkerInfo
    from graflow.handlers.docker import DockerHandler


class StandbyDocker(Handler):
    """A :class:`~graflow.handlers.DockerHandler` as it is by default, made and started by the first attempt.

    Most who have it have no use for containers: for them nothing of it is imported, and no engine is looked for. Whoever has a use for them and
    lacks the engine, or the package that speaks to it, is told so by the failure of the attempt; the next one tries again.
    """

    sends_code: ClassVar[bool] = True
    concurrency: int | None = CONTAINERS
    timeout: float | None = CONTAINER_TIMEOUT

    def __init__(self) -> None:
        self._worker: WorkerInfo | None = None
        self._handler: DockerHandler | None = None
        self._starting: asyncio.Lock | None = None

    @property
    def at_work(self) -> int:
        """How many attempts containers are at work on."""
        return self._handler.at_work if self._handler is not None else 0

    def introduce(self, worker: WorkerInfo) -> None:
        """Remember whose containers they would be."""
        self._worker = worker

    async def start(self) -> None:
        """There is nothing to start yet. The lock belongs to the event loop of this life: an engine may have another one in another loop."""
        self._starting = asyncio.Lock()

    async def stop(self) -> None:
        """Remove all containers, if there are any."""
        handler, self._handler = self._handler, None
        if handler is not None:
            await handler.stop()

    async def run(self, call: TaskCall) -> Any:
        """Run the attempt in a container.

        Raises:
            ConfigurationError: aiodocker is not installed.
            ContainerEngineError: no engine answers.
            BaseException: what :meth:`DockerHandler.run` raises.
        """
        return await (self._handler or await self._started()).run(call)

    async def _started(self) -> DockerHandler:
        """The handler, started by one attempt for all that wait."""
        assert self._starting is not None
        async with self._starting:
            if self._handler is None:
                await asyncio.to_thread(importlib.import_module, "graflow.handlers.docker")  # which takes a while, so not on the event loop
                from graflow.handlers.docker import DockerHandler

                handler = DockerHandler()
                if self._worker is not None:
                    handler.introduce(self._worker)
                await handler.start()
                self._handler = handler
            return self._handler
