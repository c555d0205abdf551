"""What cannot be pickled is named: where it is, and what it is."""

from __future__ import annotations

import asyncio
import pickle
import socket
import threading
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graflow import SyncChannel, TaskWorker, TypedChannel, WorkflowEngine, testing
from graflow.backends.memory import MemoryBackend
from graflow.backends.memory.channel import MemoryChannel
from graflow.errors import SerializationError
from graflow.handlers import DockerHandler, Handler, ProcessHandler, TaskCall
from graflow.wire import pickling
from graflow.wire.keys import Signer
from graflow.wire.signing import RunSigner
from graflow.wire.unpicklable import culprit

LOCK = threading.Lock()


class Pool:
    def __init__(self) -> None:
        self.size = 3
        self._lock = threading.Lock()


class Client:
    def __init__(self) -> None:
        self.connection_pool = Pool()
        self.me = self  # in a circle


class Slotted:
    __slots__ = ("lock",)

    def __init__(self) -> None:
        self.lock = threading.Lock()


class WithState:
    def __init__(self) -> None:
        self.lock = threading.Lock()  # which its state leaves out
        self.inner = Pool()

    def __getstate__(self) -> dict[str, Any]:
        return {"inner": self.inner}


class Reduced:
    def __reduce__(self) -> Any:
        return (Reduced, (threading.Lock(),))


@dataclass
class Record:
    name: str = "n"
    parts: list[Any] = field(default_factory=lambda: [1, {"deep": Pool()}])


class Methods:
    def __init__(self) -> None:
        self.lock = threading.Lock()

    def call(self) -> None: ...


def closing_over(client: Any) -> Any:
    return lambda: client


def with_default() -> Any:
    def local(n: int, lock: Any = LOCK) -> Any:
        return lock

    return local


def with_keyword_default() -> Any:
    def local(*, lock: Any = LOCK) -> Any:
        return lock

    return local


def with_global() -> Any:
    return lambda: [LOCK for _ in range(3)]


def with_attribute() -> Any:
    def local() -> None: ...

    local.lock = LOCK  # type: ignore[attr-defined]
    return local


def of_a_local_class() -> Any:
    class Local:
        lock = LOCK

    return Local


CASES = [
    (closing_over(Client()), "task fetch: closure variable 'client'.connection_pool._lock", "_thread.lock"),
    (closing_over([1, (2, {"x": Pool()})]), "task fetch: closure variable 'client'[1][1]['x']._lock", "_thread.lock"),
    (closing_over(closing_over(LOCK)), "task fetch: closure variable 'client': closure variable 'client'", "_thread.lock"),
    (with_default(), "task fetch: default of 'lock'", "_thread.lock"),
    (with_keyword_default(), "task fetch: default of 'lock'", "_thread.lock"),
    (with_global(), "task fetch: global 'LOCK'", "_thread.lock"),
    (with_attribute(), "task fetch.lock", "_thread.lock"),
    (of_a_local_class(), "task fetch.lock", "_thread.lock"),
    (partial(print, LOCK), "task fetch.args[0]", "_thread.lock"),
    (partial(print, end=Pool()), "task fetch.keywords['end']._lock", "_thread.lock"),
    (Methods().call, "task fetch.__self__.lock", "_thread.lock"),
    (Slotted(), "task fetch.lock", "_thread.lock"),
    (WithState(), "task fetch.inner._lock", "_thread.lock"),
    (Record(), "task fetch.parts[1]['deep']._lock", "_thread.lock"),
    (OrderedDict(a=Pool()), "task fetch['a']._lock", "_thread.lock"),
    (deque([1, Pool()]), "task fetch[1]._lock", "_thread.lock"),
    ({1: Slotted()}, "task fetch[1].lock", "_thread.lock"),
    (frozenset({partial(print, LOCK)}), "task fetch{...}.args[0]", "_thread.lock"),
    (closing_over(Reduced()), "task fetch: closure variable 'client'.__reduce__()[1][0]", "_thread.lock"),
]


@pytest.mark.parametrize(("code", "path", "type_name"), CASES, ids=[path for _, path, _ in CASES])
def test_the_way_to_what_cannot_be_pickled_is_told(code: Any, path: str, type_name: str) -> None:
    with pytest.raises(SerializationError) as caught:
        pickling.dumps(code, "task fetch")
    assert (caught.value.path, caught.value.type_name) == (path, type_name)
    assert str(caught.value).startswith(
        f"{path} is a {type_name}, and cannot travel (cannot pickle '_thread.lock' object): make or open it"
    )
    assert caught.value.__cause__ is not None


def test_what_a_library_holds_is_named_too() -> None:
    with socket.socket() as connection, pytest.raises(SerializationError, match=r"closure variable 'client' is a socket\.socket"):
        pickling.dumps(closing_over(connection), "task fetch")


def test_code_that_raises_when_it_is_pickled_is_the_culprit_itself() -> None:
    class Odd:
        def __reduce__(self) -> Any:
            raise ValueError("not me")

    with pytest.raises(SerializationError, match=r"closure variable 'client' is a .*Odd, and cannot travel \(not me\)"):
        pickling.dumps(closing_over(Odd()), "task fetch")


