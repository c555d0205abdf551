"""The measurement of containers beside the shell's."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docker import engines


@pytest.mark.timeout(180)
def test_containers_are_measured_beside_docker_run(docker: engines.Engine, image: str) -> None:
    if shutil.which("docker") is None:
        pytest.skip("there is no docker command on this machine to compare with")
    options = ["--image", image, "--host", docker.url, "--many", "2", "--lanes", "2", "--rounds", "1", "--network", "none", "--json"]
    command = [sys.executable, "-m", "benchmarks", "docker", *options]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=True, timeout=150)
    rows = json.loads(done.stdout)["containers"]
    assert [row["what"] for row in rows] == ["a fresh container, kept ready", "one that is used again", "fresh ones, 2 at once"]
    assert all(row["shell"] > 0 and row["graflow"] > 0 for row in rows)
    assert rows[0]["ratio"] < 0.3
    assert rows[1]["ratio"] < 0.05
