"""How a run came out."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

from graflow.core.naming import close_matches, listed
from graflow.core.node import Node

if TYPE_CHECKING:
    from collections.abc import Mapping

T = TypeVar("T")
O_co = TypeVar("O_co", covariant=True)


class RunStatus(StrEnum):
    """Where a run stands."""

    SUCCEEDED = "succeeded"
    """all that was to run has run, or a task ended the run with success"""
    FAILED = "failed"
    """a task failed for good, or a limit was exceeded"""
    CANCELLED = "cancelled"
    """stopped by one of its tasks or from outside"""
    SUSPENDED = "suspended"
    """nothing runs; it waits for an answer from outside"""
    RUNNING = "running"
    """not at its end; also while all that is left waits in a queue"""


@dataclass(frozen=True, slots=True, repr=False)
class RunResult(Generic[O_co]):
    """What a run has come to.

    ``result[task]`` and ``result["id"]`` give what a task returned, or a group's list, in order.

    Attributes:
        run_id: the run.
        status: where it stands.
        duration: seconds from its start to its end, or to now.
        output: the result of the last node, or what ``workflow(output=)`` names; a dict by id when there are several
            last nodes (rule 32).
        results: what the completed tasks returned, by id.
        errors: what the failed tasks raised, by id.
        groups: the ordered lists of the completed groups, by id.
        others: what became of nodes without a result, by id, such as ``skipped``.
    """

    run_id: str
    status: RunStatus
    duration: float = 0.0
    output: O_co = None  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]
    results: Mapping[str, Any] = field(default_factory=dict[str, Any])
    errors: Mapping[str, Exception] = field(default_factory=dict[str, Exception])
    groups: Mapping[str, list[Any]] = field(default_factory=dict[str, list[Any]])
    others: Mapping[str, str] = field(default_factory=dict[str, str])

    @overload
    def __getitem__(self, node: str, /) -> Any: ...
    @overload
    def __getitem__(self, node: Node[T], /) -> T: ...
    def __getitem__(self, node: Node[Any] | str, /) -> Any:
        node_id = node.id if isinstance(node, Node) else node
        if node_id in self.results:
            return self.results[node_id]
        if node_id in self.groups:
            return self.groups[node_id]
        raise KeyError(self._why_missing(node_id))

    def __repr__(self) -> str:
        """Short, whatever the results are: asyncio and loggers take the repr of what a coroutine returns, and results may be large."""
        failed = f", {len(self.errors)} failed" if self.errors else ""
        return f"<RunResult {self.run_id}: {self.status}, {len(self.results)} completed{failed}, {self.duration:.3f} s>"

    def __contains__(self, node: object) -> bool:
        node_id = node.id if isinstance(node, Node) else node
        return node_id in self.results or node_id in self.groups

    def _why_missing(self, node_id: str) -> str:
        if node_id in self.errors:
            return f"{node_id!r} has no result: it failed with {self.errors[node_id]!r}"
        if node_id in self.others:
            return f"{node_id!r} has no result: it was {self.others[node_id]}"
        known = [*self.results, *self.groups, *self.errors, *self.others]
        hint = close_matches(node_id, known).strip() or f"there are results of {listed(known) or 'no task'}"
        return f"run {self.run_id!r} ({self.status}) has no result of {node_id!r}: it was not completed, or is not in the graph; {hint}"
