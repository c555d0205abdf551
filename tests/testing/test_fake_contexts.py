"""Contexts for calling tasks as plain functions."""

from __future__ import annotations

import asyncio
import logging
import threading

import pytest

from graflow import SyncChannel, SyncTaskContext, TaskContext, TypedChannel, task
from graflow.core.outcome import Directives
from graflow.errors import ChannelTypeError, GraflowError, GraphError, MissingArgumentError
from graflow.testing import FakeContext, SyncFakeContext, VirtualClock, context, sync_context


@task
async def fetch(url: str) -> str:
    return url


@task
async def page(ctx: TaskContext, number: int) -> list[int]:
    ctx.progress(number, 3, "reading")
    ctx.emit({"page": number}, name="page")
    await ctx.channel.append("pages", number)
    if number < 3:
        ctx.next_iteration(number + 1)
    return [number]


@task
def count(ctx: SyncTaskContext, word: str) -> int:
    with ctx.channel.lock("words", wait=1.0):
        ctx.emit(word)
        return ctx.channel.atomic_add(word)


# ---- calling a task ----


async def test_a_task_is_called_like_a_function_and_what_it_does_is_recorded() -> None:
    ctx = context(channel={"pages": [0]})
    assert await page(ctx, 1) == [1]
    assert ctx.directives == [("next_iteration", 2)]
    assert ctx.emitted == [{"page": 1}]
    assert ctx.progressed == [(1, 3, "reading")]
    assert ctx.published == [
        ("progress", {"done": 1, "total": 3, "message": "reading"}),
        ("message", {"name": "page", "data": {"page": 1}}),
    ]
    assert await ctx.channel.get("pages") == [0, 1]


def test_a_def_task_is_called_without_any_event_loop() -> None:
    ctx = sync_context(channel={"graph": 2})
    assert (count(ctx, "graph"), count(ctx, "flow")) == (3, 1)
    assert ctx.emitted == ["graph", "flow"]
    assert ctx.channel.keys() == ["flow", "graph"]


async def test_a_def_task_is_called_beside_a_running_event_loop_just_as_well() -> None:
    ctx = sync_context(channel={"graph": 2})
    assert count(ctx, "graph") == 3
    assert await asyncio.to_thread(count, ctx, "graph") == 4


# ---- who and where ----


def test_the_context_says_who_and_where_the_task_is() -> None:
    plain = context()
    given = sync_context("fetch", attempt=2, cycle=3, max_cycles=3, run_id="r-1", workflow="nightly", resources={"pool": 7})
    assert (plain.task_id, plain.attempt, plain.cycle, plain.max_cycles) == ("task", 1, 1, None)
    assert (plain.run_id, plain.workflow) == ("test-run", "test")
    assert (given.task_id, given.attempt, given.cycle, given.run_id, given.workflow) == ("fetch", 2, 3, "r-1", "nightly")
    assert (plain.can_iterate(), given.can_iterate()) == (True, False)
    assert (plain.resources, given.resources) == ({}, {"pool": 7})
    assert given.idempotency_key == "r-1:fetch:3"
    assert isinstance(plain, TaskContext)
    assert isinstance(given, SyncTaskContext)


def test_log_records_carry_it_too(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="graflow.task"):
        context("fetch").logger.info("hello")
    assert caplog.records[0].task_id == "fetch"  # type: ignore[attr-defined]


async def test_the_time_that_has_elapsed_is_told_by_the_loop() -> None:
    with VirtualClock():
        ctx = context()
        await asyncio.sleep(90)
        assert ctx.elapsed() == 90
    assert sync_context().elapsed() < 10


def test_time_can_be_asked_for_outside_of_any_loop() -> None:
    assert 0 <= sync_context().elapsed() < 10


def test_a_task_can_be_told_to_stop() -> None:
    ctx = sync_context()
    assert not ctx.is_cancelled
    ctx.stop()
    assert ctx.is_cancelled


# ---- results ----


async def test_results_are_found_by_task_or_id_however_they_were_given() -> None:
    ctx = context(results={"fetch": "a", "other": "b"})
    assert (await ctx.result_of(fetch), await ctx.result_of("other")) == ("a", "b")
    assert await context(results={fetch: "c"}).result_of("fetch") == "c"


def test_a_def_task_reads_results_by_blocking() -> None:
    assert sync_context(results={fetch: "a"}).result_of(fetch) == "a"


