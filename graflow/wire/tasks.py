"""Tasks as data: their functions by name, their options, and the arguments bound to them.

Nothing is imported when a task is read. Its function is, when it is first asked for, and so is the class of an error that its retry policy
names, when an error is compared with it.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate
from typing import Any, Final, TypeVar

import msgspec

from graflow.core.function import FunctionSpec
from graflow.core.identity import reference
from graflow.core.options import Priority, TaskOptions
from graflow.core.retry import RetryPolicy
from graflow.core.task import AsyncTask, SyncTask, Task
from graflow.errors import FunctionNotFoundError, SerializationError, UntrustedPayloadError
from graflow.wire import codec
from graflow.wire.envelopes import enveloped, opened, reading
from graflow.wire.keys import Signer
from graflow.wire.local import LocalCode, refer, this_process, unsendable
from graflow.wire.signing import RunSigner, SentCode, ToSign
from graflow.wire.sources import SIGNED, CodeKind, CodeSource
from graflow.wire.standins import SentFunction, error_class, itself, sent_reference

B = TypeVar("B")


class Function(msgspec.Struct, array_like=True, frozen=True):
    """A task's function."""

    reference: str
    is_async: bool
    inject_context: bool


class Retry(msgspec.Struct, array_like=True, frozen=True):
    """A RetryPolicy, its classes by name."""

    max_retries: int
    initial_interval: int | float
    backoff_factor: int | float
    max_interval: int | float
    jitter: bool
    retry_on: list[str]
    give_up_on: list[str]


class Options(msgspec.Struct, array_like=True, frozen=True):
    """TaskOptions."""

    retry: Retry | None
    timeout: int | float | None
    handler: str | None
    queue: str
    priority: Priority
    max_cycles: int | None


class Tables(msgspec.Struct, array_like=True):
    """What many tasks share. A kind is a function with options, both by number: what a task is but for its id and bound arguments.

    ``signed`` are envelopes, see :mod:`graflow.wire.signing`: code that has no importable name, whose name here is its place among them.
    """

    functions: list[Function] = []
    options: list[Options] = []
    kinds: list[tuple[int, int]] = []
    signed: list[bytes] = []


