"""Containers of workers that a file tells what to do, and what ``graflow-aworker --check`` says of their engine."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from graflow import WorkflowEngine
from graflow.backends.memory import MemoryBackend
from graflow.backends.redis.backend import RedisBackend
from graflow.errors import ImageNotFoundError
from graflow.handlers import DockerHandler
from graflow.worker.config import create_worker
from tests.docker import engines
from tests.redis.server import RedisServer, find_server
from tests.worker import shop
from tests.worker.commands import PROGRAM, ROOT, aworker, environment

FILE = """
workers:
  - id: boxes
    handlers:
      coroutine:
      docker:
        image: {image}
        host: {host}
        pull: {pull}
        timeout: 60
        environment: {{WHERE: a box}}
        volumes:
          {folder}: {{bind: /workspace/models, mode: rw}}
"""


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    if find_server() is None:
        pytest.skip("no redis-server on this machine")
    with RedisServer() as server:
        yield server


@pytest.fixture
def file(tmp_path: Path, docker: engines.Engine, image: str) -> Path:
    return write(tmp_path, image, docker.url)


def write(tmp_path: Path, image: str, host: str, pull: str = "never") -> Path:
    models = tmp_path / "models"
    models.mkdir(exist_ok=True)
    path = tmp_path / "workers.yaml"
    path.write_text(FILE.format(image=image, host=host, pull=pull, folder=models))
    return path


async def test_a_worker_of_a_file_runs_tasks_in_containers(file: Path, server: RedisServer) -> None:
    options = ["--config", str(file), "--redis", server.url]
    worker = await asyncio.create_subprocess_exec(*PROGRAM, *options, cwd=ROOT, env=environment(), stderr=asyncio.subprocess.DEVNULL)
    try:
        async with WorkflowEngine(RedisBackend(server.url)) as engine, asyncio.timeout(40):
            assert (await engine.execute(shop.order >> shop.box, inputs={"city": "Oslo"})).output == "Oslo in a box"
    finally:
        worker.terminate()
        await worker.wait()
    assert worker.returncode == 0


def test_the_options_of_the_file_are_those_of_the_handler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DOCKER_IMAGE", raising=False)
    handler = create_worker(write(tmp_path, "tensorflow/tensorflow:latest", "unix:///x.sock"), None, MemoryBackend()).handlers["docker"]
    assert isinstance(handler, DockerHandler)
    settings = handler.settings
    assert (settings.image, settings.timeout, settings.pull, settings.host) == (
        "tensorflow/tensorflow:latest", 60, "never", "unix:///x.sock",
    )  # fmt: skip
    assert settings.environment == {"WHERE": "a box"}
    (volume,) = settings.volumes
    assert (volume.source, volume.target, volume.read_only) == (str(tmp_path / "models"), "/workspace/models", False)


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("image: a", "image: Bad Image", "w.yaml:5: workers[0].config.image: DockerHandler(image='Bad Image'): give the name of an image"),
        ("memory: 1g", "memroy: 1g", "w.yaml:6: workers[0].config.memroy: unknown key; did you mean 'memory'?"),
        ("memory: 1g", "memory: 1q", "w.yaml:6: workers[0].config.memory: "),
        ("cpus: 1", "cpus: many", "w.yaml:7: workers[0].config.cpus: give a number, not 'many'"),
        ("pull: never", "pull: perhaps", "w.yaml:8: workers[0].config.pull: "),
        ("A: b", "A: 0", "w.yaml:9: workers[0].config.environment.A: give a text (in quotes, if need be), not 0"),
        ("A: b", "A=B: abc", "w.yaml:9: workers[0].config.environment: DockerHandler(environment=...): 'A=B' is no name"),
        ("mode: ro", "mode: wr", "w.yaml:10: workers[0].config.volumes['/m'].mode: DockerHandler(volumes['/m'].mode='wr'): give"),
        ("bind: /m", "bind: m", "w.yaml:10: workers[0].config.volumes['/m'].bind: "),
        ("{A: b}", "[A=abc]", "w.yaml:9: workers[0].config.environment: give a mapping or nothing, not a list"),
    ],
)
def test_a_mistake_about_containers_is_one_line(before: str, after: str, message: str, tmp_path: Path) -> None:
    text = "workers:\n- id: a\n  handler_type: docker\n  config:\n    image: a\n    memory: 1g\n    cpus: 1\n    pull: never\n"
    text += "    environment: {A: b}\n    volumes: {/m: {bind: /m, mode: ro}}\n"
    (tmp_path / "w.yaml").write_text(text.replace(before, after))
    ran = aworker("--config", "w.yaml", cwd=tmp_path)
    assert (ran.code, ran.out) == (2, "")
    assert ran.complaint.startswith(message)
    assert "abc" not in ran.complaint


def test_the_image_of_the_environment_is_checked_too(tmp_path: Path) -> None:
    ran = aworker("--handlers", "docker", DOCKER_IMAGE="Bad Image")
    assert (ran.code, ran.out) == (2, "")
    assert ran.complaint.startswith("DOCKER_IMAGE: DockerHandler(image='Bad Image'): give the name of an image")


SSH = "w.yaml:5: workers[0].config.host: DockerHandler(host='ssh://me@there'): give unix:///path/to/docker.sock, or tcp://"


@pytest.mark.parametrize(
    ("config", "variables", "message"),
    [
        ("host: ssh://me@there", {}, SSH),
        ("host: ssh://me@there", {"DOCKER_HOST": "unix:///x.sock"}, SSH),
        (
            "memory: 1g",
            {"DOCKER_HOST": "ssh://me@there"},
            "DOCKER_HOST: DockerHandler(host='ssh://me@there'): give unix:///path/to/docker.sock",
        ),
        ("host: npipe:////x", {}, "w.yaml:5: workers[0].config.host: DockerHandler(host='npipe:////x'): give unix:///path/to/docker.sock"),
    ],
)
def test_an_engine_that_cannot_be_reached_in_that_way_is_a_mistake(
    config: str, variables: dict[str, str], message: str, tmp_path: Path
) -> None:
    (tmp_path / "w.yaml").write_text(f"workers:\n- id: a\n  handler_type: docker\n  config:\n    {config}\n")
    for words in ((), ("--check",)):
        ran = aworker("--config", "w.yaml", *words, cwd=tmp_path, **variables)
        assert (ran.code, ran.out) == (2, "")
        assert ran.complaint.startswith(message)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            "packages: [no_such_package]",
            "w.yaml:5: workers[0].config.packages: DockerHandler(packages=...): there is no package 'no_such_package'",
        ),
        ("image: graflow-test/no-such-image:1", "w.yaml:5: workers[0].config.image: the engine at unix://"),
        ("host: unix:///nosuch.sock", "w.yaml:5: workers[0].config.host: no Docker engine answers at unix:///nosuch.sock"),
    ],
)
def test_what_is_found_out_at_the_start_is_told_with_its_place_in_the_file(
    config: str, message: str, tmp_path: Path, docker: engines.Engine, server: RedisServer
) -> None:
    (tmp_path / "w.yaml").write_text(f"workers:\n- id: a\n  handler_type: docker\n  config:\n    {config}\n    pull: never\n")
    ran = aworker("--config", "w.yaml", "--redis", server.url, "--log-level", "ERROR", cwd=tmp_path, DOCKER_HOST=docker.url)
    assert (ran.code, ran.out) == (2, "")
    assert ran.complaint.startswith(message)


def test_a_worker_of_a_file_raises_the_errors_that_others_raise(tmp_path: Path, docker: engines.Engine) -> None:
    worker = create_worker(write(tmp_path, "graflow-test/no-such-image:1", docker.url), None, MemoryBackend())
    with pytest.raises(ImageNotFoundError, match=r"workers.yaml:7: workers\[0\].handlers.docker.image: ") as caught:
        asyncio.run(worker.run())
    assert caught.value.image == "graflow-test/no-such-image:1"


# ---- the check ------------------------------------------------------------------------------------------------------


def checks(file: Path, server: RedisServer, code: int) -> dict[str, tuple[bool, str]]:
    ran = aworker("--config", file, "--redis", server.url, "--check", "--json")
    assert ran.code == code, ran.err
    return {each["what"]: (each["ok"], each["told"]) for each in json.loads(ran.out)["workers"][0]["checks"]}


def test_the_check_asks_the_engine_and_looks_for_the_image(file: Path, image: str, server: RedisServer) -> None:
    found = checks(file, server, 0)
    assert list(found) == ["redis", "docker"]
    well, told = found["docker"]
    assert well
    assert f"image {image}" in told


@pytest.mark.parametrize("pull", ["never", "missing"])
def test_the_check_says_that_an_image_is_not_there(pull: str, tmp_path: Path, docker: engines.Engine, server: RedisServer) -> None:
    found = checks(write(tmp_path, "graflow-test/no-such-image:1", docker.url, pull), server, 1)
    well, told = list(found.values())[-1]
    assert not well
    assert "graflow-test/no-such-image:1" in told
    assert not any(well and "no-such-image" in told for well, told in found.values())


def test_the_check_finds_out_that_a_package_is_missing(tmp_path: Path, docker: engines.Engine, server: RedisServer) -> None:
    (tmp_path / "w.yaml").write_text("workers:\n- id: a\n  handler_type: docker\n  config:\n    packages: [no_such_package]\n")
    ran = aworker("--config", "w.yaml", "--redis", server.url, "--check", cwd=tmp_path, DOCKER_HOST=docker.url)
    assert (ran.code, ran.out) == (2, "")
    *_, last = ran.err.splitlines()  # the server has a word to say before
    assert last.startswith("graflow-aworker: w.yaml:5: workers[0].config.packages: ")


def test_the_check_shows_the_file_system_in_memory_that_there_is(file: Path, server: RedisServer) -> None:
    ran = aworker("--config", file, "--redis", server.url, "--check", "--json")
    shown = json.loads(ran.out)["workers"][0]["handlers"]["docker"]["options"]["tmpfs"]
    assert shown == {"value": {"/tmp": "rw,noexec,nosuid,size=100m"}, "source": "default"}


@pytest.mark.parametrize(("host", "shown"), [(None, ("unix:///b.sock", "DOCKER_HOST")), ("unix:///a.sock", ("unix:///a.sock", "w.yaml:5"))])
def test_the_check_shows_the_engine_and_who_named_it(host: str | None, shown: tuple[str, str], tmp_path: Path, server: RedisServer) -> None:
    config = "memory: 1g" if host is None else f"host: {host}"
    (tmp_path / "w.yaml").write_text(f"workers:\n- id: a\n  handler_type: docker\n  config:\n    {config}\n")
    ran = aworker("--config", "w.yaml", "--redis", server.url, "--check", "--json", cwd=tmp_path, DOCKER_HOST="unix:///b.sock")
    row = json.loads(ran.out)["workers"][0]["handlers"]["docker"]["options"]["host"]
    assert (row["value"], row["source"]) == shown


def test_the_check_says_that_no_engine_answers(tmp_path: Path, server: RedisServer) -> None:
    well, told = checks(write(tmp_path, "a", f"unix://{tmp_path}/none.sock"), server, 1)["docker"]
    assert not well
    assert f"{tmp_path}/none.sock" in told
