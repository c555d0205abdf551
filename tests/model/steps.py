"""The first half of the reference: what it knows of a run, and what an outcome does to a node and its edges."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from graflow.core.outcome import Directives, Failure, NewTask, Outcome, Retry, Success, Suspend
from graflow.core.task import Task
from tests.model.plans import GraphSpec, NodeSpec, a_task
from tests.model.rings import Ring, find_rings, rank_nodes

OPEN = ("waiting", "active")
BAD = ("failed", "broken")
LIBRARY_ERROR = "graflow.errors."


@dataclass(frozen=True)
class Wish:
    """A goto that has not been performed: ``via`` is the node beside ``holder`` or ``target`` by which the task ``source`` goes."""

    kind: Literal["join", "turn", "leap", "lift"]
    target: str
    source: str
    via: str
    holder: Ring | str | None = None


class Steps:
    """What can be seen of a run, and the fate of single nodes. The rest is in :class:`tests.model.reference.Reference`."""

    def __init__(self, graph: GraphSpec, *, start: str | None = None, on_failure: str = "fail", max_steps: int | None = None) -> None:
        self.graph, self.on_failure = graph, on_failure
        self.nodes: dict[str, NodeSpec] = {node.id: node for node in graph.nodes}
        self.rank = rank_nodes(graph)
        self.rings = find_rings(graph, self.rank)
        self.back = {edge for ring in self.rings for edge in ring.back}
        self.status = dict.fromkeys(self.nodes, "waiting")
        self.cycle: dict[str, int] = dict.fromkeys(self.nodes, 0)
        self.attempt: dict[str, int] = dict.fromkeys(self.nodes, 0)
        self.retries: dict[str, int] = {}
        self.decided: dict[int, str] = {}
        self.want: dict[int, str] = {}
        self.wishes: list[Wish] = []
        self.left: list[tuple[Ring, str]] = []
        self.leavers: set[str] = set()
        self.ended: list[Ring] = []
        self.agenda: list[tuple[str, Any]] = []
        self.queue: list[str] = []
        self.freed: list[str] = []
        self.entered: set[str] = set()
        self.maker: dict[str, str] = {}
        self.expanded: dict[str, int] = {}
        self.ever = list(self.rank)
        self.again: list[tuple[str, Task[..., Any]]] = []
        self.task: dict[str, Task[..., Any]] = {}
        self.came_from: dict[str, list[str]] = {}
        self.results: dict[str, Any] = {}
        self.items: dict[str, int] = {}
        self.result_keys: dict[str, list[str]] = {}
        self.jumps: set[tuple[str, str]] = set()
        self.errors: dict[str, tuple[Any, ...]] = {}
        self.suspended: set[str] = set()
        self.starts: list[tuple[str, int, int]] = []
        self.stops: list[tuple[str, int, int]] = []
        self.told: list[tuple[str, str, int]] = []
        self.steps = 0
        self.limit = len(graph.nodes) + 10_000 if max_steps is None else max_steps
        self.limit_given = max_steps is not None
        self.end: tuple[str, str, str | None] | None = None
        if start is None:
            self.enter(None)
        else:
            self.begin_at(start)
        self.go_on()

    # ---- looking ----

    def members(self, scope: str | None) -> list[str]:
        return [node.id for node in self.nodes.values() if node.group == scope]

    def outs(self, node: str) -> list[int]:
        return [number for number, edge in enumerate(self.graph.edges) if edge.source == node]

    def ins(self, node: str) -> list[int]:
        return [n for n, edge in enumerate(self.graph.edges) if edge.target == node and n not in self.back]

    def around(self, node: str) -> list[Ring]:
        """Loops that hold a node, innermost first."""
        return sorted((ring for ring in self.rings if node in ring.body), key=lambda ring: -ring.depth)

    def leaves(self, source: str, target: str) -> list[Ring]:
        """Loops that hold the source and not the target, outermost first."""
        return [ring for ring in reversed(self.around(source)) if target not in ring.body]

    def is_open(self, node: str) -> bool:
        return self.status[node] in OPEN

    def is_live(self, scope: str | None) -> bool:
        return scope is None or (self.status[scope] == "active" and scope in self.entered)

    def is_out(self, node: str) -> bool:
        spec = self.nodes.get(node)
        active = spec is not None and not spec.is_group and self.status[node] == "active"
        return active and node not in self.suspended and node not in self.queue

    def planned(self, node: str) -> str:
        """The node of the graph that a task made at run time stems from."""
        while node in self.maker:
            node = self.maker[node]
        return node

    def sees(self, node: str, target: str) -> bool:
        if target not in self.rank:
            return False
        scope: str | None = self.planned(node)
        while scope is not None:
            scope = self.nodes[scope].group
            if scope == self.nodes[target].group:
                return True
        return False

    def lasts(self, group: str) -> list[str]:
        """The node that stands for each branch."""
        made = [node for node in self.members(group) if node not in self.maker or node in self.expanded]
        return [
            [node for node in made if self.nodes[node].branch == branch][-1]
            for branch in sorted({self.nodes[node].branch for node in made})
        ]

    def branches(self, group: str, *statuses: str) -> set[int]:
        return {self.nodes[node].branch for node in self.members(group) if self.status[node] in statuses}

    def succeeded(self, group: str) -> set[int]:
        return {self.nodes[node].branch for node in self.members(group)} - self.branches(group, *OPEN, *BAD)

    def running(self, group: str) -> list[str]:
        """Members that take up a place."""
        members = self.members(group)
        return [
            node for node in members
            if self.status[node] == "active" and node not in self.suspended and node not in self.queue
        ]  # fmt: skip

    def downstream(self, node: str) -> set[str]:
        seen = {node}
        while True:
            ahead = {
                edge.target for number, edge in enumerate(self.graph.edges)
                if number not in self.back
                and (edge.source in seen or any(ring.body & seen for ring in self.leaves(edge.source, edge.target)))
            } - seen  # fmt: skip
            if not ahead:
                return seen
            seen |= ahead

    def predecessor(self, node: str) -> str | None:
        came_from = self.came_from.get(node)
        if came_from is None:
            if not self.ins(node):
                group = self.nodes[node].group
                return None if group is None else self.predecessor(group)
            came_from = [self.graph.edges[number].source for number in self.ins(node) if self.decided.get(number) == "fire"]
        return came_from[0] if len(set(came_from)) == 1 else None

    # ---- outcomes ----

    def settle(self, node: str, cycle: int, attempt: int, outcome: Outcome) -> bool:
        if self.end is not None or not self.is_out(node) or (self.cycle[node], self.attempt[node]) != (cycle, attempt):
            return False
        if isinstance(outcome, Retry):
            self.tell("task_retrying", node)
            self.attempt[node] += 1
            if outcome.counted:
                self.retries[node] = self.retries.get(node, 0) + 1
            self.start(node)
        elif isinstance(outcome, Suspend):
            self.free_place(node)
            self.suspended.add(node)
            self.tell("task_suspended", node)
        elif isinstance(outcome, Failure):
            self.fail(node, (outcome.error.error_type,))
        elif isinstance(outcome, Success):
            self.succeed(node, outcome, outcome.directives or Directives())
        self.go_on()
        return True

    def resume(self, node: str, cycle: int) -> bool:
        if self.end is not None or node not in self.suspended or self.cycle[node] != cycle:
            return False
        self.suspended.discard(node)
        self.attempt[node] += 1
        self.take_place(node)
        self.go_on()
        return True

    def finish(self, status: str, cause: str, node: str | None = None) -> None:
        self.end = (status, cause, node)
        self.agenda, self.freed = [], []
        for other in sorted(self.nodes, key=self.ever.index):
            if self.status[other] == "active":
                self.stop(other)

    def succeed(self, node: str, outcome: Success, asked: Directives) -> None:
        if asked.cancel is not None:
            self.mark(node, "cancelled")
            self.tell("task_cancelled", node)
            return self.finish("cancelled", "cancelled", node)
        if asked.terminate is not None:
            self.complete(node, outcome)
            return self.finish("succeeded", "terminated", node)
        gotos, new = list(asked.goto), list[NewTask]()
        for request in asked.new:
            name = request.task.id
            if name in self.rank and not self.nodes[name].is_group and request.task == a_task(name):
                gotos.append(name)
            elif name not in self.rank and self.maker.get(name, node) == node:
                new.append(request)
            elif not request.ignore_existing:
                return self.fail(node, (LIBRARY_ERROR + "DuplicateTaskError",))
        if not all(self.sees(node, target) for target in gotos):
            return self.fail(node, (LIBRARY_ERROR + "UnknownTaskError",))
        for request in new:
            self.spawn(node, request.task)
        if gotos:
            self.complete(node, outcome)
            self.go(node, [(target, node) for target in dict.fromkeys(gotos)])
        elif any(request.goto for request in new):
            self.complete(node, outcome)
            self.want |= dict.fromkeys(self.outs(node), "skip")
            self.release(node)
        elif asked.iteration is not None:
            self.tell("iteration", node)
            self.mark(node, "waiting")
            self.visit(node, self.came_from.get(node))
        else:
            self.complete(node, outcome)
            self.walk_on(node, end_loop=asked.end_loop)

    def walk_on(self, node: str, *, end_loop: bool) -> None:
        self.want_on_success(node)
        if end_loop and self.around(node):
            ring = self.around(node)[0]
            self.left.append((ring, node))
            self.want |= {edge: "skip" for edge in self.outs(node) if self.graph.edges[edge].target in ring.body}
        elif end_loop:
            self.leavers.add(node)
        self.release(node)

    def complete(self, node: str, outcome: Success) -> None:
        self.results[node] = outcome.value
        if outcome.items is not None:
            self.items[node] = outcome.items
        self.errors.pop(node, None)
        self.mark(node, "done")
        self.tell("task_succeeded", node)

    def spawn(self, maker: str, task: Task[..., Any]) -> None:
        name = task.id
        if name not in self.maker:
            home = self.nodes[maker]
            self.nodes[name] = NodeSpec(name, home.group, home.branch)
            self.maker[name] = maker
            if name not in self.ever:
                self.ever.append(name)
            self.cycle.setdefault(name, 0)
            self.attempt.setdefault(name, 0)
        elif self.is_open(name):
            self.again.append((name, task))
            return
        self.visit_again(name, task)

    def visit_again(self, node: str, task: Task[..., Any]) -> None:
        self.task[node] = task
        self.came_from[node] = [self.maker[node]]
        self.status[node] = "waiting"
        self.agenda.append(("visit", node))

    # ---- deciding ----

    def want_on_success(self, node: str) -> None:
        self.want |= {edge: "skip" if self.graph.edges[edge].on == "failure" else "fire" for edge in self.outs(node)}

    def fail(self, node: str, error: tuple[Any, ...]) -> None:
        self.errors.pop(node, None)
        self.errors[node] = error
        self.results.pop(node, None)
        self.tell("group_failed" if self.nodes[node].is_group else "task_failed", node)
        scope, outs = self.nodes[node].group, self.outs(node)
        if any(self.graph.edges[edge].on != "success" for edge in outs):
            self.mark(node, "handled")
            self.want |= {edge: "skip" if self.graph.edges[edge].on == "success" else "fire" for edge in outs}
            return self.release(node)
        self.mark(node, "failed")
        if scope is None and self.on_failure == "fail":
            return self.finish("failed", "failed", node)
        if scope is not None and self.is_hopeless(scope):
            return self.fail_group(scope)
        self.want |= dict.fromkeys(outs, "break")
        self.release(node)

    def pass_on(self, node: str, status: str) -> None:
        self.mark(node, status)
        self.wishes = [wish for wish in self.wishes if (wish.kind, wish.target) != ("join", node)]
        self.forget(node)
        self.tell("task_skipped", node)
        self.pass_over_members(node, status)
        self.want |= dict.fromkeys(self.outs(node), "break" if status == "broken" else "skip")
        self.release(node)

    def pass_over_members(self, group: str, status: str) -> None:
        for node in self.members(group):
            self.mark(node, status)
            self.forget(node)
            self.pass_over_members(node, status)

    def forget(self, node: str) -> None:
        self.results.pop(node, None)
        self.errors.pop(node, None)

    def release(self, node: str) -> None:
        waiting = [entry for entry in self.again if entry[0] == node]
        if waiting and not self.is_open(node) and self.is_live(self.nodes[node].group):
            self.again.remove(waiting[0])
            self.visit_again(*waiting[0])
        elif not self.is_open(node):
            self.agenda += [
                ("edge", edge) for edge in self.outs(node)
                if edge not in self.back and not self.leaves(node, self.graph.edges[edge].target)
            ]  # fmt: skip

    def go_on(self) -> None:
        while self.end is None:
            entry = next((e for kind in ("edge", "look", "visit") for e in self.agenda if e[0] == kind), None)
            if entry is not None:
                self.agenda.remove(entry)
                self.perform(*entry)
            elif self.freed:
                self.admit(self.freed.pop(0))
            elif not self.close_innermost():
                break
        both = set(self.starts) & set(self.stops)
        self.starts = [entry for entry in self.starts if entry not in both]
        self.stops = [entry for entry in self.stops if entry not in both]

    def perform(self, kind: str, what: Any) -> None:
        if kind == "visit":
            if self.status.get(what) == "waiting":
                self.visit(what)
        elif kind == "look":
            self.look(what)
        elif what not in self.decided and self.status[self.graph.edges[what].target] == "waiting":
            self.decided[what] = self.want.get(what, "skip")
            self.look(self.graph.edges[what].target)

    def look(self, node: str) -> None:
        states = [self.decided.get(edge) for edge in self.ins(node)]
        if self.status[node] != "waiting" or None in states:
            return
        if "break" in states:
            self.pass_on(node, "broken")
        elif "fire" in states or any(wish.kind == "join" and wish.target == node for wish in self.wishes):
            self.visit(node)
        elif states:
            self.pass_on(node, "skipped")
