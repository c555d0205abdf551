"""Containers of workers: the same results as in process, and nothing left of a worker that is killed."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

import graflow.backends.redis.backend  # noqa: F401 - reads its scripts from files, which is nothing to do on an event loop
from graflow import RunStatus, TaskWorker, WorkflowEngine, best_effort, parallel, workflow
from graflow.errors import OutOfMemoryError, TaskFailedError, TaskTimeoutError
from graflow.handlers import DockerHandler, Handler, ProcessHandler, TaskCall
from graflow.handlers.docker import reaper as reaping
from tests.docker import engines, flows

Make = Callable[..., DockerHandler]


async def test_tasks_run_in_the_containers_of_a_worker(handler: Make, redis_url: str) -> None:
    with workflow("mixed") as wf:
        wf.add(parallel(flows.double, flows.local) >> flows.add_up)
    async with TaskWorker(redis_url, handlers={"docker": handler(prewarm=1)}), WorkflowEngine(redis_url) as engine:
        assert (await engine.execute(wf, inputs={"n": 4})).output == 13
        talked = await engine.execute(flows.talk, inputs={"n": 4, "count": 2})
        assert talked.output == 2
        with pytest.raises(TaskFailedError) as caught:
            await engine.execute(flows.eat, inputs={"megabytes": 400})
    error = caught.value.__cause__
    assert isinstance(error, OutOfMemoryError)
    assert error.limit == 96 << 20


class Mine(Handler):
    """A handler of the user's own."""

    async def run(self, call: TaskCall) -> Any:
        return await call.invoke()


@pytest.mark.parametrize("where", ["in process", "on a worker"])
async def test_every_handler_works_beside_the_others_in_one_group(
    handler: Make, redis_url: str, where: str, caplog: pytest.LogCaptureFixture
) -> None:
    kinds = ["coroutine", "thread", "process", "container", "mine"]
    members = [flows.from_coroutine, flows.from_thread, flows.from_process, flows.from_container, flows.from_mine]
    handlers: dict[str, Handler] = {"docker": handler(), "process": ProcessHandler(1), "mine": Mine()}
    with workflow("all") as wf:
        wf.add(parallel(*members) >> flows.who_was_there)
    async with AsyncExitStack() as stack:
        if where == "on a worker":
            await stack.enter_async_context(TaskWorker(redis_url, handlers=handlers))
            engine = await stack.enter_async_context(WorkflowEngine(redis_url))
        else:
            engine = await stack.enter_async_context(WorkflowEngine(handlers=handlers))
        handle = await engine.submit(wf)
        progress = [event.data["message"] async for event in handle.events() if event.type == "progress"]
        result = await handle.result()
    assert [result[member] for member in members] == kinds
    assert result.output == sorted(kinds)
    assert sorted(progress) == sorted(kinds)
    assert {"here is process", "here is container"} <= {record.getMessage() for record in caplog.records}


class Crew:
    """Worker processes."""

    def __init__(self, *arguments: str) -> None:
        self._arguments = arguments
        self.members: list[asyncio.subprocess.Process] = []

    async def start(self) -> asyncio.subprocess.Process:
        member = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.docker.worker", *self._arguments, cwd=Path(__file__).parents[2], stdout=asyncio.subprocess.PIPE
        )
        self.members.append(member)
        assert member.stdout is not None
        assert await asyncio.wait_for(member.stdout.readline(), 30) == b"ready\n"
        return member


@asynccontextmanager
async def crew_of(*arguments: str) -> AsyncIterator[Crew]:
    crew = Crew(*arguments)
    try:
        yield crew
    finally:
        for member in crew.members:
            if member.returncode is None:
                member.send_signal(signal.SIGINT)
            await member.wait()


@pytest.mark.timeout(120)
async def test_the_containers_of_a_worker_that_is_killed_are_removed_and_its_tasks_done_elsewhere(
    docker: engines.Engine, image: str, redis_url: str, eventually: Callable[..., Any], foreign: Callable[..., str]
) -> None:
    def theirs(worker: str) -> dict[str, Any]:
        return docker.containers(f"graflow.worker={worker}")

    other = await asyncio.to_thread(foreign, host="another-host", place="x", worker="gone")
    async with crew_of(redis_url, docker.url, image) as crew, WorkflowEngine(redis_url) as engine:
        first = await crew.start()
        handle = await engine.submit(flows.sleep_once_for_long, inputs={"note": "seen"})
        async for event in handle.events():
            if event.type == "progress":
                break
        (victim,) = {each["Labels"]["graflow.worker"] for each in (await asyncio.to_thread(docker_of, docker, first.pid)).values()}
        await crew.start()
        first.send_signal(signal.SIGKILL)
        assert (await handle.result(timeout=60)).status is RunStatus.SUCCEEDED
        await eventually(lambda: not theirs(victim))
        assert other in await asyncio.to_thread(docker.containers, "graflow.host=another-host")


