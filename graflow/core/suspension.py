"""How an attempt says that it waits for an answer from outside."""

from __future__ import annotations


class SuspendStep(Exception):
    """Raised inside a task to suspend its step (rule 29): it stays undecided until it is resumed, and then starts again from the top.

    Args:
        reason: what it waits for; shown wherever the run's state is.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
