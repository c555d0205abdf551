"""A plan as bytes: everything that another process needs to have an equal one.

What nodes have in common is written once, the rest by columns: a plan may hold 100 000 nodes that differ in their names and arguments only.
What :mod:`graflow.core.compiler` derives from the edges is derived again.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator, Sequence
from hashlib import sha256
from itertools import chain, islice, starmap
from operator import eq
from typing import Annotated, Any, Final

import msgspec

from graflow.core.compiler import connect
from graflow.core.plan import Condition, GroupPlan, Mapping, Plan, PlanEdge
from graflow.core.policy import GroupPolicy, PolicyKind
from graflow.core.task import Task
from graflow.errors import SerializationError
from graflow.wire.envelopes import enveloped, opened, reading
from graflow.wire.keys import Signer
from graflow.wire.local import LocalCode, this_process
from graflow.wire.signing import RunSigner
from graflow.wire.sources import CodeSource
from graflow.wire.standins import policy_function
from graflow.wire.tasks import EncodedArguments, Tables, TaskReader, TaskWriter, arguments_of, plain_text

_NONE: Final = -1
"""In the place of a task's kind: it is a group; of its arguments: nothing is bound."""

_Number = Annotated[int, msgspec.Meta(ge=0)]
_NumberOrNone = Annotated[int, msgspec.Meta(ge=-1)]


class _Policy(msgspec.Struct, array_like=True, frozen=True):
    kind: PolicyKind
    n: int
    early: bool
    ids: tuple[str, ...]
    function: str | None


class _Mapping(msgspec.Struct, array_like=True, frozen=True):
    """``task`` is the number of a task behind those of the nodes."""

    task: _Number
    source: _Number
    parameter: str


class _Group(msgspec.Struct, array_like=True, frozen=True):
    node: _Number
    begin: _Number
    end: _Number
    lasts: tuple[_Number, ...]
    policy: _Policy
    limit: int | None
    critical: list[_Number]
    mapping: _Mapping | None


class _Body(msgspec.Struct, kw_only=True, frozen=True):
    """Columns by node (``ids``, ``scope``, ``branch``), by edge (``sources``, ``targets``) and by task (``kinds``, ``arguments``): the nodes,
    then the tasks that groups map. ``arguments`` are places in ``bound``."""

    name: str
    digest: str
    tables: Tables
    ids: list[str]
    mapped_ids: list[str]
    kinds: list[_NumberOrNone]
    arguments: list[_NumberOrNone]
    bound: msgspec.Raw
    scope: list[_NumberOrNone]
    branch: list[_Number]
    top: _Number
    groups: list[_Group]
    sources: list[_Number]
    targets: list[_Number]
    conditions: dict[_Number, Condition]
    max_cycles: dict[_Number, int]
    start: _Number | None
    outputs: tuple[_Number, ...]
    output_given: bool


_body: Final = msgspec.msgpack.Decoder(_Body)


def plan_key(data: bytes) -> str:
    """What a plan that was encoded may be stored under: another one for whatever differs in any way.

    The digest of a plan says whether two graphs are the same to their user. It takes objects of an unknown class for equal, and two closures
    of the same code, which are still not the same to run.
    """
    return sha256(data).hexdigest()


