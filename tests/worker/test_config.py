"""A file of workers: what may be in it, and what beats what."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from graflow import TaskWorker
from graflow.backends.memory import MemoryBackend
from graflow.errors import ConfigurationError
from graflow.handlers import CoroutineHandler, ProcessHandler, ThreadHandler
from graflow.worker.assembly import HandlerPlan
from graflow.worker.config import create_worker
from graflow.worker.settings import Settings, read_command
from tests.worker.commands import ROOT
from tests.worker.shop import StampHandler

SAMPLE_YAML = """
workers:
  - id: fast_worker
    handler_type: inprocess

  - id: async_worker
    handler_type: async
    config:
      concurrency: 20
      timeout: 300

  - id: docker_worker
    handler_type: docker
    config:
      image: python:3.10-slim
      timeout: 300
      environment:
        PYTHONPATH: /workspace

  - id: ml_worker
    handler_type: docker
    config:
      image: tensorflow/tensorflow:latest
      timeout: 3600
      environment:
        CUDA_VISIBLE_DEVICES: "0"
      volumes:
        /host/models:
          bind: /workspace/models
          mode: rw
"""

SAMPLE_TOML = """
[[workers]]
id = "fast_worker"
handler_type = "inprocess"

[[workers]]
id = "async_worker"
handler_type = "async"
config = { concurrency = 20, timeout = 300 }

[[workers]]
id = "docker_worker"
handler_type = "docker"
[workers.config]
image = "python:3.10-slim"
timeout = 300
environment.PYTHONPATH = "/workspace"

[[workers]]
id = "ml_worker"
handler_type = "docker"

[workers.config]
image = "tensorflow/tensorflow:latest"
timeout = 3600

[workers.config.environment]
CUDA_VISIBLE_DEVICES = "0"

[workers.config.volumes."/host/models"]
bind = "/workspace/models"
mode = "rw"
"""


@pytest.fixture(params=["yaml", "toml"])
def sample(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = tmp_path / f"workers.{request.param}"
    path.write_text(SAMPLE_YAML if request.param == "yaml" else SAMPLE_TOML)
    return path


def told(file: Path, *arguments: str, **environment: str) -> dict[str, Settings]:
    found = read_command(["--config", str(file), *arguments], environment).workers
    return {str(each.worker_id): each for each in found}


def options(plan: HandlerPlan) -> dict[str, Any]:
    return {name: given.value for name, given in plan.options.items()}


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "w.yaml"
    path.write_text(text)
    return path


def test_a_file_tells_each_worker_its_handler_and_the_handlers_options(sample: Path) -> None:
    found = told(sample)
    assert {name: list(each.handlers) for name, each in found.items()} == {
        "fast_worker": ["coroutine"], "async_worker": ["thread"], "docker_worker": ["docker"], "ml_worker": ["docker"],
    }  # fmt: skip
    assert options(found["async_worker"].handlers["thread"]) == {"concurrency": 20, "timeout": 300}
    assert options(found["docker_worker"].handlers["docker"]) == {
        "image": "python:3.10-slim", "timeout": 300, "environment": {"PYTHONPATH": "/workspace"},
    }  # fmt: skip
    assert options(found["ml_worker"].handlers["docker"]) == {
        "image": "tensorflow/tensorflow:latest", "timeout": 3600, "environment": {"CUDA_VISIBLE_DEVICES": "0"},
        "volumes": {"/host/models": {"bind": "/workspace/models", "mode": "rw"}},
    }  # fmt: skip


def test_every_value_knows_its_line(sample: Path) -> None:
    lines = sample.read_text().splitlines()
    (found,) = told(sample, "--worker", "ml_worker").values()
    for name, given in found.handlers["docker"].options.items():
        line = lines[int(given.source.rpartition(":")[2]) - 1]
        assert name in line, given.source
    image = found.handlers["docker"].options["image"]
    assert "tensorflow" in lines[int(image.source.rpartition(":")[2]) - 1]
    assert image.key == "workers[3].config.image"


# ---- what beats what ------------------------------------------------------------------------------------------------

LAYERS = """
concurrency: 40
task_timeout: 40
namespace: top
grace: 4
workers:
  - id: own
    concurrency: 30
    task_timeout: 30
    namespace: own
    queues: [fast, slow]
  - id: plain
    redis: redis://elsewhere/3
