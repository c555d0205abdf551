"""Attempts in the hands of this process: found in what the scripts hand out, and in the plan."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from graflow.backends.base import Delivery
from graflow.backends.redis.image import Made, read_made
from graflow.core.calls import Recipe, plan_call, recipe_of
from graflow.wire.messages import TaskSpec
from graflow.wire.tasks import decode_task

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from graflow.backends.redis.entries import Brought, Entry, Token
    from graflow.core.plan import Plan
    from graflow.wire.local import LocalCode

_pair: Final = msgspec.msgpack.Decoder(list[int]).decode
KEPT: Final = 4096
"""recipes that a plan keeps: of its own nodes, and of tasks made at run time"""


class RedisDelivery(Delivery, kw_only=True):
    """An attempt in the hands of this process.

    Attributes:
        token: proves that it is.
        entry: the message that named it.
        text: the same as bytes, to be put back as it was.
        plan: the plan of its run.
        stem: the node of the plan that it is, or stems from.
        makers: (number, id) of who made it at run time, of who made that one, and so on; empty for a node of the plan.
        item: its place in a mapped group, None elsewhere.
        iteration: what ``next_iteration`` gave it, as bytes.
        inputs: what its arguments are found in, see scripts/delivering.lua.
    """

    token: Token
    entry: Entry
    text: bytes
    plan: Plan
    stem: int
    makers: tuple[tuple[int, str], ...] = ()
    item: int | None = None
    iteration: bytes | None = None
    inputs: list[Any] | None = None


def make_delivery(brought: Brought, entry: Entry, plan: Plan, local: LocalCode | None) -> RedisDelivery:
    """What the worker is given for an attempt.

    Raises:
        FunctionNotFoundError: its function is not to be found here.
        SerializationError: its task is not to be read.
    """
    node, stem, item = entry.node, entry.node, None
    makers: tuple[tuple[int, str], ...] = ()
    if node < len(plan.ids):
        recipe = _planned(plan, node)
        name = plan.ids[node]
    elif brought.made is not None and _is_pair(brought.made):
        stem, item = _pair(brought.made)
        recipe = _mapped(plan, stem)
        name = f"{recipe.task.id}[{item}]"
    else:
        made = read_made(brought.made or b"")
        makers, name = tuple((number, name) for number, name in made.chain), made.id
        stem = planned_by(plan, made)
        recipe = _made(plan, stem, made, brought.made or b"", local)
    spec = TaskSpec(
        run_id=entry.run_id,
        node=node,
        task_id=name,
        cycle=entry.cycle,
        attempt=entry.attempt,
        retries=entry.retries,
        queue=recipe.queue,
        handler=recipe.handler,
        priority=recipe.priority,
        plan=entry.plan,
    )
    return RedisDelivery(
        spec,
        recipe.task,
        recipe.call,
        plan.name,
        recipe.feeds_map,
        brought.iteration is not None,
        token=brought.token,
        entry=entry,
        text=brought.text,
        plan=plan,
        stem=stem,
        makers=makers,
        item=item,
        iteration=brought.iteration,
        inputs=brought.inputs,
    )


def _is_pair(data: bytes) -> bool:
    return data[:1] == b"\x92"


def planned_by(plan: Plan, made: Made) -> int:
    """The node of the plan that a task made at run time stems from: the last of its makers, or the group that that one is a member of."""
    last = made.chain[-1][0] if made.chain else made.maker
    return last if last < len(plan.ids) else made.scope


def _planned(plan: Plan, node: int) -> Recipe:
    recipe: Recipe | None = plan.recipes[node]
    if recipe is None:
        task = plan.tasks[node]
        assert task is not None, "groups are not run"
        recipe = recipe_of(plan, node, task)
        if len(plan.ids) <= KEPT:  # of more, few are run twice here, and each takes some 700 bytes
            plan.recipes[node] = recipe
    return recipe


def _mapped(plan: Plan, group: int) -> Recipe:
    recipe: Recipe | None = plan.recipes[group]
    if recipe is None:
        mapping = plan.groups[group].mapping  # type: ignore[union-attr]  # pyright: ignore[reportOptionalMemberAccess]
        assert mapping is not None
        recipe = plan.recipes[group] = Recipe.of(mapping.task, plan_call(plan, group, mapping.task, item=mapping.parameter))
    return recipe


def _made(plan: Plan, stem: int, made: Made, key: bytes, local: LocalCode | None) -> Recipe:
    recipe: Recipe | None = plan.shared_recipes.get(key)
    if recipe is None:
        task = decode_task(made.task, local_code=local)
        recipe = Recipe.of(task, plan_call(plan, stem, task, made_by=maker_finder(made.chain)))
        if len(plan.shared_recipes) < KEPT:
            plan.shared_recipes[key] = recipe
    return recipe


def maker_finder(makers: Sequence[Sequence[Any]]) -> Callable[[str], int | None]:
    """Finds the number of a maker by its id."""
    numbers = {name: number for number, name in reversed(makers)}
    return numbers.get