class TaskWriter:
    """Fills the tables with what tasks are made of.

    Args:
        local: names code that no other process could import; None refuses it.
        signing: signs it instead; None refuses it.
    """

    __slots__ = ("_functions", "_kinds", "_local", "_options", "_places", "_signing", "_to_sign", "_touched", "_users", "tables")

    def __init__(self, local: LocalCode | None, signing: RunSigner | None = None) -> None:
        self.tables: Tables = Tables()
        self._local = local
        self._signing = signing
        # By identity, which clones share: all of them belong to a plan that outlives this.
        self._kinds: dict[tuple[int, int], int] = {}
        self._functions: dict[int, int] = {}
        self._options: dict[int, int] = {}
        self._to_sign: list[ToSign] = []
        self._places: dict[tuple[int, CodeKind], int] = {}
        self._touched: list[ToSign] = []
        self._users: dict[int, list[ToSign]] = {}  # by functions, options and kinds: what of them is signed

    def kind(self, task: Task[..., Any]) -> int:
        """The number of the task's kind.

        Raises:
            FunctionNotFoundError: its code has no importable name, and cannot be signed.
        """
        spec, options = task.spec, task.options
        kind = self._kinds.get((id(spec), id(options)))
        if kind is None:
            pair = (self._function(spec, task.id), self._option(options, task.id))
            kind = self._kinds[id(spec), id(options)] = len(self.tables.kinds)
            self.tables.kinds.append(pair)
        if self._to_sign:
            for each in (*self._users.get(id(spec), ()), *self._users.get(id(options), ())):
                each.owners[task.id] = None
        return kind

    def refer(self, code: Any, owner: str, kind: CodeKind) -> str:
        """The name of a function or class of the task or group ``owner``. Raises FunctionNotFoundError."""
        name = sent_reference(code)
        if name is not None:
            return name
        code = itself(code)
        name = refer(code, self._local)
        if name is not None:
            return name
        if self._signing is None:
            raise unsendable(code, owner)
        place = self._places.get((id(code), kind))
        if place is None:
            place = self._places[id(code), kind] = len(self._to_sign)
            self._to_sign.append(ToSign(code, kind))
        each = self._to_sign[place]
        each.owners[owner] = None
        self._touched.append(each)
        return f"{SIGNED}{place}>:{reference(code)}"

    def sign(self) -> None:
        """Seal what has no importable name, now that it is known who may use it.

        Raises:
            SerializationError: it holds something that cannot be pickled.
            ConfigurationError: cloudpickle is not installed.
        """
        if self._signing is not None:
            self.tables.signed = [self._signing.seal(each.code, each.kind, list(map(plain_text, each.owners))) for each in self._to_sign]

    def _function(self, spec: FunctionSpec, owner: str) -> int:
        number = self._functions.get(id(spec))
        if number is None:
            self._touched = []
            name = sent_reference(spec) or self.refer(spec, owner, "function")
            number = self._functions[id(spec)] = len(self.tables.functions)
            self.tables.functions.append(Function(name, spec.is_async, spec.inject_context))
            if self._touched:
                self._users[id(spec)] = self._touched
        return number

    def _option(self, options: TaskOptions, owner: str) -> int:
        number = self._options.get(id(options))
        if number is None:
            self._touched = []
            retry = None if options.retry is None else self._retry(options.retry, owner)
            handler = None if options.handler is None else plain_text(options.handler)
            row = Options(retry, options.timeout, handler, plain_text(options.queue), options.priority, options.max_cycles)
            number = self._options[id(options)] = len(self.tables.options)
            self.tables.options.append(row)
            if self._touched:
                self._users[id(options)] = self._touched
        return number

    def _retry(self, policy: RetryPolicy, owner: str) -> Retry:
        retry_on, give_up_on = ([self.refer(each, owner, "error") for each in classes] for classes in (policy.retry_on, policy.give_up_on))
        return Retry(
            policy.max_retries,
            policy.initial_interval,
            policy.backoff_factor,
            policy.max_interval,
            policy.jitter,
            retry_on,
            give_up_on,
        )


class TaskReader:
    """Makes tasks of what :class:`TaskWriter` wrote down."""

    __slots__ = ("_kinds", "code")

    def __init__(self, tables: Tables, local: LocalCode | None, signer: Signer | None = None) -> None:
        self.code: CodeSource = CodeSource(local, [SentCode(each, signer) for each in tables.signed])
        functions = [
            SentFunction(row.reference, is_async=row.is_async, inject_context=row.inject_context, code=self.code)
            for row in tables.functions
        ]
        options = [_options_of(row, self.code) for row in tables.options]
        self._kinds: list[tuple[type[Task[..., Any]], SentFunction, TaskOptions]] = [
            (AsyncTask if functions[function].is_async else SyncTask, functions[function], options[option])
            for function, option in tables.kinds
        ]

    def task(self, id: str, kind: int, bound: bytes | None) -> Task[..., Any]:
        """A task of a kind. Raises IndexError where there is none of that number."""
        made_by, function, options = self._kinds[kind]
        return made_by(id, function, options) if bound is None else made_by(id, function, options, SentArguments(bound, function))


class SentArguments(Mapping[str, Any]):
    """Bound arguments that came over the wire, decoded when they are first asked for.

    Values of a class arrive as what they are only where the module of the class is loaded. That of the function, which is loaded first,
    will mostly have seen to it.
    """

    __slots__ = ("_function", "_raw", "_values")

    def __init__(self, raw: bytes, function: SentFunction) -> None:
        self._raw = raw
        self._function = function
        self._values: dict[str, Any] | None = None

    def _decoded(self) -> dict[str, Any]:
        if self._values is not None:
            return self._values
        found = True
        try:
            _ = self._function.function
        except (FunctionNotFoundError, UntrustedPayloadError):  # they may be looked at all the same, as when the task is shown
            found = False
        values: dict[str, Any] = codec.decode(self._raw)
        if type(values) is not dict:
            raise SerializationError("bound arguments arrived that are no mapping", type_name=type(values).__name__)
        if found:
            self._values = values
        return values

    def __getitem__(self, name: str) -> Any:
        return self._decoded()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._decoded())

    def __len__(self) -> int:
        return len(self._decoded())

    def __bool__(self) -> bool:
        return True  # those of a task without any are not sent


