"""A run in the hands of an application."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Generic, Self

from typing_extensions import TypeVar

from graflow.core.clock import is_wait
from graflow.core.result import RunResult, RunStatus
from graflow.core.staying import StaysHere
from graflow.engine.outcomes import as_result, raise_unless_well
from graflow.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine
    from types import TracebackType

    from graflow.backends.base import Coordinator, Snapshot
    from graflow.wire.messages import RunEvent

O_co = TypeVar("O_co", covariant=True, default=Any)


class RunHandle(StaysHere, Generic[O_co]):
    """A run that goes on by itself: wait for it, watch it, cancel it. Made by ``engine.submit`` and ``engine.attach``.

    ``async with handle:`` ties the run to a block: leaving it before the run has ended, also by cancellation, cancels the run.

    Attributes:
        run_id: the run.
        created: whether the call that made this handle began the run, rather than found it.
    """

    instead = "hand on its run_id, and `await engine.attach(run_id)` there"

    def __init__(self, coordinator: Coordinator, run_id: str, *, created: bool) -> None:
        self.run_id = run_id
        self.created = created
        self._coordinator = coordinator
        self._pin = coordinator.pin(run_id)

    async def result(self, timeout: float | None = None) -> RunResult[O_co]:
        """Wait until the run has ended or is suspended.

        Cancelling the wait leaves the run alone.

        Args:
            timeout: seconds to wait, None for ever.

        Returns:
            The result of a run that succeeded, or of one that is suspended, with that status.

        Raises:
            TimeoutError: the time was up; the run goes on.
            RunError: the run did not succeed; the subclass says why, and its ``result`` holds what was completed.
        """
        if not is_wait(timeout):
            raise ConfigurationError(f"timeout={timeout!r}: give the seconds to wait, or None for as long as it takes", setting="timeout")
        async with asyncio.timeout(timeout):
            snapshot = await self._end()
        result: RunResult[O_co] = as_result(snapshot)
        raise_unless_well(snapshot, result)
        return result

    async def _end(self) -> Snapshot:
        while True:
            await self._coordinator.wait(self.run_id)
            snapshot = await self._coordinator.snapshot(self.run_id)
            if snapshot.status is not RunStatus.RUNNING:  # else it was run again, or resumed, before we came to look
                return snapshot

    async def peek(self) -> RunResult[O_co]:
        """What there is of the run now; never raises for a run that failed."""
        return as_result(await self._coordinator.snapshot(self.run_id))

    async def status(self) -> RunStatus:
        """Where the run stands."""
        return (await self._coordinator.snapshot(self.run_id)).status

    async def cancel(self, reason: str = "cancelled from outside") -> None:
        """End the run and wait until its tasks have stopped; nothing happens if it is over already."""
        await self._coordinator.cancel(self.run_id, reason)
        await self._coordinator.wait(self.run_id)

    async def resume(self, task_id: str) -> bool:
        """Let a suspended step start again; False if it is not suspended any more."""
        return await self._coordinator.resume(self.run_id, task_id)

    def events(self, after: str | None = None) -> AsyncIterator[RunEvent]:
        """What happens in the run, from its start or after the event of that id; ends after ``run_finished``.

        Example:
            >>> async for event in handle.events(after=last_seen):
            ...     print(event.type, event.task_id)
        """
        if after is not None and not isinstance(after, str):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ConfigurationError(f"after={after!r}: give the id of an event, or None to read from the start", setting="after")
        return self._coordinator.events(self.run_id, after)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if await self.status() in (RunStatus.RUNNING, RunStatus.SUSPENDED):
            await shielded(self.cancel("its handle's block was left"))

    def __repr__(self) -> str:
        return f"<RunHandle {self.run_id}>"


async def shielded(work: Coroutine[Any, Any, None]) -> None:
    """Finish ``work`` even if the caller is cancelled meanwhile; the cancellation is passed on afterwards."""
    task = asyncio.ensure_future(work)
    interrupted: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError as cancelled:
            interrupted = cancelled
    task.result()
    if interrupted is not None:
        raise interrupted
