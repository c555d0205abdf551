"""Faults that a real engine cannot be made to have: errors amid a call, answers that never come, connections that break."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from graflow import WorkflowEngine, parallel
from graflow.errors import ChildDiedError, ContainerEngineError, ContainerLostError, ImageNotFoundError, OutOfMemoryError, TaskFailedError
from graflow.handlers import DockerHandler
from graflow.handlers.docker import deaths
from graflow.handlers.docker import engine as engines
from tests.docker import flows
from tests.docker.fake import DROP, HANG, FakeEngine

Make = Callable[..., DockerHandler]


@pytest.fixture
async def fake(tmp_path: Path) -> AsyncIterator[FakeEngine]:
    """A fake engine, on which no container may be left."""
    async with FakeEngine(str(tmp_path / "docker.sock")) as fake:
        yield fake
        assert not fake.containers


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits long for an engine that does not answer."""
    monkeypatch.setattr(engines, "PATIENCE", 0.3)
    monkeypatch.setattr(deaths, "LINGER", 0.3)
    monkeypatch.setattr(engines, "AGAIN", 0.01)


@pytest.fixture
def make(fake: FakeEngine, quick: None, monkeypatch: pytest.MonkeyPatch) -> Make:
    """Makes handlers for the fake engine. Its containers are processes of this machine, so they find the tests where those are."""
    root = str(Path(__file__).parents[2])
    monkeypatch.setenv("PYTHONPATH", root)

    def make(**settings: Any) -> DockerHandler:
        return DockerHandler(**{"image": "fake:1", "host": fake.url, "code": "image", **settings})

    return make


async def cause(engine: WorkflowEngine, graph: Any, **inputs: Any) -> BaseException:
    with pytest.raises(TaskFailedError) as caught:
        await engine.execute(graph, inputs=inputs)
    assert caught.value.__cause__ is not None
    return caught.value.__cause__


async def doubles(engine: WorkflowEngine) -> bool:
    return (await engine.execute(flows.double, inputs={"n": 2})).output == 4


async def test_the_fake_runs_what_a_real_engine_runs(make: Make) -> None:
    async with WorkflowEngine(handlers={"docker": make()}) as engine:
        assert await doubles(engine)
        assert isinstance(await cause(engine, flows.leave, code=3), ChildDiedError)


@pytest.mark.parametrize("operation", ["create", "attach", "start"])
async def test_an_error_while_a_container_is_made_fails_the_task_and_no_other(make: Make, fake: FakeEngine, operation: str) -> None:
    async with WorkflowEngine(handlers={"docker": make()}) as engine:
        fake.fail(operation, (500, "the disk is full"))
        error = await cause(engine, flows.double, n=2)
        assert isinstance(error, ContainerEngineError)
        assert "the disk is full" in str(error)
        assert await doubles(engine)


@pytest.mark.parametrize("operation", ["version", "create", "attach", "start"])
async def test_an_engine_that_does_not_answer_is_not_waited_for_for_ever(make: Make, fake: FakeEngine, operation: str) -> None:
    if operation == "version":
        fake.fail("version", HANG, HANG)
        with pytest.raises(ContainerEngineError, match="did not answer within"):
            async with WorkflowEngine(handlers={"docker": make()}):
                pass
        return
    async with WorkflowEngine(handlers={"docker": make()}) as engine:
        fake.fail(operation, HANG)
        error = await cause(engine, flows.double, n=2)
        assert isinstance(error, ContainerEngineError)
        assert "did not answer within" in str(error)
        assert await doubles(engine)


@pytest.mark.parametrize("operation", ["create", "attach", "start"])
async def test_a_connection_that_breaks_while_a_container_is_made_leads_to_another_container(
    make: Make, fake: FakeEngine, operation: str
) -> None:
    async with WorkflowEngine(handlers={"docker": make()}) as engine:
        fake.fail(operation, DROP)
        assert await doubles(engine)


