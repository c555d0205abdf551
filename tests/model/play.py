"""Small runs for reading: a graph in a line of text, what some visits do, and the history that comes of it.

``draw("a > b", "b !> c", g="m | n > o")`` draws edges (``>`` on success, ``!>`` on failure, ``*>`` always) and groups with their branches.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from graflow.core.board import STATUS_NAMES
from graflow.core.edge import Condition, Edge
from graflow.core.outcome import Directives, Failure, Iteration, NewTask, Outcome, Retry, Success, Suspend, TaskError
from graflow.core.run import RunState
from tests.model.check import check
from tests.model.plans import GraphSpec, NodeSpec, a_task, make_plan

ARROWS: Mapping[str, Condition] = {">": "success", "!>": "failure", "*>": "always"}


def draw(*lines: str, **groups: str) -> GraphSpec:
    """A graph. A word in a line is a node; a keyword is a group and its branches, ``|`` between them."""
    nodes: dict[str, NodeSpec] = {}
    edges: list[Edge] = []
    for line in lines:
        _draw_line(line, None, 0, groups, nodes, edges)
    for group, branches in groups.items():
        nodes.setdefault(group, NodeSpec(group, is_group=True))
        for branch, line in enumerate(filter(str.strip, branches.split("|"))):
            _draw_line(line, group, branch, groups, nodes, edges)
    return GraphSpec(tuple(nodes.values()), tuple(edges))


def _draw_line(line: str, group: str | None, branch: int, groups: Mapping[str, str], nodes: dict[str, NodeSpec], edges: list[Edge]) -> None:
    words = re.findall(r"\w+|[!*]?>", line)
    for word in words:
        if word not in ARROWS:
            spec = nodes.get(word) or NodeSpec(word, is_group=word in groups)
            nodes[word] = replace(spec, group=group, branch=branch)
    steps = zip(words, words[1:], words[2:], strict=False)
    edges += [Edge(source, target, ARROWS[arrow]) for source, arrow, target in steps if arrow in ARROWS]


def adjust(graph: GraphSpec, **changes: Mapping[str, Any]) -> GraphSpec:
    """The same graph with other attributes of some nodes: ``adjust(graph, g={"limit": 1})``."""
    return GraphSpec(tuple(replace(node, **changes.get(node.id, {})) for node in graph.nodes), graph.edges)


# What a visit may do. Anything that a script does not mention just succeeds.

OK = Success("ok")
BAD = Failure(TaskError("?", 1, "Boom", "boom"))
AGAIN = Retry(0.0, TaskError("?", 1, "Boom", "boom"))
ASK = Suspend("asked")


def goto(*targets: str) -> Success:
    """Go there."""
    return Success("ok", Directives(goto=list(targets)))


def make(*names: str, goto: bool = False, ignore: bool = False, iterate: bool = False) -> Success:
    """Add tasks to the run."""
    new = [NewTask(a_task(name), goto=goto, ignore_existing=ignore) for name in names]
    return Success("ok", Directives(new=new, iteration=Iteration() if iterate else None))


def items(count: int) -> Success:
    """Return a list of so many items."""
    return Success(["item"] * count, None, count)


ITERATE = Success("ok", Directives(iteration=Iteration()))
END_LOOP = Success("ok", Directives(end_loop=True))
TERMINATE = Success("ok", Directives(terminate="enough"))
CANCEL = Success("ok", Directives(cancel="no"))


@dataclass
class Played:
    """How a run came out: ``history`` are the attempts that settled, as ``task cycle`` or ``task cycle.attempt`` after the first."""

    state: RunState
    history: str

    @property
    def end(self) -> str:
        """The status of the run and why it ended."""
        return f"{self.state.end.status} {self.state.end.cause}" if self.state.end is not None else self.state.status_name

    def status(self, name: str) -> str:
        """What became of a node."""
        node = self.state.find(name)
        return STATUS_NAMES[self.state.status[node]] if node is not None else "unknown"

    def those(self, status: str) -> str:
        """The nodes of that status."""
        return " ".join(name for node, name in enumerate(self.state.ids) if STATUS_NAMES[self.state.status[node]] == status)

    def result(self, name: str) -> Any:
        """The result of a node, KeyError without one."""
        return {self.state.ids[node]: value for node, value in self.state.results.items()}[name]

    @property
    def errors(self) -> dict[str, str]:
        """The kinds of errors by node, in the order in which they happened."""
        return {self.state.ids[node]: failure.error.error_type.split(".")[-1] for node, failure in self.state.errors.items()}


class Player:
    """A run that is played by hand, attempt by attempt."""

    def __init__(self, graph: GraphSpec, *, start: str | None = None, **options: Any) -> None:
        plan = make_plan(graph)
        self.state = RunState(plan, start=None if start is None else plan.index[start], **options)
        self.out: list[tuple[int, int, int]] = []
        self.history: list[str] = []
        self._take()

    @property
    def waiting(self) -> str:
        """The tasks with an attempt out, oldest first."""
        return " ".join(self.state.ids[node] for node, _, _ in self.out)

    def before(self, name: str) -> str | None:
        """The only predecessor of a task, None if there are several or none."""
        found = self.state.predecessor(self.state.ids.index(name))
        return None if found is None else self.state.ids[found]

    def settle(self, name: str, outcome: Outcome = OK) -> None:
        """Let the attempt of a task that is out end like this."""
        attempt = next(attempt for attempt in self.out if self.state.ids[attempt[0]] == name)
        self.out.remove(attempt)
        node, cycle, number = attempt
        assert self.state.settle(node, cycle, number, outcome)
        self.history.append(f"{name}{cycle}" + (f".{number}" if number > 1 else ""))
        self._take()

    def resume(self, name: str) -> None:
        """Answer a suspended task."""
        node = self.state.find(name)
        assert node is not None
        assert self.state.resume(node, self.state.cycle[node])
        self._take()

    def played(self) -> Played:
        """The run as it stands."""
        return Played(self.state, " ".join(self.history))

    def _take(self) -> None:
        state = self.state
        self.out += [(start.node, start.cycle, start.attempt) for start in state.starts]
        for stop in state.stops:
            self.out.remove((stop.node, stop.cycle, stop.attempt))
        state.starts.clear()
        state.stops.clear()
        check(state, set(self.out))


def play(graph: GraphSpec, script: Mapping[str, Outcome] | None = None, *, newest: bool = False, **options: Any) -> Played:
    """Play a run to its end: what is out settles oldest first, or newest first.

    Args:
        graph: what to run.
        script: outcomes by task, by task and cycle (``"a2"``) or by task, cycle and attempt (``"a2.1"``), the more exact first.
        newest: settle the newest attempt first.
        options: as for RunState; ``start`` by name.
    """
    script = script or {}
    player = Player(graph, **options)
    while player.out:
        node, cycle, attempt = player.out[-1 if newest else 0]
        name = player.state.ids[node]
        keys = (f"{name}{cycle}.{attempt}", f"{name}{cycle}", name)
        player.settle(name, next((script[key] for key in keys if key in script), OK))
    return player.played()
