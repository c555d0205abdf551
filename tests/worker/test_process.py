"""``graflow-aworker`` as a process: settings, signals, exit codes."""

from __future__ import annotations

import asyncio
import signal
import sys

import pytest

from graflow.worker.main import main

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


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--app", "no_such_module"], "graflow-aworker: --app no_such_module: cannot be imported (No module named 'no_such_module')"),
        (["--redis", "memory://"], "graflow-aworker: a worker process cannot reach runs in another process's memory"),
        (["--redis", "redis://localhost:6379/0"], "graflow-aworker: redis:// needs the Redis backend, which is not in this version"),
        (["--log-level", "LOUD"], "graflow-aworker: --log-level LOUD: use one of DEBUG, INFO"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith(message)
    assert error.count("\n") == 1