async def test_a_connection_that_breaks_while_the_task_runs_loses_the_container(make: Make, fake: FakeEngine) -> None:
    async with WorkflowEngine(handlers={"docker": make()}) as engine:
        handle = await engine.submit(flows.sleep_after_saying, inputs={"seconds": 60})
        async for event in handle.events():
            if event.type == "progress":
                fake.fail("wait", HANG)  # it still runs, as far as the engine knows
                fake.cut()
        with pytest.raises(TaskFailedError) as caught:
            await handle.result()
        error = caught.value.__cause__
        assert isinstance(error, ContainerLostError)
        assert error.task_id == "sleep_after_saying"
        assert not fake.containers
        assert await doubles(engine)


async def test_an_engine_that_is_started_anew_loses_the_container_and_is_waited_for(make: Make, fake: FakeEngine) -> None:
    async with WorkflowEngine(handlers={"docker": make(engine_grace=20.0)}) as engine:
        handle = await engine.submit(flows.sleep_after_saying, inputs={"seconds": 60})
        async for event in handle.events():
            if event.type == "progress":
                await fake.close()
        with pytest.raises(TaskFailedError) as caught:
            await handle.result()
        assert isinstance(caught.value.__cause__, ContainerLostError)
        waiting = asyncio.create_task(doubles(engine))
        await asyncio.sleep(0.1)
        assert not waiting.done()
        await fake.open()
        assert await waiting


async def test_an_engine_that_stays_away_fails_the_task_after_the_grace(make: Make, fake: FakeEngine) -> None:
    async with WorkflowEngine(handlers={"docker": make(engine_grace=0.2)}) as engine:
        await fake.close()
        error = await cause(engine, flows.double, n=2)
        assert isinstance(error, ContainerEngineError)
        assert fake.url in str(error)
        await fake.open()
        assert await doubles(engine)


async def test_a_container_whose_end_cannot_be_asked_about_is_lost(make: Make, fake: FakeEngine) -> None:
    async with WorkflowEngine(handlers={"docker": make()}) as engine:
        fake.fail("wait", (404, "No such container: x"), (500, "no"))
        for _ in range(2):
            assert isinstance(await cause(engine, flows.leave, code=3), ContainerLostError)


async def test_what_the_engine_says_of_memory_is_believed(make: Make, fake: FakeEngine) -> None:
    async with WorkflowEngine(handlers={"docker": make(memory="64m")}) as engine:
        handle = await engine.submit(flows.sleep_after_saying, inputs={"seconds": 60})
        async for event in handle.events():
            if event.type == "progress":
                (container,) = fake.containers.values()
                container.oom = True
                assert container.process is not None
                container.process.kill()
        with pytest.raises(TaskFailedError) as caught:
            await handle.result()
        assert isinstance(caught.value.__cause__, OutOfMemoryError)


@pytest.mark.parametrize(("grown", "error"), [(1, OutOfMemoryError), (0, ChildDiedError)])
@pytest.mark.parametrize("prewarm", [0, 1])
async def test_where_the_engine_says_nothing_of_memory_the_kernel_is_believed(
    make: Make, fake: FakeEngine, monkeypatch: pytest.MonkeyPatch, grown: int, error: type[Exception], prewarm: int
) -> None:
    monkeypatch.setattr(engines, "PATIENCE", 30.0)
    counts = [3]
    monkeypatch.setattr(deaths, "out_of_memory_kills", lambda: counts[-1])
    async with WorkflowEngine(handlers={"docker": make(prewarm=prewarm)}) as engine:
        for _ in range(2):  # the second time it is no news
            counts.append(counts[-1] + grown)
            assert isinstance(await cause(engine, flows.leave, code=3), ChildDiedError)
            handle = await engine.submit(flows.sleep_after_saying, inputs={"seconds": 60})
            async for event in handle.events():
                if event.type == "progress":
                    counts.append(counts[-1] + grown)
                    killed = [each for each in fake.containers.values() if each.attached is not None and each.process is not None]
                    for container in killed:
                        container.process.kill()
            with pytest.raises(TaskFailedError) as caught:
                await handle.result()
            assert type(caught.value.__cause__) is error
            async with asyncio.timeout(10):  # among them may be one that waits for a task, which the next one shall not meet
                while any(each in fake.containers.values() for each in killed):  # noqa: ASYNC110 - they go one by one
                    await asyncio.sleep(0.01)
        assert type(await cause(engine, flows.kill_self, number=9)) is ChildDiedError


