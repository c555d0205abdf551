"""The benchmark on Redis measures what it says, with bare redis-py for a contender; task queues are not installed here. No figure is judged."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest

from benchmarks.redis import chart, figures
from benchmarks.redis.contenders import BARE, Contender
from benchmarks.redis.environments import prepared
from benchmarks.redis.errors import LeftOut
from benchmarks.redis.figures import DRAIN, RESIDENT, WORKER_CPU, Sizes, Target
from benchmarks.redis.measuring import Report
from benchmarks.redis.report import share
from benchmarks.redis.server import find_server

ROOT = Path(__file__).parents[2]
SMALL = ["--tasks", "2000", "--rounds", "1", "--samples", "3"]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmarks", "redis", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=55)


@pytest.fixture
def server() -> str:
    """A server program, without which there is nothing to measure."""
    try:
        return find_server()
    except FileNotFoundError as error:
        pytest.skip(str(error))


def test_the_bare_worker_gives_every_figure_and_a_picture_of_them(server: str, tmp_path: Path) -> None:
    written, drawn = tmp_path / "figures.json", tmp_path / "figures.svg"
    done = run("--peers", "", "--without", "graflow", *SMALL, "--json", str(written), "--chart", str(drawn))
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(written.read_text())
    assert report["left_out"] == {}
    medians = report["medians"]["bare"]
    wanted = {
        "enqueue",
        "gather",
        "fan",
        "hop",
        "idle_p50",
        "idle_p95",
        "resident",
        "publish",
        "spent_worker",
        "spent_server",
        "spent_engine",
    }
    assert wanted <= medians.keys()
    assert all(value > 0 for value in medians.values())
    assert ElementTree.parse(drawn).getroot().tag.endswith("svg")
    assert "from submit to results" in done.stdout


def test_a_contender_that_cannot_start_is_left_out_with_its_reason_and_the_rest_goes_on(server: str, tmp_path: Path) -> None:
    program = (
        "import asyncio, json; from benchmarks.redis import measuring; from tests.benchmarks.test_redis import BROKEN, BARE, Sizes\n"
        "report = asyncio.run(measuring.measure([BROKEN, BARE], Sizes(500, 50, 10, 3, 1), lambda text: None))\n"
        "print(json.dumps(report.as_dict()))"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True, timeout=55)
    report = json.loads(done.stdout)
    assert "no-such-worker" in report["left_out"]["broken"]
    assert report["medians"].keys() == {"bare"}


BROKEN = replace(BARE, name="broken", worker=("no-such-worker",))


def test_a_peer_that_cannot_be_installed_says_so_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    nowhere = Contender("nowhere", "with_nowhere.py", ("nowhere",), package="nowhere", requirements=("--no-index", "graflow-nowhere"))
    with pytest.raises(LeftOut, match=r"^pip: ERROR: [^\n]*graflow-nowhere[^\n]*$"):
        prepared(nowhere)


MEASURED = {
    "graflow": {DRAIN.key: 10_000.0, WORKER_CPU.key: 50.0, RESIDENT.key: 40.0},
    "saq": {DRAIN.key: 2_000.0, WORKER_CPU.key: 400.0},
    "arq": {DRAIN.key: 1_000.0, WORKER_CPU.key: 300.0},
    "bare": {DRAIN.key: 50_000.0, WORKER_CPU.key: 10.0},
}


@pytest.mark.parametrize(
    ("target", "beside", "ratio", "met"),
    [
        (Target(DRAIN, 6.0), "saq", 5.0, False),
        (Target(DRAIN, 5.0), "saq", 5.0, True),
        (Target(WORKER_CPU, 0.2), "arq", 1 / 6, True),
        (Target(WORKER_CPU, 0.1, "saq"), "saq", 0.125, False),
        (Target(WORKER_CPU, 0.2, "streaq"), "arq", 1 / 6, True),
        (Target(RESIDENT, 48.0, "itself"), "itself", 40.0, True),
    ],
)
def test_graflow_is_held_against_the_best_peer_or_the_one_that_is_named(target: Target, beside: str, ratio: float, met: bool) -> None:
    verdict = figures.judged(target, MEASURED, ["saq", "arq"])
    assert verdict.beside == beside
    assert verdict.ratio == pytest.approx(ratio)
    assert verdict.met is met


def test_without_graflow_nothing_is_judged() -> None:
    assert figures.judged(Target(DRAIN, 6.0), {"saq": MEASURED["saq"]}, ["saq"]).met is None


def test_a_picture_is_well_formed_whatever_has_been_measured(tmp_path: Path) -> None:
    rounds = {name: {key: [value] for key, value in values.items()} for name, values in MEASURED.items()}
    known = {"redis": "7", "python": "3 <&>", "cores": "2", "machine": "?"}
    for name, kept in {"all": rounds, "one": {"saq": rounds["saq"]}, "none": {}}.items():
        report = Report(Sizes(), ["saq", "arq"], kept, dict.fromkeys(kept, "1"), {}, known)
        chart.write(report, tmp_path / f"{name}.svg")
        ElementTree.parse(tmp_path / f"{name}.svg")


def test_a_picture_that_cannot_be_written_is_refused_before_anything_is_measured() -> None:
    done = run("--chart", "figures.gif")
    assert done.returncode == 2
    assert ".svg" in done.stderr


@pytest.mark.parametrize(
    ("ratio", "text"), [(6.0, "6x"), (17.54, "17.5x"), (120.0, "120x"), (1.5, "1.5x"), (0.97, "0.97x"), (0.2, "1/5"), (0.3, "1/3.3")]
)
def test_a_ratio_is_said_as_people_say_it(ratio: float, text: str) -> None:
    assert share(ratio) == text
