"""Group commit: outcomes that are ready while a commit is under way travel together in the next one (law 5)."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, ClassVar

from graflow.core.boundary import UserCode
from graflow.core.outcome import describe
from graflow.errors import BackendUnavailableError, GraflowError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from graflow.backends.base import Coordinator, Delivery, Slots
    from graflow.core.outcome import Outcome

logger: logging.Logger = logging.getLogger("graflow.worker")

LARGEST = 256
"""outcomes in one commit: enough to make a round trip cheap, few enough to keep the backend's step short"""


class _Writing(UserCode):
    """Keeps the error of an outcome that cannot be written: what a task made of it is its user's.

    A backend that does not answer has nothing to do with the outcomes: it has been tried for long, and finds them again by itself.
    """

    __slots__ = ()

    passing: ClassVar[tuple[type[BaseException], ...]] = (
        *UserCode.passing,
        asyncio.CancelledError,
        GeneratorExit,
        SystemExit,
        BackendUnavailableError,
    )

    def take(self) -> BaseException | None:
        """The error, which is forgotten here."""
        error, self.error = self.error, None
        return error


class Committer:
    """Writes outcomes, and brings back what the freed slots can run next.

    With nothing under way an outcome leaves at once. The first to commit leads: it takes along what others have added meanwhile, batch
    after batch. In memory a commit never waits, so every outcome leads its own and no batch ever forms.

    A batch that cannot be written waits again, and its outcomes are written one by one: the runs of all but one have no part in the error. One that
    cannot be written by itself either is replaced by a failure of its task. Meanwhile they stand in front of the line, so that they are not lost with
    a leader that is cut off.

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
        self._suspects = 0
        """how many of those in front could not be written, and are to be tried alone"""
        self._writing = _Writing()  # one for all: there is never more than one commit, and the good case is to cost nothing
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
            with self._writing:
                found += await self._coordinator.settle(((delivery, outcome),), self._slots)
            if self._writing.error is not None:
                self._try_again([(delivery, outcome)])
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
        again, size = self._suspects > 0, 1 if self._suspects else LARGEST
        batch, self._waiting = self._waiting[:size], self._waiting[size:]
        if again:
            self._suspects -= 1
        found: list[Delivery] = []
        with self._writing:
            found = await self._coordinator.settle(batch, self._slots)
        if self._writing.error is not None:
            if again:
                return await self._fail(batch[0][0])
            self._try_again(batch)
        return found

    def _try_again(self, batch: list[tuple[Delivery, Outcome | None]]) -> None:
        """Somebody's outcome cannot be written. Whose it is shows when each is tried alone."""
        error = self._writing.take()
        logger.error("%d outcomes could not be written together, and are written one by one", len(batch), exc_info=error)
        self._waiting[:0] = batch
        self._suspects += len(batch)

    async def _fail(self, delivery: Delivery) -> list[Delivery]:
        """An outcome cannot be written, even alone. Its run would wait for it for ever: it hears why there is none."""
        spec, error = delivery.spec, self._writing.take()
        told = GraflowError(f"the outcome of task {spec.task_id!r} cannot be written: {type(error).__name__}: {error}")
        told.__cause__ = error
        found: list[Delivery] = []
        with self._writing:
            found = await self._coordinator.settle(((delivery, describe(told, spec.task_id, spec.attempt)),), self._slots)
        error = self._writing.take()
        if error is not None:
            text = "task %s of run %s cannot even be failed; its run waits until this worker ends"
            where = {"run_id": spec.run_id, "task_id": spec.task_id}
            logger.critical(text, spec.task_id, spec.run_id, exc_info=error, extra=where)
        return found

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
                try:
                    self._begin(await self._settle_waiting())
                except BackendUnavailableError as error:  # those behind are still to be tried: nobody else may come by
                    logger.error("outcomes cannot be written: %s", error)
        finally:
            self._leading = False
            self._successor = None
