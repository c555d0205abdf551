"""Outcomes as the script takes them: names looked up in the plan, values as bytes."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

import msgspec

from graflow.backends.redis.blobs import as_text, encode
from graflow.backends.redis.deliveries import maker_finder
from graflow.backends.redis.keys import stream_name
from graflow.backends.redis.plans import needs_of
from graflow.core.calls import plan_call
from graflow.core.outcome import Failure, Retry, Success, Suspend, describe
from graflow.core.wishes import read_wishes
from graflow.errors import ConfigurationError, FunctionNotFoundError, SerializationError
from graflow.wire import codec
from graflow.wire.failures import encode_failure
from graflow.wire.signing import RunSigner, signing_for
from graflow.wire.tasks import encode_task

if TYPE_CHECKING:
    from collections.abc import Sequence

    from graflow.backends.redis.deliveries import RedisDelivery
    from graflow.backends.redis.entries import Brought, Entry, Token
    from graflow.core.outcome import Directives, Iteration, NewTask, Outcome
    from graflow.wire.keys import Signer
    from graflow.wire.local import LocalCode

    _Code = tuple[LocalCode | None, Signer | None]
    """how code travels that no import could find"""

_log = logging.getLogger("graflow.redis")
_UNFIT: Final = (ValueError, TypeError, AttributeError, OverflowError, RecursionError)
"""what comes of an outcome that is not what its types say, and of a value that msgpack has no form for"""

LARGE: Final = 64 * 1024
"""bytes of a result above which it is written before the outcome, so that the script that takes the outcome stays short"""
ELSEWHERE: Final = b"\xc1"
"""what a stored result begins with that is only the name of the key where it is; no msgpack value begins so"""


class Settled:
    """An outcome ready to be sent, and what is to be written before it.

    Attributes:
        fields: what the script takes; see scripts/settle.lua.
        values: large values by key.
        items: the items of a result that a mapped group is expanded from, one by one, and their key.
    """

    __slots__ = ("fields", "items", "values")

    def __init__(self, fields: tuple[Any, ...], values: dict[str, bytes], items: tuple[str, list[bytes]] | None) -> None:
        self.fields: tuple[Any, ...] = fields
        self.values: dict[str, bytes] = values
        self.items: tuple[str, list[bytes]] | None = items


def settled(
    delivery: RedisDelivery, outcome: Outcome | None, prefix: str, local: LocalCode | None, signer: Signer | None = None
) -> Settled:
    """An outcome for the script.

    Args:
        delivery: whose outcome it is.
        outcome: None for an attempt that was stopped.
        prefix: of the keys of the partition.
        local: functions that only this process has.
        signer: signs other functions without an importable name.

    Raises:
        SerializationError: its value cannot travel (the worker has made sure that it can), or the code of a task that it makes.
        FunctionNotFoundError: the code of a task that it makes has no name that a worker could import, and there is no key.
    """
    entry, token = delivery.entry, delivery.token
    who = (token.stream, token.id, entry.run_id, entry.generation, entry.node, entry.cycle, entry.attempt)
    kind = type(outcome)
    if kind is Success:
        return _success(delivery, outcome, who, prefix, (local, signer))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    if isinstance(outcome, Failure):
        return Settled((*who, "f", as_text(encode_failure(outcome)), False, False, False), {}, None)
    if isinstance(outcome, Retry):
        error = outcome.error
        told = codec.encode([outcome.delay, error.error_type, error.message])
        return Settled((*who, "r", max(0, round(outcome.delay * 1000)), as_text(told), outcome.counted, False), {}, None)
    if isinstance(outcome, Suspend):
        return Settled((*who, "s", as_text(outcome.reason.encode("utf-8", "surrogateescape")), False, False, False), {}, None)
    return Settled((*who, "n", False, False, False, False), {}, None)


def ready_to_send(delivery: RedisDelivery, outcome: Outcome | None, prefix: str, local: LocalCode | None, signer: Signer | None) -> Settled:
    """An outcome for the script, see :func:`settled`. A task that makes another whose code cannot travel has failed, and so has one whose outcome
    cannot be written for whatever reason: it must not keep those of others from being written."""
    try:
        with signing_for(signer, delivery.spec.run_id):
            try:
                return settled(delivery, outcome, prefix, local, signer)
            except _UNFIT as error:
                raise _unwritable(delivery, error) from error
    except (FunctionNotFoundError, SerializationError, ConfigurationError) as error:
        return settled(delivery, describe(error, delivery.spec.task_id, delivery.spec.attempt), prefix, local)


def packed(deliveries: Sequence[RedisDelivery], fields: Sequence[tuple[Any, ...]]) -> bytes:
    """Outcomes in one message. Where they do not fit into one, that is the fault of one of them, which is made a failure; the others travel on."""
    try:
        return encode(fields)
    except _UNFIT as error:
        _log.info("outcomes are packed one by one, since one of them cannot be: %s", error)
    return encode([_packed_alone(delivery, each) for delivery, each in zip(deliveries, fields, strict=True)])


def _packed_alone(delivery: RedisDelivery, fields: tuple[Any, ...]) -> msgspec.Raw:
    try:
        return msgspec.Raw(encode(fields))
    except _UNFIT as error:
        told = _unwritable(delivery, error)
        told.__cause__ = error
        return msgspec.Raw(encode(settled(delivery, describe(told, delivery.spec.task_id, delivery.spec.attempt), "", None).fields))


def _unwritable(delivery: RedisDelivery, error: Exception) -> SerializationError:
    text = f"the outcome of task {delivery.spec.task_id!r} cannot be written: {type(error).__name__}: {error}"
    return SerializationError(text, type_name="outcome")


def handed_back(delivery: RedisDelivery) -> tuple[Any, ...]:
    """An attempt that is put back in line, as if nobody had taken it."""
    entry, token = delivery.entry, delivery.token
    who = (token.stream, token.id, entry.run_id, entry.generation, entry.node, entry.cycle, entry.attempt)
    return (*who, "h", as_text(delivery.text), False, False, False)


def continued(stream: str, id: str, run_id: str, generation: int, node: int) -> tuple[Any, ...]:
    """A continuation, taken up."""
    return (stream, id, run_id, generation, node, 1, 1, "c", False, False, False, False)


def judged(token: Token, entry: Entry, verdict: bool | Failure) -> tuple[Any, ...]:
    """What a policy of the user's own says, or the failure of one that raised."""
    who = (token.stream, token.id, entry.run_id, entry.generation, entry.node, entry.cycle, entry.attempt)
    problem = as_text(encode_failure(verdict)) if isinstance(verdict, Failure) else False
    return (*who, "p", verdict is True, problem, False, False)


