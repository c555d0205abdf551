"""What a task sees of its run, and what it records for it."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, TypeVar

import pytest

from graflow.core.channel import Channel, SyncChannel, TypedChannel
from graflow.core.context import BaseContext, SyncTaskContext, TaskContext
from graflow.core.outcome import Directives, Iteration, NewTask
from graflow.core.task import task
from graflow.errors import ChannelTypeError, GraphError

T = TypeVar("T")


class DictChannel(Channel):
    """Keeps values in a dict and notes what was called."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}
        self.calls: list[Any] = []

    async def get(self, key: str, default: Any = None, /) -> Any:
        return self.values.get(key, default)

    async def set(self, key: str, value: Any, /, ttl: float | None = None) -> None:
        self.calls.append(("set", key, ttl))
        self.values[key] = value

    async def delete(self, key: str, /) -> bool:
        return self.values.pop(key, None) is not None

    async def exists(self, key: str, /) -> bool:
        return key in self.values

    async def keys(self) -> list[str]:
        return sorted(self.values)

    async def clear(self) -> None:
        self.values.clear()

    async def append(self, key: str, *values: Any) -> int:
        self.values.setdefault(key, []).extend(values)
        return len(self.values[key])

    async def prepend(self, key: str, *values: Any) -> int:
        self.values[key] = [*values, *self.values.get(key, [])]
        return len(self.values[key])

    async def atomic_add(self, key: str, n: float = 1, /) -> Any:
        self.values[key] = self.values.get(key, 0) + n
        return self.values[key]

    def lock(self, key: str, /, *, wait: float | None = None, ttl: float = 30.0) -> AbstractAsyncContextManager[None]:
        @asynccontextmanager
        async def held() -> Any:
            self.calls.append(("locked", key, wait, ttl))
            yield
            self.calls.append(("unlocked", key))

        return held()

    async def wait(self, key: str, /, timeout: float | None = None) -> Any:
        self.calls.append(("wait", key, timeout))
        return self.values[key]


class FakeServices:
    """The world outside, as far as a context asks for it."""

    def __init__(self) -> None:
        self.channel: Channel = DictChannel()
        self.published: list[tuple[str, Mapping[str, Any]]] = []
        self.cancelled = False
        self.clock = 100.0

    async def result_of(self, node_id: str) -> Any:
        return f"result of {node_id}"

    def publish(self, type: str, data: Mapping[str, Any]) -> None:
        self.published.append((type, data))

    def is_cancelled(self) -> bool:
        return self.cancelled

    def now(self) -> float:
        return self.clock

    def call(self, function: Callable[..., Awaitable[T]], /, *args: Any) -> T:
        stepped: Any = function(*args)
        try:
            stepped.send(None)
        except StopIteration as end:
            result: T = end.value
            return result
        raise AssertionError("nothing here waits")


@task
async def step(n: int = 0) -> int:
    return n


def make(kind: type[Any], services: FakeServices, **changes: Any) -> Any:
    fields = {"run_id": "r1", "task_id": "t", "attempt": 2, "cycle": 3, "max_cycles": 4, "workflow": "w"}
    return kind(services, **{**fields, "resources": {"db": 1}, **changes})


@pytest.fixture
def services() -> FakeServices:
    return FakeServices()


@pytest.fixture
def ctx(services: FakeServices) -> TaskContext:
    context: TaskContext = make(TaskContext, services)
    return context


@pytest.fixture
def sync_ctx(services: FakeServices) -> SyncTaskContext:
    context: SyncTaskContext = make(SyncTaskContext, services)
    return context


def test_a_context_says_where_the_task_is(ctx: TaskContext) -> None:
    assert (ctx.run_id, ctx.task_id, ctx.attempt, ctx.cycle, ctx.max_cycles, ctx.workflow) == ("r1", "t", 2, 3, 4, "w")
    assert ctx.resources["db"] == 1


