"""Whoever knows the id of a run can attach to it, for as long as it is remembered."""

from __future__ import annotations

import asyncio

import pytest

from graflow import RunStatus, WorkflowEngine, task, testing
from graflow.backends.memory import MemoryBackend
from graflow.errors import TaskFailedError, UnknownRunError
from tests.engine.support import Gate, collected


class Owned:
    """A clock that a test owns. Only what is asked of it passes: nothing here waits."""

    def __init__(self) -> None:
        self.time = 1_000.0

    def now(self) -> float:
        return self.time

    def monotonic(self) -> float:
        return self.time


@task
async def one() -> int:
    return 1


@task
async def other() -> int:
    return 2


async def test_attaching_finds_a_run_in_progress_and_after_its_end() -> None:
    gate = Gate()

    @task
    async def slow() -> str:
        await gate.wait()
        return "done"

    async with WorkflowEngine() as engine:
        await engine.submit(slow, run_id="r")
        handle = await engine.attach("r")
        assert (handle.created, await handle.status()) == (False, RunStatus.RUNNING)
        gate.open()
        assert (await handle.result()).output == "done"
        del handle
        later = await engine.attach("r")
        assert (await later.result()).output == "done"
        assert (await collected(later))[0].type == "run_started"


async def test_attaching_to_a_run_that_nobody_knows_says_so() -> None:
    async with WorkflowEngine() as engine:
        with pytest.raises(UnknownRunError) as caught:
            await engine.attach("r")
    assert caught.value.run_id == "r"
    assert str(caught.value) == (
        "no run 'r' here: it was never submitted to this engine, or it ended and is no longer remembered "
        "(a run with an id of its own is kept for 86400 s after its end)"
    )


async def test_a_run_without_an_id_of_its_own_is_known_while_it_runs_or_somebody_holds_it() -> None:
    gate = Gate()

    @task
    async def slow() -> int:
        await gate.wait()
        return 1

    async with WorkflowEngine() as engine:
        run_id = (await engine.submit(slow)).run_id
        handle = await engine.attach(run_id)
        gate.open()
        assert (await handle.result()).output == 1
        assert (await (await engine.attach(run_id)).result()).output == 1
        del handle
        with pytest.raises(UnknownRunError):
            await engine.attach(run_id)


async def test_a_run_is_remembered_for_so_long_after_its_end() -> None:
    clock, gate = Owned(), Gate()

    @task
    async def slow() -> int:
        await gate.wait()
        return 1

    async with WorkflowEngine(MemoryBackend(clock=clock, retention=60)) as engine:
        await engine.submit(slow, run_id="slow")
        clock.time += 1_000  # however long it takes
        gate.open()
        await (await engine.attach("slow")).result()
        clock.time += 59
        assert (await (await engine.attach("slow")).result()).output == 1
        clock.time += 2
        with pytest.raises(UnknownRunError, match="is kept for 60 s after its end"):
            await engine.attach("slow")
        assert (await engine.submit(slow, run_id="slow", inputs={"other": 1})).created  # the id is free again


async def test_a_handle_keeps_its_run_readable_beyond_that() -> None:
    clock = Owned()
    async with WorkflowEngine(MemoryBackend(clock=clock, retention=60)) as engine:
        handle = await engine.submit(one, run_id="r")
        await handle.result()
        clock.time += 1_000
        assert (await handle.result()).output == 1
        assert (await handle.peek()).output == 1


async def test_runs_are_forgotten_in_the_order_of_their_ends_also_when_one_was_run_again() -> None:
    clock, fail = Owned(), [True]

    @task
    async def flaky() -> int:
        if fail:
            raise ValueError
        return 1

    async with WorkflowEngine(MemoryBackend(clock=clock, retention=60)) as engine:
        with pytest.raises(TaskFailedError):
            await engine.execute(flaky, run_id="again")
        clock.time += 10
        await engine.execute(one, run_id="one")
        clock.time += 40
        fail.clear()
        await (await engine.submit(flaky, run_id="again", if_exists="rerun_failed")).result()
        clock.time += 30
        with pytest.raises(UnknownRunError):
            await engine.attach("one")
        assert (await (await engine.attach("again")).result()).output == 1


async def test_virtual_time_makes_runs_forgotten_too() -> None:
    async with testing.engine() as engine:
        await engine.execute(one, run_id="r")
        await asyncio.sleep(86_399)
        await engine.attach("r")
        await asyncio.sleep(2)
        with pytest.raises(UnknownRunError):
            await engine.attach("r")


async def test_leaving_the_engine_forgets_all_runs() -> None:
    engine = WorkflowEngine()
    async with engine:
        await engine.execute(one, run_id="r")
    async with engine:
        with pytest.raises(UnknownRunError):
            await engine.attach("r")
        assert (await engine.submit(other, run_id="r")).created
