"""Whoever waits for a run hears of it over two connections, which keep no order between them: answers over one, words over the other."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any

import pytest

from graflow import TaskContext, WorkflowEngine, task
from graflow.backends.redis.backend import RedisBackend
from graflow.backends.redis.scripts import Script
from graflow.backends.redis.watch import Watched
from graflow.core.suspension import SuspendStep
from graflow.engine.handle import RunHandle

SOON = 15.0


class Delayed:
    """Holds up the answers to "where does this run stand?", until what ``meanwhile`` waits for has happened."""

    def __init__(self, backend: RedisBackend) -> None:
        self.asked: list[bytes] = []
        """what was answered"""
        self.meanwhile: Callable[[], Awaitable[object]] | None = None
        self._call = backend.client.call

    async def __call__(self, script: Script, args: Sequence[Any] = (), **how: Any) -> Any:
        reply = await self._call(script, args, **how)
        if "watch" in args:
            self.asked.append(reply[1])
            meanwhile, self.meanwhile = self.meanwhile, None
            if meanwhile is not None:
                await meanwhile()
        return reply


class Asking:
    """A run of one task, which asks, and then waits until it may end."""

    def __init__(self, backend: RedisBackend, engine: WorkflowEngine) -> None:
        self.backend, self.engine = backend, engine
        self.may_end = asyncio.Event()

    async def begin(self) -> RunHandle[Any]:
        """Until it is suspended."""

        @task
        async def ask(ctx: TaskContext) -> str:
            if ctx.attempt == 1:
                raise SuspendStep("well?")
            await self.may_end.wait()
            return "done"

        handle = await self.engine.submit(ask)
        assert (await handle.result()).status == "suspended"
        return handle

    async def end(self, handle: RunHandle[Any]) -> None:
        """Let it end, until the word of that is here."""
        watched = self.backend.coordinator.pin(handle.run_id)
        assert isinstance(watched, Watched)
        self.may_end.set()
        while not (watched.is_over and watched.live == 0):
            await heard(watched)


async def heard(watched: Watched) -> None:
    """The next word on a run."""
    word = asyncio.get_running_loop().create_future()
    watched.waiters.add(word)
    try:
        await word
    finally:
        watched.waiters.discard(word)


@pytest.fixture
async def asking(redis_url: str) -> AsyncIterator[Asking]:
    """A run, and the engine and worker that it needs."""
    backend = RedisBackend(redis_url, local_code=True, heart="loop")
    async with WorkflowEngine(backend, embedded_worker=True) as engine:
        yield Asking(backend, engine)


@pytest.fixture
def delayed(asking: Asking, monkeypatch: pytest.MonkeyPatch) -> Delayed:
    """Answers that come late."""
    delayed = Delayed(asking.backend)
    monkeypatch.setattr(asking.backend.client, "call", delayed)
    return delayed


async def test_an_answer_that_the_run_goes_on_does_not_silence_the_word_of_its_end(asking: Asking, delayed: Delayed) -> None:
    handle = await asking.begin()
    assert await handle.resume("ask")
    delayed.meanwhile = lambda: asking.end(handle)
    async with asyncio.timeout(SOON):
        assert (await handle.result()).output == "done"
    assert delayed.asked == [b"r"]  # it was asked once, in time, and answered late


async def test_an_answer_after_which_something_else_was_heard_is_asked_for_again(asking: Asking, delayed: Delayed) -> None:
    handle = await asking.begin()
    watched = asking.backend.coordinator.pin(handle.run_id)
    assert isinstance(watched, Watched)
    assert await handle.resume("ask")

    async def an_old_word() -> None:
        watched.take("suspended", 0)  # as if it had been on its way since before the answer was given

    delayed.meanwhile = an_old_word
    waiting = asyncio.create_task(handle.result())
    with suppress(TimeoutError):
        async with asyncio.timeout(SOON):
            while len(delayed.asked) < 2:
                await heard(watched)
    assert delayed.asked == [b"r", b"r"]
    assert not waiting.done()
    asking.may_end.set()
    async with asyncio.timeout(SOON):
        assert (await waiting).output == "done"
