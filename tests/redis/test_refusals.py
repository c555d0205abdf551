"""What a worker is handed and cannot run: whoever waits is told why, it is not taken for started, and it fails early where nobody is left to ask."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import pytest

from graflow import RunHandle, RunStatus, TaskWorker, WorkflowEngine, task
from graflow.backends.redis import presence
from graflow.backends.redis.backend import RedisBackend
from graflow.errors import RunTimeoutError, TaskFailedError, UntrustedPayloadError
from tests.redis.signed import KEY, OTHER, SignedSite

pytestmark = pytest.mark.usefixtures("no_key_leaks", "no_secret_key")

LONG = 60.0
gates: list[asyncio.Event] = []


@task
async def busy() -> None:
    await gates[-1].wait()


def one_of_this_test() -> Any:
    async def one() -> int:
        return 1

    return one


@pytest.fixture
async def site(redis_url: str, allowed_keys: set[str]) -> AsyncIterator[SignedSite]:
    allowed_keys.add("*:delayed")  # who comes next finds what an ended run has put off, and drops it
    gates.append(asyncio.Event())
    site = SignedSite(redis_url)
    async with site.engine:
        yield site


def worker_of(site: SignedSite, key: str, *, concurrency: int = 10, nobody: float = LONG) -> TaskWorker:
    backend = RedisBackend(site.url, heart="loop", secret_key=key, refused_grace=nobody)
    return TaskWorker(backend, queues=None, grace=0.0, concurrency=concurrency, worker_id=f"worker-{key.partition(':')[0]}")


async def first(handle: RunHandle[Any], type: str) -> Any:
    async with asyncio.timeout(20):
        async for event in handle.events():
            if event.type == type:
                return event
    raise AssertionError(type)


async def types_of(handle: RunHandle[Any]) -> list[str]:
    return [event.type async for event in handle.events() if event.task_id is not None]


async def test_an_event_and_peek_say_which_worker_lacks_the_key_of_a_task(site: SignedSite) -> None:
    async with worker_of(site, OTHER):
        handle = await site.engine.submit(task(id="one")(lambda: 1))
        told = await first(handle, "task_refused")
        assert (told.task_id, told.attempt, told.data["reason"], told.data["worker"]) == ("one", 1, "unknown_key", "worker-other")
        assert "the keys here are 'other'" in told.data["message"]
        snapshot = await handle.peek()
        assert snapshot.status is RunStatus.RUNNING
        assert snapshot.others["one"].startswith("worker worker-other cannot run it (unknown_key): ")
        await handle.cancel("enough is known")


async def test_what_every_living_worker_has_refused_fails_after_the_short_grace_and_was_told_once(
    site: SignedSite, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "graflow.redis")
    async with worker_of(site, OTHER, nobody=1.5):
        handle = await site.engine.submit(task(id="one")(lambda: 1))
        with pytest.raises(TaskFailedError) as failed:
            await handle.result(timeout=20)
    assert isinstance(failed.value.__cause__, UntrustedPayloadError)
    assert await types_of(handle) == ["task_started", "task_refused", "task_failed"]
    levels = Counter(record.levelname for record in caplog.records if "cannot be run here" in record.message)
    assert levels["WARNING"] == 1
    assert levels["DEBUG"] >= 1
    assert (await site.letters.list())[0].reason == "untrusted"


async def test_a_worker_that_has_not_been_asked_yet_is_waited_for(site: SignedSite) -> None:
    async with worker_of(site, KEY, concurrency=1):
        held = await site.engine.submit(busy)
        await first(held, "task_started")
        async with worker_of(site, OTHER, nobody=0.0):
            handle = await site.engine.submit(task(one_of_this_test()))
            await first(handle, "task_refused")
            assert (await handle.peek()).status is RunStatus.RUNNING
            gates[-1].set()
            assert (await handle.result(timeout=20)).output == 1
    assert await types_of(handle) == ["task_started", "task_refused", "task_started", "task_succeeded"]
    assert "U0" not in await fields_of(site, handle.run_id)


async def test_a_worker_that_serves_other_queues_is_not_waited_for(site: SignedSite) -> None:
    elsewhere = RedisBackend(site.url, heart="loop", secret_key=KEY)
    async with TaskWorker(elsewhere, queues=["elsewhere"], grace=0.0), worker_of(site, OTHER, nobody=0.0):
        handle = await site.engine.submit(task(id="one")(lambda: 1))
        with pytest.raises(TaskFailedError, match="UntrustedPayloadError"):
            await handle.result(timeout=20)


async def fields_of(site: SignedSite, run_id: str) -> set[str]:
    client = site.backend.client
    return {name.decode() for name in await client.commands.hkeys(client.keys.run(run_id))}


async def test_the_error_of_a_run_whose_time_is_up_names_the_worker_that_could_not_run_its_task(site: SignedSite) -> None:
    async with worker_of(site, OTHER):
        with pytest.raises(
            RunTimeoutError, match=r"timeout of 1\.5 s; task 'one' was waiting: worker worker-other cannot run it \(unknown_key\): "
        ):
            await site.engine.execute(task(id="one")(lambda: 1), timeout=1.5)


async def test_the_error_of_a_run_whose_time_is_up_says_that_there_was_no_worker(
    redis_url: str, allowed_keys: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    allowed_keys.update(("*:delayed", "*:streams", "*:q:*"))
    monkeypatch.setattr(presence, "PATIENCE", 0.2)
    async with WorkflowEngine(redis_url) as engine:
        with pytest.raises(
            RunTimeoutError, match="task 'busy' was waiting: no worker serves the queue 'default' with the handler 'coroutine'"
        ):
            await engine.execute(busy, timeout=1.5)
