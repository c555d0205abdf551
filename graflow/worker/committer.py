"""Group commit: outcomes that are ready while a commit is under way travel together in the next one (law 5)."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from graflow.backends.base import Coordinator, Delivery, Slots
    from graflow.core.outcome import Outcome

LARGEST = 256
"""outcomes in one commit: enough to make a round trip cheap, few enough to keep the backend's step short"""


class Committer:
    """Writes outcomes, and brings back what the freed slots can run next.

    With nothing under way an outcome leaves at once. The first to commit leads: it takes along what others have added meanwhile, batch
    after batch. In memory a commit never waits, so every outcome leads its own and no batch ever forms.

    Args:
        coordinator: where outcomes are written.
        slots: what it is asked to fill.
        begin: starts attempts that came back when nobody was there to take them.
    """

    def __init__(self, coordinator: Coordinator, slots: Slots, begin: Callable[[Sequence[Delivery]], None]) -> None:
        self._coordinator = coordinator
        self._slots = slots
        self._begin = begin
        self._waiting: list[tuple[Delivery, Outcome | None]] = []
        self._leading = False
        self._successor: asyncio.Task[None] | None = None

    async def commit(self, delivery: Delivery, outcome: Outcome | None) -> list[Delivery]:
        """Write an outcome, now or with the commit that is under way; returns attempts to run, for which slots are taken."""
        if self._leading:
            self._waiting.append((delivery, outcome))
            return []
        self._leading = True
        found: list[Delivery] = []
        try:
            found += await self._coordinator.settle(((delivery, outcome),), self._slots)
            while self._waiting:
                found += await self._settle_waiting()
        except (Exception, asyncio.CancelledError, KeyboardInterrupt):
            self._hand_on(found)
            raise
        self._leading = False
        return found

    async def flush(self) -> None:
        """Wait until nothing is left to be written by nobody in particular."""
        while self._successor is not None:
            await asyncio.wait((self._successor,))

    async def _settle_waiting(self) -> list[Delivery]:
        batch, self._waiting = self._waiting[:LARGEST], self._waiting[LARGEST:]
        return await self._coordinator.settle(batch, self._slots)

    def _hand_on(self, found: Sequence[Delivery]) -> None:
        """The leader is cut off: what others have given it is still to be written, and what has come back is still to be run."""
        self._begin(found)
        if self._waiting:
            self._successor = asyncio.create_task(self._lead(), name="graflow-commit")
        else:
            self._leading = False

    async def _lead(self) -> None:
        try:
            while self._waiting:
                self._begin(await self._settle_waiting())
        finally:
            self._leading = False
            self._successor = None