"""


@pytest.mark.parametrize(
    ("worker", "arguments", "environment", "values"),
    [
        ("plain", (), {}, {"concurrency": (40, 2), "namespace": ("top", 4), "grace": (4.0, 5), "queues": (("default",), "default")}),
        ("own", (), {}, {"concurrency": (30, 8), "namespace": ("own", 10), "task_timeout": (30.0, 9), "queues": (("fast", "slow"), 11)}),
        (
            "own", (), {"MAX_CONCURRENT_TASKS": "20", "REDIS_KEY_PREFIX": "env", "TASK_TIMEOUT": "20"},
            {"concurrency": (20, "MAX_CONCURRENT_TASKS"), "namespace": ("env", "REDIS_KEY_PREFIX"), "task_timeout": (20.0, "TASK_TIMEOUT")},
        ),
        ("own", (), {"MAX_CONCURRENT_TASKS": "", "REDIS_KEY_PREFIX": ""}, {"concurrency": (30, 8), "namespace": ("own", 10)}),
        (
            "own", ("--concurrency", "10", "--namespace", "flag", "--task-timeout", "10", "--queues", "a"),
            {"MAX_CONCURRENT_TASKS": "20", "REDIS_KEY_PREFIX": "env", "TASK_TIMEOUT": "20"},
            {
                "concurrency": (10, "--concurrency"), "namespace": ("flag", "--namespace"), "task_timeout": (10.0, "--task-timeout"),
                "queues": (("a",), "--queues"),
            },
        ),
        ("own", (), {}, {"worker_id": ("own", 7)}),
        ("own", (), {"WORKER_ID": "env"}, {"worker_id": ("env", "WORKER_ID")}),
        ("own", ("--worker-id", "flag"), {"WORKER_ID": "env"}, {"worker_id": ("flag", "--worker-id")}),
        ("own", (), {}, {"redis": ("redis://localhost:6379/0", "default")}),
        ("plain", (), {}, {"redis": ("redis://elsewhere/3", 13)}),
        ("plain", (), {"REDIS_PASSWORD": "a@b"}, {"redis": ("redis://:a%40b@elsewhere/3", 13)}),
        ("plain", (), {"REDIS_HOST": "db", "REDIS_PASSWORD": "x"}, {"redis": ("redis://:x@db:6379/0", "REDIS_HOST, REDIS_PASSWORD")}),
        ("plain", (), {"REDIS_HOST": "db", "GRAFLOW_REDIS_URL": "redis://u"}, {"redis": ("redis://u", "GRAFLOW_REDIS_URL")}),
        ("plain", ("--redis", "redis://f"), {"GRAFLOW_REDIS_URL": "redis://u"}, {"redis": ("redis://f", "--redis")}),
    ],
)  # fmt: skip
def test_an_option_beats_a_variable_beats_the_worker_beats_the_top_of_the_file(
    tmp_path: Path, worker: str, arguments: tuple[str, ...], environment: Mapping[str, str], values: Mapping[str, tuple[Any, Any]]
) -> None:
    file = write(tmp_path, LAYERS)
    (found,) = told(file, "--worker", worker, *arguments, **environment).values()
    for name, (value, source) in values.items():
        assert found.given[name].value == value
        assert found.given[name].source == (f"{file}:{source}" if isinstance(source, int) else source)


ONE = "workers: [{id: a, handler_type: async, config: {concurrency: 5, timeout: 50}}]"
TWO = "workers: [{id: a, concurrency: 7, task_timeout: 70, handlers: {thread: {concurrency: 5, timeout: 50}, coroutine: {}}}]"
PLAIN = "{concurrency: 7, task_timeout: 70, workers: [{id: a, handlers: [thread]}]}"


@pytest.mark.parametrize(
    ("text", "arguments", "environment", "limits"),
    [
        (ONE, (), {}, {"thread": (5, 50)}),
        (ONE, (), {"MAX_CONCURRENT_TASKS": "4", "TASK_TIMEOUT": "40"}, {"thread": (4, 40)}),
        (ONE, ("--concurrency", "3", "--task-timeout", "30"), {"MAX_CONCURRENT_TASKS": "4", "TASK_TIMEOUT": "40"}, {"thread": (3, 30)}),
        (PLAIN, (), {}, {"thread": (7, 70)}),
        (TWO, (), {}, {"thread": (5, 50), "coroutine": (None, 70)}),
        (TWO, ("--concurrency", "3", "--task-timeout", "30"), {}, {"thread": (5, 50), "coroutine": (None, 30)}),
        (TWO, ("--handlers", "process"), {"MAX_CONCURRENT_TASKS": "3"}, {"process": (3, 70)}),
    ],
)
def test_what_is_said_of_a_worker_with_one_handler_is_said_of_that_handler(
    tmp_path: Path, text: str, arguments: tuple[str, ...], environment: dict[str, str], limits: Mapping[str, tuple[Any, Any]]
) -> None:
    (found,) = told(write(tmp_path, text), *arguments, **environment).values()
    plans = {name: options(plan) for name, plan in found.handlers.items()}
    assert {name: (plan.get("concurrency"), plan.get("timeout")) for name, plan in plans.items()} == limits


@pytest.mark.parametrize(
    ("text", "arguments", "environment", "handlers"),
    [
        ("workers: [{id: a}]", (), {}, ["coroutine", "thread", "process"]),
        ("workers: [{id: a, handlers: [async, docker]}]", (), {}, ["thread", "docker"]),
        ("workers: [{id: a, handlers: {thread: , mine: {type: 'm:C'}}}]", (), {}, ["thread", "mine"]),
        ("workers: [{id: a, handlers: {thread: , mine: {type: 'm:C'}}}]", (), {"HANDLER_TYPE": "docker"}, ["docker"]),
        ("workers: [{id: a, handlers: {thread: , mine: {type: 'm:C'}}}]", ("--handlers", "mine,process"), {}, ["mine", "process"]),
        ("workers: [{id: a, handler_type: docker}]", ("--handler", "mine=m:C"), {}, ["docker", "mine"]),
        ("workers: [{id: a}]", ("--docker-image", "a:1"), {}, ["coroutine", "thread", "process", "docker"]),
        ("workers: [{id: a}]", ("--docker-image", "a:1", "--handlers", "thread"), {}, ["thread", "docker"]),
        ("workers: [{id: a}]", (), {"DOCKER_IMAGE": "a:1"}, ["coroutine", "thread", "process"]),
        ("workers: [{id: a, handlers: [thread]}]", ("--docker-image", "a:1"), {}, ["thread"]),
    ],
)
def test_a_worker_serves_what_it_is_told_to(
    tmp_path: Path, text: str, arguments: tuple[str, ...], environment: dict[str, str], handlers: list[str]
) -> None:
    (found,) = told(write(tmp_path, text), *arguments, **environment).values()
    assert list(found.handlers) == handlers


@pytest.mark.parametrize(
    ("arguments", "environment", "image"),
    [
        ((), {}, "a:1"),
        ((), {"DOCKER_IMAGE": "b:1"}, "b:1"),
        (("--docker-image", "c:1"), {"DOCKER_IMAGE": "b:1"}, "c:1"),
    ],
)
def test_the_image_of_the_handler_docker_can_be_told_from_outside_and_that_of_others_not(
    tmp_path: Path, arguments: tuple[str, ...], environment: dict[str, str], image: str
) -> None:
    file = write(tmp_path, "workers: [{id: a, handlers: {docker: {image: 'a:1'}, other: {type: docker, image: 'o:1'}}}]")
    (found,) = told(file, *arguments, **environment).values()
    assert [options(plan)["image"] for plan in found.handlers.values()] == [image, "o:1"]


# ---- workers in this process ----------------------------------------------------------------------------------------

KINDS = """
workers:
  - id: w
    grace: 3
    handlers:
      coroutine: {concurrency: 9}
      thread: {threads: 3}
      process: {concurrency: 2, recycle_memory: 64m, timeout: 8}
      stamp: {type: "tests.worker.shop:StampHandler", word: x, times: 2, concurrency: 1, timeout: 4}
      other: {type: "tests.worker.shop:stamp"}
  - id: v