def test_the_idempotency_key_is_the_same_for_every_attempt_at_a_visit(services: FakeServices) -> None:
    keys = {make(TaskContext, services, attempt=attempt).idempotency_key for attempt in (1, 2, 3)}
    assert keys == {"r1:t:3"}
    assert make(TaskContext, services, cycle=4).idempotency_key not in keys


def test_a_task_may_iterate_until_its_cycles_are_used_up(services: FakeServices) -> None:
    assert make(TaskContext, services, cycle=3, max_cycles=4).can_iterate()
    assert not make(TaskContext, services, cycle=4, max_cycles=4).can_iterate()
    assert make(TaskContext, services, cycle=400, max_cycles=None).can_iterate()


def test_time_and_cancellation_are_asked_of_the_world_outside(ctx: TaskContext, services: FakeServices) -> None:
    services.clock += 2.5
    assert ctx.elapsed() == 2.5
    assert not ctx.is_cancelled
    services.cancelled = True
    assert ctx.is_cancelled


def test_log_records_carry_who_wrote_them_next_to_what_the_task_adds(ctx: TaskContext, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="graflow.task"):
        ctx.logger.info("page %d", 3, extra={"url": "u"})
    record: Any = caplog.records[0]
    assert record.getMessage() == "page 3"
    assert (record.run_id, record.task_id, record.attempt, record.cycle, record.url) == ("r1", "t", 2, 3, "u")
    assert ctx.logger is ctx.logger


@pytest.mark.parametrize("kind", [TaskContext, SyncTaskContext])
def test_progress_and_events_are_published_at_once_by_both_contexts(kind: type[BaseContext], services: FakeServices) -> None:
    context = make(kind, services)
    context.progress(1, 4, "reading")
    context.emit({"text": "a"}, name="token")
    context.emit(3)
    assert services.published == [
        ("progress", {"done": 1, "total": 4, "message": "reading"}),
        ("message", {"name": "token", "data": {"text": "a"}}),
        ("message", {"name": "message", "data": 3}),
    ]


async def test_results_are_read_by_task_or_id(ctx: TaskContext, sync_ctx: SyncTaskContext) -> None:
    assert await ctx.result_of(step) == "result of step"
    assert await ctx.result_of("x") == "result of x"
    assert sync_ctx.result_of(step.clone("s") | step) == "result of s|step"


# ---- directives ----


def test_a_task_that_asks_for_nothing_records_nothing(ctx: TaskContext) -> None:
    assert ctx.requested is None


def test_going_to_a_node_records_its_id(ctx: TaskContext) -> None:
    ctx.goto("a")
    ctx.goto(step)
    ctx.goto(step.clone("b") >> step.clone("c"))
    ctx.next_task("d")
    assert ctx.requested == Directives(goto=["a", "step", "c", "d"])


def test_a_next_task_is_recorded_whole_since_only_the_run_knows_whether_it_is_new(ctx: TaskContext) -> None:
    new = step.clone("new", n=1)
    ctx.next_task(new)
    ctx.next_task(step, goto=True, if_exists="ignore")
    assert ctx.requested == Directives(new=[NewTask(new), NewTask(step, ignore_existing=True, goto=True)])


def test_of_several_iterations_the_last_counts(ctx: TaskContext) -> None:
    ctx.next_iteration({"page": 1})
    ctx.next_iteration(None, depth=2)
    assert ctx.requested == Directives(iteration=Iteration(None, {"depth": 2}))
    ctx.next_iteration(n=3)
    assert ctx.requested.iteration == Iteration(arguments={"n": 3})


def test_the_ends_are_recorded_with_their_reasons(ctx: TaskContext) -> None:
    ctx.end_loop()
    ctx.terminate_workflow("found")
    ctx.cancel_workflow("unwanted")
    assert ctx.requested == Directives(end_loop=True, terminate="found", cancel="unwanted")