def _options_of(row: Options, code: CodeSource) -> TaskOptions:
    retry = None
    if row.retry is not None:
        retry_on, give_up_on = (tuple(error_class(name, code) for name in names) for names in (row.retry.retry_on, row.retry.give_up_on))
        waits = (row.retry.initial_interval, row.retry.backoff_factor, row.retry.max_interval)
        retry = RetryPolicy(row.retry.max_retries, *waits, row.retry.jitter, retry_on, give_up_on)
    return TaskOptions(retry, row.timeout, row.handler, row.queue, row.priority, row.max_cycles)


# ---- bytes ----


def arguments_of(tasks: Sequence[Task[..., Any]]) -> msgspec.Raw:
    """What is bound to each task, as an array of maps.

    Raises:
        SerializationError: a value cannot travel; it is called ``bound argument <task>.<name>``.
    """
    try:
        return msgspec.Raw(codec.encode([dict(task.bound) for task in tasks]))
    except SerializationError:
        # Again one by one: to say which it is, and because a value may be as deep as it may be, whatever it is packed in.
        return msgspec.Raw(_encode([{name: _argument(task, name, value) for name, value in task.bound.items()} for task in tasks]))


def _argument(task: Task[..., Any], name: str, value: Any) -> msgspec.Raw:
    return msgspec.Raw(codec.encode(value, name=f"bound argument {task.id}.{name}"))


class EncodedArguments:
    """The maps that :func:`arguments_of` wrote, each cut out when it is asked for: an object for each would take 1.3 MB where there are 20 000."""

    __slots__ = ("_bounds", "_data")

    def __init__(self, data: msgspec.Raw) -> None:
        self._data = bytes(data)  # a copy: a part of what arrived would keep all of it
        sizes = list(map(len, _raws(data)))
        self._bounds = array("L", accumulate(sizes, initial=len(self._data) - sum(sizes)))

    def __len__(self) -> int:
        return len(self._bounds) - 1

    def __getitem__(self, place: int) -> bytes:
        return self._data[self._bounds[place] : self._bounds[place + 1]]


_raws: Final = msgspec.msgpack.Decoder(list[msgspec.Raw]).decode

_encode: Final = msgspec.msgpack.Encoder().encode


class _TaskBody(msgspec.Struct, frozen=True):
    tables: Tables
    id: str
    kind: int
    bound: msgspec.Raw


_task_body: Final = msgspec.msgpack.Decoder(_TaskBody)


def encode_task(task: Task[..., Any], *, local_code: LocalCode | None = None, signing: RunSigner | None = None) -> bytes:
    """A task as bytes, as for one that is made at run time.

    Args:
        task: the task.
        local_code: names code that no other process could import, where the workers are in this one; None refuses it.
        signing: signs such code for its run; None refuses it.

    Raises:
        FunctionNotFoundError: the function, or a class in its retry policy, has no importable name.
        SerializationError: a bound argument cannot travel, or something that signed code holds.
    """
    writer = TaskWriter(local_code, signing)
    kind = writer.kind(task)
    writer.sign()
    bound = arguments_of([task] if task.bound else [])
    return enveloped(_TaskBody(writer.tables, plain_text(task.id), kind, bound), f"task {task.id!r}")


def decode_task(data: bytes, *, local_code: LocalCode | None = this_process, signer: Signer | None = None) -> Task[..., Any]:
    """The task that :func:`encode_task` was given. Its function is imported when it is first asked for.

    Args:
        data: the bytes that arrived.
        local_code: where code without an importable name is looked for.
        signer: verifies signed code, which must be admitted before it is asked for.

    Raises:
        SerializationError: the bytes are no task, or were written by a newer version.
    """
    with reading(data, "task"):
        body = opened(data, _task_body, "task")
        bound = EncodedArguments(body.bound)
        return TaskReader(body.tables, local_code, signer).task(body.id, body.kind, bound[0] if bound else None)


def plain_text(text: str) -> str:
    """An id as exactly a str, which the encoder asks for: a member of a StrEnum may be an id."""
    return text if type(text) is str else str.__str__(text)
