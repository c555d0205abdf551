"""What is shown while a run goes on."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from graflow import RunEvent, best_effort, parallel, task, workflow
from graflow.cli.progress import Lines, LiveView
from graflow.cli.tracking import Tracking
from graflow.draw import picture_of
from tests.cli.conftest import environment
from tests.cli.flows import NUMBERS
from tests.draw.graphs import make

Write = Callable[[str, str], Path]
BEGIN = datetime(2026, 11, 21, tzinfo=UTC)


class Happening:
    """Events made by hand, and what is told of them."""

    def __init__(self, graph: Any) -> None:
        self.tracking = Tracking(picture_of(graph))
        self.told: list[str] = []
        self.lines = Lines(self.tracking, self.told.append)
        self._count = 0

    def __call__(self, seconds: float, type: str, task_id: str | None = None, attempt: int | None = 1, /, **data: Any) -> None:
        self._count += 1
        event = RunEvent(str(self._count), type, task_id, BEGIN + timedelta(seconds=seconds), attempt, data)
        self.lines.take(event, self.tracking.take(event))

    def shown(self, now: float, height: int = 30) -> str:
        console = Console(width=100, height=height, color_system=None)
        with console.capture() as captured:
            console.print(LiveView(self.tracking, console, "flow  run r").render(now))
        return "\n".join(line.rstrip() for line in captured.get().splitlines())


@task
def source() -> list[int]: ...


@task
def parse(n: int) -> int: ...


@pytest.fixture
def mapped() -> Happening:
    with workflow("flow") as wf:
        wf.add(source >> parse.map(source).with_policy(best_effort) >> make("report"))
    happens = Happening(wf)
    happens(0, "run_started", None, None)
    happens(0, "task_started", "source")
    happens(1, "task_succeeded", "source")
    happens(1, "group_started", "parse")
    members = happens.tracking.entries["parse"].members
    assert members is not None
    members.total = 40
    return happens


# ---- lines ----


def test_that_nobody_runs_a_task_is_told_until_somebody_does() -> None:
    happens = Happening(make("fetch") >> make("train"))
    happens(0, "run_started", None, None)
    happens(9, "no_worker", None, None, queue="big gpu", handler="docker", task_id="train")
    says = (
        "no worker takes train: none serves the queue 'big gpu' with the handler 'docker'; "
        "start one with graflow-aworker --app MODULE --queues 'big gpu' --handlers docker"
    )
    assert happens.told == [f"    9.00 s  {says}"]
    assert says.partition(";")[0] in happens.shown(9)
    happens(10, "task_started", "fetch")
    assert "no worker" in happens.shown(10)
    happens(11, "task_started", "train")
    assert "no worker" not in happens.shown(11)


def test_each_task_gets_a_line_when_it_starts_and_when_it_ends() -> None:
    happens = Happening(make("fetch") >> make("clean") >> make("send"))
    happens(0, "run_started", None, None)
    happens(0, "task_started", "fetch")
    happens(1.5, "task_retrying", "fetch", delay=2.0, error_type="OSError", message="no\nroute")
    happens(3.5, "task_started", "fetch", 2)
    happens(4, "task_succeeded", "fetch", 2)
    happens(4, "task_started", "clean")
    happens(5.25, "task_failed", "clean", error_type="ValueError", message="bad")
    happens(5.25, "task_skipped", "send", because="an earlier task failed")
    happens(5.25, "run_finished", None, None, status="failed")
    assert happens.told == [
        "    0.00 s  fetch started",
        "    1.50 s  fetch retrying after 1.50 s (OSError: no route, again in 2 s)",
        "    3.50 s  fetch started",
        "    4.00 s  fetch succeeded after 0.50 s",
        "    4.00 s  clean started",
        "    5.25 s  clean failed after 1.25 s (ValueError: bad)",
        "    5.25 s  send skipped (an earlier task failed)",
        "    5.25 s  run failed",
    ]


def test_a_task_that_is_visited_again_says_so() -> None:
    happens = Happening(make("agent"))
    happens(0, "task_started", "agent")
    happens(0, "task_succeeded", "agent")
    happens(1, "task_started", "agent")
    assert happens.told[-1] == "    1.00 s  agent started (visit 2)"


def test_a_task_that_a_worker_cannot_run_says_why_it_waits_and_starts_once() -> None:
    happens = Happening(make("agent"))
    happens(0, "task_started", "agent")
    happens(1, "task_refused", "agent", reason="no_key", worker="w1", message="there is no key")
    happens(2, "task_refused", "agent", reason="unknown_function", worker="w2", message="no module")
    assert happens.tracking.entries["agent"].state == "waiting"
    happens(3, "task_started", "agent")
    assert happens.told == [
        "    0.00 s  agent started",
        "    1.00 s  agent waiting after 1.00 s (worker w1 cannot run it: there is no key)",
        "    2.00 s  agent waiting after 2.00 s (worker w2 cannot run it: no module)",
        "    3.00 s  agent started",
    ]


def test_members_that_a_worker_cannot_run_wait_and_the_first_says_why(mapped: Happening) -> None:
    mapped.told.clear()
    for number in range(3):
        mapped(1, "task_started", f"parse[{number}]")
        mapped(1, "task_refused", f"parse[{number}]", reason="no_key", worker="w1", message="there is no key")
    assert mapped.told == ["    1.00 s  parse[0] waiting (worker w1 cannot run it: there is no key)"]
    members = mapped.tracking.entries["parse"].members
    assert members is not None
    assert members.running == 0


def test_members_of_a_mapped_group_are_counted_every_few_seconds(mapped: Happening) -> None:
    mapped.told.clear()
    for number in range(10):
        mapped(1 + number, "task_started", f"parse[{number}]")
        mapped(2 + number, "task_succeeded", f"parse[{number}]")
    assert mapped.told == [
        "    6.00 s  parse[*]: 5 of 40 done, about 35 s left",
        "   11.00 s  parse[*]: 10 of 40 done, about 30 s left",
    ]


def test_failed_members_get_a_line_each_until_there_are_too_many(mapped: Happening) -> None:
    mapped.told.clear()
    for number in range(30):
        mapped(1, "task_started", f"parse[{number}]")
        mapped(1, "task_failed", f"parse[{number}]", error_type="SyntaxError", message="no Python")
    mapped(2, "group_succeeded", "parse")
    assert mapped.told[0] == "    1.00 s  parse[0] failed (SyntaxError: no Python)"
    assert mapped.told[10] == "    1.00 s  parse[*]: more of them fail, which are only counted from here on"
    assert mapped.told[11:] == ["    2.00 s  parse[*] succeeded after 1.00 s, 30 of 40 done, 30 failed"]


def test_what_a_task_says_of_its_progress_is_told_now_and_then() -> None:
    happens = Happening(make("scan"))
    happens(0, "task_started", "scan")
    for page in range(1, 9):
        happens(page, "progress", "scan", done=page, total=10, message="pages")
    assert happens.told[1:] == ["    5.00 s  scan: 5 of 10 pages, about 5 s left"]


def test_a_task_that_is_added_to_the_run_is_shown_like_any_other() -> None:
    happens = Happening(make("maker"))
    happens(0, "task_started", "made")
    assert happens.told == ["    0.00 s  made started"]
    assert "▸ made" in happens.shown(1)


# ---- the live view ----


def test_the_live_view_shows_the_state_of_every_task() -> None:
    happens = Happening(make("a") >> parallel(make("b"), make("c"), name="both") >> make("d"))
    happens(0, "task_started", "a")
    happens(2, "task_succeeded", "a")
    happens(2, "group_started", "both")
    happens(2, "task_started", "b")
    happens(2, "task_started", "c")
    happens(3, "task_failed", "c", error_type="ValueError", message="bad")
    assert (
        happens.shown(4.5)
        == """\
