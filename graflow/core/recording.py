"""How bare statements such as ``a >> b`` reach the workflow whose block they stand in."""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable


class Recorder:
    """What was drawn in a workflow's block and has not become part of something larger, in drawing order.

    ``a >> b >> c`` evaluates ``a >> b`` first; when the longer chain is recorded, the shorter one is dropped. So ``(a |
    b).with_policy(p) >> c`` leaves one chain behind, and no stray group.
    """

    __slots__ = ("_entries", "_explicit")

    def __init__(self) -> None:
        self._entries: dict[int, Any] = {}
        self._explicit = 0

    def record(self, whole: object, parts: Iterable[object]) -> None:
        """Keep the expression ``whole``, and forget the ``parts`` that it was made from."""
        entries = self._entries
        for part in parts:
            entries.pop(id(part), None)
        entries[id(whole)] = whole

    def insert(self, entry: object) -> None:
        """Keep what was added by name; it is not dropped when it becomes a part of something else."""
        self._explicit += 1
        self._entries[-self._explicit] = entry

    def forget(self, part: object) -> None:
        self._entries.pop(id(part), None)

    def drain(self) -> list[Any]:
        """All that was kept, in order; the recorder is empty afterwards."""
        entries = list(self._entries.values())
        self._entries.clear()
        return entries

    def entries(self) -> list[Any]:
        return list(self._entries.values())


current_recorder: ContextVar[Recorder | None] = ContextVar("graflow_recorder", default=None)
"""The recorder of the innermost ``with workflow(...)`` block."""


def record(whole: object, *parts: object) -> None:
    """Tell the workflow around, if there is one, that ``whole`` was drawn from ``parts``."""
    recorder = current_recorder.get()
    if recorder is not None:
        recorder.record(whole, parts)


def forget(part: object) -> None:
    """Tell the workflow around, if there is one, that ``part`` was given to somebody by hand."""
    recorder = current_recorder.get()
    if recorder is not None:
        recorder.forget(part)
