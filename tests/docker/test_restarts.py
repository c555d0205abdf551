"""A real engine that crashes amid tasks, and comes back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from graflow import WorkflowEngine
from graflow.errors import ContainerEngineError, ContainerLostError, TaskFailedError
from graflow.handlers import DockerHandler
from tests.docker import engines, flows


@pytest.fixture(scope="module")
def mortal() -> Iterator[engines.OwnEngine]:
    """An engine that may be killed."""
    if (reason := engines.why_none_of_our_own()) is not None:
        pytest.skip(reason)
    own = engines.OwnEngine()
    try:
        own.start()
        yield own
    finally:
        own.stop()


@pytest.fixture
def own(mortal: engines.OwnEngine) -> engines.OwnEngine:
    """The same, running."""
    if not mortal.answers():
        mortal.start()
    return mortal


@pytest.fixture
def own_image(own: engines.OwnEngine) -> str:
    return own.image()


@pytest.mark.timeout(180)
@pytest.mark.parametrize("end", ["kill", "terminate"])
async def test_tasks_survive_the_restart_of_their_engine_or_say_that_they_did_not(
    own: engines.OwnEngine, own_image: str, end: str, eventually: Callable[..., Any]
) -> None:
    handler = DockerHandler(own_image, host=own.url, pull="never", prewarm=1, packages=["tests"], memory="64m", engine_grace=60.0)
    async with WorkflowEngine(handlers={"docker": handler}) as engine:
        await eventually(lambda: handler.warm)
        handle = await engine.submit(flows.sleep_after_saying, inputs={"seconds": 600})
        async for event in handle.events():
            if event.type == "progress":
                await asyncio.to_thread(own.kill if end == "kill" else own.end)
        with pytest.raises(TaskFailedError) as caught:
            await handle.result()
        assert isinstance(caught.value.__cause__, ContainerLostError)
        waiting = asyncio.create_task(engine.execute(flows.double, inputs={"n": 2}))
        await asyncio.to_thread(own.start)
        assert (await waiting).output == 4
        await eventually(lambda: handler.warm)
        assert (await engine.execute(flows.double, inputs={"n": 3})).output == 6
    assert await asyncio.to_thread(own.containers) == {}


@pytest.mark.timeout(180)
async def test_an_engine_that_does_not_come_back_is_told(own: engines.OwnEngine, own_image: str) -> None:
    handler = DockerHandler(own_image, host=own.url, pull="never", engine_grace=0.5)
    async with WorkflowEngine(handlers={"docker": handler}) as engine:
        await asyncio.to_thread(own.end)
        with pytest.raises(TaskFailedError) as caught:
            await engine.execute(flows.double, inputs={"n": 2})
        assert isinstance(caught.value.__cause__, ContainerEngineError)