def test_what_can_be_pickled_has_no_culprit() -> None:
    assert culprit(closing_over(Record(parts=[1])), pickling.can_be_pickled) is None


def buried(children: st.SearchStrategy[tuple[Any, str]]) -> st.SearchStrategy[tuple[Any, str]]:
    """A culprit with its path, one container deeper."""

    def inside(drawn: tuple[Any, str]) -> st.SearchStrategy[tuple[Any, str]]:
        value, path = drawn
        return st.sampled_from(
            [
                ([0, value], f"[1]{path}"),
                ((value,), f"[0]{path}"),
                ({"key": value, "fine": 1}, f"['key']{path}"),
                (partial(print, 1, value), f".args[1]{path}"),
                (partial(print, end=value), f".keywords['end']{path}"),
                (closing_over(value), f": closure variable 'client'{path}"),
                (Record(parts=[value]), f".parts[0]{path}"),
            ]
        )

    return children.flatmap(inside)


@settings(max_examples=60, deadline=None)
@given(st.recursive(st.just((LOCK, "")), buried, max_leaves=8))
def test_however_deep_it_is_the_way_leads_there(case: tuple[Any, str]) -> None:
    value, path = case
    found = culprit(value, pickling.can_be_pickled)
    assert found is not None
    assert (found.path, found.type_name) == (path, "_thread.lock")


def test_the_search_ends_in_a_circle_and_in_a_large_value() -> None:
    circle: list[Any] = [LOCK]
    circle.insert(0, circle)
    found = culprit(circle, pickling.can_be_pickled)
    assert found is not None
    assert found.path == "[1]"
    wide = [{"n": number} for number in range(20_000)]
    wide.append({"lock": LOCK})  # type: ignore[dict-item]
    found = culprit(wide, pickling.can_be_pickled)
    assert found is not None
    assert found.type_name in ("list", "_thread.lock")


# ---- what could be pickled, and must not be --------------------------------------------------------------------------


class OwnHandler(Handler):
    async def run(self, call: TaskCall) -> Any:
        return await call.invoke()


STAYING: list[tuple[Callable[[], Any], str, str]] = [
    (WorkflowEngine, "WorkflowEngine", "hand on the URL of its server"),
    (MemoryBackend, "MemoryBackend", "use it outside of tasks"),
    (lambda: TaskWorker(MemoryBackend()), "TaskWorker", "make it where it is to run"),
    (MemoryChannel, "MemoryChannel", "take `ctx.channel` inside the task"),
    (lambda: SyncChannel(MemoryChannel(), int), "SyncChannel", "take `ctx.channel` inside the task"),
    (lambda: TypedChannel(MemoryChannel(), int), "TypedChannel", "take `ctx.channel` inside the task"),
    (testing.context, "FakeContext", "give the function a parameter for its own context"),
    (OwnHandler, "OwnHandler", "name it in `@task(handler=...)`"),
    (ProcessHandler, "ProcessHandler", "name it in `@task(handler=...)`"),
    (lambda: DockerHandler(image="python"), "DockerHandler", "name it in `@task(handler=...)`"),
    (lambda: Signer({"k": b"s" * 32}), "Signer", "set GRAFLOW_SECRET_KEY in the other process"),
    (lambda: RunSigner(Signer({"k": b"s" * 32}), "run"), "RunSigner", "set GRAFLOW_SECRET_KEY in the other process"),
]
OF_A_LOOP: list[Callable[[], Any]] = [
    asyncio.Lock, asyncio.Event, asyncio.Condition, asyncio.Semaphore, asyncio.BoundedSemaphore, asyncio.Queue, lambda: asyncio.Barrier(2),
]  # fmt: skip


@pytest.mark.parametrize(("make", "kind", "instead"), STAYING, ids=[kind for _, kind, _ in STAYING])
def test_what_belongs_to_graflow_in_this_process_is_refused_as_a_whole_with_what_to_do_instead(
    make: Callable[[], Any], kind: str, instead: str
) -> None:
    value = make()
    with pytest.raises(SerializationError) as caught:
        pickling.dumps(closing_over([value]), "task fetch")
    assert (caught.value.path, caught.value.type_name) == ("task fetch: closure variable 'client'[0]", kind)
    assert str(caught.value).startswith(f"{caught.value.path} is a {kind}, which stays in its process and cannot travel: ")
    assert instead in str(caught.value)
    with pytest.raises(SerializationError, match=f"a {kind} stays in its process and cannot be pickled: "):
        pickle.dumps(value)


@pytest.mark.parametrize("make", OF_A_LOOP)
def test_what_belongs_to_an_event_loop_is_refused_though_it_could_be_pickled(make: Callable[[], Any]) -> None:
    with pytest.raises(
        SerializationError, match=r"closure variable 'client' is a \w+, which stays in its process.* one event loop"
    ) as caught:
        pickling.dumps(closing_over(make()), "task fetch")
    assert caught.value.path == "task fetch: closure variable 'client'"