async def test_the_kernel_of_another_machine_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    counts = iter(range(9))
    monkeypatch.setattr(deaths, "out_of_memory_kills", lambda: next(counts))
    there, here = deaths.Kills(local=False), deaths.Kills(local=True)
    assert [await there.look(), await there.look(), await here.look(), await here.look()] == [0, 0, 0, 1]


async def test_the_kernel_is_not_asked_at_each_call_and_again_when_it_was_long_ago(monkeypatch: pytest.MonkeyPatch) -> None:
    counts = iter(range(9))
    monkeypatch.setattr(deaths, "out_of_memory_kills", lambda: next(counts))
    kills = deaths.Kills(local=True)
    assert [await kills.recent(), await kills.recent()] == [0, 0]
    monkeypatch.setattr(deaths, "FRESH", 0.0)
    assert [await kills.recent(), await kills.recent()] == [1, 2]


@pytest.mark.parametrize("fault", [(500, "the device is busy"), DROP, HANG])
async def test_a_container_that_cannot_be_removed_is_tried_again(make: Make, fake: FakeEngine, fault: Any) -> None:
    async with WorkflowEngine(handlers={"docker": make()}) as engine:
        fake.fail("delete", fault)
        assert await doubles(engine)
    assert fake.asked.count("delete") >= 2


async def test_a_container_that_is_being_removed_already_is_left_to_it(make: Make, fake: FakeEngine) -> None:
    async with WorkflowEngine(handlers={"docker": make()}) as engine:
        fake.fail("delete", (409, "removal of container x is already in progress"))
        assert await doubles(engine)
    assert fake.asked.count("delete") == 1
    for container in list(fake.containers.values()):
        await fake._end(container)


async def test_a_container_that_stays_is_told_of_at_the_end(make: Make, fake: FakeEngine, caplog: pytest.LogCaptureFixture) -> None:
    async with WorkflowEngine(handlers={"docker": make()}) as engine:
        assert await doubles(engine)
        fake.fail("delete", *[(500, "no")] * 9)
    assert any(record.levelno == logging.ERROR and "left behind" in record.getMessage() for record in caplog.records)
    for container in list(fake.containers.values()):
        await fake._end(container)


async def test_a_name_that_cannot_be_given_is_no_failure(make: Make, fake: FakeEngine) -> None:
    handler = make(prewarm=1)
    async with WorkflowEngine(handlers={"docker": handler}) as engine:
        async with asyncio.timeout(20):
            while not handler.warm:  # noqa: ASYNC110 - it gets ready by itself
                await asyncio.sleep(0.01)
        fake.fail("rename", (500, "no"))
        assert (await engine.execute(flows.sleep, inputs={"seconds": 0.5})).output == "slept"
    assert "rename" in fake.asked


async def test_an_image_that_is_removed_while_the_worker_runs_is_pulled_again(make: Make, fake: FakeEngine) -> None:
    fake.registry.add("fake:1")
    async with WorkflowEngine(handlers={"docker": make()}) as engine:
        assert await doubles(engine)
        fake.images.clear()
        result = await engine.execute(parallel(*(flows.double.clone(f"double-{n}") for n in range(3))), inputs={"n": 2})
        assert result.output == [4, 4, 4]
    assert fake.asked.count("pull") == 1


@pytest.mark.parametrize(
    ("pull", "pulls", "advice"), [("never", 0, "pull='never' forbids to get it"), ("missing", 1, "could not be pulled")]
)
async def test_an_image_that_cannot_be_had_again_fails_the_task(make: Make, fake: FakeEngine, pull: str, pulls: int, advice: str) -> None:
    async with WorkflowEngine(handlers={"docker": make(pull=pull)}) as engine:
        fake.images.clear()
        error = await cause(engine, flows.double, n=2)
    assert isinstance(error, ImageNotFoundError)
    assert advice in str(error)
    assert fake.asked.count("pull") == pulls
