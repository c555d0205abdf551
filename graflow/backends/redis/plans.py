"""A plan as the scripts read it: a hash with a record for each node and each loop, and the plan itself for the workers.

A record is a msgpack array of numbers, texts and arrays, which is all that the scripts' decoder is given: no bytes, no extensions, and False
where there is nothing. Edges that follow one another, and nodes that do, are written as runs, so that a fan-out of 100 000 is a few numbers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from graflow.backends.redis.keys import stream_name
from graflow.core.calls import CallPlan, plan_call
from graflow.core.run import SPARE_STEPS
from graflow.wire.plans import encode_plan

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from graflow.core.loops import Loop
    from graflow.core.plan import Condition, GroupPlan, Mapping, Plan
    from graflow.core.policy import PolicyKind
    from graflow.core.task import Task
    from graflow.wire.local import LocalCode
    from graflow.wire.signed import RunSigner

_CONDITIONS: Final[dict[Condition, int]] = {"success": 0, "failure": 1, "always": 2}
_POLICIES: Final[dict[PolicyKind, int]] = {"strict": 0, "best_effort": 1, "at_least_n": 2, "critical": 3, "custom": 4}
_ENDLESS: Final = 2**53
"""The scripts' numbers are doubles: a bound beyond this is none."""

WORTH_IT: Final = 16
"""nodes that are alike from which one record for all is worth it"""

WANTS_ERROR: Final = 1
WANTS_ITEM: Final = 2
FEEDS_MAP: Final = 1
FORKS: Final = 2

Flat = list[Any]
"""numbers, several of which belong together, without an array around each"""

_encode: Final = msgspec.msgpack.Encoder().encode


def plan_records(
    plan: Plan, *, digest: str | None = None, local_code: LocalCode | None = None, signing: RunSigner | None = None
) -> dict[str, bytes]:
    """The fields of the hash that a plan is stored as.

    Args:
        plan: the plan.
        digest: its digest, worked out unless given.
        local_code: see :func:`~graflow.wire.plans.encode_plan`.
        signing: likewise.

    Raises:
        FunctionNotFoundError: the code of a task or policy has no importable name.
        SerializationError: a bound argument cannot travel.
    """
    records = {"blob": encode_plan(plan, digest=digest, local_code=local_code, signing=signing)}
    top, writer = plan.top, _Writer(plan)
    alike = writer.alike()
    roots = _ranges(node for node in top if not plan.ins[node])
    head = [len(plan.ids), len(plan.edges), top.start, top.stop - 1, len(plan.loops), SPARE_STEPS, roots, len(alike)]
    records["head"] = _encode(head)
    if alike:
        records["alike"] = _encode(alike)
    node = 0
    for first, last, *_ in [*alike, (len(plan.ids), -1)]:
        for number in range(node, first):
            records[str(number)] = _encode(writer.node(number))
        node = last + 1
    for number, loop in enumerate(plan.loops):
        records[f"L{number}"] = _encode(_loop(plan, loop))
    return records


def needs_of(call: CallPlan) -> Flat | bool:
    """What a call looks for in its run, False for nothing: flags, then for each parameter the node of its name (-1 for none), whether that
    leads here, the parameter's name, and whether a value is required."""
    if not call.sources and call.error is None and call.item is None:
        return False
    needs: Flat = [(WANTS_ERROR if call.error is not None else 0) + (WANTS_ITEM if call.item is not None else 0)]
    for source in call.sources:
        node = -1 if source.node is None else source.node
        needs += (node, int(source.reached), source.parameter.name, int(source.parameter.required))
    return needs


def stream_of(task: Task[..., Any]) -> str:
    """The name of the stream that a task's attempts wait in."""
    return stream_name(task.options.queue, task.handler_kind, task.options.priority)


class _Kind:
    """What the clones of a task have in common: their stream, whether a parameter bears the name of a node, and what they need where."""

    __slots__ = ("names_nodes", "needs", "stream")

    def __init__(self, plan: Plan, task: Task[..., Any]) -> None:
        self.stream: str = stream_of(task)
        self.names_nodes: bool = any(parameter.name in plan.index for parameter in task.signature.parameters)
        self.needs: dict[Any, Flat | bool] = {}