async def test_a_result_that_was_not_given_is_missing_as_in_a_run() -> None:
    with pytest.raises(MissingArgumentError, match=r"give it results=\{'other': \.\.\.\}") as caught:
        await context("report", results={"fetch": 1}).result_of("other")
    assert (caught.value.task_id, caught.value.parameter, list(caught.value.available)) == ("report", "other", ["fetch"])


# ---- directives ----


@pytest.mark.parametrize("make", [context, sync_context])
def test_directives_are_recorded_in_order_by_name_and_argument(make) -> None:
    ctx: FakeContext | SyncFakeContext = make()
    new = fetch.clone("fetch-2", url="u")
    ctx.goto("b")
    ctx.goto(fetch)
    ctx.next_task("c")
    ctx.next_task(new, goto=True)
    ctx.next_iteration(3)
    ctx.next_iteration(None)
    ctx.next_iteration(page=2)
    ctx.next_iteration(3, page=2)
    ctx.next_iteration()
    ctx.end_loop()
    ctx.terminate_workflow("found")
    ctx.cancel_workflow()
    assert ctx.directives == [
        ("goto", "b"),
        ("goto", "fetch"),
        ("next_task", "c"),
        ("next_task", fetch.clone("fetch-2", url="u")),
        ("next_iteration", 3),
        ("next_iteration", None),
        ("next_iteration", {"page": 2}),
        ("next_iteration", (3, {"page": 2})),
        ("next_iteration", None),
        ("end_loop", None),
        ("terminate_workflow", "found"),
        ("cancel_workflow", ""),
    ]


def test_what_a_run_would_make_of_them_is_there_as_well() -> None:
    ctx = context()
    assert (ctx.directives, ctx.requested) == ([], None)
    ctx.goto(fetch)
    ctx.next_task("c")
    assert ctx.requested == Directives(goto=["fetch", "c"])


def test_a_directive_that_a_run_would_refuse_is_refused_and_not_recorded() -> None:
    ctx = context()
    for give in (lambda: ctx.goto(""), lambda: ctx.goto(3), lambda: ctx.next_task(fetch, if_exists="replace")):  # type: ignore[arg-type]
        with pytest.raises(GraphError):
            give()
    assert ctx.directives == []


def test_contexts_share_nothing() -> None:
    one, other = context(), context()
    one.goto("a")
    one.emit(1)
    one.stop()
    assert (other.directives, other.emitted, other.is_cancelled) == ([], [], False)


# ---- channels ----


async def test_the_channel_is_a_real_one() -> None:
    ctx = context(channel={"name": "x"})
    with pytest.raises(ChannelTypeError):
        await ctx.channel.atomic_add("name")
    numbers = TypedChannel(ctx.channel, int)
    await numbers.set("n", 1)
    assert await numbers.get("n") == 1
    waiter = asyncio.create_task(ctx.channel.wait("later"))
    await asyncio.sleep(0)
    await ctx.channel.set("later", 2)
    assert await waiter == 2


def test_a_sync_channel_has_all_its_methods_without_a_loop() -> None:
    channel = sync_context(channel={"a": 1}).channel
    assert isinstance(channel, SyncChannel)
    channel.set("b", 2, ttl=5.0)
    assert (channel.get("a"), channel.get("b"), channel.get("c", 3), channel.wait("a")) == (1, 2, 3, 1)
    assert (channel.append("list", 1, 2), channel.prepend("list", 0), channel.delete("a"), channel.exists("a")) == (2, 3, True, False)
    with channel.lock("door"), channel.lock("other door"):
        pass
    channel.clear()
    assert channel.keys() == []


def test_a_timeout_of_a_def_task_that_is_alone_runs_out_at_once() -> None:
    channel = sync_context().channel
    with pytest.raises(TimeoutError, match="within 3600 s"):
        channel.wait("never", timeout=3600)
    with channel.lock("door", ttl=10_000), pytest.raises(TimeoutError), channel.lock("door", wait=3600):
        pass


def test_a_def_task_that_is_alone_is_told_when_it_would_wait_for_ever() -> None:
    with pytest.raises(GraflowError, match=r"give the context channel=\{\.\.\.\}"):
        sync_context().channel.wait("never")


async def test_a_def_task_called_on_the_event_loop_is_told_when_it_would_block_it() -> None:
    channel = sync_context().channel
    with pytest.raises(GraflowError, match="nobody will give it"):
        channel.wait("never", timeout=3600)
    with channel.lock("door"), pytest.raises(GraflowError, match="nobody will give it"), channel.lock("door"):
        pass
    assert threading.active_count() >= 1
