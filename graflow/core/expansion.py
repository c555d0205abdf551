"""What can be wrong with a mapped group when it is expanded (rules 26 and 27): the errors, wherever the group is kept."""

from __future__ import annotations

from typing import TYPE_CHECKING

from graflow.errors import ArgumentTypeError, DuplicateTaskError, InvalidPolicyError, MissingArgumentError

if TYPE_CHECKING:
    from collections.abc import Sequence


def taken(group: str, name: str) -> DuplicateTaskError:
    """The id of a member belongs to another task."""
    return DuplicateTaskError(f"group {group!r} makes a task {name!r}, but there is one of that id", ids=(name,))


def no_items(group: str, source: str, parameter: str) -> MissingArgumentError:
    """The source has no result."""
    return MissingArgumentError(
        f"group {group!r} maps over the result of {source!r}, which has none: it was skipped, failed or has not run",
        task_id=group, parameter=parameter, available=(),
    )  # fmt: skip


def not_a_list(group: str, source: str, parameter: str, got: str) -> ArgumentTypeError:
    """The result of the source is of another type."""
    return ArgumentTypeError(
        f"group {group!r} maps over the result of {source!r}, which is of type {got}; return a list or tuple from {source!r} "
        f"(a set has no order that two processes agree on)",
        task_id=group, parameter=parameter, expected="a list or tuple", got=got,
    )  # fmt: skip


def too_few(group: str, wanted: int, members: int) -> InvalidPolicyError:
    """``at_least_n`` asks for more than there are."""
    return InvalidPolicyError(f"group {group!r} wants at least {wanted} to succeed but was expanded to {members} members", ids=(group,))


def no_such_critical(group: str, unknown: Sequence[str]) -> InvalidPolicyError:
    """``critical`` names members that there are not."""
    return InvalidPolicyError(f"group {group!r} calls {unknown} critical, but has no such members", ids=unknown)
