"""Errors of a run as they are stored, and made of that again.

What a task raised travels as :mod:`graflow.wire.failures` tells; what the scripts found wrong themselves they name by a code.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Protocol

import msgspec

from graflow.backends.redis.blobs import from_text
from graflow.backends.redis.image import spread
from graflow.core import expansion
from graflow.core.outcome import Failure, GroupFailure, describe, policy_not_met
from graflow.core.wishes import clash
from graflow.errors import GraflowError, SerializationError, WorkerLostError
from graflow.wire.failures import decode_failure

if TYPE_CHECKING:
    from collections.abc import Sequence

    from graflow.core.plan import Plan

_parts: Final = msgspec.msgpack.Decoder(list[msgspec.Raw]).decode
_any: Final = msgspec.msgpack.Decoder().decode


class Names(Protocol):
    """What nodes are called."""

    @property
    def plan(self) -> Plan: ...

    def name_of(self, node: int) -> str:
        """The id of a node, made at run time or not."""
        ...


def read_error(parts: Sequence[msgspec.Raw], node: int, names: Names) -> Failure | GroupFailure:
    """The failure of a node, from what the scripts keep of it (``E<node>``)."""
    kind = _any(parts[1])
    if kind == "t":
        return decode_failure(from_text(parts[2]))
    if kind == "g":
        return _group_failure(parts, node, names)
    return _found_by_a_script(_any(parts[2]), [_any(part) for part in parts[3:]], node, names)


def _group_failure(parts: Sequence[msgspec.Raw], node: int, names: Names) -> GroupFailure:
    attempt, given, failed, cancelled, skipped = (_any(part) for part in parts[2:7])
    lasts: Sequence[int] | None = None if given is False else given
    causes = [_parts(cause) for cause in _parts(parts[7])]
    failures: dict[str, Failure | GroupFailure] = {}
    for place, cause in enumerate(causes):
        failures[names.name_of(failed[2 * place])] = read_error(cause, failed[2 * place + 1], names)
    stopped, passed = set(spread(cancelled)), set(spread(skipped))
    group = names.plan.groups[node]
    branches = (
        list(group.lasts) if lasts is None and group is not None else list(spread(lasts or ()))
    )  # the plan knows those that are drawn
    bad = set(failed[::2])
    succeeded = [last for last in branches if last not in bad and last not in stopped and last not in passed]
    error = policy_not_met(names.name_of(node), attempt, failures, len(branches))
    told = [names.name_of(last) for last in (*succeeded, *sorted(passed))]
    return GroupFailure(error, failures, tuple(told), tuple(names.name_of(last) for last in branches if last in stopped))


def _found_by_a_script(code: str, details: list[Any], node: int, names: Names) -> Failure:
    """The scripts name what is wrong by a code; its words are here."""
    task_id, attempt = names.name_of(node), 1
    error: GraflowError
    if code in ("clash", "lost_workers"):
        attempt = details[1]
        error = clash(task_id, details[0]) if code == "clash" else lost_workers(task_id, details[0])
    elif code in _UNREADABLE:
        attempt, error = details[1], unreadable(task_id, code)
    elif code == "taken":
        error = expansion.taken(task_id, details[0])
    elif code == "too_few":
        error = expansion.too_few(task_id, details[0], details[1])
    elif code == "no_such_critical":
        named: list[str] = sorted(names.plan.groups[node].policy.ids)  # type: ignore[union-attr]  # pyright: ignore[reportOptionalMemberAccess]
        error = expansion.no_such_critical(task_id, [named[int(place)] for place in details[0]])
    else:
        mapping = names.plan.groups[node].mapping  # type: ignore[union-attr]  # pyright: ignore[reportOptionalMemberAccess]
        source, parameter = names.name_of(details[0]), mapping.parameter if mapping is not None else ""
        error = (
            expansion.no_items(task_id, source, parameter)
            if code == "no_items"
            else expansion.not_a_list(task_id, source, parameter, details[1])
        )
    return describe(error, task_id, attempt)


_UNREADABLE: Final = {
    "undecodable": "cannot be read: something has changed its bytes on the server",
    "newer_protocol": "was sent by a later version of graflow than the worker that took it: upgrade the workers",
}


def unreadable(task_id: str, reason: str) -> SerializationError:
    """The error of a task whose message no worker can read; ``reason`` is that of the dead letter."""
    return SerializationError(f"the message that was to start task {task_id!r} {_UNREADABLE[reason]}. It is among the dead letters")


def lost_workers(task_id: str, workers: int) -> WorkerLostError:
    """The error of a task that is not given to another worker."""
    return WorkerLostError(
        f"task {task_id!r} was lost with its worker {workers} times and is not tried again: does it end its process (a crash in C code, "
        f"os._exit, too much memory)? It is among the dead letters",
        task_id=task_id, workers=workers,
    )  # fmt: skip
