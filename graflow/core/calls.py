"""How the arguments of a step are found (design 3, "Arguments"; rules 27 and 30).

What can be known of a node's parameters is worked out once per plan (:class:`CallPlan`); what depends on the run is read through a
:class:`StepView`, which each backend offers over what it holds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from graflow.core.boundary import UserCode
from graflow.core.plan import RUN
from graflow.errors import ArgumentTypeError, MissingArgumentError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from graflow.core.arguments import FunctionSignature, Parameter
    from graflow.core.outcome import Iteration, TaskError
    from graflow.core.plan import Plan
    from graflow.core.task import Priority, Task

    MadeBy = Callable[[str], int | None]

MISSING: Any = msgspec.UNSET
"""no value here; look at the next place"""


class StepView(Protocol):
    """What one step may know of its run."""

    @property
    def iteration(self) -> Iteration | None:
        """What ``next_iteration`` gave to this visit."""
        ...

    def result(self, node: int, *, keyed: bool = False) -> Any:
        """The result of a node, MISSING without one; ``keyed`` asks for a group's as ``{id: value}``."""
        ...

    def predecessor(self) -> int | None:
        """The only node whose edge fired for this visit."""
        ...

    def leads_here(self, node: int) -> bool:
        """Whether a goto made in this run leads from ``node`` to this step, where the edges alone do not."""
        ...

    def item(self) -> Any:
        """The item of a mapped group that this member is for."""
        ...

    def error(self) -> TaskError | None:
        """The failure that a failure or always edge brought here."""
        ...

    def channel_value(self, key: str) -> Any:
        """The channel's value under a key, MISSING without one."""
        ...

    def result_names(self) -> Iterable[str]:
        """Ids of the nodes whose results lead here, for messages."""
        ...

    def channel_keys(self) -> Iterable[str]:
        """The channel's keys, for messages."""
        ...


class Source(msgspec.Struct, frozen=True):
    """Where one parameter may find its value.

    Attributes:
        parameter: what the signature says of it.
        node: number of the node that bears its name, None if there is none.
        reached: whether edges lead from that node to here.
    """

    parameter: Parameter
    node: int | None
    reached: bool


class CallPlan(msgspec.Struct, frozen=True):
    """How to call the function of a node: fixed values, and where to look for the others."""

    signature: FunctionSignature
    context: str | None
    """name of the parameter that takes the context"""
    error: Parameter | None
    """the parameter annotated TaskError"""
    item: str | None
    """name of the parameter that takes the item of a mapped group"""
    fixed: dict[str, Any]
    sources: tuple[Source, ...]
    converters: dict[str, Parameter]
    unfit: tuple[Parameter, ...]
    """parameters whose bound values do not fit: the step fails when its arguments are found, not the run when the step is put in line"""
    needs_nothing: bool
    """whether the call can be made without looking at the run, unless next_iteration gave it something"""

    @property
    def names(self) -> list[str]:
        """Channel keys that the call may ask for."""
        return [source.parameter.name for source in self.sources]


class Recipe(msgspec.Struct, frozen=True):
    """How a node is run: what, with which arguments, and on which queue; worked out once for all its visits."""

    task: Task[..., Any]
    call: CallPlan
    queue: str
    handler: str
    priority: Priority
    feeds_map: bool

    @classmethod
    def of(cls, task: Task[..., Any], call: CallPlan, *, feeds_map: bool = False) -> Recipe:
        """The recipe of a task."""
        return cls(task, call, task.options.queue, task.handler_kind, task.options.priority, feeds_map)


def recipe_of(plan: Plan, node: int, task: Task[..., Any]) -> Recipe:
    """The recipe of a node of the plan. Tasks that take nothing and differ only in their ids share one: a graph may hold 100 000 of them."""
    feeds_map = node in plan.map_sources
    if task.bound or task.signature.parameters:
        return Recipe.of(task, plan_call(plan, node, task), feeds_map=feeds_map)
    kind = (id(task.spec), id(task.options), feeds_map)  # both live as long as the plan
    recipe = plan.shared_recipes.get(kind)
    if recipe is None:
        recipe = plan.shared_recipes[kind] = Recipe.of(task, plan_call(plan, node, task), feeds_map=feeds_map)
    return recipe


