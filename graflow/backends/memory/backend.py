"""The embedded backend: no server, no setup, gone with the process."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from graflow.backends.limits import check_limits
from graflow.backends.memory.coordinator import MemoryCoordinator
from graflow.backends.memory.queue import MemoryTaskQueue
from graflow.core.clock import SystemClock
from graflow.core.staying import StaysHere
from graflow.wire import codec
from graflow.wire.keys import signer_of

if TYPE_CHECKING:
    from graflow.backends.base import Slots
    from graflow.core.clock import Clock
    from graflow.wire.keys import Signer

DAY = 86_400.0


class MemoryBackend(StaysHere):
    """Queues, runs and channels in the memory of one event loop.

    Args:
        strict: pass every value (results, inputs, channel values, iteration data) through the wire codec, so that what works here works on
            workers too. Without it values are handed on as the objects they are.
        clock: the time of delays, timeouts and events.
        retention: seconds that a finished run with a ``run_id`` of the user's choice is remembered; a day by default.
        queue_limit: how many attempts may wait at once, None for any number; a run that is submitted while so many do is refused with
            QueueFullError. What runs in progress put in is never refused.
        secret_key: signs code for process and container handlers, and in strict mode values that opted in; None for ``GRAFLOW_SECRET_KEY``.

    Example:
        >>> async with WorkflowEngine(MemoryBackend(strict=True)) as engine:
        ...     await engine.execute(workflow)
    """

    instead = "use it outside of tasks; inside, `ctx` has what there is of the run"

    local = True

    def __init__(
        self, *, strict: bool = False, clock: Clock | None = None, retention: float = DAY, queue_limit: int | None = None,
        secret_key: str | None = None,
    ) -> None:  # fmt: skip
        check_limits(retention, queue_limit)
        self.seals = strict
        self.signer: Signer | None = signer_of(secret_key)
        self.clock: Clock = clock or SystemClock()
        self.queue: MemoryTaskQueue = MemoryTaskQueue(clock=self.clock, limit=queue_limit)
        self.coordinator: MemoryCoordinator = MemoryCoordinator(
            self.queue, self.clock, retention=retention, seal=codec.roundtrip if strict else None
        )

    def seal(self, value: Any, *, name: str = "value") -> Any:
        """A value as the next task will see it; in strict mode SerializationError, with ``name``, if it cannot travel."""
        return codec.roundtrip(value, name=name) if self.seals else value

    @property
    def place(self) -> str:
        """This process."""
        return f"memory:{os.getpid()}"

    async def living(self) -> None:
        """There are no leases in memory: workers end with the process."""

    async def introduce(self, worker_id: str, slots: Slots) -> None:
        """Nobody else can see it."""

    async def open(self) -> None:
        """Nothing to connect to."""

    async def close(self) -> None:
        """Cancel what still runs, and forget everything."""
        await self.coordinator.close()
