"""The reaper: removes the containers of workers that are gone, and no others."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final

from graflow.errors import GraflowError
from graflow.handlers.docker.labels import HOST, PLACE, PROCESS, TOKEN, WORKER, Process, labels_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from graflow.handlers.docker.bin import ContainerBin
    from graflow.handlers.docker.engine import Engine
    from graflow.handlers.docker.labels import Owner

logger: logging.Logger = logging.getLogger("graflow.handlers.docker")

PERIOD: Final = 3.0
"""seconds between two looks"""
MEMORY: Final = "memory:"
"""what the places begin with whose workers have no leases, and end with their process"""


class Reaper:
    """Looks at the containers of this host, and removes those whose process has ended, or whose worker is gone at two looks in a row.

    For the worker once would not do: one that has just begun, or whose lease has lapsed for a moment, is there at the next look. A process that
    has ended does not come back, while its worker does: under the same id, if it has one of its own.

    Args:
        engine: where to look.
        owner: who looks.
        living: the workers that hold a lease, by id; None where there are no leases.
        bin: where they go.
        period: seconds between two looks.
        sleep: waits for so long.
    """

    def __init__(
        self,
        engine: Engine,
        owner: Owner,
        living: Callable[[], Awaitable[frozenset[str] | None]],
        bin: ContainerBin,
        *,
        period: float = PERIOD,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._engine = engine
        self._owner = owner
        self._living = living
        self._bin = bin
        self._period = period
        self._sleep = sleep
        self._suspects: frozenset[str] = frozenset()

    async def run(self) -> None:
        """Look again and again. That the engine or the backend is away is no reason to end."""
        while True:
            try:
                await self.look()
            except GraflowError as error:
                logger.warning("orphaned containers could not be looked for: %s", error)
            await self._sleep(self._period)

    async def look(self) -> frozenset[str]:
        """Look once; the ids of what was removed."""
        await self._bin.again()
        others = await self._others()
        ended, missed = await self._orphans(others) if others else (frozenset[str](), frozenset[str]())
        doomed = ended | missed & self._suspects
        self._suspects = missed - doomed
        removals = [self._bin.discard(container) for container in doomed]
        for container in doomed:
            labels = others[container]
            extra = {"container": container, "worker_id": labels[WORKER], "labels": dict(labels)}
            logger.warning(
                "container %s is removed: its worker %s, or the process that this was, is gone", container[:12], labels[WORKER], extra=extra
            )
        if removals:
            await asyncio.wait(removals)
        return doomed

    async def _others(self) -> dict[str, Mapping[str, str]]:
        """The labels of this host's containers that belong to other workers, or to earlier processes under the same name."""
        listed = await self._engine.labelled(f"{HOST}={self._owner.host}", TOKEN, PLACE, WORKER)
        found = {str(each["Id"]): labels_of(each) for each in listed}
        mine = (self._owner.worker, str(self._owner.process))
        return {container: labels for container, labels in found.items() if (labels[WORKER], labels.get(PROCESS)) != mine}

    async def _orphans(self, others: Mapping[str, Mapping[str, str]]) -> tuple[frozenset[str], frozenset[str]]:
        """Those whose process has ended for certain, and those whose worker has no lease."""
        living = await self._living()
        if living is None:
            there = {container: labels for container, labels in others.items() if labels[PLACE].startswith(MEMORY)}
            return await asyncio.to_thread(_without_process, there), frozenset()
        there = {container: labels for container, labels in others.items() if labels[PLACE] == self._owner.place}
        missed = frozenset(container for container, labels in there.items() if labels[WORKER] not in living)
        return await asyncio.to_thread(_without_process, self._near(there)), missed

    def _near(self, containers: Mapping[str, Mapping[str, str]]) -> Mapping[str, Mapping[str, str]]:
        """Those whose process would be seen here. An engine elsewhere may serve several hosts of one name, so that there only a worker's own id
        tells: nobody else has that."""
        if self._engine.is_local:
            return containers
        return {container: labels for container, labels in containers.items() if labels[WORKER] == self._owner.worker}


def _without_process(containers: Mapping[str, Mapping[str, str]]) -> frozenset[str]:
    """Reads files, so not for the event loop."""
    found: set[str] = set()
    for container, labels in containers.items():
        process = Process.read(labels.get(PROCESS, ""))
        if process is not None and process.is_gone():
            found.add(container)
    return frozenset(found)
