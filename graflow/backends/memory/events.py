"""What happened in a run, in order, for as many readers as there are."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from graflow.errors import ConfigurationError
from graflow.wire.messages import RunEvent

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

Entry = tuple[str, str | None, float, int | None, "Mapping[str, Any] | None"]
"""(type, task id, epoch seconds, attempt, data)"""

_NOTHING: dict[str, Any] = {}


class EventLog:
    """An append-only list that can be followed.

    Entries are bare tuples, as there are two for every step; they become :class:`RunEvent` objects only for those who read them.
    """

    __slots__ = ("_readers", "closed", "entries")

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.closed: bool = False
        self._readers: set[asyncio.Future[None]] = set()

    def append(self, entry: Entry) -> None:
        """Add an event and wake whoever waits for one."""
        self.entries.append(entry)
        if self._readers:
            self._wake()

    def close(self) -> None:
        """No more events will come."""
        self.closed = True
        self._wake()

    def _wake(self) -> None:
        for reader in self._readers:
            if not reader.done():
                reader.set_result(None)
        self._readers.clear()

    async def follow(self, after: str | None = None) -> AsyncIterator[RunEvent]:
        """Events from the start, or after the one of that id, until the log is closed."""
        place = 0
        if after is not None:
            if not after.isdecimal():
                raise ConfigurationError(f"after={after!r}: that is no id of an event of this run", setting="after")
            place = int(after)
        while True:
            while place < len(self.entries):
                place += 1
                yield self._event(place)
            if self.closed:
                return
            await self._more()

    async def _more(self) -> None:
        reader: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._readers.add(reader)
        try:
            await reader
        finally:
            self._readers.discard(reader)

    def _event(self, place: int) -> RunEvent:
        kind, task_id, time, attempt, data = self.entries[place - 1]
        return RunEvent(str(place), kind, task_id, datetime.fromtimestamp(time, UTC), attempt, data if data is not None else _NOTHING)
