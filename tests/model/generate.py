"""Random graphs, and tasks that behave at random: the same way for the same visit, whatever happened before it."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field, replace
from random import Random

from graflow.core.edge import Condition, Edge
from graflow.core.outcome import Directives, Failure, Iteration, NewTask, Outcome, Retry, Success, Suspend, TaskError
from graflow.core.policy import GroupPolicy, GroupState, at_least_n, best_effort, coerce_policy, critical, strict
from tests.model.plans import GraphSpec, NodeSpec, a_task
from tests.model.rings import Ring, find_rings, rank_nodes


@dataclass(frozen=True)
class Shape:
    """What kind of graphs to draw."""

    loops: bool = True
    early: bool = False
    wild: bool = False
    """also graphs that cannot run well: groups mapped over what is not there, two of one name, tight bounds on visits"""
    top: int = 9
    depth: int = 3


def moody(state: GroupState) -> bool:
    """A policy of the user's own that depends on everything it is told."""
    mood = zlib.crc32(repr(state).encode()) % 8
    if mood == 7:
        raise ZeroDivisionError
    return mood < 5


class Drawing:
    """A graph while it is drawn."""

    def __init__(self, random: Random, shape: Shape) -> None:
        self.random, self.shape = random, shape
        self.nodes: list[NodeSpec] = []
        self.edges: list[Edge] = []
        self.before: dict[str, list[str]] = {}
        """nodes with an edge into a node: what a group in its place, or inside it, may be mapped over"""

    def draw(self) -> GraphSpec:
        """The finished graph."""
        self.draw_nodes(None, 0, self.random.randint(1, self.shape.top), 0)
        return GraphSpec(tuple(self.nodes), tuple(self.edges))

    def draw_nodes(self, group: str | None, branch: int, count: int, depth: int) -> list[NodeSpec]:
        """The nodes of the top level, or of one branch, with the edges among them and all that is inside them."""
        chance = (0.3, 0.2, 0.15)[depth] if depth < self.shape.depth else 0
        names = [self.new_name(self.random.random() < chance and len(self.nodes) < 16) for _ in range(count)]
        edges = self.draw_edges(names)
        if self.random.random() < 0.5:
            self.random.shuffle(edges)
        for edge in edges:
            self.before.setdefault(edge.target, []).append(edge.source)
        self.edges += edges
        place = len(self.nodes)
        nodes = [NodeSpec(name, group, branch, is_group=name[0] == "g") for name in names]
        self.nodes += nodes
        for number, node in enumerate(nodes):
            drawn = self.draw_group(node, depth) if node.is_group else self.bounded(node)
            self.nodes[place + number] = nodes[number] = drawn
        return nodes

    def new_name(self, group: bool) -> str:
        self.names = getattr(self, "names", 0) + 1
        return f"{'g' if group else 't'}{self.names}"

    def draw_edges(self, names: list[str]) -> list[Edge]:
        random, count = self.random, len(names)
        edges: list[Edge] = []
        ahead, behind = random.choice((1.2, 2.2, 2.2)) / count, random.choice((0.2, 0.4, 1.2)) / count
        for i, source in enumerate(names):
            for j, target in enumerate(names):
                forward = i < j and random.random() < ahead
                back = self.shape.loops and i > j and random.random() < behind
                selfish = self.shape.loops and i == j and source[0] == "t" and random.random() < 0.08
                if forward or back or selfish:
                    edges.append(Edge(source, target, self.draw_condition()))
                    if random.random() < 0.04:
                        edges.append(Edge(source, target, self.draw_condition()))
        return list(dict.fromkeys(edges))

    def draw_condition(self) -> Condition:
        return self.random.choices(("success", "failure", "always"), (8, 1, 1))[0]

    def bounded(self, node: NodeSpec) -> NodeSpec:
        """A task that leads to itself has a bound on its visits; in a wild graph others have one too."""
        if any(edge.source == edge.target == node.id for edge in self.edges):
            return replace(node, max_cycles=self.random.randint(3, 9))
        if self.shape.wild and self.random.random() < 0.1:
            return replace(node, max_cycles=self.random.randint(1, 4))
        return node

    def draw_group(self, node: NodeSpec, depth: int) -> NodeSpec:
        node = replace(node, limit=self.random.choice((None, None, None, 1, 2)))
        source = self.draw_source(node) if self.random.random() < 0.35 else None
        if source is not None:
            shared = [other.id for other in self.nodes if other.mapped] if self.shape.wild else []
            name = self.random.choice(shared) if shared and self.random.random() < 0.1 else ""
            policy = self.draw_policy([f"{name or node.id}[{place}]" for place in range(2)])
            return replace(node, mapped=source, template=name, policy=policy)
        lasts: list[str] = []
        for branch in range(self.random.choice((0, 1, 2, 2, 3, 3, 4))):
            members = self.draw_nodes(node.id, branch, self.random.choice((1, 1, 1, 2, 3)), depth + 1)
            lasts.append(members[-1].id)
        return replace(node, policy=self.draw_policy(lasts))

    def draw_source(self, node: NodeSpec) -> str | None:
        """A node that leads to the group, or to a group around it."""
        around = {other.id: other for other in self.nodes}
        choices = list(self.before.get(node.id, ()))
        group = node.group
        while group is not None:
            choices += self.before.get(group, ())
            group = around[group].group
        if self.shape.wild and self.random.random() < 0.2:
            choices = [other.id for other in self.nodes if other.group == node.group and other.id != node.id]
        return self.random.choice([*choices, None]) if choices else None

    def draw_policy(self, lasts: list[str]) -> GroupPolicy:
        choices = [strict, strict, best_effort, best_effort, coerce_policy(moody)]
        if lasts:
            wanted = self.random.randint(1, len(lasts))
            choices += [at_least_n(wanted), critical(self.random.sample(lasts, wanted))]
            if self.shape.early:
                choices += [at_least_n(wanted, early=True)] * 3
        return self.random.choice(choices)


