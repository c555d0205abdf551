"""What pyright makes of graphs, in strict mode: no complaint where they are right, an error where they are not.

``nox -s types`` checks the same files with the ignores in them. Here they are taken out, which shows that each of them
hides an error that is there.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
FILES = ("inferred.py", "mistakes.py")
IGNORE = re.compile(r"  # (type|pyright): ignore\[.*$")


@pytest.fixture(scope="module")
def complaints(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Mapping[int, str]]:
    """What pyright says of each file without its ignores, by line number."""
    folder = tmp_path_factory.mktemp("typing")
    for name in FILES:
        lines = (HERE / name).read_text("utf-8").splitlines()
        (folder / name).write_text("\n".join(IGNORE.sub("", line) for line in lines), "utf-8")
    settings = {"include": ["."], "strict": ["."], "extraPaths": [str(ROOT)], "pythonVersion": "3.11"}
    (folder / "pyrightconfig.json").write_text(json.dumps(settings), "utf-8")
    command = [sys.executable, "-m", "pyright", "--outputjson", "--pythonpath", sys.executable, "-p", str(folder)]
    answer = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)
    assert answer.stdout, answer.stderr
    found: dict[str, dict[int, str]] = {name: {} for name in FILES}
    reported: list[dict[str, Any]] = json.loads(answer.stdout)["generalDiagnostics"]
    for each in reported:
        found[Path(each["file"]).name][each["range"]["start"]["line"] + 1] = each["message"]
    return found


@pytest.mark.timeout(180)
def test_what_graphs_result_in_is_known_to_type_checkers(complaints: Mapping[str, Mapping[int, str]]) -> None:
    assert complaints["inferred.py"] == {}


@pytest.mark.timeout(180)
def test_every_mistake_is_found_and_nothing_else_is_called_one(complaints: Mapping[str, Mapping[int, str]]) -> None:
    lines = (HERE / "mistakes.py").read_text("utf-8").splitlines()
    meant = {number for number, line in enumerate(lines, start=1) if IGNORE.search(line)}
    assert len(meant) > 30
    assert set(complaints["mistakes.py"]) == meant
