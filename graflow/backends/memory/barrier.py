"""Barriers of one process: n parties, and a door that opens once."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from graflow.backends.barriers import check_name, check_parties, check_place, check_timeout, other_parties, unknown_barrier

if TYPE_CHECKING:
    from collections.abc import Callable


class _Barrier:
    """Who has arrived. Its door opens for good: because all are there, or because it goes."""

    __slots__ = ("arrived", "door", "parties")

    def __init__(self, parties: int) -> None:
        self.parties: int = parties
        self.arrived: set[str] = set()
        self.door: asyncio.Event = asyncio.Event()


class MemoryBarriers:
    """The barrier primitive of the coordinator protocol.

    Args:
        check_run: raises for a run that there is none of, or that is over.
    """

    def __init__(self, check_run: Callable[[str], object]) -> None:
        self._check_run = check_run
        self._barriers: dict[str | None, dict[str, _Barrier]] = {}
        """by run, and then by group id; those of no run are under None"""

    async def create_barrier(self, group_id: str, parties: int, *, run_id: str | None = None) -> None:
        """A barrier that opens once, when so many parties have arrived; creating it again with as many changes nothing."""
        known = self._find(group_id, run_id)
        check_parties(group_id, parties)
        if known is None:
            self._barriers.setdefault(run_id, {})[group_id] = _Barrier(parties)
        elif known.parties != parties:
            raise other_parties(group_id, parties, known.parties, run_id)

    async def signal_barrier(self, group_id: str, party: str, *, run_id: str | None = None) -> bool:
        """A party arrives; True for the one that opens the barrier. A party that signals twice counts once."""
        barrier = self._known(group_id, run_id)
        check_name(party, "party")
        if party in barrier.arrived:
            return False
        barrier.arrived.add(party)
        if len(barrier.arrived) == barrier.parties:
            barrier.door.set()
            return True
        return False

    async def wait_barrier(self, group_id: str, timeout: float | None = None, *, run_id: str | None = None) -> bool:
        """Until the barrier is open; False when ``timeout`` seconds pass first, or when it goes."""
        barrier = self._known(group_id, run_id)
        check_timeout(timeout)
        try:
            async with asyncio.timeout(timeout):
                await barrier.door.wait()
        except TimeoutError:
            return False
        return len(barrier.arrived) >= barrier.parties

    async def cleanup_barrier(self, group_id: str, *, run_id: str | None = None) -> None:
        """Forget a barrier. Whoever still waits for it is told that it did not open."""
        check_place(group_id, run_id)
        barrier = self._barriers.get(run_id, {}).pop(group_id, None)
        if barrier is not None:
            barrier.door.set()
        if not self._barriers.get(run_id, True):
            del self._barriers[run_id]

    def forget_barriers_of(self, run_id: str) -> None:
        """A run has ended, and its barriers go."""
        for barrier in self._barriers.pop(run_id, {}).values():
            barrier.door.set()

    def forget_all_barriers(self) -> None:
        """Nobody will arrive any more."""
        for barriers in self._barriers.values():
            for barrier in barriers.values():
                barrier.door.set()
        self._barriers.clear()

    def _find(self, group_id: str, run_id: str | None) -> _Barrier | None:
        check_place(group_id, run_id)
        if run_id is not None:
            self._check_run(run_id)
        return self._barriers.get(run_id, {}).get(group_id)

    def _known(self, group_id: str, run_id: str | None) -> _Barrier:
        barrier = self._find(group_id, run_id)
        if barrier is None:
            raise unknown_barrier(group_id, run_id)
        return barrier