def encode_plan(plan: Plan, *, digest: str | None = None, local_code: LocalCode | None = None, signing: RunSigner | None = None) -> bytes:
    """A plan as bytes. Equal plans give equal bytes in all processes, but for what only ``local_code`` can name, and what is signed for a run.

    Args:
        plan: the plan; one with stubs cannot travel.
        digest: its digest, worked out unless given.
        local_code: names code that no other process could import, where the workers are in this one; None refuses it.
        signing: signs such code for its run; None refuses it.

    Raises:
        FunctionNotFoundError: the code of a task or policy has no importable name; the message says which and what to do.
        SerializationError: a bound argument cannot travel, or an id, or something that signed code holds.
    """
    if plan.substitute is not None:
        raise SerializationError(f"the plan of {plan.name!r} has stubs, which replace tasks in this process only")
    writer = TaskWriter(local_code, signing)
    groups: list[_Group] = []
    mapped: list[Task[..., Any]] = []
    policies: dict[int, _Policy] = {}
    for node, group in enumerate(plan.groups):
        if group is None:
            continue
        policy = policies.get(id(group.policy))
        if policy is None or policy.function is not None:  # the groups that may use one of the user's own are noted
            policy = policies[id(group.policy)] = _policy_row(group.policy, plan.ids[node], writer)
        mapping = None
        if group.mapping is not None:
            mapping = _Mapping(len(plan.ids) + len(mapped), group.mapping.source, group.mapping.parameter)
            mapped.append(group.mapping.task)
        members = group.members
        groups.append(_Group(node, members.start, members.stop, group.lasts, policy, group.limit, sorted(group.critical), mapping))
    tasks = [*plan.tasks, *mapped]
    bound = [task for task in tasks if task is not None and task.bound]
    places = iter(range(len(bound)))
    kinds = [_NONE if task is None else writer.kind(task) for task in tasks]
    writer.sign()
    return enveloped(
        _Body(
            name=plain_text(plan.name),
            digest=plan.digest if digest is None else digest,
            tables=writer.tables,
            ids=_plain(plan.ids),
            mapped_ids=_plain([task.id for task in mapped]),
            kinds=kinds,
            arguments=[_NONE if task is None or not task.bound else next(places) for task in tasks],
            bound=arguments_of(bound),
            scope=list(plan.scope),
            branch=list(plan.branch),
            top=plan.top.stop,
            groups=groups,
            sources=[edge.source for edge in plan.edges],
            targets=[edge.target for edge in plan.edges],
            conditions={number: edge.on for number, edge in enumerate(plan.edges) if edge.on != "success"},
            max_cycles=plan.max_cycles,
            start=plan.start,
            outputs=plan.outputs,
            output_given=plan.output_given,
        ),
        f"the plan of {plan.name!r}",
    )


def _plain(ids: list[str]) -> list[str]:
    return ids if {str}.issuperset(map(type, ids)) else list(map(plain_text, ids))


def _policy_row(policy: GroupPolicy, group: str, writer: TaskWriter) -> _Policy:
    function: Any = policy.function
    if isinstance(function, Task) and not function.bound:
        function = function.function  # which is what its name leads to
    name = None if function is None else writer.refer(function, group, "policy")
    return _Policy(policy.kind, policy.n, policy.early, policy.ids, name)


def decode_plan(data: bytes, *, local_code: LocalCode | None = this_process, signer: Signer | None = None) -> Plan:
    """The plan that :func:`encode_plan` was given.

    Nothing is imported: the function of a task is when it is first asked for, and only then there is an error if it cannot be found. What the
    plan was drawn from (``drawn``) does not travel; its digest does.

    Args:
        data: the bytes that arrived.
        local_code: where code without an importable name is looked for.
        signer: verifies signed code, which must be admitted before it is asked for.

    Raises:
        SerializationError: the bytes are no plan, or were written by a newer version.
    """
    with reading(data, "plan"):
        return _plan_of(opened(data, _body, "plan"), local_code, signer)


class _SentTasks(list[Any]):
    """The tasks of a plan, each made when it is asked for: a worker asks for few, and another time for none of them again. What lies in the list
    are their kinds."""

    __slots__ = ("_arguments", "_ids", "_made")

    def __init__(self, ids: list[str], kinds: list[int], arguments: Sequence[int], made: Callable[[str, int, int], Task[..., Any]]) -> None:
        super().__init__(kinds)
        self._ids = ids
        self._arguments = arguments
        self._made = made

    def __getitem__(self, node: Any) -> Any:
        kind: int = super().__getitem__(node)
        place: int = node
        return None if kind == _NONE else self._made(self._ids[place], kind, self._arguments[place])

    def __iter__(self) -> Iterator[Any]:
        return map(self.__getitem__, range(len(self)))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, list) and len(self) == len(other) and all(map(eq, self, other))  # pyright: ignore[reportUnknownArgumentType]

    __hash__ = None


class _SentPlan(Plan):
    """A plan of which a worker asks little: what follows from its edges is worked out when somebody asks for it. A chain of 20 000 steps takes a
    third of the memory without it."""

    __slots__ = ("_conditions", "_sources", "_targets")

    def __init__(self, name: str, sources: list[int], targets: list[int], conditions: dict[int, Condition]) -> None:
        super().__init__(name)
        self._sources, self._targets = array("i", sources), array("i", targets)
        self._conditions = conditions
        for derived in _DERIVED:
            delattr(self, derived)

    def __getattr__(self, name: str) -> Any:
        """Called for what is not set."""
        if name not in _DERIVED:
            raise AttributeError(f"a plan has no attribute {name!r}", name=name, obj=self)
        self.loops, self.around = [], {}
        numbers = range(len(self.ids)) if not self._sources else list(range(len(self.ids)))  # each number is there once, however many edges
        ends = zip(map(numbers.__getitem__, self._sources), map(numbers.__getitem__, self._targets), strict=True)
        on = self._conditions
        connect(self, [PlanEdge(*each, on.get(edge, "success")) for edge, each in enumerate(ends)] if on else list(starmap(PlanEdge, ends)))
        return getattr(self, name)


