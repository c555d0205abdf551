from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.conftest import Command, environment
from tests.cli.flows import FAILING, NUMBERS

Write = Callable[[str, str], Path]


# ---- what it prints ----


def test_a_run_is_shown_as_a_table_of_its_tasks_and_its_output(graflow: Command, write: Write) -> None:
    write("flow.py", NUMBERS)
    ran = graflow("run", "flow.py")
    assert ran.code == 0
    rows = [line.split() for line in ran.out.splitlines()]
    assert ["✓", "numbers"] in [row[:2] for row in rows]
    assert ["3", "results,", "1", "failed"] in [row[-4:] for row in rows]
    assert "✗ square[3]: ValueError: three is odd" in ran.out
    assert ran.out.endswith("output\n'[0, 1, 4] up to 3'\n")


def test_the_table_of_a_large_run_shows_what_matters_and_sums_up_the_rest(graflow: Command, write: Write) -> None:
    write(
        "flow.py",
        "@task\nasync def t(n): return 1 / (999 - n)\nmany = parallel(*[t.clone(f't{n}', n=n) for n in range(1000)], policy=best_effort)",
    )
    lines = graflow("run", "flow.py:many").out.splitlines()
    assert len(lines) < 260
    assert any("t999" in line and "failed: ZeroDivisionError" in line for line in lines)
    assert any(line.startswith("  and 80") and line.rstrip().endswith("succeeded") for line in lines)


def test_progress_goes_to_standard_error(graflow: Command, write: Write) -> None:
    write("flow.py", NUMBERS)
    told = [line.split(" s  ", 1)[1] for line in graflow("run", "flow.py").err.splitlines()]
    assert told[0] == "numbers started"
    assert "square[*] started (4 members)" in told
    assert "square[3] failed (ValueError: three is odd)" in told
    assert told[-1] == "run succeeded"


def test_quiet_prints_the_output_only(graflow: Command, write: Write) -> None:
    write("flow.py", NUMBERS.replace('print("counting")', ""))
    ran = graflow("run", "flow.py", "--quiet")
    assert (ran.out, ran.err) == ("[0, 1, 4] up to 3\n", "")


def test_json_is_one_object_with_all_there_is_to_know(graflow: Command, write: Write) -> None:
    write("flow.py", NUMBERS)
    ran = graflow("run", "flow.py", "--json", "--run-id", "monday")
    told = json.loads(ran.out)
    assert ran.code == 0
    assert (told["run_id"], told["status"], told["output"]) == ("monday", "succeeded", "[0, 1, 4] up to 3")
    assert told["duration"] > 0
    assert told["results"]["numbers"] == [0, 1, 2, 3]
    assert told["results"]["square"] == [0, 1, 4]
    assert told["errors"] == {"square[3]": {"type": "ValueError", "message": "three is\nodd", "task_id": "square[3]", "attempt": 1}}
    assert told["error"] is None


def test_json_is_the_only_thing_on_standard_output_whoever_prints(write: Write, project: Path) -> None:
    write(
        "noisy.py",
        """
import os
print("while it is imported")
@task
def noisy():
    print("from a thread")
    os.system("echo from a child")
    os.write(1, b"from the depths")
    return "result"
""",
    )
    ran = subprocess.run(
        [sys.executable, "-m", "graflow", "run", "noisy.py:noisy", "--json"], capture_output=True, cwd=project, env=environment()
    )
    assert json.loads(ran.stdout)["output"] == "result"
    for text in (b"while it is imported", b"from a thread", b"from a child", b"from the depths"):
        assert text in ran.stderr


