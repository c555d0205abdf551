"""The messages between processes, and the version of the protocol that they carry.

A message is the msgpack array ``[version, body]``, the body a map by field name. Within one version fields may be
added, with a default: who does not know a field passes over it. Whatever else changes makes a new version, and a
process refuses those that are newer than its own, so that it never half understands one.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Final, Literal, TypeVar, cast, overload

import msgspec
from msgspec.structs import force_setattr

from graflow.core.task import Priority
from graflow.errors import SerializationError
from graflow.wire import codec

PROTOCOL_VERSION: Final = 1

EventType = Literal[
    "run_started",
    "task_started",
    "task_succeeded",
    "task_failed",
    "task_retrying",
    "task_skipped",
    "task_cancelled",
    "task_suspended",
    "group_started",
    "group_succeeded",
    "group_failed",
    "iteration",
    "progress",
    "message",
    "no_worker",
    "run_finished",
    "task_refused",
]
"""What can happen in a run. ``message`` is what a task emits itself; ``no_worker`` says that nobody is there to run a
task, and ``task_refused`` that a worker cannot, as it lacks the function or the key: its data has ``reason``, ``worker``
and ``message``. A new type goes to the end: stored events keep their numbers."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)

_Count = Annotated[int, msgspec.Meta(ge=0)]
_FromOne = Annotated[int, msgspec.Meta(ge=1)]


class TaskSpec(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The message on a queue that names an attempt. Neither the graph nor arguments nor results are in it.

    Attributes:
        run_id: the run.
        node: number of the node in the run.
        task_id: id of the node, for logs and errors.
        cycle: which visit of the node, counted from 1.
        attempt: which try at the visit, counted from 1.
        retries: how many retries its policy has spent on the visit. A worker that died costs an attempt but no retry.
        queue: the queue that it waits in.
        handler: the kind of handler that runs it.
        priority: its priority there.
        plan: digest of the plan, None where the run is known by other means.
    """

    run_id: str
    node: _Count
    task_id: str
    cycle: _FromOne = 1
    attempt: _FromOne = 1
    retries: _Count = 0
    queue: str = "default"
    handler: str = "coroutine"
    priority: Priority = "normal"
    plan: str | None = None


class RunEvent(msgspec.Struct, frozen=True):
    """Something that happened in a run.

    Attributes:
        id: its place among the run's events; ``handle.events(after=event.id)`` goes on behind it.
        type: what happened, one of :data:`EventType`.
        task_id: the task or group that it happened to, None for the run itself.
        time: when, with the timezone UTC.
        attempt: the attempt concerned, None where there is none.
        data: what there is to say about it, by name.

    Raises:
        ValueError: ``time`` has no timezone.
    """

    id: str
    type: str
    task_id: str | None
    time: datetime
    attempt: int | None = None
    data: Mapping[str, Any] = {}

    def __post_init__(self) -> None:
        zone = self.time.tzinfo
        if zone is None:
            raise ValueError(f"the time of an event needs a timezone, and {self.time.isoformat()} has none: use datetime.now(UTC)")
        if zone is not UTC:
            force_setattr(self, "time", self.time.astimezone(UTC))


M = TypeVar("M", TaskSpec, RunEvent)


class _Envelope(msgspec.Struct, array_like=True, frozen=True):
    version: int
    body: msgspec.Raw


class _EventBody(msgspec.Struct, frozen=True):
    """An event as it travels: readable by a script that knows neither timestamps nor extensions, but for its data."""

    id: str
    type: str
    task_id: str | None
    microseconds: int
    attempt: int | None
    data: bytes


_encoder: Final = msgspec.msgpack.Encoder()
_envelope: Final = msgspec.msgpack.Decoder(_Envelope).decode
_spec: Final = msgspec.msgpack.Decoder(TaskSpec).decode
_event: Final = msgspec.msgpack.Decoder(_EventBody).decode


def encode_message(message: TaskSpec | RunEvent) -> bytes:
    """A message as bytes.

    Raises:
        SerializationError: an event's data holds something that cannot travel.
    """
    body = message if isinstance(message, TaskSpec) else _event_body(message)
    return _encoder.encode((PROTOCOL_VERSION, body))


@overload
def decode_message(data: bytes) -> TaskSpec: ...
@overload
def decode_message(data: bytes, kind: type[M]) -> M: ...
def decode_message(data: bytes, kind: type[Any] = TaskSpec) -> Any:
    """The message that :func:`encode_message` was given.

    Args:
        data: the bytes that arrived.
        kind: which message is expected.

    Raises:
        SerializationError: it was written by a newer version, or is no such message.
    """
    try:
        envelope = _envelope(data)
        if envelope.version > PROTOCOL_VERSION:
            raise SerializationError(
                f"a {kind.__name__} of protocol version {envelope.version} arrived, and this process knows versions up "
                f"to {PROTOCOL_VERSION}: upgrade graflow here, or leave the message to a process as new as its sender",
                type_name=kind.__name__,
            )
        if envelope.version < 1:
            raise ValueError(f"{envelope.version} is no protocol version")
        return _spec(envelope.body) if kind is TaskSpec else _made_of(_event(envelope.body))
    except (ValueError, OverflowError, RecursionError) as error:
        raise SerializationError(f"{len(data)} bytes arrived that are no {kind.__name__}: {error}", type_name=kind.__name__) from error


def _event_body(event: RunEvent) -> _EventBody:
    microseconds = (event.time - _EPOCH) // _MICROSECOND
    data = codec.encode(dict(event.data), name="data")
    return _EventBody(event.id, event.type, event.task_id, microseconds, event.attempt, data)


def _made_of(body: _EventBody) -> RunEvent:
    data = codec.decode(body.data)
    if not isinstance(data, dict):
        raise ValueError("an event's data is a mapping")
    time = _EPOCH + timedelta(microseconds=body.microseconds)
    return RunEvent(body.id, body.type, body.task_id, time, body.attempt, cast("dict[str, Any]", data))