flow  run r  4.5 s
✓ a        2.0 s
▸ both     2.5 s
▸   b      2.5 s
✗   c      1.0 s ValueError: bad
· d
2 of 5 done, 2 running, 1 failed"""
    )


def test_the_live_view_tells_how_far_a_mapped_group_is_and_when_it_may_be_done(mapped: Happening) -> None:
    for number in range(10):
        mapped(1, "task_started", f"parse[{number}]")
        mapped(2, "task_succeeded" if number else "task_failed", f"parse[{number}]")
    lines = mapped.shown(2).splitlines()
    assert lines[2].split(maxsplit=4)[1:] == ["parse[*]", "1.0", "s", "━━━━━━────────────────── 10 of 40 done, 1 failed  about 3 s left"]
    assert lines[-1] == "1 of 3 done, 1 running, at least 3 s left"


def test_the_rest_is_only_guessed_where_it_can_be_known(mapped: Happening) -> None:
    assert "left" not in mapped.shown(100)


def test_what_does_not_fit_on_the_screen_is_summed_up() -> None:
    happens = Happening(parallel(*[make(f"t{n}") for n in range(50)], name="many"))
    happens(0, "group_started", "many")
    happens(0, "task_started", "t49")
    shown = happens.shown(1, height=10)
    assert len(shown.splitlines()) <= 10
    assert "▸   t49" in shown
    assert "  and 45 waiting" in shown


# ---- on a real terminal ----


def on_a_terminal(command: list[str], folder: Path) -> Iterator[bytes]:
    """What a command writes to a terminal, piece by piece."""
    pty = pytest.importorskip("pty")
    reading, writing = pty.openpty()
    environ = {**environment(), "LINES": "30"}
    with subprocess.Popen(command, stdin=writing, stdout=writing, stderr=writing, cwd=folder, env=environ) as process:
        os.close(writing)
        while True:
            try:
                piece = os.read(reading, 65536)
            except OSError:  # how Linux says that nobody writes to it any more
                piece = b""
            if not piece:
                break
            yield piece
        os.close(reading)
        assert process.wait() == 0


def test_on_a_terminal_the_states_of_the_tasks_change_while_they_run(write: Write, project: Path) -> None:
    write("flow.py", NUMBERS.replace('print("counting")', "import time; time.sleep(0.3)"))
    written = b"".join(on_a_terminal([sys.executable, "-m", "graflow", "run", "flow.py"], project)).decode()
    text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", written)
    assert "▸ numbers" in text
    assert "· report" in text
    assert "0 of 5 done, 1 running" in text
    view, table = text.index("▸ numbers"), text.index("✓  numbers")
    assert view < table
    assert "\x1b[?25l" in written, "the cursor was not hidden"
    assert written.rindex("\x1b[?25h") > written.rindex("\x1b[?25l"), "the cursor was not shown again"
    assert " started" not in text, "lines are for those who have no terminal"


def test_what_a_task_prints_goes_above_the_live_view(write: Write, project: Path) -> None:
    write("flow.py", NUMBERS)
    text = b"".join(on_a_terminal([sys.executable, "-m", "graflow", "run", "flow.py"], project)).decode()
    assert "counting\r\n" in text


def test_quiet_shows_nothing_on_a_terminal_either(write: Write, project: Path) -> None:
    write("flow.py", NUMBERS.replace('print("counting")', ""))
    assert b"".join(on_a_terminal([sys.executable, "-m", "graflow", "run", "flow.py", "--quiet"], project)) == b"[0, 1, 4] up to 3\r\n"