def test_results_that_json_has_no_form_for_are_shown_all_the_same(graflow: Command, write: Write) -> None:
    write(
        "odd.py",
        """
import dataclasses, datetime, enum, msgspec, uuid
@dataclasses.dataclass
class Point:
    x: int
    y: float
class Colour(enum.Enum):
    RED = "red"
class Shape(msgspec.Struct):
    corners: set[int]
class Shy:
    def __repr__(self): raise RuntimeError("no")
circle = []
circle.append(circle)
@task
async def odd():
    return [Point(1, float("nan")), Colour.RED, Shape({2, 1}), b"ab", datetime.date(2026, 1, 2), {(1, 2): "\\ud800"}, uuid.UUID(int=1), 2**80]
@task
async def shy():
    return Shy()
@task
async def turn():
    return circle
with workflow("odd") as wf:
    wf.add(odd, shy, turn)
""",
    )
    results = json.loads(graflow("run", "odd.py", "--json").out)["results"]
    assert results["odd"] == [
        {"x": 1, "y": "nan"}, "red", {"corners": [1, 2]}, "YWI=", "2026-01-02", {"(1, 2)": "\\ud800"}, "00000000-0000-0000-0000-000000000001", 2**80
    ]  # fmt: skip
    assert "its repr raised RuntimeError" in results["shy"]
    assert json.dumps(results["turn"]).count("...") == 1
    assert graflow("run", "odd.py").code == 0


# ---- what can be run ----


@pytest.mark.parametrize(("name", "output"), [("one", 1), ("chained", 2), ("both", [1, 2]), ("graph", 2), ("flow", 2)])
def test_a_task_a_chain_a_group_a_graph_and_a_workflow_can_be_run(graflow: Command, write: Write, name: str, output: object) -> None:
    write(
        "all_kinds.py",
        """
@task
async def one() -> int: return 1
@task
async def two() -> int: return 2
chained = one >> two
both = one | two
graph = TaskGraph("g")
graph.add(one, two)
graph.add_edge("one", "two")
with workflow("w") as flow:
    flow.add(one >> two)
""",
    )
    assert json.loads(graflow("run", f"all_kinds.py:{name}", "--json").out)["output"] == output


# ---- options ----


def test_inputs_are_json_where_they_can_be_and_text_where_not(graflow: Command, write: Write) -> None:
    write("echo.py", "@task\nasync def echo(a, b, c, d): return [a, b, c, d]")
    ran = graflow("run", "echo.py:echo", "-i", "a=1", "--input", "b=[true, null]", "-i", "c=x=y", "-i", 'd="1"', "--json")
    assert json.loads(ran.out)["output"] == [1, [True, None], "x=y", "1"]


def test_inputs_come_from_a_file_and_those_given_by_name_win(graflow: Command, write: Write, project: Path) -> None:
    write("echo.py", "@task\nasync def echo(a, b): return [a, b]")
    (project / "in.json").write_text('{"a": 1, "b": 2}')
    assert json.loads(graflow("run", "echo.py:echo", "--inputs", "in.json", "-i", "b=3", "--json").out)["output"] == [1, 3]


def test_a_run_can_start_elsewhere(graflow: Command, write: Write) -> None:
    write("flow.py", FAILING)
    assert json.loads(graflow("run", "flow.py", "--start", "other", "--json").out)["results"] == {"other": 1}


def test_a_run_that_takes_too_many_steps_fails(graflow: Command, write: Write) -> None:
    write("flow.py", NUMBERS)
    ran = graflow("run", "flow.py", "--max-steps", "2", "--quiet")
    assert ran.code == 1
    assert "after 2 steps, which is its limit" in ran.complaint


def test_a_run_that_takes_too_long_fails_though_its_thread_does_not_stop(write: Write, project: Path) -> None:
    write("slow.py", "import threading\n@task\ndef slow():\n    threading.Event().wait()")
    command = [sys.executable, "-m", "graflow", "run", "slow.py:slow", "--timeout", "0.05", "--quiet", "--run-id", "r"]
    ran = subprocess.run(command, capture_output=True, text=True, cwd=project, env=environment(), timeout=20)
    assert (ran.returncode, ran.stderr) == (1, "graflow: run 'r' of 'slow' did not end within its timeout of 0.05 s\n")


