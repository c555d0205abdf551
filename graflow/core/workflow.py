"""Workflows: a graph that is drawn in a ``with`` block, and run by name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar, overload

import msgspec

from graflow.core import launch
from graflow.core.edge import Condition, check_condition
from graflow.core.graph import TaskGraph
from graflow.core.naming import check_id
from graflow.core.node import Node, first_of, last_of, mark_joined
from graflow.core.operands import operand_error
from graflow.core.recording import Recorder, current_recorder, forget

if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextvars import Token
    from types import TracebackType

    from graflow.core.launch import OnFailure, Stubs
    from graflow.core.result import RunResult

T = TypeVar("T")
O_co = TypeVar("O_co", covariant=True)


class _DrawnEdge(msgspec.Struct, frozen=True):
    source: Node[Any] | str
    target: Node[Any] | str
    on: Condition


class Workflow(Generic[O_co]):
    """A graph with a name, and what to run it from. ``O_co`` is the type of its output. Made by :func:`workflow`.

    Attributes:
        name: the name of the graph.
        start: the id of the node to begin with, or None for all that nothing leads to.
        output: the id of the node whose result is the run's output, or None for the last ones.
    """

    __slots__ = ("_graph", "_recorder", "_tokens", "name", "output", "start")

    def __init__(self, name: str, *, start: Node[Any] | str | None = None, output: Node[O_co] | str | None = None) -> None:
        self.name: str = check_id(name, "the name of a workflow")
        self.start: str | None = _id_of(start, "start=")
        self.output: str | None = _id_of(output, "output=")
        self._graph = TaskGraph(name)
        self._recorder = Recorder()
        self._tokens: list[Token[Recorder | None]] = []

    def __enter__(self) -> Self:
        self._tokens.append(current_recorder.set(self._recorder))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        current_recorder.reset(self._tokens.pop())
        if kind is None and not self._tokens:
            self._flush(self._graph)

    @property
    def graph(self) -> TaskGraph:
        """The graph as it has been drawn. Inside the block, a copy of what there is so far.

        Raises:
            GraphError: what was drawn makes no graph; the subclass says why.
        """
        if not self._tokens:
            self._flush(self._graph)
            return self._graph
        snapshot = self._graph.copy()
        _draw(snapshot, self._recorder.entries())
        return snapshot

    def add(self, *nodes: Node[Any]) -> None:
        """Add tasks, chains and groups. The way to add a lone task, and the same as a bare statement for anything else.

        Raises:
            GraphError: something that is no node, or that does not fit in. (In the block, what does not fit shows at
                its end.)
        """
        for node in nodes:
            if not isinstance(node, Node):  # pyright: ignore[reportUnnecessaryIsInstance]
                raise operand_error("wf.add()", "", node)
            forget(node)
            self._recorder.insert(node)
        self._settle()

    def add_edge(self, source: Node[Any] | str, target: Node[Any] | str, /, *, on: Condition = "success") -> None:
        """Let ``source`` lead to ``target``, by node or id; a node that is not there yet is added.

        Args:
            on: follow the edge when the source succeeds, when it fails for good (``failure``), or either way
                (``always``).

        Raises:
            UnknownTaskError: an id that the graph does not have. (In the block, that shows at its end, so that ids may
                be used before they are drawn.)
            GraphError: the edge would lead across a group's border.
        """
        for end, joined in ((source, last_of), (target, first_of)):
            if isinstance(end, Node):
                # Now, not when the edge is put into the graph: `|` asks while the block is still being drawn.
                mark_joined(joined(end))
            elif not isinstance(end, str):  # pyright: ignore[reportUnnecessaryIsInstance]
                raise operand_error("wf.add_edge()", "", end)
            forget(end)
        self._recorder.insert(_DrawnEdge(source, target, check_condition(on)))
        self._settle()

    def _settle(self) -> None:
        if not self._tokens:
            self._flush(self._graph)

    def _flush(self, graph: TaskGraph) -> None:
        _draw(graph, self._recorder.drain())

    async def execute(
        self,
        *,
        inputs: Mapping[str, Any] | None = None,
        start: Node[Any] | str | None = None,
        run_id: str | None = None,
        timeout: float | None = None,
        max_steps: int | None = None,
        on_failure: OnFailure = "fail",
        stubs: Stubs | None = None,
    ) -> RunResult[O_co]:
        """Run the workflow in memory, in this process; the same as ``engine.execute(wf, ...)`` on an engine of its own.

        Args:
            inputs: the first values of the channel, which fill parameters of their names.
            start: the node to begin with, instead of the workflow's own.
            run_id: what the run is called; by default something unique.
            timeout: seconds the run may take.
            max_steps: how many visits of tasks and groups are allowed.
            on_failure: ``continue`` lets independent branches finish before the run fails.
            stubs: functions to run instead of those of some tasks, for tests.

        Raises:
            GraphError: the graph cannot run as it is drawn.
            RunError: the run did not succeed; the subclass says why, and ``error.result`` holds what was completed.
        """
        return await launch.current().execute(
            self,
            inputs=inputs,
            start=start,
            run_id=run_id,
            timeout=timeout,
            max_steps=max_steps,
            on_failure=on_failure,
            stubs=stubs,
        )

    def run(
        self,
        *,
        inputs: Mapping[str, Any] | None = None,
        start: Node[Any] | str | None = None,
        run_id: str | None = None,
        timeout: float | None = None,
        max_steps: int | None = None,
        on_failure: OnFailure = "fail",
        stubs: Stubs | None = None,
    ) -> RunResult[O_co]:
        """:meth:`execute` for scripts that are not async.

        Raises:
            GraflowError: an event loop is running; there, ``await wf.execute(...)``.
        """
        return launch.current().run(
            self,
            inputs=inputs,
            start=start,
            run_id=run_id,
            timeout=timeout,
            max_steps=max_steps,
            on_failure=on_failure,
            stubs=stubs,
        )

    def __repr__(self) -> str:
        return f"<Workflow {self.name}>"


@overload
def workflow(name: str, *, start: Node[Any] | str | None = None, output: str | None = None) -> Workflow[Any]: ...
@overload
def workflow(name: str, *, output: Node[T], start: Node[Any] | str | None = None) -> Workflow[T]: ...
def workflow(name: str, *, start: Node[Any] | str | None = None, output: Node[Any] | str | None = None) -> Workflow[Any]:
    """A workflow to be drawn in a ``with`` block.

    Args:
        name: what it is called in messages and events.
        start: the node to begin with, by default all that nothing leads to.
        output: the node whose result is the output of a run, by default the last one; also tells type checkers what the
            output is.

    Example::

        with workflow("numbers") as wf:
            fetch >> clean >> (square.map(clean) | largest) >> report
        result = await wf.execute(inputs={"limit": 10})
    """
    return Workflow(name, start=start, output=output)


def _id_of(node: Node[Any] | str | None, what: str) -> str | None:
    return node if node is None else check_id(node.id if isinstance(node, Node) else node, what)


def _draw(graph: TaskGraph, entries: list[Any]) -> None:
    """First all nodes, then all edges, both in drawing order: an edge by id may be written before the node that it
    names."""
    for entry in entries:
        for node in (entry.source, entry.target) if isinstance(entry, _DrawnEdge) else (entry,):
            if not isinstance(node, str):
                graph.add_nodes_of(node)
    for entry in entries:
        if isinstance(entry, _DrawnEdge):
            graph.add_edge(entry.source, entry.target, on=entry.on)
        else:
            graph.add_edges_of(entry)