def plan_call(plan: Plan, node: int, task: Task[..., Any], *, item: str | None = None, made_by: MadeBy | None = None) -> CallPlan:
    """Work out what can be known of a call before the run.

    Args:
        plan: the plan that the node is in.
        node: the node; for a member of a mapped group the group, for a task made at run time the node of the plan that it stems from.
        task: what is called.
        item: the parameter that takes the item of a mapped group.
        made_by: for a task made at run time, finds its maker, that one's maker and so on by id; their results may be asked for by name.
    """
    signature = task.signature
    if not signature.parameters and not task.bound:  # nothing of the node matters: one plan serves all tasks of the function
        return _plain_call(signature)
    context: str | None = None
    error: Parameter | None = None
    sources: list[Source] = []
    converters: dict[str, Parameter] = {}
    fixed = dict(task.bound)
    for parameter in signature.parameters:
        if parameter.role == "context":
            context = parameter.name
        elif parameter.name in fixed or parameter.name == item:
            converters[parameter.name] = parameter
        elif parameter.role == "error":
            error = parameter
        else:
            converters[parameter.name] = parameter
            sources.append(_source(plan, node, parameter, made_by))
    unfit: list[Parameter] = []
    for name, parameter in converters.items():
        if name in fixed:
            with UserCode() as code:
                fixed[name] = signature.convert(fixed[name], parameter, task.id)
            if code.error is not None:
                unfit.append(parameter)
    needs_nothing = not sources and error is None and item is None and not unfit
    return CallPlan(signature, context, error, item, fixed, tuple(sources), converters, tuple(unfit), needs_nothing)


def _plain_call(signature: FunctionSignature) -> CallPlan:
    return CallPlan(signature, None, None, None, {}, (), {}, (), needs_nothing=True)


def _source(plan: Plan, node: int, parameter: Parameter, made_by: MadeBy | None) -> Source:
    maker = made_by(parameter.name) if made_by is not None else None
    if maker is not None:
        return Source(parameter, maker, reached=True)
    named = plan.index.get(parameter.name)
    return Source(parameter, named, named is not None and leads(plan, named, node))


def leads(plan: Plan, source: int, target: int) -> bool:
    """Whether edges, back edges included, lead from one node to another, in the scope where their paths part (30)."""
    if target >= len(plan.scope):
        return False
    around_target = {scope: node for node, scope in _lifted(plan, target)}
    return any(scope in around_target and _path(plan, node, around_target[scope]) for node, scope in _lifted(plan, source))


def _lifted(plan: Plan, node: int) -> Iterable[tuple[int, int]]:
    """The node and the groups around it, each with the scope it stands in."""
    while True:
        scope = plan.scope[node]
        yield node, scope
        if scope == RUN:
            return
        node = scope


def _path(plan: Plan, source: int, target: int) -> bool:
    """Whether one or more edges lead from source to target; searched backwards, as the answer is mostly next door."""
    seen: set[int] = set()
    work = [target]
    into = plan.all_ins
    while work:
        for edge in into[work.pop()]:
            before = plan.edges[edge].source
            if before == source:
                return True
            if before not in seen:
                seen.add(before)
                work.append(before)
    return False


def find_arguments(call: CallPlan, view: StepView, task_id: str) -> dict[str, Any]:
    """The arguments of a step, the context left out.

    Raises:
        MissingArgumentError: a required parameter got no value.
        ArgumentTypeError: a value does not fit its parameter's annotation, or ``next_iteration`` named no parameter.
    """
    values = dict(call.fixed)
    given = _from_iteration(call, view.iteration, task_id) if view.iteration is not None else {}
    if call.item is not None and call.item not in given:
        given[call.item] = view.item()
    given = {**{parameter.name: values[parameter.name] for parameter in call.unfit}, **given}
    for name, value in given.items():
        wanted = call.converters.get(name)  # None for what goes into **kwargs
        values[name] = value if wanted is None else call.signature.convert(value, wanted, task_id)
    open_parameters: list[Source] = []
    taken: set[int] = set()
    for source in call.sources:
        parameter = source.parameter
        if parameter.name in given:
            continue
        value = _named_result(source, view)
        if value is not MISSING and source.node is not None:
            taken.add(source.node)
        else:
            value = view.channel_value(parameter.name)
        if value is not MISSING:
            values[parameter.name] = call.signature.convert(value, parameter, task_id)
        elif parameter.required:
            open_parameters.append(source)
    if open_parameters:
        _fill_from_predecessor(call, view, open_parameters, taken, values, task_id)
    if call.error is not None:
        _fill_error(call.error, view, values, task_id)
    return values


