"""Tasks in child processes of real workers."""

from __future__ import annotations

import asyncio
import signal

import pytest
from blockbuster import BlockBuster

from graflow import Task, WorkflowEngine, parallel
from graflow.errors import ChildDiedError, TaskFailedError
from tests.handlers import work
from tests.redis.fleet import Fleet, is_running
from tests.redis.server import servers

pytestmark = pytest.mark.parametrize("redis_server", sorted(servers(), reverse=True)[:1], indirect=True)
"""the server has no part in it"""


@pytest.fixture(autouse=True)
def may_block(blockbuster: BlockBuster) -> None:
    """The tests look at processes in ways that block for a moment. What is tested runs in processes of its own."""
    blockbuster.deactivate()


async def test_a_worker_runs_them_without_being_told_how(fleet: Fleet, engine: WorkflowEngine) -> None:
    (worker,) = await fleet.start()
    group = parallel(work.add.clone("one", a=1), work.add_async.clone("two", a=2), work.who)
    result = await engine.execute(group >> work.use_channel)
    assert (result["one"], result["two"]) == (2, 3)
    assert result["who"] != worker.pid
    assert result.output == [(1, 2), 7, 2, ["list", "n", "tuple"]]


async def test_how_a_child_died_is_told_to_whoever_waits_for_the_run(fleet: Fleet, engine: WorkflowEngine) -> None:
    await fleet.start()
    with pytest.raises(TaskFailedError) as caught:
        await engine.execute(work.killed)
    assert isinstance(caught.value.__cause__, ChildDiedError)
    assert caught.value.__cause__.signal == "SIGKILL"


@pytest.mark.parametrize("stuck", [work.hangs, work.holds_the_gil])
async def test_children_die_with_their_worker_and_their_tasks_start_again_elsewhere(
    fleet: Fleet, engine: WorkflowEngine, stuck: Task[..., None]
) -> None:
    (worker,) = await fleet.start()
    handle = await engine.submit(stuck)
    channel = engine.backend.coordinator.channel(handle.run_id)
    first: list[int] = await channel.wait("pids", 30)
    await channel.delete("pids")
    await fleet.start()
    worker.strike(signal.SIGKILL)
    again: list[int] = await channel.wait("pids", 30)
    assert again[0] != first[0]
    async with asyncio.timeout(10):
        while is_running(first[0]):  # noqa: ASYNC110 - nobody tells of a stranger's end
            await asyncio.sleep(0.02)
    await handle.cancel("enough")