class _Writer:
    """Makes the records of a plan's nodes. What clones share is worked out once."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._kinds: dict[tuple[int, int], _Kind] = {}
        self._taken: dict[str, int] | None = None

    def node(self, node: int) -> Flat:
        """The record of a node."""
        plan, task = self._plan, self._plan.tasks[node]
        outs, ins, released = plan.outs[node], plan.ins[node], plan.released[node]
        flags = (FEEDS_MAP if node in plan.map_sources else 0) + (FORKS if node in plan.forks else 0)
        group = plan.groups[node]
        stream, needs = ("", False) if task is None else self._step(node, task)
        return [
            0 if group is None else 1,
            plan.scope[node],
            plan.branch[node],
            self._outs(outs) if outs else outs,
            self._ins(ins) if ins else ins,
            False if released == outs else self._outs(released),
            list(plan.around[node]) if node in plan.around else False,
            _bound(plan.max_cycles.get(node)),
            stream,
            needs,
            flags,
            False if group is None else self._group(node, group),
        ]

    def alike(self) -> list[Flat]:
        """Runs of nodes without edges that are alike but for their branches, which count up: the members of a fan-out. One record does for all:
        first node, last node, scope, first branch, limit of visits, stream, needs."""
        runs: list[Flat] = []
        first, known = 0, None
        for node in range(len(self._plan.ids) + 1):
            kind = self._kind(node) if node < len(self._plan.ids) else None
            if kind is None or kind != known:
                if known is not None and node - first >= WORTH_IT:
                    scope, _, limit, stream, needs, _ = known
                    runs.append([first, node - 1, scope, self._plan.branch[first], limit, stream, needs])
                first, known = node, kind
        return runs

    def _kind(self, node: int) -> tuple[Any, ...] | None:
        """What alike nodes have in common; None for a node that has edges, stands in a loop or is otherwise not plain."""
        plan, task = self._plan, self._plan.tasks[node]
        if task is None or plan.outs[node] or plan.ins[node] or plan.scope[node] < 0 or node in plan.map_sources or node in plan.around:
            return None
        stream, needs = self._step(node, task)
        return plan.scope[node], plan.branch[node] - node, _bound(plan.max_cycles.get(node)), stream, needs, id(needs)

    def _outs(self, edges: Sequence[int]) -> Flat:
        known = self._plan.edges
        return _runs((edge, known[edge].target, _CONDITIONS[known[edge].on]) for edge in edges)

    def _ins(self, edges: Sequence[int]) -> Flat:
        known = self._plan.edges
        runs = _runs((edge, known[edge].source, 0) for edge in edges)
        del runs[4::5]
        return runs

    def _step(self, node: int, task: Task[..., Any], item: str | None = None) -> tuple[str, Flat | bool]:
        """The stream of a task, and what it needs at a node.

        Among clones with the same parameters bound, only the place in the graph can make a difference to that, and only where a parameter bears
        the name of a node; and what nothing leads to in its own scope is reached as its scope is.
        """
        plan = self._plan
        kind = self._kinds.get((id(task.spec), id(task.options)))
        if kind is None:
            kind = self._kinds[id(task.spec), id(task.options)] = _Kind(plan, task)
        place = 0
        if kind.names_nodes:
            place = node + 1 if plan.all_ins[node] else -2 - plan.scope[node]
        key = (place, item, *task.bound)
        needs = kind.needs.get(key)
        if needs is None:
            needs = kind.needs[key] = needs_of(plan_call(plan, node, task, item=item))
        return kind.stream, needs

    # ---- groups ----

    def _group(self, node: int, group: GroupPlan) -> Flat:
        plan, policy = self._plan, group.policy
        sizes: list[int] | bool = False
        if policy.early:
            sizes = [0] * len(group.lasts)
            for member in group.members:
                sizes[plan.branch[member]] += 1
        return [
            group.members.start,
            group.members.stop - 1,
            _POLICIES[policy.kind],
            _bound(policy.n),
            int(policy.early),
            sorted(group.critical),
            _bound(group.limit),
            plan.group_depth[node],
            _ranges(member for member in group.members if not plan.ins[member]),
            _ranges(group.lasts),
            sizes,
            False if group.mapping is None else self._mapping(node, group, group.mapping),
        ]

    def _mapping(self, node: int, group: GroupPlan, mapping: Mapping) -> Flat:
        task = mapping.task
        stream, needs = self._step(node, task, mapping.parameter)
        places = [_place(name) for name in group.policy.ids]
        return [
            mapping.source,
            task.id,
            _bound(task.options.max_cycles),
            stream,
            needs,
            self._first_taken(task.id),
            [-1 if place is None or place[0] != task.id else place[1] for place in places],
        ]

    def _first_taken(self, task_id: str) -> int | bool:
        """The first ``k`` for which ``task_id[k]`` is a node of the plan."""
        if self._taken is None:
            self._taken = {}
            for place in map(_place, self._plan.ids):
                if place is not None and place[1] < self._taken.get(place[0], _ENDLESS):
                    self._taken[place[0]] = place[1]
        return self._taken.get(task_id, False)


def _loop(plan: Plan, loop: Loop) -> Flat:
    edges = plan.edges
    back: Flat = [end for edge in loop.back for end in (edge, edges[edge].source)]
    leaving, exits = (
        [end for edge in numbers for end in (edge, edges[edge].source, edges[edge].target)] for numbers in (loop.leaving, loop.exits)
    )
    return [loop.header, _ranges(sorted(loop.body)), back, leaving, exits, loop.depth, loop.scope]


def _runs(edges: Iterable[tuple[int, int, int]]) -> Flat:
    """Edges, each with its other end and condition, as runs: first edge, last edge, first end, step from end to end, condition."""
    runs: Flat = []
    first = last = begin = step = on = -1
    for edge, end, condition in edges:
        if edge == last + 1 and condition == on and first >= 0:
            if first == last and end - begin in (0, 1):
                step = end - begin
                last = edge
                continue
            if first != last and end == begin + step * (edge - first):
                last = edge
                continue
        if first >= 0:
            runs += (first, last, begin, step, on)
        first, last, begin, step, on = edge, edge, end, 0, condition
    if first >= 0:
        runs += (first, last, begin, step, on)
    return runs


def _ranges(numbers: Iterable[int]) -> list[int]:
    """Numbers as ranges in the order they come in: first, last, first, last..."""
    ranges: list[int] = []
    for number in numbers:
        if ranges and ranges[-1] == number - 1:
            ranges[-1] = number
        else:
            ranges += (number, number)
    return ranges


def _place(name: str) -> tuple[str, int] | None:
    """The task and the place that an id like ``fetch[12]`` names."""
    if not name.endswith("]"):
        return None
    task, bracket, digits = name[:-1].rpartition("[")
    if not bracket or not digits.isdecimal() or not digits.isascii() or len(digits) > 15 or (digits[0] == "0" and digits != "0"):
        return None
    return task, int(digits)


def _bound(number: int | None) -> int | bool:
    return False if number is None else min(number, _ENDLESS)
