"""Functions of the main program in child processes: it is run again there, under another name."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

TASKS = """
import asyncio, dataclasses, os
from graflow import RetryPolicy, SyncTaskContext, WorkflowEngine, task

@dataclasses.dataclass
class Sum:
    total: int

@task(handler="process")
def add(a: int, b: int = 1) -> Sum:
    return Sum(a + b)

class Refused(Exception):
    pass

@task(handler="process", retry=RetryPolicy(max_retries=1, initial_interval=0.01, retry_on=(Refused,)))
def second_time(ctx: SyncTaskContext) -> int:
    if ctx.attempt < 2:
        raise Refused
    return ctx.attempt

@task(handler="process")
def read(add: Sum) -> int:
    assert isinstance(add, Sum), type(add)
    return add.total

async def main():
    async with WorkflowEngine() as engine:
        result = await engine.execute(add >> read, inputs={"a": 1})
        assert isinstance(result["add"], Sum), type(result["add"])
        assert (await engine.execute(second_time)).output == 2
        print("output:", result.output)
"""
GUARDED = TASKS + 'if __name__ == "__main__":\n    asyncio.run(main())\n'
UNGUARDED = TASKS + "asyncio.run(main())\n"


def run(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], cwd=cwd, capture_output=True, text=True, timeout=50, check=False)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "guarded.py").write_text(GUARDED)
    (tmp_path / "unguarded.py").write_text(UNGUARDED)
    package = tmp_path / "package"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "program.py").write_text(GUARDED)
    (package / "__main__.py").write_text("from package.program import main\nimport asyncio\nasyncio.run(main())\n")
    return tmp_path


@pytest.mark.parametrize("arguments", [["guarded.py"], ["-m", "guarded"], ["-m", "package.program"], ["-m", "package"]], ids=" ".join)
def test_its_functions_and_classes_are_found(folder: Path, arguments: list[str]) -> None:
    done = run(*arguments, cwd=folder)
    assert done.stdout == "output: 2\n", done.stderr


def test_a_program_that_lacks_its_guard_is_told_so_instead_of_starting_itself_over_and_over(folder: Path) -> None:
    done = run("unguarded.py", cwd=folder)
    assert done.returncode == 1
    assert 'put what is to run only once under: if __name__ == "__main__"' in done.stderr.replace("'__main__'", '"__main__"')


def test_functions_typed_into_an_interpreter_are_refused_when_they_are_submitted(folder: Path) -> None:
    done = run("-c", textwrap.dedent(UNGUARDED), cwd=folder)
    assert done.returncode == 1
    assert "FunctionNotFoundError" in done.stderr
    assert "GRAFLOW_SECRET_KEY" in done.stderr