"""


def test_code_gets_a_worker_of_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORKER_ID", raising=False)
    worker = create_worker(write(tmp_path, KINDS), "w", MemoryBackend())
    assert isinstance(worker, TaskWorker)
    assert worker.worker_id == "w"
    handlers = worker.handlers
    kinds = {name: type(handlers[name]) for name in ("coroutine", "thread", "process", "stamp", "other")}
    assert kinds == {
        "coroutine": CoroutineHandler, "thread": ThreadHandler, "process": ProcessHandler, "stamp": StampHandler, "other": StampHandler,
    }  # fmt: skip
    assert [handlers[name].concurrency for name in kinds] == [9, 3, 2, 1, None]
    assert [handlers[name].timeout for name in kinds] == [None, None, 8, 4, None]
    stamp = handlers["stamp"]
    assert isinstance(stamp, StampHandler)
    assert (stamp.word, stamp.times) == ("x", 2)


def test_code_has_to_say_which_worker_of_several(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="has 2 workers; say which, worker='w' for instance"):
        create_worker(write(tmp_path, KINDS))


def test_the_file_in_the_documentation_is_one(tmp_path: Path) -> None:
    text = (ROOT / "docs/workers.md").read_text("utf-8")
    blocks = re.findall(r"^```yaml\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    (file,) = [write(tmp_path, block) for block in blocks]
    served = {name: list(each.handlers) for name, each in told(file).items()}
    assert served == {"light": ["coroutine", "thread"], "heavy": ["process", "gpu"], "sandbox": ["docker"]}


def test_values_that_stand_for_others_are_known_by_the_place_that_they_come_from(tmp_path: Path) -> None:
    text = "workers:\n  - &a\n    id: a\n    queues: [x]\n  - <<: *a\n    id: b\n"
    found = told(write(tmp_path, text))
    assert found["b"].queues == ["x"]
    assert found["b"].given["queues"].source.endswith(":4")
    assert found["b"].given["worker_id"].source.endswith(":6")