@pytest.mark.timeout(240)
async def test_a_worker_killed_amid_a_storm_leaves_nothing_and_each_of_its_tasks_ends_as_it_should(
    docker: engines.Engine, image: str, redis_url: str, eventually: Callable[..., Any], foreign: Callable[..., str]
) -> None:
    other = await asyncio.to_thread(foreign, host="another-host", place="x", worker="gone")
    kinds: dict[int, Any] = {0: flows.fail, 10: flows.fail, 1: flows.eat, 2: flows.sleep_too_long}
    causes_of = {"fail": ValueError, "eat": OutOfMemoryError, "sleep_too_long": TaskTimeoutError}
    members: list[Any] = []
    for n in range(200):  # 10 % fail, 5 % take too much memory, 5 % too long
        kind = kinds.get(n % 20, flows.double)
        bound = {"fail": {"n": n}, "eat": {"megabytes": 200}, "double": {"n": n}}.get(kind.id, {})
        members.append(kind.clone(f"{kind.id}-{n}", **bound))
    async with crew_of(redis_url, docker.url, image) as crew, WorkflowEngine(redis_url) as engine:
        victim = await crew.start()
        handle = await engine.submit(parallel(*members, name="all").with_policy(best_effort))
        ended = 0
        async for event in handle.events():
            ended += event.type in ("task_succeeded", "task_failed")
            if ended == 60:
                break
        await crew.start()
        victim.send_signal(signal.SIGKILL)
        result = await handle.result(timeout=200)
        causes = {id: type(error.__cause__) for id, error in result.errors.items()}
        expected = {task.id: causes_of.get(task.id.partition("-")[0]) for task in members}
        assert causes == {id: cause for id, cause in expected.items() if cause is not None}
        assert all(result[id] == 2 * int(id.removeprefix("double-")) for id, cause in expected.items() if cause is None)
        settled = [event.task_id async for event in handle.events() if event.type in ("task_succeeded", "task_failed")]
        assert len(settled) == len(set(settled)) >= len(members)
        await eventually(lambda: not docker_of(docker, victim.pid))
        assert other in await asyncio.to_thread(docker.containers, "graflow.host=another-host")


@pytest.mark.timeout(120)
async def test_a_worker_that_comes_back_under_its_name_removes_what_it_has_left_running(
    docker: engines.Engine, image: str, redis_url: str, eventually: Callable[..., Any]
) -> None:
    async with crew_of(redis_url, docker.url, image, "same") as crew, WorkflowEngine(redis_url) as engine:
        first = await crew.start()
        handle = await engine.submit(flows.hold_the_interpreter_once)
        hostname = ""
        async for event in handle.events():
            if event.type == "progress":
                hostname = str(event.data["message"])
                break
        there = await asyncio.to_thread(docker_of, docker, first.pid)
        (left,) = (id for id in there if id.startswith(hostname))
        first.send_signal(signal.SIGKILL)
        await first.wait()
        assert (await asyncio.to_thread(docker.inspect, left))["State"]["Running"]  # it does not hear that its worker is gone
        try:
            await crew.start()
            await eventually(lambda: not docker_of(docker, first.pid))
        finally:
            await asyncio.to_thread(remove_all_of, docker, first.pid)
        # A second one may have been handed to the dead worker too: the server hears of the end of its read a moment after that of its process.
        assert (await handle.result(timeout=60)).output >= 2


def remove_all_of(docker: engines.Engine, pid: int) -> None:
    for container in docker_of(docker, pid):
        docker.remove(container)


def docker_of(docker: engines.Engine, pid: int) -> dict[str, Any]:
    return {id: each for id, each in docker.containers("graflow.token").items() if each["Labels"]["graflow.process"].startswith(f"{pid}/")}


PROGRAM = """
import asyncio, sys
from graflow import WorkflowEngine
from graflow.handlers import DockerHandler, Handler, ProcessHandler, TaskCall
from tests.docker import flows

async def main(image, host):
    async with WorkflowEngine(handlers={"docker": DockerHandler(image, host=host, pull="never", memory="64m")}) as engine:
        handle = await engine.submit(flows.sleep_after_saying, inputs={"seconds": 600})
        async for event in handle.events():
            if event.type == "progress":
                print(event.data["message"], flush=True)

asyncio.run(main(*sys.argv[1:]))
"""


async def test_a_container_whose_worker_is_killed_ends_by_itself_and_is_removed_by_whoever_comes_next(
    handler: Make, docker: engines.Engine, image: str, eventually: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    command = [sys.executable, "-c", PROGRAM, image, docker.url]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE, cwd=Path(__file__).parents[2])
    assert process.stdout is not None
    container = (await process.stdout.readline()).decode().strip()
    process.kill()
    await process.wait()
    assert await eventually(lambda: not docker.inspect(container)["State"]["Running"])
    monkeypatch.setattr(reaping, "PERIOD", 0.05)
    async with WorkflowEngine(handlers={"docker": handler()}):
        await eventually(lambda: not any(id.startswith(container) for id in docker.containers("graflow.token")))
