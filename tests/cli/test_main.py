from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import graflow as package
from tests.cli.conftest import Command, environment

Write = Callable[[str, str], Path]


def test_the_version_is_that_of_the_package(graflow: Command) -> None:
    assert graflow("--version").out == f"graflow {package.__version__}\n"


@pytest.mark.parametrize("arguments", [[], ["--help"], ["run", "--help"], ["graph", "--help"], ["demo", "--help"]])
def test_help_is_help(graflow: Command, arguments: list[str]) -> None:
    ran = graflow(*arguments)
    assert ran.code == 0
    assert "Usage: graflow" in ran.out


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["runn"], "No such command 'runn'"),
        (["--nonsense"], "No such option: --nonsense"),
        (["run"], "Missing argument 'FILE_OR_MODULE[:WORKFLOW]'"),
        (["run", "a.py", "b.py"], "Got unexpected extra argument"),
        (["run", "a.py", "--timeout"], "Option '--timeout' requires an argument"),
    ],
)
def test_a_command_that_makes_no_sense_is_one_line(graflow: Command, arguments: list[str], complaint: str) -> None:
    ran = graflow(*arguments)
    assert (ran.code, ran.out) == (2, "")
    assert ran.complaint.startswith(complaint)
    assert ran.complaint.endswith(" --help")


def test_the_module_is_the_command(project: Path) -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "graflow", "--version"], capture_output=True, text=True, cwd=project, env=environment(), check=True
    )
    assert ran.stdout == f"graflow {package.__version__}\n"


def test_a_reader_who_goes_away_is_no_error_worth_a_word(write: Write, project: Path) -> None:
    write("flow.py", "graph = TaskGraph('g')\nfor n in range(20_000):\n    graph.add(task(f't{n}')(lambda: None))")
    command = [sys.executable, "-m", "graflow", "graph", "flow.py"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=project, env=environment()) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""


# ---- being told to stop ----

TASKS = {
    "coroutine": "import asyncio\n@task\nasync def wait():\n    await asyncio.Event().wait()",
    "thread": "import threading\n@task\ndef wait():\n    threading.Event().wait()",
}


@pytest.mark.skipif(sys.platform == "win32", reason="there are no such signals")
@pytest.mark.parametrize("kind", TASKS)
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_cancels_the_run_and_says_so_in_one_line(
    write: Write, project: Path, kind: str, number: signal.Signals, code: int
) -> None:
    write("flow.py", TASKS[kind])
    command = [sys.executable, "-m", "graflow", "run", "flow.py:wait", "--run-id", "r"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=project, env=environment()) as process:
        assert process.stderr is not None
        assert "wait started" in process.stderr.readline()
        process.send_signal(number)
        out, err = process.communicate(timeout=20)
    assert (process.returncode, out) == (code, "")
    told = err.splitlines()
    assert "wait cancelled" in told[0]
    assert told[-1] == "graflow: interrupted; run 'r' was cancelled"
    assert len(told) == 3
