"""``graflow-aworker`` as a process: settings, signals, exit codes."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from graflow import TaskWorker, parallel, task
from graflow.backends.memory import MemoryBackend
from graflow.backends.redis.client import RedisClient
from graflow.errors import ConfigurationError
from graflow.worker import settings
from graflow.worker.main import main
from tests.conformance.hands import Bench, finished
from tests.redis.server import free_port
from tests.worker.commands import KNOWN, PROGRAM, ROOT, environment

USUAL = ["coroutine", "thread", "process"]
"""what a worker serves that was told nothing"""

SERVE = """
import asyncio
from graflow.backends.memory import MemoryBackend
from graflow.core.outcome import Success
from graflow import TaskGraph, TaskWorker, task
from graflow.worker.main import serve

@task
async def patient() -> None:
    print("started", flush=True)
    {work}

async def run() -> None:
    from graflow.backends.base import RunOptions
    from graflow.core.compiler import compile_plan
    backend = MemoryBackend()
    graph = TaskGraph("g")
    graph.add(patient)
    await backend.coordinator.submit(compile_plan(graph), RunOptions(run_id="r"))
    await serve(TaskWorker(backend, grace={grace}), ready=lambda: print("ready", flush=True))
    print((await backend.coordinator.snapshot("r")).status, flush=True)

asyncio.run(run())
"""


async def start(work: str, grace: float) -> asyncio.subprocess.Process:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", SERVE.format(work=work, grace=grace), stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    assert {await process.stdout.readline(), await process.stdout.readline()} == {b"ready\n", b"started\n"}
    return process


async def rest_of(process: asyncio.subprocess.Process) -> tuple[bytes, int | None]:
    out, _ = await process.communicate()
    return out, process.returncode


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_the_first_signal_lets_running_tasks_end(number: signal.Signals) -> None:
    process = await start("await asyncio.sleep(0.2)", grace=20)
    process.send_signal(number)
    assert await rest_of(process) == (b"succeeded\n", 0)


async def test_what_outlasts_the_grace_is_handed_back_unfinished() -> None:
    process = await start("await asyncio.sleep(600)", grace=0.05)
    process.send_signal(signal.SIGTERM)
    assert await rest_of(process) == (b"running\n", 0)


async def test_the_second_signal_stops_at_once() -> None:
    process = await start("await asyncio.sleep(600)", grace=600)
    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGINT)
    assert await rest_of(process) == (b"", 1)


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty directory to work in, and nothing in the environment."""
    for name in KNOWN:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    return tmp_path