def refused(brought: Brought, entry: Entry, failure: Any, because: Sequence[Any]) -> tuple[Any, ...]:
    """An attempt that nobody here can run, how it fails when nobody else can either, and what scripts/refusals.lua is to know of it."""
    token = brought.token
    who = (token.stream, token.id, entry.run_id, entry.generation, entry.node, entry.cycle, entry.attempt)
    return (*who, "u", as_text(brought.text), failure, because, False)


def _success(delivery: RedisDelivery, outcome: Success, who: tuple[Any, ...], prefix: str, code: _Code) -> Settled:
    value = codec.encode(outcome.value)
    asked: Any = False
    if outcome.directives is not None:
        asked = _directives(delivery, outcome.directives, code)
    values: dict[str, bytes] = {}
    items: tuple[str, list[bytes]] | None = None
    count: Any = False
    keep: Any = False
    if len(value) > LARGE or outcome.items is not None:
        name = f"{delivery.entry.node}:{quote(f'{delivery.token.stream}/{delivery.token.id}', safe='')}:{delivery.entry.run_id}"
        if len(value) > LARGE:
            key = f"{prefix}val:{name}"
            values[key], value = value, ELSEWHERE + key.encode()
        if outcome.items is not None:
            count = outcome.items if outcome.items >= 0 else type(outcome.value).__name__
            if outcome.items > 0:
                items = (f"{prefix}items:{name}", [codec.encode(item) for item in outcome.value])
        keep = [[*values, *([items[0]] if items else [])], items[0] if items else False]
    return Settled((*who, "d", as_text(value), count, asked, keep), values, items)


def _directives(delivery: RedisDelivery, directives: Directives, code: _Code) -> dict[str, Any]:
    asked: dict[str, Any] = {}
    if directives.cancel is not None:
        asked["cancel"] = directives.cancel
    if directives.terminate is not None:
        asked["terminate"] = directives.terminate
    spec = delivery.spec
    wishes = read_wishes(delivery.plan, delivery.stem, spec.task_id, directives)
    if wishes.problem is not None:
        asked["problem"] = as_text(encode_failure(describe(wishes.problem, spec.task_id, spec.attempt)))
    if wishes.targets:
        asked["go"] = wishes.targets
        asked["reach"] = [delivery.plan.reach(target) for target in wishes.targets]
    if wishes.new:
        asked["new"] = [_new_task(delivery, request, code) for request in wishes.new]
    if directives.iteration is not None:
        asked["iteration"] = as_text(encode_iteration(directives.iteration))
    if directives.end_loop:
        asked["end_loop"] = 1
    return asked


def _new_task(delivery: RedisDelivery, request: NewTask, code: _Code) -> dict[str, Any]:
    local, signer = code
    signing = None if signer is None else RunSigner(signer, delivery.spec.run_id)
    task, options = request.task, request.task.options
    chain = [(delivery.entry.node, delivery.spec.task_id), *delivery.makers]
    call = plan_call(delivery.plan, delivery.stem, task, made_by=maker_finder(chain))
    return {
        "id": task.id,
        "stream": stream_name(options.queue, task.handler_kind, options.priority),
        "max_cycles": options.max_cycles or False,
        "needs": needs_of(call),
        "chain": chain,
        "task": as_text(encode_task(task, local_code=local, signing=signing)),
        "ignore": int(request.ignore_existing),
        "goto_": int(request.goto),
    }


def encode_iteration(iteration: Iteration) -> bytes:
    """What ``next_iteration`` gave, as bytes."""
    given = [iteration.data] if iteration.has_data else []
    return codec.encode([given, iteration.arguments])
