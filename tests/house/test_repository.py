"""What is in the repository, and what the README promises at its top."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.house.source import ROOT

MACHINE_PATH = re.compile(r"(?<![\w.])/(work|root)/")
REGISTRY_HOST = re.compile(r"\b(pypi|pythonhosted|npmjs)\.(org|com)\b")
NOT_IN_A_COMMIT = re.compile(r"\.venv.*|\.git|\.nox|\.hypothesis|\.\w+_cache|__pycache__")


def files() -> list[Path]:
    """What is or could be committed, as git sees it; where git cannot say, all files but environments and caches."""
    git = ["git", "-c", "safe.directory=*", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        listed = subprocess.run(git, cwd=ROOT, check=True, capture_output=True, text=True).stdout.split("\0")
    except (FileNotFoundError, subprocess.CalledProcessError):
        return [
            path for path in ROOT.rglob("*") if not any(map(NOT_IN_A_COMMIT.fullmatch, path.relative_to(ROOT).parts)) and path.is_file()
        ]
    return [path for name in listed if name and (path := ROOT / name).is_file()]


def places(pattern: re.Pattern[str]) -> list[str]:
    texts = ((path, path.read_text("utf-8", errors="replace")) for path in files())
    return [str(path.relative_to(ROOT)) for path, text in texts if pattern.search(text)]


def test_no_file_names_a_path_of_some_machine() -> None:
    assert places(MACHINE_PATH) == []


def test_no_file_names_the_host_of_a_package_registry() -> None:
    assert places(REGISTRY_HOST) == []


@pytest.mark.parametrize("folder", ["work", "root"])
def test_a_machine_path_is_noticed_and_a_relative_one_is_not(folder: str) -> None:
    assert MACHINE_PATH.search(f"see /{folder}/main")
    assert MACHINE_PATH.search(f'"/{folder}/main"')
    assert not MACHINE_PATH.search(f"see docs/{folder}/main or /{folder}space/main")


def test_the_files_looked_at_include_this_one() -> None:
    assert Path(__file__).resolve() in files()


def test_the_readme_opens_with_the_two_commands_that_ci_runs() -> None:
    opening = (ROOT / "README.md").read_text("utf-8").split("\n## ")[0]
    blocks = re.findall(r"^```sh\n(.*?)^```$", opening, re.DOTALL | re.MULTILINE)
    ci = subprocess.run(["bash", ".ci/run", "--commands"], cwd=ROOT, check=True, capture_output=True, text=True)
    assert [block.strip() for block in blocks[:2]] == ci.stdout.splitlines()
    demo, tests = ci.stdout.splitlines()
    assert "pip install . &&" in demo
    assert tests.endswith("-m pytest")


def test_ci_can_be_run_as_it_is_and_is_what_the_forge_runs() -> None:
    assert os.access(ROOT / ".ci/run", os.X_OK)
    assert "run: .ci/run\n" in (ROOT / ".github/workflows/ci.yml").read_text("utf-8")