@pytest.mark.parametrize(("on_failure", "finished"), [("fail", {}), ("continue", {"other": 1})])
def test_a_failure_ends_the_run_or_lets_the_rest_finish(graflow: Command, write: Write, on_failure: str, finished: dict) -> None:
    write("flow.py", FAILING)
    ran = graflow("run", "flow.py", "--json", "--on-failure", on_failure)
    assert ran.code == 1
    assert json.loads(ran.out)["results"] == finished


@pytest.mark.parametrize("kind", ["async def", "def"])
def test_concurrency_bounds_how_many_tasks_run_at_once(graflow: Command, write: Write, kind: str) -> None:
    write(
        "many.py",
        f"""
running, most = set(), 0
@task
{kind} one(n: int):
    global most
    running.add(n)
    most = max(most, len(running))
    {"import asyncio; await asyncio.sleep(0.001)" if kind == "async def" else "import time; time.sleep(0.001)"}
    running.discard(n)
@task
async def result(): return most
flow = one.map(range(20)) >> result
""",
    )
    assert json.loads(graflow("run", "many.py:flow", "--concurrency", "3", "--json").out)["output"] == 3


# ---- what goes wrong ----


def test_a_failed_run_is_one_line_with_the_task_and_its_cause(graflow: Command, write: Write) -> None:
    write("flow.py", FAILING)
    ran = graflow("run", "flow.py", "--quiet")
    assert (ran.code, ran.out) == (1, "")
    assert ran.complaint == "task 'fetch' failed (attempt 1): LookupError: no such [bold]page[/bold]; --debug shows where"


def test_a_failed_run_shows_what_became_of_its_tasks(graflow: Command, write: Write) -> None:
    write("flow.py", FAILING)
    rows = [line.rstrip().split(maxsplit=2) for line in graflow("run", "flow.py").out.splitlines()]
    assert [row[:2] for row in rows[1:]] == [["✗", "fetch"], ["·", "clean"], ["■", "other"]]
    assert rows[1][2].endswith("failed: LookupError: no such [bold]page[/bold]")
    assert rows[2][2] == "not reached"


def test_debug_shows_the_traceback_of_the_task(graflow: Command, write: Write) -> None:
    write("flow.py", FAILING)
    ran = graflow("run", "flow.py", "--quiet", "--debug")
    assert "Traceback (most recent call last)" in ran.err
    assert 'raise LookupError("no\\n  such' in ran.err
    assert ran.err.splitlines()[-1] == "graflow: task 'fetch' failed (attempt 1): LookupError: no such [bold]page[/bold]"


def test_json_of_a_failed_run_says_why_and_with_debug_where(graflow: Command, write: Write) -> None:
    write("flow.py", FAILING)
    told = json.loads(graflow("run", "flow.py", "--json").out)
    assert told["status"] == "failed"
    assert told["error"] == {
        "code": "GF201", "type": "LookupError", "message": "no\n  such [bold]page[/bold]", "task_id": "fetch", "attempt": 1
    }  # fmt: skip
    assert told["others"]["clean"] == "not reached"
    assert "Traceback" in json.loads(graflow("run", "flow.py", "--json", "--debug").out)["errors"]["fetch"]["traceback"]


def test_a_failed_group_is_one_line_with_the_causes(graflow: Command, write: Write) -> None:
    write("flow.py", NUMBERS.replace(".with_policy(best_effort)", ""))
    ran = graflow("run", "flow.py", "--quiet")
    assert ran.code == 1
    assert ran.complaint.startswith(
        "group 'square|largest': 1 of 2 branches failed (square: ParallelGroupError: group 'square': 1 of 4 branches"
    )


def test_a_cancelled_run_says_who_cancelled_it_and_why(graflow: Command, write: Write) -> None:
    write("flow.py", "@task\nasync def stop(ctx: TaskContext): ctx.cancel_workflow('enough')")
    ran = graflow("run", "flow.py:stop", "--quiet", "--run-id", "r")
    assert (ran.code, ran.complaint) == (1, "run 'r' of 'stop' was cancelled by task 'stop': enough")


