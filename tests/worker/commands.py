"""``graflow-aworker`` as a process, for tests: nothing in its environment but what is given."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PROGRAM = [sys.executable, "-c", "from graflow.worker.main import main; main()"]
KNOWN = (
    "WORKER_ID", "GRAFLOW_REDIS_URL", "REDIS_KEY_PREFIX", "HANDLER_TYPE", "TASK_TIMEOUT", "MAX_CONCURRENT_TASKS", "LOG_LEVEL",
    "REDIS_HOST", "REDIS_PORT", "REDIS_DB", "REDIS_PASSWORD", "DOCKER_IMAGE", "GRAFLOW_SECRET_KEY",
)  # fmt: skip
"""the environment variables that the command knows"""


@dataclass(frozen=True)
class Ran:
    """What a command printed, and its exit code."""

    code: int
    out: str
    err: str

    @property
    def complaint(self) -> str:
        """The one line that says what is wrong."""
        (line,) = self.err.splitlines()
        assert line.startswith("graflow-aworker: "), line
        return line.removeprefix("graflow-aworker: ")


def environment(**variables: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name not in KNOWN and not name.startswith(("PYTEST_", "COV_"))}
    return {**kept, "PYTHONPATH": str(ROOT), "COLUMNS": "120", **variables}


def aworker(*arguments: str | Path, cwd: Path = ROOT, **variables: str) -> Ran:
    """Run the command to its end."""
    done = subprocess.run(
        [*PROGRAM, *map(str, arguments)], cwd=cwd, env=environment(**variables), capture_output=True, text=True, timeout=40, check=False
    )
    return Ran(done.returncode, done.stdout, done.stderr)
