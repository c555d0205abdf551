"""Policies of the user's own: they cannot run in a script, so a worker is asked, and looks at the group as the policy sees it (rule 24)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from graflow.core.board import CANCELLED, DONE, FAILED, SKIPPED
from graflow.core.boundary import UserCode
from graflow.core.outcome import Failure, describe
from graflow.core.policy import GroupState
from graflow.wire import codec

if TYPE_CHECKING:
    from collections.abc import Callable

    from graflow.backends.redis.image import RunImage
    from graflow.core.plan import GroupPlan, Plan

_scope: Final = msgspec.msgpack.Decoder(dict[str, Any]).decode


def judge(plan: Plan, group: int, image: RunImage, name_of: Callable[[int], str], attempt: int) -> bool | Failure:
    """The verdict of a group's policy, or the failure of a policy that raises.

    Large results must have been fetched into the image.
    """
    known = plan.groups[group]
    assert known is not None
    function = known.policy.function
    met = False
    with UserCode() as code:
        state = group_state(plan, group, image, name_of)
        met = function is None or bool(function(state))
    return met if code.error is None else describe(code.error, plan.ids[group], attempt)


def group_state(plan: Plan, group: int, image: RunImage, name_of: Callable[[int], str]) -> GroupState:
    """The branches of a drained group, by what became of them."""
    known = plan.groups[group]
    assert known is not None
    members, lasts = members_of(plan, known, group, image)
    failed, stopped, bad = set[int](), set[int](), set[int]()
    for node, branch in members:
        if image.status[node] >= FAILED:
            bad.add(branch)
        if image.status[node] == FAILED:
            failed.add(branch)
        elif image.status[node] == CANCELLED:
            stopped.add(branch)
    sorted_: dict[str, list[str]] = {"failed": [], "cancelled": [], "skipped": [], "succeeded": []}
    results: dict[str, Any] = {}
    for branch, last in enumerate(lasts):
        kind = (
            "failed"
            if branch in failed
            else "cancelled"
            if branch in stopped
            else "skipped"
            if image.status[last] == SKIPPED
            else "succeeded"
        )
        sorted_[kind].append(name_of(last))
        if image.status[last] == DONE and branch not in bad:
            results[name_of(last)] = _result_of(image, last)
    return GroupState(**{kind: tuple(names) for kind, names in sorted_.items()}, results=results)


def members_of(plan: Plan, known: GroupPlan, group: int, image: RunImage) -> tuple[list[tuple[int, int]], list[int]]:
    """The members of a group with the numbers of their branches, and the last node of each branch."""
    stored = image.fields.get(b"S%d" % group)
    scope: dict[str, Any] = _scope(stored) if stored is not None else {}
    if known.mapping is not None:
        lasts = [node for low, high, owner, _ in image.ranges if owner == group for node in range(low, high + 1)][: scope.get("k", 0)]
        members = list(zip(lasts, range(len(lasts)), strict=True))
    else:
        lasts = list(known.lasts)
        members = [(node, plan.branch[node]) for node in known.members]
    members += [(node, image.made[node].branch) for node in scope.get("d", ())]
    return members, lasts


def _result_of(image: RunImage, node: int) -> Any:
    keys = image.keys.get(node)
    if keys is None:
        return codec.decode(image.results[node])
    kept = image.kept.get(node)
    return [codec.decode(value) for value in kept] if kept is not None else [_result_of(image, key) for key in keys]
