"""Tasks in containers where nobody has set up a handler for them: engines in memory, commands, and workers that are told to serve them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from graflow import TaskWorker, WorkflowEngine, parallel
from graflow.errors import ConfigurationError, ContainerEngineError, TaskFailedError
from graflow.handlers.standby import StandbyDocker
from tests.docker import engines, flows
from tests.docker.fake import FakeEngine
from tests.redis.server import RedisServer, find_server

ROOT = str(Path(__file__).parents[2])
FLOW = """
import os
from graflow import task, workflow

@task(handler="docker")
def where() -> str:
    return os.environ["HOME"]

with workflow("in a box") as wf:
    wf.add(where)
"""


@pytest.fixture
async def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[FakeEngine]:
    """The engine that the environment names, with the image that containers have by default. Its containers find the tests where those are."""
    monkeypatch.setenv("PYTHONPATH", ROOT)
    async with FakeEngine(str(tmp_path / "docker.sock")) as fake:
        fake.images = {"python:3.11-slim"}
        monkeypatch.setenv("DOCKER_HOST", fake.url)
        yield fake
        assert not fake.containers


async def test_an_engine_in_memory_runs_tasks_in_containers_without_being_told_how(fake: FakeEngine) -> None:
    async with WorkflowEngine() as engine:
        result = await engine.execute(parallel(*(flows.double.clone(f"double-{n}") for n in range(3))), inputs={"n": 2})
    assert result.output == [4, 4, 4]
    assert fake.asked.count("list") == 1  # one handler, whose reaper has looked once, for tasks that came at the same time


async def test_the_engine_is_not_asked_anything_before_the_first_such_task(fake: FakeEngine) -> None:
    async with WorkflowEngine() as engine:
        await engine.execute(flows.local, inputs={"n": 1})
    assert fake.asked == []


async def test_an_engine_that_is_entered_again_runs_containers_again(fake: FakeEngine) -> None:
    engine = WorkflowEngine()
    for _ in range(2):
        async with engine:
            assert (await engine.execute(flows.double, inputs={"n": 2})).output == 4


def test_whoever_runs_no_container_imports_nothing_for_them() -> None:
    program = "import asyncio, sys; from graflow import WorkflowEngine, task\n@task\ndef f(): return 1\n"
    program += "async def main():\n  async with WorkflowEngine() as engine: await engine.execute(f)\nasyncio.run(main())\n"
    program += "print(sorted(name for name in sys.modules if 'docker' in name))"
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True, cwd=ROOT)
    assert done.stdout == "[]\n"


async def test_without_the_client_the_task_fails_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "aiodocker", None)
    async with WorkflowEngine() as engine:
        with pytest.raises(TaskFailedError, match=r"pip install 'graflow\[docker\]'") as caught:
            await engine.execute(flows.double, inputs={"n": 2})
    assert isinstance(caught.value.__cause__, ConfigurationError)


async def test_without_an_engine_the_task_fails_and_the_next_one_tries_again(fake: FakeEngine) -> None:
    async with WorkflowEngine() as engine:
        await fake.close()
        with pytest.raises(TaskFailedError) as caught:
            await engine.execute(flows.double, inputs={"n": 2})
        assert isinstance(caught.value.__cause__, ContainerEngineError)
        await fake.open()
        assert (await engine.execute(flows.double, inputs={"n": 2})).output == 4


def test_a_worker_of_a_server_serves_containers_only_when_it_is_told_to() -> None:
    url = "redis://localhost:6379/0"  # nobody connects to it
    assert list(TaskWorker(url).handlers) == ["coroutine", "thread", "process"]
    assert isinstance(TaskWorker(url, serve=("thread", "docker")).handlers["docker"], StandbyDocker)


def run(folder: Path, *words: str, host: str) -> subprocess.CompletedProcess[str]:
    (folder / "flow.py").write_text(FLOW)
    kept = {name: value for name, value in os.environ.items() if name not in ("DOCKER_IMAGE", "HANDLER_TYPE")}
    return subprocess.run(
        [sys.executable, "-m", "graflow", "run", "flow.py", "--json", *words],
        cwd=folder, env={**kept, "PYTHONPATH": ROOT, "DOCKER_HOST": host}, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip


def test_the_command_runs_a_workflow_in_the_image_that_it_is_given(tmp_path: Path, docker: engines.Engine, image: str) -> None:
    ran = run(tmp_path, "--docker-image", image, host=docker.url)
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout)["output"] == "/tmp"


@pytest.mark.skipif(find_server() is None, reason="no redis-server on this machine")
def test_workers_of_the_command_run_it_there_too(tmp_path: Path, docker: engines.Engine, image: str) -> None:
    with RedisServer() as server:
        ran = run(tmp_path, "--docker-image", image, "--redis", server.url, "--workers", "1", host=docker.url)
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout)["output"] == "/tmp"


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("--docker-image", "Bad Image"), "graflow: DockerHandler(image='Bad Image'): give the name of an image"),
        (("--docker-image", "a", "--redis", "redis://localhost"), "graflow: --docker-image is for workers that this command starts"),
    ],
)
def test_an_image_that_makes_no_sense_is_one_line(words: tuple[str, ...], complaint: str, tmp_path: Path) -> None:
    ran = run(tmp_path, *words, host="unix:///none.sock")
    assert ran.returncode == 2
    (line,) = ran.stderr.splitlines()
    assert line.startswith(complaint)