def check_iteration(call: CallPlan, iteration: Iteration, task_id: str) -> None:
    """Raise ArgumentTypeError when ``next_iteration`` gives what the task cannot take; asked before the visit is made."""
    _from_iteration(call, iteration, task_id)


def _from_iteration(call: CallPlan, iteration: Iteration, task_id: str) -> dict[str, Any]:
    given = dict(iteration.arguments)
    if iteration.data is not MISSING:
        first = call.item or (call.sources[0].parameter.name if call.sources else None)
        if first is None:
            raise _no_parameter(call, task_id, "next_iteration(data) has no parameter to fill: every parameter is bound or there is none")
        given.setdefault(first, iteration.data)
    for name in given:
        if name not in call.converters and (not call.signature.accepts_any or name in call.signature.names):
            raise _no_parameter(call, task_id, f"next_iteration({name}=...) names no parameter", name)
    return given


def _no_parameter(call: CallPlan, task_id: str, what: str, name: str = "") -> ArgumentTypeError:
    known = ", ".join(call.converters) or "none"
    return ArgumentTypeError(
        f"task {task_id!r}: {what}; its parameters are: {known}",
        task_id=task_id, parameter=name, expected=f"one of: {known}", got=name,
    )  # fmt: skip


def _named_result(source: Source, view: StepView) -> Any:
    """The result of the node that bears the parameter's name, if it leads here."""
    if source.node is not None and (source.reached or view.leads_here(source.node)):
        return view.result(source.node, keyed=source.parameter.wants_mapping)
    return MISSING


def _fill_from_predecessor(
    call: CallPlan, view: StepView, open_parameters: list[Source], taken: set[int], values: dict[str, Any], task_id: str
) -> None:
    """The result of the only predecessor goes to the only required parameter that is still open; not if it was asked for by name already,
    or a forgotten ``price(receive, discount)`` would be given the same thing twice."""
    predecessor = view.predecessor() if len(open_parameters) == 1 else None
    parameter = open_parameters[0].parameter
    if predecessor is not None and predecessor not in taken:
        value = view.result(predecessor, keyed=parameter.wants_mapping)
        if value is not MISSING:
            values[parameter.name] = call.signature.convert(value, parameter, task_id)
            return
    raise _missing(call, view, open_parameters, task_id)


def _missing(call: CallPlan, view: StepView, open_parameters: list[Source], task_id: str) -> MissingArgumentError:
    name = open_parameters[0].parameter.name
    available = sorted({*call.fixed, *view.channel_keys(), *view.result_names()})
    found = ", ".join(map(repr, available)) or "nothing"
    if len(open_parameters) > 1:
        others = ", ".join(repr(source.parameter.name) for source in open_parameters)
        why = f"{len(open_parameters)} required parameters are open ({others}), so the predecessor's result fits none of them"
    elif open_parameters[0].node is not None and not open_parameters[0].reached:
        why = f"there is a task {name!r}, but no edge leads from it to here"
    else:
        why = "no upstream task, channel key or single predecessor provides it"
    return MissingArgumentError(
        f"task {task_id!r} has no value for its parameter {name!r}: {why}. Available: {found}. "
        f"Pass inputs={{{name!r}: ...}}, bind it with .bind({name}=...), draw an edge from a task of that name, or give it a default",
        task_id=task_id, parameter=name, available=available,
    )  # fmt: skip


def _fill_error(parameter: Parameter, view: StepView, values: dict[str, Any], task_id: str) -> None:
    error = view.error()
    if error is not None or parameter.accepts_none:
        values[parameter.name] = error
    elif parameter.required:
        raise MissingArgumentError(
            f"task {task_id!r} takes the error of a failed task as {parameter.name!r}, but nothing failed before it; "
            f"annotate it TaskError | None, or reach the task by an edge on=\"failure\" only",
            task_id=task_id, parameter=parameter.name, available=(),
        )  # fmt: skip