def test_a_reason_may_be_left_out_and_the_directive_still_counts(ctx: TaskContext) -> None:
    ctx.terminate_workflow()
    ctx.cancel_workflow()
    assert ctx.requested == Directives(terminate="", cancel="")


def test_contexts_do_not_share_what_they_record(services: FakeServices) -> None:
    first, second = make(TaskContext, services), make(TaskContext, services)
    first.goto("a")
    second.goto("b")
    assert (first.requested.goto, second.requested.goto) == (["a"], ["b"])


def test_directives_to_what_is_no_node_are_refused_where_they_are_given(ctx: TaskContext) -> None:
    for give in (lambda: ctx.goto(3), lambda: ctx.goto(""), lambda: ctx.next_task("")):
        with pytest.raises(GraphError, match="must be a text"):
            give()
    with pytest.raises(GraphError, match=r"use goto\(\) for a group"):
        ctx.next_task(step | step.clone("b"))
    with pytest.raises(GraphError, match='use "error" or "ignore"'):
        ctx.next_task(step, if_exists="replace")
    assert ctx.requested is None


# ---- channels ----


def test_a_sync_channel_has_every_method_of_the_channel(sync_ctx: SyncTaskContext) -> None:
    channel = sync_ctx.channel
    assert isinstance(channel, SyncChannel)
    channel.set("a", 1, ttl=5.0)
    assert (channel.get("a"), channel.get("b"), channel.get("b", 2)) == (1, None, 2)
    assert (channel.append("list", 1, 2), channel.prepend("list", 0)) == (2, 3)
    assert (channel.atomic_add("hits"), channel.atomic_add("hits", 2), channel.atomic_add("s", 0.5)) == (1, 3, 0.5)
    assert channel.exists("hits")
    assert channel.keys() == ["a", "hits", "list", "s"]
    assert channel.delete("hits")
    assert channel.wait("a", timeout=3.0) == 1
    channel.clear()
    assert channel.keys() == []
    missing = {name for name in Channel.__abstractmethods__ if not hasattr(SyncChannel, name)}
    assert missing == set()


def test_a_sync_lock_is_held_for_the_block_and_let_go_after_an_error(sync_ctx: SyncTaskContext, services: FakeServices) -> None:
    calls = services.channel.calls
    with sync_ctx.channel.lock("k", wait=1.0):
        assert calls == [("locked", "k", 1.0, 30.0)]
    assert calls[-1] == ("unlocked", "k")
    with pytest.raises(ZeroDivisionError), sync_ctx.channel.lock("k"):
        _ = 1 / 0
    assert calls[-1] == ("unlocked", "k")


async def test_a_typed_channel_checks_what_goes_in_and_what_comes_out(services: FakeServices) -> None:
    channel = services.channel
    numbers = TypedChannel(channel, list[int])
    await numbers.set("a", [1, 2])
    assert await numbers.get("a") == [1, 2]
    assert await numbers.get("b") is None
    assert await numbers.get("b", "none") == "none"
    assert await numbers.wait("a") == [1, 2]
    assert await numbers.exists("a")
    with pytest.raises(ChannelTypeError, match=r"holds list\[int\] under 'a', not str") as caught:
        await numbers.set("a", "text")
    assert (caught.value.key, caught.value.expected, caught.value.got) == ("a", "list[int]", "str")
    await channel.set("a", ["x"])
    with pytest.raises(ChannelTypeError):
        await numbers.get("a")
    assert await numbers.delete("a")


async def test_a_typed_channel_takes_anything_where_the_type_says_so(services: FakeServices) -> None:
    anything: TypedChannel[Any] = TypedChannel(services.channel, object)
    await anything.set("a", services)
    assert await anything.get("a") is services


def test_a_typed_channel_needs_the_channel_of_an_async_task(sync_ctx: SyncTaskContext) -> None:
    with pytest.raises(TypeError, match="channel of an async task"):
        TypedChannel(sync_ctx.channel, int)
