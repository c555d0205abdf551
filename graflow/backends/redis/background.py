"""What goes on beside the work: begun and not waited for, and ended with whoever began it."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

_log = logging.getLogger("graflow.redis")


class BackgroundJobs:
    """Asyncio tasks that nobody awaits, kept until they end. One that fails is told in the log.

    Args:
        name: of the asyncio tasks.
        owner: the worker whose they are, as it is called when one fails.
    """

    def __init__(self, name: str, owner: Callable[[], str]) -> None:
        self._name = name
        self._owner = owner
        self._jobs: set[asyncio.Task[None]] = set()
        self._closed = False

    def begin(self, work: Coroutine[Any, Any, None]) -> None:
        """Let it run."""
        job = asyncio.create_task(work, name=self._name)
        self._jobs.add(job)
        job.add_done_callback(self._ended)

    async def close(self, patience: float) -> None:
        """Give them so many seconds to end, and cancel the others."""
        self._closed = True
        if self._jobs:
            await asyncio.wait(self._jobs, timeout=patience)
        for job in list(self._jobs):
            job.cancel()
        if self._jobs:
            await asyncio.wait(self._jobs)

    def _ended(self, job: asyncio.Task[None]) -> None:
        self._jobs.discard(job)
        error = None if job.cancelled() else job.exception()
        if error is not None and not self._closed:
            owner = self._owner()
            _log.error("something that worker %s does in the background failed", owner, exc_info=error, extra={"worker_id": owner})
