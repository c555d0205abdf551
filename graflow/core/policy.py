"""When a parallel group counts as failed."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, Literal, Protocol

import msgspec

from graflow.core.naming import listed
from graflow.errors import InvalidPolicyError

PolicyKind = Literal["strict", "best_effort", "at_least_n", "critical", "custom"]


class GroupState(msgspec.Struct, frozen=True):
    """What a policy of the user's own is asked with, once, when every branch has ended.

    Attributes:
        succeeded: ids of the branches that succeeded.
        failed: ids of those that failed.
        cancelled: ids of those that were stopped.
        skipped: ids of those that nothing led into.
        results: the results of the succeeded branches by id.
    """

    succeeded: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()
    cancelled: tuple[str, ...] = ()
    skipped: tuple[str, ...] = ()
    results: Mapping[str, Any] = {}


class GroupPolicy(msgspec.Struct, frozen=True):
    """When a group has succeeded. Made by :data:`strict`, :data:`best_effort`, :func:`at_least_n` and :func:`critical`,
    or from a function.

    Attributes:
        kind: which of the policies it is; ``custom`` asks ``function``.
        n: for ``at_least_n``, how many branches must succeed.
        early: for ``at_least_n``, whether the n-th success ends the group.
        ids: for ``critical``, the branches that must succeed, sorted.
        function: for ``custom``, takes a :class:`GroupState` and says whether the group succeeded.
    """

    kind: PolicyKind
    n: int = 0
    early: bool = False
    ids: tuple[str, ...] = ()
    function: Callable[[GroupState], bool] | None = None

    def __str__(self) -> str:
        if self.kind == "at_least_n":
            return f"at_least_n({self.n}{', early=True' if self.early else ''})"
        return f"critical({list(self.ids)})" if self.kind == "critical" else self.kind


class Identified(Protocol):
    """Anything with an id, such as a task."""

    @property
    def id(self) -> str: ...


PolicyLike = GroupPolicy | Callable[[GroupState], bool] | Literal["strict", "best_effort"]
"""What a policy may be given as."""

strict: Final = GroupPolicy("strict")
"""Every branch must succeed. The default; the first failure decides, and the branches still running are cancelled."""

best_effort: Final = GroupPolicy("best_effort")
"""The group always succeeds, with the results of the branches that did."""


def at_least_n(n: int, /, *, early: bool = False) -> GroupPolicy:
    """``n`` branches must succeed.

    Args:
        n: how many, 1 or more and at most as many as the group has branches.
        early: end the group with the n-th success and cancel the rest, instead of waiting for all.

    Raises:
        InvalidPolicyError: ``n`` is not a whole number above 0.
    """
    if not isinstance(n, int) or isinstance(n, bool) or n < 1:  # pyright: ignore[reportUnnecessaryIsInstance]
        raise InvalidPolicyError(f"at_least_n({n!r}): give a whole number, 1 or more; best_effort asks for no success at all")
    return GroupPolicy("at_least_n", n=n, early=bool(early))


def critical(ids: Iterable[str | Identified], /) -> GroupPolicy:
    """These branches must succeed; the others may fail.

    Args:
        ids: tasks or ids of branches. (The id of a branch is that of its last task.)

    Raises:
        InvalidPolicyError: ``ids`` is empty, a single string, or holds something without an id.
    """
    if isinstance(ids, str):
        raise InvalidPolicyError(f"critical({ids!r}) would mean its single letters; write critical([{ids!r}])", ids=(ids,))
    if not isinstance(ids, Iterable):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise InvalidPolicyError(f"critical({ids!r}): give the ids in a list or set, such as critical(['a', 'b'])")
    names: set[str] = set()
    for entry in ids:
        name: Any = entry if isinstance(entry, str) else getattr(entry, "id", None)
        if not isinstance(name, str):
            raise InvalidPolicyError(f"critical() takes tasks or ids of branches, not {entry!r}")
        names.add(name)
    if not names:
        raise InvalidPolicyError("critical() was given no ids; use best_effort where every branch may fail")
    return GroupPolicy("critical", ids=tuple(sorted(names)))


def coerce_policy(policy: object) -> GroupPolicy:
    """A policy from whatever a policy may be given as.

    Raises:
        InvalidPolicyError: it is none of them, or a function that cannot take one :class:`GroupState`.
    """
    if isinstance(policy, GroupPolicy):
        return _checked(policy)
    if policy == "strict":
        return strict
    if policy == "best_effort":
        return best_effort
    if policy is at_least_n or policy is critical:
        raise InvalidPolicyError("the policy lacks its argument; write at_least_n(2) or critical(['a', 'b'])")
    if callable(policy) and not isinstance(policy, type):
        return _custom(policy)
    raise InvalidPolicyError(
        f"{policy!r} is no group policy; use strict, best_effort, at_least_n(n), critical(ids), or a function (GroupState) -> bool"
    )


def check_policy(policy: GroupPolicy, branches: Mapping[str, Sequence[str]]) -> None:
    """Raise InvalidPolicyError when a group could never meet the policy.

    Args:
        policy: what is asked.
        branches: for the id of each branch the ids of its nodes.
    """
    ids = list(branches)
    if policy.kind == "at_least_n" and policy.n > len(ids):
        raise InvalidPolicyError(f"{policy} can never be met: the group has {len(ids)} branches", ids=ids[:5])
    for wanted in policy.ids:
        if wanted in branches:
            continue
        inside = next((branch for branch, nodes in branches.items() if wanted in nodes), None)
        hint = f"its branches are {listed(ids)}"
        if inside is not None:
            hint = f"it stands in a branch that goes by the id of its last task: use {inside!r}"
        raise InvalidPolicyError(f"{policy} names {wanted!r}, which is no branch of the group; {hint}", ids=(wanted,))


def _checked(policy: GroupPolicy) -> GroupPolicy:
    """A policy that was made by hand is held to what the functions above check."""
    if policy.kind == "at_least_n":
        at_least_n(policy.n)
    elif policy.kind == "critical":
        critical(policy.ids)
    elif policy.kind == "custom":
        if not callable(policy.function):
            raise InvalidPolicyError("a custom policy needs function=, a callable that takes a GroupState")
        _custom(policy.function)
    elif policy.kind not in ("strict", "best_effort"):
        raise InvalidPolicyError(f"{policy.kind!r} is no kind of group policy")
    return policy


def _custom(function: Callable[..., Any]) -> GroupPolicy:
    name = getattr(function, "__name__", repr(function))
    called = inspect.unwrap(function)  # a task wraps its function
    if inspect.iscoroutinefunction(called) or inspect.iscoroutinefunction(getattr(called, "__call__", None)):  # noqa: B004
        raise InvalidPolicyError(f"the policy {name} is async; a policy decides at once from the GroupState, so make it a plain def")
    try:
        inspect.signature(function).bind(GroupState())
    except TypeError as error:
        raise InvalidPolicyError(f"the policy {name} must take one argument, the GroupState: {error}") from error
    except ValueError:
        pass  # a builtin that tells nothing about its signature
    return GroupPolicy("custom", function=function)