def refused(arguments: Sequence[str], capsys: pytest.CaptureFixture[str]) -> tuple[object, str]:
    """The exit code of the command, and the one line that it says."""
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    return stopped.value.code, error


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--app", "no_such_module"], "--app no_such_module: cannot be imported (No module named 'no_such_module')"),
        (["--app", "json.nothing"], "--app json.nothing: cannot be imported (No module named 'json.nothing')"),
        (["--app", ""], "--app : give the full name of a module"),
        (["--app", ".tasks"], "--app .tasks: give the full name of a module"),
        (["--redis", "memory://"], "a worker process cannot reach runs in another process's memory"),
        (["--redis", "redis://:secret@host/x"], "the Redis URL is wrong"),
        (
            ["--redis", "reds://:secret@host/0"],
            "'reds://:***@host/0' is no URL of a server; use redis://HOST:6379/0, rediss://HOST:6379/0 or unix:///PATH",
        ),
        (["--redis", "localhost:6379"], "'localhost:6379' is no URL of a server; use redis://HOST:6379/0"),
        (["--log-level", "LOUD"], "--log-level LOUD: use one of DEBUG, INFO"),
        (["--concurrency", "0"], "--concurrency 0: give a whole number, 1 or more"),
        (["--concurrency", "many"], "--concurrency many: give a whole number"),
        (["--grace", "-1"], "--grace -1: give a number of seconds, 0 or more"),
        (["--grace", "nan"], "--grace nan: give a number of seconds"),
        (["--task-timeout", "0"], "--task-timeout 0: give a number of seconds, 0.001 or more"),
        (["--namespace", "a{b"], "namespace"),
        (
            ["--handlers", "coroutine,magic"],
            "--handlers: there is no handler 'magic'; use coroutine, thread, process or docker, with commas",
        ),
        (["--handler", "gpu"], "--handler gpu: give a name and a class, as in gpu=shop.handlers:GpuHandler"),
        (["--handler", "gpu=shop"], "--handler gpu=shop: give the module:Class of a handler of your own"),
        (["--handler", "gpu=no_such_module:Gpu"], "--handler no_such_module:Gpu: cannot be imported (No module named 'no_such_module')"),
        (["--handler", "gpu=json:Gpu"], "--handler json:Gpu: json has no Gpu"),
        (["--handler", "gpu=json:dumps"], "--handler json:dumps: give a subclass of graflow.handlers.Handler"),
        (["--handler", "a=json:dumps", "--handler", "a=json:loads"], "--handler a=json:loads: there are two of the name 'a'"),
        (["--worker", "a"], "--worker a: is a worker of a file; name it with --config"),
        (["--json"], "--json is for --check; give both"),
        (["--speed", "11"], "unrecognized arguments: --speed 11; see graflow-aworker --help"),
        (["--grace"], "argument --grace: expected one argument"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(bare: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, error = refused(arguments, capsys)
    assert code == 2
    assert error.startswith("graflow-aworker: ")
    assert message in error
    assert "secret" not in error


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("import no_such_thing", "tasks.py:1: ModuleNotFoundError: No module named 'no_such_thing'"),
        ("def f():\n    raise KeyError('a')\nf()", "tasks.py:2: KeyError: 'a'"),
        ("raise ValueError('two\\nlines')", "tasks.py:1: ValueError: two lines"),
        ("x = (", "tasks.py:1: SyntaxError"),
        ("import sys; sys.exit(3)", "tasks.py:1: SystemExit: 3"),
        ("raise KeyboardInterrupt('no key')", "tasks.py:1: KeyboardInterrupt: no key"),
    ],
)
def test_an_app_that_cannot_be_imported_is_one_line_that_says_where(
    bare: Path, text: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    module = f"aworker_{abs(hash(text))}_tasks"
    (bare / f"{module}.py").write_text(text)
    code, error = refused(["--app", module], capsys)
    assert code == 2
    assert f"--app {module}: importing it failed at " in error
    assert message in error


def test_ctrl_c_while_an_app_is_imported_is_ctrl_c(tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text("import time\nprint('here', flush=True)\ntime.sleep(600)")
    command = [*PROGRAM, "--app", "slow"]
    with subprocess.Popen(command, cwd=tmp_path, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"here\n"
        process.send_signal(signal.SIGINT)
        assert (process.communicate(timeout=20), process.returncode) == ((b"", b""), 130)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_ends_the_start_before_a_server_that_does_not_answer_has(number: signal.Signals) -> None:
    met = asyncio.Event()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        met.set()
        await reader.read()
        writer.close()

    async with await asyncio.start_server(silent, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        process = await asyncio.create_subprocess_exec(
            *PROGRAM, "--redis", f"redis://127.0.0.1:{port}?socket_timeout=100", env=environment(), stderr=subprocess.PIPE
        )
        await met.wait()
        process.send_signal(number)
        _, told = await asyncio.wait_for(process.communicate(), 20)
        assert process.returncode == 0
        assert b"was stopped before it was ready" in told
        assert b"Traceback" not in told


def test_a_server_that_does_not_answer_is_one_line_and_exit_code_1(
    bare: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(RedisClient.open.__kwdefaults__, "patience", 0.2)
    port = free_port()
    monkeypatch.setenv("REDIS_HOST", "127.0.0.1")
    monkeypatch.setenv("REDIS_PORT", str(port))
    monkeypatch.setenv("REDIS_PASSWORD", "secret")
    code, error = refused([], capsys)
    assert code == 1
    assert f"Redis at 127.0.0.1:{port} does not answer" in error
    assert "refused" in error or "Connect call failed" in error
    assert "secret" not in error


def test_a_worker_does_not_carry_what_only_commands_and_files_need() -> None:
    modules = "{'rich', 'typer', 'yaml', 'aiodocker', 'cloudpickle'}"
    program = f"import sys, graflow.worker.main; print(sorted({modules} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True, cwd=ROOT)
    assert done.stdout == "[]\n"


# ---- the environment ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("environment", "url"),
    [
        ({}, settings.LOCAL),
        ({"REDIS_HOST": "", "REDIS_PORT": ""}, settings.LOCAL),
        ({"REDIS_HOST": "db", "REDIS_PORT": "6380", "REDIS_DB": "2"}, "redis://db:6380/2"),
        ({"REDIS_PASSWORD": "a@b/c:d"}, "redis://:a%40b%2Fc%3Ad@localhost:6379/0"),
        ({"REDIS_HOST": "::1"}, "redis://[::1]:6379/0"),
    ],
)
def test_the_url_is_put_together_from_the_environment(environment: dict[str, str], url: str) -> None:
    assert settings.url_of(None, environment) == url
    assert settings.url_of("redis://other", environment) == "redis://other"


@pytest.mark.parametrize("name", ["REDIS_PORT", "REDIS_DB"])
def test_a_port_that_is_no_number_is_refused(name: str) -> None:
    with pytest.raises(ConfigurationError, match=f"{name} x1: give a whole number"):
        settings.url_of(None, {name: "x1"})


def test_a_variable_that_makes_no_sense_is_named(bare: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("MAX_CONCURRENT_TASKS", "many")
    assert refused([], capsys) == (2, "graflow-aworker: MAX_CONCURRENT_TASKS many: give a whole number, 1 or more\n")
    assert refused(["--concurrency", "few"], capsys) == (2, "graflow-aworker: --concurrency few: give a whole number, 1 or more\n")


def test_help_names_every_variable(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["--help"])
    assert stopped.value.code == 0
    told = capsys.readouterr().out
    assert all(name in told for name in KNOWN)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        (None, USUAL), ("", USUAL), ("coroutine", ["coroutine"]), ("inprocess", ["coroutine"]), ("async", ["thread"]),
        ("Thread, coroutine", ["thread", "coroutine"]), ("async,thread", ["thread"]), ("docker,process", ["docker", "process"]),
    ],
)  # fmt: skip
def test_handlers_are_known_by_their_older_names_too(text: str | None, names: list[str]) -> None:
    (found,) = settings.read_command([], {} if text is None else {"HANDLER_TYPE": text}).workers
    assert list(found.handlers) == names


def test_everything_can_be_set_by_the_environment(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[dict[str, Any]] = []
    urls: list[tuple[str, str]] = []

    def worker(backend: Any, **options: Any) -> Any:
        made.append(options)
        raise ConfigurationError("enough")

    def backend(url: str, namespace: str) -> Any:
        urls.append((url, namespace))
        return SimpleNamespace(local=False)

    monkeypatch.setattr("graflow.worker.config.TaskWorker", worker)
    monkeypatch.setattr("graflow.worker.config.open_backend", backend)
    given = ("w7", "redis://x", "shop", "inprocess", "7.5", "9", "DEBUG")
    for name, value in zip(KNOWN, given, strict=False):
        monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit):
        main([])
    assert urls == [("redis://x", "shop")]
    assert list(made[0].pop("handlers")) == ["coroutine"]
    assert made == [
        {"worker_id": "w7", "serve": ("coroutine",), "task_timeout": 7.5, "concurrency": 9, "queues": ["default"], "grace": 25.0}
    ]


# ---- what the worker makes of it -------------------------------------------------------------------------------------


async def test_a_worker_takes_tasks_of_the_handlers_that_it_serves_and_leaves_the_others(backend: MemoryBackend) -> None:
    @task
    async def light() -> str:
        return "coroutine"

    @task
    def heavy() -> str:
        return "thread"

    async with TaskWorker(backend, serve=("thread",)):
        await Bench(backend).submit(light | heavy)
        await asyncio.sleep(10)
        assert (await backend.coordinator.snapshot("r")).results == {"heavy": "thread"}
    async with TaskWorker(backend):
        assert (await finished(backend)).results == {"heavy": "thread", "light": "coroutine"}


async def test_a_workers_timeout_is_for_tasks_that_have_none_of_their_own(backend: MemoryBackend) -> None:
    @task
    async def without() -> None:
        await asyncio.sleep(100)

    @task(timeout=200)
    async def with_its_own() -> str:
        await asyncio.sleep(100)
        return "done"

    async with TaskWorker(backend, task_timeout=50):
        await Bench(backend).submit(parallel(without, with_its_own, policy="best_effort"))
        snapshot = await finished(backend)
    assert snapshot.results == {"with_its_own": "done"}
