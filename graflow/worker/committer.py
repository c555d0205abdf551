"""Group commit: outcomes that are ready while a commit is under way travel together in the next one (law 5)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from graflow.backends.base import Coordinator, Delivery, Slots
    from graflow.core.outcome import Outcome

LARGEST = 256
"""outcomes in one commit: enough to make a round trip cheap, few enough to keep the backend's step short"""


class Committer:
    """Writes outcomes, and brings back what the freed slots can run next.

    With nothing under way an outcome leaves at once. The first to commit leads: it takes along what others have added meanwhile, batch after
    batch. In memory a commit never waits, so every outcome leads its own and no batch ever forms.
    """

    def __init__(self, coordinator: Coordinator, slots: Slots) -> None:
        self._coordinator = coordinator
        self._slots = slots
        self._waiting: list[tuple[Delivery, Outcome | None]] = []
        self._leading = False

    async def commit(self, delivery: Delivery, outcome: Outcome | None) -> list[Delivery]:
        """Write an outcome, now or with the commit that is under way; returns attempts to run, for which slots are taken."""
        if self._leading:
            self._waiting.append((delivery, outcome))
            return []
        self._leading = True
        try:
            found = await self._coordinator.settle(((delivery, outcome),), self._slots)
            while self._waiting:
                batch, self._waiting = self._waiting[:LARGEST], self._waiting[LARGEST:]
                found += await self._coordinator.settle(batch, self._slots)
        finally:
            self._leading = False
        return found
