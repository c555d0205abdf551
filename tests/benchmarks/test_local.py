"""The benchmarks measure what they say: they run, and their graphs do all the steps that are divided by. No figure is judged here."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.shapes import SHAPES
from graflow import WorkflowEngine

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", sorted(SHAPES))
async def test_every_shape_runs_as_many_steps_as_it_is_drawn_for(name: str) -> None:
    async with WorkflowEngine() as engine:
        handle = await engine.submit(SHAPES[name].draw(200))
        await handle.result()
        started = [event async for event in handle.events() if event.type == "task_started"]
    assert len(started) == 200


@pytest.mark.parametrize("name", sorted(SHAPES))
async def test_every_shape_has_a_bare_twin(name: str) -> None:
    await SHAPES[name].bare(200)


def test_the_command_prints_one_json_object_with_a_row_for_each_shape_and_size() -> None:
    command = [sys.executable, "-m", "benchmarks", "local", "--sizes", "100,200", "--shapes", "chain,fan", "--repeat", "1", "--json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=50)
    report = json.loads(done.stdout)
    assert [(row["shape"], row["steps"]) for row in report["shapes"]] == [("chain", 100), ("chain", 200), ("fan", 100), ("fan", 200)]
    assert all(row["again_ratio"] > 0 and row["kept"] > 0 for row in report["shapes"])
    assert report["one_task_runs"]["p99_ms"] >= report["one_task_runs"]["p50_ms"] > 0


def test_processes_are_measured_beside_a_pool_of_as_many() -> None:
    command = [sys.executable, "-m", "benchmarks", "processes", "--calls", "40", "--repeat", "1", "--json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=50)
    rows = json.loads(done.stdout)["processes"]
    assert [row["what"] for row in rows] == ["one after the other", "40 at once"]
    assert all(row["pool"] > 0 and row["graflow"] > 0 for row in rows)
