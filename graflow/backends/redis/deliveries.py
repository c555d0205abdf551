"""Attempts in the hands of this process: found in what the scripts hand out, and in the plan."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from graflow.backends.base import Delivery
from graflow.backends.redis.image import Made, read_made
from graflow.backends.redis.planstore import PlanGoneError
from graflow.core.calls import Recipe, plan_call, recipe_of
from graflow.errors import FunctionNotFoundError, PythonVersionError, SerializationError, UntrustedPayloadError
from graflow.wire.messages import TaskSpec
from graflow.wire.signing import may_hold_values
from graflow.wire.standins import SentPolicy, admit
from graflow.wire.tasks import decode_task

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from graflow.backends.redis.entries import Brought, Entry, Token
    from graflow.core.plan import Plan
    from graflow.wire.keys import Signer
    from graflow.wire.local import LocalCode

_pair: Final = msgspec.msgpack.Decoder(list[int]).decode
CANNOT_RUN: Final = (FunctionNotFoundError, UntrustedPayloadError, PythonVersionError, SerializationError, PlanGoneError)
"""what says that an attempt cannot be run here, and perhaps nowhere"""
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


def make_delivery(brought: Brought, entry: Entry, plan: Plan, local: LocalCode | None, signer: Signer | None = None) -> RedisDelivery:
    """What the worker is given for an attempt.

    Signed code is verified here, where it is known for which run and task it is wanted, and before anything of it is used.

    Raises:
        FunctionNotFoundError: its function is not to be found here.
        SerializationError: its task is not to be read.
        UntrustedPayloadError: its code was not signed for this task of this run, or cannot be verified here.
        PythonVersionError: its code was pickled by another minor version of Python.
    """
    node, stem, item = entry.node, entry.node, None
    makers: tuple[tuple[int, str], ...] = ()
    if node < len(plan.ids):
        recipe = _planned(plan, node, entry.run_id)
        name = plan.ids[node]
    elif brought.made is not None and _is_pair(brought.made):
        stem, item = _pair(brought.made)
        recipe = _mapped(plan, stem, entry.run_id)
        name = f"{recipe.task.id}[{item}]"
    else:
        made = read_made(brought.made or b"")
        makers, name = tuple((number, name) for number, name in made.chain), made.id
        stem = planned_by(plan, made)
        recipe = _made(plan, stem, made, brought.made or b"", entry.run_id, (local, signer))
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


def admit_policy(plan: Plan, group: int, run_id: str) -> None:
    """Verify the policy of a group, if it came signed, before it is asked. Raises like :func:`make_delivery`."""
    known = plan.groups[group]
    if known is not None and isinstance(known.policy.function, SentPolicy):
        known.policy.function.admit(run_id, plan.ids[group])


def _planned(plan: Plan, node: int, run_id: str) -> Recipe:
    recipe: Recipe | None = plan.recipes[node]
    if recipe is None:
        task = plan.tasks[node]
        assert task is not None, "groups are not run"
        admit(task, run_id)
        recipe = recipe_of(plan, node, task)
        if len(plan.ids) <= KEPT:  # of more, few are run twice here, and each takes some 700 bytes
            plan.recipes[node] = recipe
    else:
        admit(recipe.task, run_id)
    return recipe


def _mapped(plan: Plan, group: int, run_id: str) -> Recipe:
    mapping = plan.groups[group].mapping  # type: ignore[union-attr]  # pyright: ignore[reportOptionalMemberAccess]
    assert mapping is not None
    admit(mapping.task, run_id)
    recipe: Recipe | None = plan.recipes[group]
    if recipe is None:
        recipe = plan.recipes[group] = Recipe.of(mapping.task, plan_call(plan, group, mapping.task, item=mapping.parameter))
    return recipe


def _made(plan: Plan, stem: int, made: Made, key: bytes, run_id: str, code: tuple[LocalCode | None, Signer | None]) -> Recipe:
    name = (run_id, key) if may_hold_values(key) else key
    recipe: Recipe | None = plan.shared_recipes.get(name)
    if recipe is not None:
        admit(recipe.task, run_id)
    else:
        local, signer = code
        task = decode_task(made.task, local_code=local, signer=signer)
        admit(task, run_id)
        recipe = Recipe.of(task, plan_call(plan, stem, task, made_by=maker_finder(made.chain)))
        if len(plan.shared_recipes) < KEPT:
            plan.shared_recipes[name] = recipe
    return recipe


def maker_finder(makers: Sequence[Sequence[Any]]) -> Callable[[str], int | None]:
    """Finds the number of a maker by its id."""
    numbers = {name: number for number, name in reversed(makers)}
    return numbers.get
