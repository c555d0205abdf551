"""``graflow-aworker --check``: what a worker would do, who said so, and whether everything answers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.redis.server import RedisServer, find_server, free_port
from tests.worker.commands import Ran, aworker

FILE = """
redis: redis://:in-the-file@127.0.0.1:{port}/0
workers:
  - id: a
    grace: 3
    handlers:
      thread: {{threads: 3}}
      process: {{environment: {{API_TOKEN: in-the-file, MODE: fast}}}}
      mine: {{type: "tests.worker.shop:StampHandler", word: x}}
  - id: b
    handler_type: inprocess
"""


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    if find_server() is None:
        pytest.skip("no redis-server on this machine")
    with RedisServer(settings={"requirepass": "in-the-file"}) as server:
        yield server


def write(tmp_path: Path, port: int) -> Path:
    path = tmp_path / "w.yaml"
    path.write_text(FILE.format(port=port))
    return path


def report(ran: Ran, code: int = 0) -> dict[str, Any]:
    assert ran.code == code, ran.err
    assert "in-the-file" not in ran.out + ran.err
    return json.loads(ran.out)


def test_the_report_says_each_value_and_its_source_and_who_answers(server: RedisServer, tmp_path: Path) -> None:
    file = write(tmp_path, server.port)
    found = report(
        aworker("--config", file, "--worker", "a", "--check", "--json", "--concurrency", "7", TASK_TIMEOUT="9", GRAFLOW_REDIS_URL="")
    )
    assert (found["ok"], found["file"], found["secret_keys"]) == (True, str(file), [])
    (worker,) = found["workers"]
    assert (worker["worker_id"], worker["source"]) == ("a", f"{file}:4")
    assert worker["settings"] == {
        "redis": {"value": f"redis://:***@127.0.0.1:{server.port}/0", "source": f"{file}:2"},
        "namespace": {"value": "graflow", "source": "default"},
        "apps": {"value": [], "source": "default"},
        "queues": {"value": ["default"], "source": "default"},
        "concurrency": {"value": 7, "source": "--concurrency"},
        "task_timeout": {"value": 9, "source": "TASK_TIMEOUT"},
        "grace": {"value": 3, "source": f"{file}:5"},
        "log_level": {"value": "INFO", "source": "default"},
    }
    handlers = worker["handlers"]
    assert {name: (each["kind"], each["source"]) for name, each in handlers.items()} == {
        "thread": ("thread", f"{file}:7"), "process": ("process", f"{file}:8"), "mine": ("tests.worker.shop:StampHandler", f"{file}:9"),
    }  # fmt: skip
    assert handlers["thread"]["options"]["concurrency"] == {"value": 3, "source": f"{file}:7"}
    assert handlers["process"]["options"]["environment"] == {"value": {"API_TOKEN": "***", "MODE": "fast"}, "source": f"{file}:8"}
    assert handlers["process"]["options"]["recycle_calls"] == {"value": 1000, "source": "default"}
    assert handlers["mine"]["options"] == {
        "concurrency": {"value": 7, "source": "--concurrency"}, "timeout": {"value": 9, "source": "TASK_TIMEOUT"},
        "word": {"value": "x", "source": f"{file}:9"}, "times": {"value": 1, "source": "default"},
    }  # fmt: skip
    (redis,) = worker["checks"]
    assert redis["ok"]
    assert redis["told"].startswith("Redis ")
    assert f"at 127.0.0.1:{server.port}" in redis["told"]
    assert redis["milliseconds"] > 0


def test_all_workers_of_a_file_are_looked_at_and_shown_to_people(server: RedisServer, tmp_path: Path) -> None:
    ran = aworker("--config", write(tmp_path, server.port), "--check")
    assert (ran.code, "in-the-file" in ran.out) == (0, False)
    assert [line.split()[1] for line in ran.out.splitlines() if line.startswith("worker ")] == ["a", "b"]
    assert sum(line.startswith("  ✓ redis: Redis ") for line in ran.out.splitlines()) == 2
    assert ran.out.rstrip().endswith("GRAFLOW_SECRET_KEY is not set; functions and values that would be pickled are refused")


def test_secret_keys_are_told_by_their_names_only(server: RedisServer, tmp_path: Path) -> None:
    file, key = write(tmp_path, server.port), "for-the-tests-of-this-file-and-of-none-else"
    found = report(aworker("--config", file, "--worker", "b", "--check", "--json", GRAFLOW_SECRET_KEY=f"new:{key},old:{key}-2"))
    assert found["secret_keys"] == ["new", "old"]
    assert key not in json.dumps(found)
    ran = aworker("--config", file, "--worker", "b", "--check", GRAFLOW_SECRET_KEY="short-one")
    assert (ran.code, ran.out) == (2, "")
    assert ran.complaint.startswith("GRAFLOW_SECRET_KEY: the key has 9 bytes")


def test_a_server_that_does_not_answer_is_said_in_a_line_and_exit_code_1(tmp_path: Path) -> None:
    port = free_port()
    found = report(aworker("--config", write(tmp_path, port), "--worker", "b", "--check", "--json"), code=1)
    (redis,) = found["workers"][0]["checks"]
    assert not found["ok"]
    assert not redis["ok"]
    assert redis["told"].startswith(f"Redis at 127.0.0.1:{port} does not answer: ")


def test_a_server_that_wants_another_password_is_said(server: RedisServer) -> None:
    ran = aworker("--check", GRAFLOW_REDIS_URL=f"redis://:wrong-one@127.0.0.1:{server.port}/0")
    assert ran.code == 1
    assert "✗ redis: " in ran.out
    assert "wrong-one" not in ran.out + ran.err


def test_a_handler_says_of_itself_how_it_is(server: RedisServer, tmp_path: Path) -> None:
    (tmp_path / "devices.py").write_text(
        "print('imported')\n"
        "from graflow.errors import HandlerError\n"
        "from graflow.handlers import CoroutineHandler\n"
        "class Well(CoroutineHandler):\n"
        "    async def health(self):\n"
        "        return {'version': '2.1', 'host': 'here'}\n"
        "class Ill(CoroutineHandler):\n"
        "    async def health(self):\n"
        "        raise HandlerError('the device\\nis off')\n"
    )
    (tmp_path / "w.toml").write_text(
        '[[workers]]\nid = "a"\n[workers.handlers]\nwell.type = "devices:Well"\nill.type = "devices:Ill"\n'
        '[workers.handlers.coroutine]\n[[workers]]\nid = "b"\n'
    )
    ran = aworker(
        "--config", "w.toml", "--worker", "a", "--check", "--json", "--redis", server.url.replace("//", "//:in-the-file@"), cwd=tmp_path
    )
    found = report(ran, code=1)
    assert "imported" in ran.err.splitlines()  # what modules print is no part of the report
    well, ill = found["workers"][0]["checks"][1:]
    assert (well["what"], well["ok"], well["told"].split(", ")[:2]) == ("well", True, ["version 2.1", "host here"])
    assert (ill["what"], ill["ok"], ill["told"]) == ("ill", False, "the device is off")
