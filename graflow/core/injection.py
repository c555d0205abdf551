"""What marks a parameter as the place where a run puts something of its own."""

from __future__ import annotations

from typing import ClassVar


class Injected:
    """Base of the contexts. A parameter annotated with a subclass is filled in by the run.

    It is kept apart from the contexts, which know tasks, so that the declaring of tasks needs no knowledge of them.
    """

    __slots__ = ()

    blocking: ClassVar[bool | None] = None
    """True where the methods block a thread, False where they are awaited, None where either will do."""
