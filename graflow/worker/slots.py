"""How much a worker can take."""

from __future__ import annotations

from typing import TYPE_CHECKING

from graflow.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from graflow.handlers import Handler


class WorkerSlots:
    """Free slots by handler kind: the live :class:`~graflow.backends.base.Slots` that a backend asks while it hands attempts out."""

    def __init__(self, handlers: Mapping[str, Handler], concurrency: int, queues: Sequence[str] | None) -> None:
        if concurrency < 1:
            raise ConfigurationError(f"concurrency={concurrency}: give how many attempts may run at once, 1 or more", setting="concurrency")
        self._free = {name: handler.concurrency or concurrency for name, handler in handlers.items()}
        self.handlers: tuple[str, ...] = tuple(handlers)
        self.queues = queues
        self.closed = False
        """no more attempts are taken"""

    def free(self, handler: str) -> int:
        """How many more attempts of this handler kind could start now."""
        return 0 if self.closed else self._free[handler]

    def take(self, handler: str) -> None:
        """One slot is given to an attempt."""
        self._free[handler] -= 1

    def give_back(self, handler: str) -> None:
        """The attempt is over."""
        self._free[handler] += 1