def test_a_suspended_run_says_what_it_waits_for(graflow: Command, write: Write) -> None:
    write("flow.py", "from graflow.core.suspension import SuspendStep\n@task\nasync def ask(): raise SuspendStep('a word from Ada')")
    ran = graflow("run", "flow.py:ask", "--quiet", "--run-id", "r")
    assert ran.code == 3
    assert ran.complaint == "run 'r' is suspended (ask: a word from Ada); it is lost now, as it ran in this process"
    assert json.loads(graflow("run", "flow.py:ask", "--json").out)["status"] == "suspended"


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--input", "limit"], """--input 'limit' is no NAME=VALUE; write --input limit=10, or --input 'names=["a", "b"]'"""),
        (["--input", "=3"], """--input '=3' is no NAME=VALUE; write --input limit=10, or --input 'names=["a", "b"]'"""),
        (["-i", "n=1", "-i", "n=2"], "--input n is given twice; for several values give a list: --input 'n=[1, 2]'"),
        (["--inputs", "none.json"], "--inputs none.json cannot be read: No such file or directory"),
        (
            ["--inputs", "broken.json"],
            "--inputs broken.json is no JSON: Expecting property name enclosed in double quotes: line 1 column 2 (char 1)",
        ),
        (["--inputs", "list.json"], '--inputs list.json holds a list; it should hold an object, such as {"limit": 10}'),
        (["--timeout", "0"], "timeout=0.0: give the seconds that the run may take"),
        (["--max-steps", "0"], "max_steps=0: give the number of visits"),
        (["--run-id", ""], "run_id='': give a text that is not empty"),
        (["--start", "numbrs"], "start='numbrs' is not in the graph 'squares', which has"),
        (["--start", "largest"], "start='largest' is a member of the group"),
        (["--nonsense"], "No such option: --nonsense; see graflow run --help"),
    ],
)
def test_a_wrong_option_is_one_line_that_says_what_to_do(
    graflow: Command, write: Write, project: Path, arguments: list[str], complaint: str
) -> None:
    write("flow.py", NUMBERS)
    (project / "broken.json").write_text("{a: 1}")
    (project / "list.json").write_text("[1]")
    ran = graflow("run", "flow.py", *arguments)
    assert (ran.code, ran.out) == (2, "")
    assert ran.complaint.startswith(complaint)


@pytest.mark.parametrize(
    ("option", "value"), [("--concurrency", "0"), ("--timeout", "soon"), ("--on-failure", "retry"), ("--max-steps", "1.5")]
)
def test_an_option_with_a_value_of_the_wrong_kind_is_one_line(graflow: Command, write: Write, option: str, value: str) -> None:
    write("flow.py", NUMBERS)
    ran = graflow("run", "flow.py", option, value)
    assert (ran.code, ran.out) == (2, "")
    assert ran.complaint.startswith(f"Invalid value for '{option}': ")
    assert ran.complaint.endswith("; see graflow run --help")


def test_a_graph_that_cannot_run_is_refused_in_one_line(graflow: Command, write: Write) -> None:
    write("flow.py", "@task\nasync def a(): ...\ngraph = TaskGraph('g')\ngraph.add_edge(a, a)")
    ran = graflow("run", "flow.py")
    assert (ran.code, ran.complaint) == (2, "'a' leads to itself and would never end; give it a bound: @task(max_cycles=...)")


def test_an_error_that_nobody_expected_is_one_line_too(graflow: Command, write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    write("flow.py", NUMBERS)
    monkeypatch.setattr("graflow.cli.run.load", lambda target: 1 / 0)
    ran = graflow("run", "flow.py")
    assert (ran.code, ran.complaint) == (1, "something unexpected happened: ZeroDivisionError: division by zero; --debug shows where")
    assert "Traceback" in graflow("run", "flow.py", "--debug").err