_DERIVED: Final = frozenset({"around", "edges", "forks", "indegree", "ins", "is_back", "loops", "outs", "released"})
"""what :func:`~graflow.core.compiler.connect` sets"""


def _plan_of(body: _Body, local: LocalCode | None, signer: Signer | None) -> Plan:
    plan = _SentPlan(body.name, body.sources, body.targets, body.conditions)
    count = len(body.ids)
    _check(body, count)
    plan.ids = body.ids
    plan.forget_index()
    reader, bound = TaskReader(body.tables, local, signer), EncodedArguments(body.bound)
    if len(body.kinds) != len(body.arguments) or len(body.kinds) != count + len(body.mapped_ids):
        raise ValueError("its columns are not of one length")
    if max(body.kinds, default=0) >= len(body.tables.kinds) or max(body.arguments, default=0) >= len(bound):
        raise ValueError("a task is of a kind, or has arguments, that there are not")
    if min(body.kinds[count:], default=0) < 0:
        raise ValueError("a group maps no task")

    def made(id: str, kind: int, place: int) -> Task[..., Any]:
        return reader.task(id, kind, None if place == _NONE else bound[place])

    plan.tasks = _SentTasks(body.ids, body.kinds[:count], array("i", body.arguments), made)
    mapped = list(map(made, body.mapped_ids, body.kinds[count:], body.arguments[count:]))
    plan.scope, plan.branch, plan.top = array("i", body.scope), array("i", body.branch), range(body.top)
    plan.groups = [None] * count
    for row in body.groups:
        plan.group_depth[row.node] = plan.group_depth[plan.scope[row.node]] + 1
        plan.groups[row.node] = _group_of(row, count, mapped, reader.code)
    plan.map_sources = frozenset(row.mapping.source for row in body.groups if row.mapping is not None)
    plan.max_cycles = body.max_cycles
    plan.start, plan.outputs, plan.output_given = body.start, body.outputs, body.output_given
    plan.recipes = [None] * count
    plan._digest = body.digest  # pyright: ignore[reportPrivateUsage]
    return plan


def _check(body: _Body, count: int) -> None:
    """Raise ValueError where a number is that of nothing, which would otherwise show much later."""
    if not len(body.scope) == len(body.branch) == count or len(body.sources) != len(body.targets):
        raise ValueError("its columns are not of one length")
    ordered = sorted(body.ids)  # a set of them would be the largest thing there is
    if any(map(eq, ordered, islice(ordered, 1, None))):
        raise ValueError("two nodes have one id")
    groups = [row.node for row in body.groups]
    if groups != [node for node, kind in enumerate(body.kinds[:count]) if kind == _NONE]:
        raise ValueError("a group is missing, or a task is one")
    if not {-1, *groups}.issuperset(body.scope) or any(scope >= node for node, scope in enumerate(body.scope)):
        raise ValueError("a node stands in no group before it")
    numbers = (body.start or 0, body.top - 1, *(row.end - 1 for row in body.groups))
    mappings = [row.mapping for row in body.groups if row.mapping is not None]
    of_groups = chain(chain.from_iterable(row.lasts for row in body.groups), (mapping.source for mapping in mappings))
    if max(chain(body.sources, body.targets, body.max_cycles, body.outputs, numbers, of_groups), default=0) >= count:
        raise ValueError("a number is that of no node")
    scope = body.scope
    if any(scope[source] != scope[target] for source, target in zip(body.sources, body.targets, strict=True)):
        raise ValueError("an edge leads out of its scope")
    if any(mapping.task < count for mapping in mappings):
        raise ValueError("a group maps one of the nodes")


def _group_of(row: _Group, count: int, mapped: list[Task[..., Any]], code: CodeSource) -> GroupPlan:
    policy = row.policy
    function = None if policy.function is None else policy_function(policy.function, code)
    mapping = None
    if row.mapping is not None:
        mapping = Mapping(mapped[row.mapping.task - count], row.mapping.source, row.mapping.parameter)
    made = GroupPolicy(policy.kind, policy.n, policy.early, policy.ids, function)
    return GroupPlan(range(row.begin, row.end), row.lasts, made, row.limit, frozenset(row.critical), mapping)