def sources_come_first(graph: GraphSpec) -> bool:
    """Whether no group is mapped over something that leads to it by a back edge only: it may or may not have run by then."""
    script = Script(graph, "", Habits())
    return all(node.mapped is None or script.after(node.mapped) & script.around(node.id) for node in graph.nodes)


@dataclass(frozen=True)
class Habits:
    """How likely tasks are to do something other than return."""

    fail: float = 0.0
    retry: float = 0.0
    suspend: float = 0.0
    goto: float = 0.0
    wild: bool = False
    """gotos to anywhere, also where they may not go or where something runs alongside"""
    new: float = 0.0
    iterate: float = 0.0
    stop: float = 0.0
    outside: float = 0.0
    """the chance, before each outcome, that somebody outside ends the run"""


@dataclass
class Script:
    """What comes of every attempt: a function of the node, its cycle and the attempt, and of nothing else."""

    graph: GraphSpec
    seed: str
    habits: Habits
    rings: list[Ring] = field(init=False)

    def __post_init__(self) -> None:
        self.rings = find_rings(self.graph, rank_nodes(self.graph))
        self.nodes = {node.id: node for node in self.graph.nodes}
        self.sources = {node.mapped for node in self.graph.nodes if node.mapped}
        back = {edge for ring in self.rings for edge in ring.back}
        self.forward = [edge for number, edge in enumerate(self.graph.edges) if number not in back]

    def outcome(self, node: str, cycle: int, attempt: int) -> Outcome:
        """What comes of this attempt."""
        random, habits = Random(f"{self.seed}/{node}/{cycle}/{attempt}"), self.habits
        error = TaskError(node, attempt, f"Odd{random.randrange(3)}", "")
        if attempt < 4 and random.random() < habits.retry:
            return Retry(0.0, error, counted=random.random() < 0.7)
        if attempt < 4 and random.random() < habits.suspend:
            return Suspend("asked")
        if random.random() < habits.fail:
            return Failure(error)
        items = random.choice((0, 1, 2, 2, 3)) if node in self.sources else None
        if habits.wild and items is not None and random.random() < 0.1:
            items = -1
        return Success((node, cycle), self.directives(node, cycle, random), items)

    def directives(self, node: str, cycle: int, random: Random) -> Directives | None:
        """What this visit asks of the run."""
        habits, stem = self.habits, self.stem(node)
        asked = Directives()
        if random.random() < habits.stop:
            asked.terminate, asked.cancel = random.choice((("so", None), (None, "so"), ("so", "so")))
        if random.random() < habits.new:
            asked.new = self.new_tasks(node, cycle, random)
        if cycle < 3 and random.random() < habits.iterate:
            asked.iteration = Iteration()
        in_loop = node in self.nodes and any(around in ring.body for around in self.enclosing(node) for ring in self.rings)
        if in_loop and (cycle % 3 == 0 or (habits.wild and random.random() < 0.1)):
            asked.end_loop = True
        elif random.random() < habits.goto:
            places = self.anywhere(stem, cycle) if habits.wild else self.ahead(node, stem, cycle)
            asked.goto = random.sample(places, min(len(places), random.choice((1, 1, 2))))
        return asked if asked != Directives() else None

    def enclosing(self, node: str) -> list[str]:
        """The node and the groups around it."""
        found = [node]
        while (group := self.nodes[found[-1]].group) is not None:
            found.append(group)
        return found

    def stem(self, node: str) -> str:
        """The node of the graph behind a task made at run time."""
        name = node.split("@")[-1].split("[")[0]
        return name if name in self.nodes else self.graph.nodes[0].id

    def new_tasks(self, node: str, cycle: int, random: Random) -> list[NewTask]:
        """Tasks to be made: each once, unless all is wild."""
        if node.startswith("+"):
            return []
        names = [f"+{cycle}{node}"] if "@" in node else [f"d{cycle}{place}@{node}" for place in range(random.choice((1, 1, 2)))]
        bound = None
        if self.habits.wild:
            strange = ("d@" + node, random.choice(list(self.nodes)), "shared@t1", "g2[0]")
            names = [random.choices((name, *strange), (6, 3, 1, 1, 0.3))[0] for name in names]
            bound = random.choice((None, None, None, 2))
        return [NewTask(a_task(name, bound), ignore_existing=random.random() < 0.3, goto=random.random() < 0.3) for name in names]

    def ahead(self, node: str, stem: str, cycle: int) -> list[str]:
        """Places that nothing can be running at: those that edges lead to from here, and the next round."""
        places: list[str] = []
        here: str | None = stem
        while here is not None:
            if here == node or here != stem or "[" in node:  # a task made at run time runs beside what follows its maker
                places += sorted(self.after(here))
            here = self.nodes[here].group
        if node in self.nodes and cycle < 3:
            places += [ring.header for ring in self.rings if node in ring.body]
        return list(dict.fromkeys(places))

    def anywhere(self, stem: str, cycle: int) -> list[str]:
        if cycle > 4:
            return sorted(self.after(stem))
        places = ["nowhere"] if zlib.crc32(f"{self.seed}{stem}{cycle}".encode()) % 20 == 0 else []
        here: str | None = stem
        while here is not None:
            here = self.nodes[here].group
            places += [node.id for node in self.graph.nodes if node.group == here]
        return places

    def around(self, node: str) -> set[str]:
        """The node and the groups around it."""
        group = self.nodes[node].group
        return {node} if group is None else {node} | self.around(group)

    def after(self, node: str) -> set[str]:
        """The nodes that forward edges lead to."""
        seen: set[str] = set()
        work = [node]
        while work:
            here = work.pop()
            ahead = {edge.target for edge in self.forward if edge.source == here} - seen
            seen |= ahead
            work += ahead
        return seen
