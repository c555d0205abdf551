"""Barriers of one process: n parties, and a door that opens once."""

from __future__ import annotations

import asyncio

from graflow.errors import ConfigurationError


class MemoryBarriers:
    """The barrier primitive of the coordinator protocol, by group id."""

    def __init__(self) -> None:
        self._parties: dict[str, int] = {}
        self._arrived: dict[str, set[str]] = {}
        self._open: dict[str, asyncio.Event] = {}

    def barriers(self) -> list[str]:
        """The group ids of those that there are."""
        return list(self._parties)

    async def create_barrier(self, group_id: str, parties: int) -> None:
        """A barrier that opens once, when so many parties have arrived; creating it again changes nothing."""
        if parties < 1:
            raise ConfigurationError(f"barrier {group_id!r} wants at least one party, not {parties}", setting="parties")
        if group_id not in self._parties:
            self._parties[group_id] = parties
            self._arrived[group_id] = set()
            self._open[group_id] = asyncio.Event()

    async def signal_barrier(self, group_id: str, party: str) -> bool:
        """A party arrives; True for the one that opens the barrier. A party that signals twice counts once."""
        arrived = self._arrived[self._known(group_id)]
        if party in arrived:
            return False
        arrived.add(party)
        if len(arrived) == self._parties[group_id]:
            self._open[group_id].set()
            return True
        return False

    async def wait_barrier(self, group_id: str, timeout: float | None = None) -> bool:
        """Until the barrier is open; False when ``timeout`` seconds pass first."""
        door, arrived, parties = self._open[self._known(group_id)], self._arrived[group_id], self._parties[group_id]
        try:
            async with asyncio.timeout(timeout):
                await door.wait()
        except TimeoutError:
            return False
        return len(arrived) == parties

    async def cleanup_barrier(self, group_id: str) -> None:
        """Forget a barrier. Whoever still waits for it is told that it did not open."""
        self._parties.pop(group_id, None)
        self._arrived.pop(group_id, None)
        door = self._open.pop(group_id, None)
        if door is not None:
            door.set()

    def _known(self, group_id: str) -> str:
        if group_id not in self._parties:
            raise ConfigurationError(f"no barrier {group_id!r}: create_barrier({group_id!r}, parties) comes first", setting="group_id")
        return group_id
