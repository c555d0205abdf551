"""What must come of a graph without loops, worked out from first to last without any state machine.

A plain evaluation in topological order: no step is ever taken back, no outcome waits for another, and groups are judged when all in them is
known. It knows nothing of the reference or the machine.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from graflow.core.edge import Edge
from graflow.core.outcome import Directives, Failure, Outcome, Retry, Success, Suspend
from graflow.core.policy import GroupState
from tests.model.drive import Case
from tests.model.generate import Script
from tests.model.plans import NodeSpec


@dataclass
class Verdict:
    """What became of a node. ``goes`` are the only places that it leads to, None where its edges say so."""

    status: str
    goes: list[str] | None = None
    items: int = 0
    result: Any = None
    branch: int = 0
    certain: bool = True
    """false for members of a group that may have been decided before they were"""


@dataclass
class Oracle:
    """The verdicts on all nodes of a case whose graph has no loops, run with ``on_failure="continue"``."""

    case: Case
    verdicts: dict[str, Verdict] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.script = Script(self.case.graph, self.case.seed, self.case.habits)
        self.evaluate(None)

    @property
    def status(self) -> str:
        """What becomes of the run."""
        top = {node.id for node in self.case.graph.nodes if node.group is None}
        made = {name for name in self.verdicts if "@" in name and self.home(name) is None}
        return "failed" if any(self.verdicts[name].status == "failed" for name in top | made) else "succeeded"

    def home(self, name: str) -> str | None:
        """The group around a task that was made at run time."""
        maker = name.partition("@")[2]
        return maker.partition("[")[0] if "[" in maker else next(n for n in self.case.graph.nodes if n.id == maker).group

    def evaluate(self, group: str | None) -> None:
        """Judge the nodes of a scope, each after those that lead to it."""
        left = [node for node in self.case.graph.nodes if node.group == group]
        gone_to: set[str] = set()
        while left:
            node = next(node for node in left if all(edge.source in self.verdicts for edge in self.into(node.id)))
            left.remove(node)
            verdict = self.verdicts[node.id] = self.judge(node, node.id in gone_to)
            verdict.branch = node.branch
            gone_to |= set(verdict.goes or ())

    def into(self, node: str) -> list[Edge]:
        return [edge for edge in self.case.graph.edges if edge.target == node]

    def carries(self, edge: Edge) -> str:
        """What an edge hands on."""
        source = self.verdicts[edge.source]
        if source.status in ("failed", "broken"):
            return "harm"
        if source.status == "handled":
            return "nothing" if edge.on == "success" else "life"
        if source.status == "skipped" or (source.goes is not None and edge.target not in source.goes):
            return "nothing"
        return "nothing" if source.goes is None and edge.on == "failure" else "life"

    def judge(self, node: NodeSpec, gone_to: bool) -> Verdict:
        carried = [self.carries(edge) for edge in self.into(node.id)]
        if "harm" in carried or (carried and "life" not in carried and not gone_to):
            verdict = Verdict("broken" if "harm" in carried else "skipped")
            self.bury(node.id, verdict.status)
            return verdict
        verdict = self.judge_group(node) if node.is_group else self.perform(node.id, node.branch)
        if verdict.status == "failed" and any(e.on != "success" for e in self.case.graph.edges if e.source == node.id):
            verdict.status = "handled"
        return verdict

    def bury(self, group: str, status: str) -> None:
        for node in self.case.graph.nodes:
            if node.group == group:
                self.verdicts[node.id] = Verdict(status)
                self.bury(node.id, status)

    # ---- tasks ----

    def perform(self, name: str, branch: int) -> Verdict:
        """Let a task run: attempt after attempt, iteration after iteration, and then the tasks that it made."""
        cycle, made = 1, dict[str, None]()
        while True:
            outcome = self.last_attempt(name, cycle)
            if isinstance(outcome, Failure):
                verdict = Verdict("failed")
                break
            asked = outcome.directives or Directives()
            made |= dict.fromkeys(request.task.id for request in asked.new)
            aside = any(request.goto for request in asked.new)
            if asked.iteration is None or asked.goto or aside:
                goes = asked.goto or ([] if aside else None)
                verdict = Verdict("done", goes, outcome.items or 0, outcome.value)
                break
            cycle += 1
        for other in made:
            self.verdicts[other] = self.perform(other, branch)
            self.verdicts[other].branch = branch
        return verdict

    def last_attempt(self, name: str, cycle: int) -> Success | Failure:
        attempt = 1
        while True:
            outcome: Outcome = self.script.outcome(name, cycle, attempt)
            if not isinstance(outcome, Retry | Suspend):
                return outcome
            attempt += 1

    # ---- groups ----

    def judge_group(self, node: NodeSpec) -> Verdict:
        if node.mapped is not None:
            source = self.verdicts[node.mapped]
            names = [f"{node.id}[{place}]" for place in range(source.items)]
            if source.status != "done" or len(names) < node.policy.n or not set(node.policy.ids) <= set(names):
                return Verdict("failed")
            for branch, name in enumerate(names):
                self.verdicts[name] = self.perform(name, branch)
                self.verdicts[name].branch = branch
            lasts = names
        else:
            self.evaluate(node.id)
            members = [other for other in self.case.graph.nodes if other.group == node.id]
            lasts = list({other.branch: other.id for other in members}.values())
        state = self.state_of(node.id, lasts)
        if not self.agrees(node, state):
            self.doubt(node.id)
            return Verdict("failed")
        wanted = [target for name in self.inside(node.id) for target in self.verdicts[name].goes or ()]
        outside = [target for target in dict.fromkeys(wanted) if target not in self.inside(node.id)]
        return Verdict("done", outside or None, len(state.results), list(state.results.values()))

    def inside(self, group: str) -> list[str]:
        """Everything that has a verdict and belongs to the group itself."""
        members = [node.id for node in self.case.graph.nodes if node.group == group]
        made = [name for name in self.verdicts if "@" in name and self.home(name) == group]
        return [*members, *(name for name in self.verdicts if name.startswith(f"{group}[")), *made]

    def state_of(self, group: str, lasts: list[str]) -> GroupState:
        bad = {self.verdicts[n].branch for n in self.inside(group) if self.verdicts[n].status in ("failed", "broken")}
        good = [last for branch, last in enumerate(lasts) if branch not in bad]
        done = [last for last in good if self.verdicts[last].status == "done"]
        return GroupState(
            succeeded=tuple(last for last in good if self.verdicts[last].status != "skipped"),
            failed=tuple(last for branch, last in enumerate(lasts) if branch in bad),
            skipped=tuple(last for last in good if self.verdicts[last].status == "skipped"),
            results={last: self.verdicts[last].result for last in done},
        )

    def agrees(self, node: NodeSpec, state: GroupState) -> bool:
        policy = node.policy
        if policy.function is not None:
            try:
                return bool(policy.function(state))
            except ZeroDivisionError:
                return False
        if policy.kind == "at_least_n":
            return len(state.succeeded) + len(state.skipped) >= policy.n
        return {"strict": not state.failed, "best_effort": True}.get(policy.kind, not set(policy.ids) & set(state.failed))

    def doubt(self, group: str) -> None:
        """A group that fails may have done so before all its members were decided."""
        for name in self.inside(group):
            self.verdicts[name].certain = False
            self.doubt(name)
