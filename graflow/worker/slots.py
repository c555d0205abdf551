"""How much a worker can take."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from graflow.core.naming import fault_in_label
from graflow.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from graflow.handlers import Handler


class WorkerSlots:
    """Free slots by handler kind: the live :class:`~graflow.backends.base.Slots` that a backend asks while it hands attempts out."""

    def __init__(self, handlers: Mapping[str, Handler], concurrency: int, queues: Sequence[str] | None) -> None:
        check_concurrency(concurrency, "concurrency")
        for name, handler in handlers.items():
            if handler.concurrency is not None:
                check_concurrency(handler.concurrency, f"handlers[{name!r}].concurrency")
        self._free = {name: handler.concurrency or concurrency for name, handler in handlers.items()}
        self.handlers: tuple[str, ...] = tuple(handlers)
        self.queues: tuple[str, ...] | None = None if queues is None else _checked_queues(queues)
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


def check_concurrency(value: Any, setting: str) -> None:
    """Raise ConfigurationError unless it is a number of attempts."""
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ConfigurationError(f"{setting}={value!r}: give how many attempts may run at once, 1 or more", setting=setting)


def _checked_queues(queues: Any) -> tuple[str, ...]:
    given: Any = queues
    if isinstance(queues, str):
        raise ConfigurationError(f"queues={queues!r} would mean its single letters; give [{queues!r}]", setting="queues")
    if not isinstance(queues, Collection) or not queues:
        raise ConfigurationError(
            f"queues={queues!r}: give the names of the queues to serve, one at least, or None for all", setting="queues"
        )
    names = tuple(given)
    for number, name in enumerate(names):
        if fault := fault_in_label(name):
            raise ConfigurationError(f"queues[{number}]={name!r}: {fault}", setting="queues")
    return names
