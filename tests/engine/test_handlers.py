"""Handlers: what runs where, and how much of it at once."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import pytest

from graflow import SyncTaskContext, WorkflowEngine, task
from graflow.errors import TaskFailedError
from graflow.handlers import Handler, TaskCall, ThreadHandler
from tests.engine.support import Gate, Meter, turns, until


@task
async def on_loop() -> int:
    return threading.get_ident()


@task
def in_thread() -> int:
    return threading.get_ident()


# ---- where ---------------------------------------------------------------------------------------------------------


async def test_a_coroutine_runs_on_the_loop_and_a_def_never_does() -> None:
    here = threading.get_ident()
    async with WorkflowEngine() as engine:
        assert (await engine.execute(on_loop)).output == here
        assert (await engine.execute(in_thread)).output != here


async def test_a_def_given_to_the_coroutine_handler_still_runs_in_a_thread() -> None:
    @task(handler="coroutine")
    def misplaced() -> int:
        return threading.get_ident()

    async with WorkflowEngine() as engine:
        assert (await engine.execute(misplaced)).output != threading.get_ident()


async def test_a_coroutine_given_to_the_thread_handler_still_runs_on_the_loop() -> None:
    @task(handler="thread")
    async def misplaced() -> int:
        return threading.get_ident()

    async with WorkflowEngine() as engine:
        assert (await engine.execute(misplaced)).output == threading.get_ident()


async def test_a_def_may_block() -> None:
    @task
    def blocking() -> str:
        time.sleep(0.001)  # blockbuster watches the loop's thread
        return "slept"

    async with WorkflowEngine() as engine:
        assert (await engine.execute(blocking)).output == "slept"


async def test_a_def_that_gives_a_coroutine_has_failed_and_is_told_why() -> None:
    async def inner() -> None: ...

    @task
    def forgetful() -> Any:
        return inner()

    async with WorkflowEngine() as engine:
        with pytest.raises(TaskFailedError, match=r"'forgetful' is a def that returned a coroutine, .*; declare it async def"):
            await engine.execute(forgetful)


async def test_a_coroutine_that_forgets_an_await_has_failed_and_is_told_why() -> None:
    async def inner() -> None: ...

    @task
    async def forgetful() -> Any:
        return inner()

    async with WorkflowEngine() as engine:
        with pytest.raises(TaskFailedError, match=r"'forgetful' returned a coroutine, which nobody awaits; write: return await"):
            await engine.execute(forgetful)


async def test_a_def_may_run_an_event_loop_of_its_own() -> None:
    @task
    def nested(ctx: SyncTaskContext) -> int:
        async def main() -> int:
            ctx.emit("from another loop")
            return 1

        return asyncio.run(main())

    async with WorkflowEngine() as engine:
        handle = await engine.submit(nested)
        assert (await handle.result()).output == 1
        assert [event.data["data"] async for event in handle.events() if event.type == "message"] == ["from another loop"]


async def test_a_blocking_context_refuses_to_block_the_loop() -> None:
    """A def's context that reaches the loop's thread would wait for itself for ever."""
    escaped: list[SyncTaskContext] = []

    @task
    def leaky(ctx: SyncTaskContext) -> None:
        escaped.append(ctx)

    async with WorkflowEngine() as engine:
        await engine.execute(leaky)
        with pytest.raises(RuntimeError, match="used on the event loop"):
            escaped[0].result_of("leaky")


# ---- how much ------------------------------------------------------------------------------------------------------


async def test_no_more_coroutines_run_at_once_than_there_are_slots() -> None:
    meter, gate = Meter(), Gate()

    @task
    async def measured(n: int) -> None:
        with meter:
            await gate.wait()

    async with WorkflowEngine(concurrency=7) as engine:
        handle = await engine.submit(measured.map(range(50)))
        await gate.arrived(7)
        await turns()
        assert meter.now == 7
        gate.open()
        await handle.result()
    assert (meter.most, meter.entered) == (7, 50)


async def test_no_more_threads_run_at_once_than_the_handler_has() -> None:
    meter, barrier = Meter(), threading.Barrier(3)

    @task
    def measured(n: int) -> None:
        with meter:
            barrier.wait(10)  # so many there are, or nobody would get through

    async with WorkflowEngine(handlers={"thread": ThreadHandler(threads=3)}) as engine:
        await engine.execute(measured.map(range(12)))
    assert (meter.most, meter.entered) == (3, 12)


async def test_each_handler_has_slots_of_its_own() -> None:
    """A kind that is full holds up no other, and each keeps to its own bound."""

    class Counting(Handler):
        def __init__(self, concurrency: int | None) -> None:
            self.concurrency = concurrency
            self.meter, self.gate = Meter(), Gate()

        async def run(self, call: TaskCall) -> None:
            with self.meter:
                await self.gate.wait()

    one, two, many = Counting(1), Counting(2), Counting(None)
    handlers = {"one": one, "two": two, "many": many}

    @task(handler="one")
    async def for_one(n: int) -> None: ...

    @task(handler="two")
    async def for_two(n: int) -> None: ...

    @task(handler="many")
    async def for_many(n: int) -> None: ...

    async with WorkflowEngine(handlers=handlers, concurrency=4) as engine:
        handle = await engine.submit(for_one.map(range(5)) | for_two.map(range(5)) | for_many.map(range(9)))
        await one.gate.arrived(1)
        await two.gate.arrived(2)
        await many.gate.arrived(4)
        await turns()
        for handler in (many, two, one):
            handler.gate.open()
        await handle.result()
    assert [handler.meter.most for handler in (one, two, many)] == [1, 2, 4]


async def test_a_group_with_a_limit_keeps_to_it_however_many_slots_there_are() -> None:
    meter = Meter()

    @task
    async def measured(n: int) -> None:
        with meter:
            await turns(3)

    async with WorkflowEngine() as engine:
        await engine.execute(measured.map(range(30), limit=4))
    assert (meter.most, meter.entered) == (4, 30)


# ---- at the same moment --------------------------------------------------------------------------------------------


async def test_a_thread_task_that_is_given_up_before_a_thread_took_it_never_runs() -> None:
    ran: list[int] = []
    started, leave = threading.Event(), threading.Event()

    class OneThread(ThreadHandler):
        def __init__(self) -> None:
            super().__init__(threads=1)
            self.concurrency = 2  # one attempt more than there are threads: it waits for one

        async def offload(self, call: TaskCall, function: Any) -> Any:
            if self._limiter is None:
                import anyio

                self._limiter = anyio.CapacityLimiter(1)
            return await super().offload(call, function)

    @task
    def first() -> None:
        started.set()
        leave.wait(30)

    @task
    def second() -> None:
        ran.append(2)

    async with WorkflowEngine(handlers={"thread": OneThread()}) as engine:
        running = await engine.submit(first)
        await asyncio.to_thread(started.wait)
        waiting = await engine.submit(second)
        await turns()
        await waiting.cancel()
        leave.set()
        await running.result()
        assert engine.worker is not None
        worker = engine.worker
        await until(lambda: not worker.metrics().abandoned_threads)
    assert ran == []
