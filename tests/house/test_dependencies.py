"""What the library needs is what it declares."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from collections.abc import Iterable

from tests.house import rules
from tests.house.source import ROOT, library, modules_of

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
NOT_FOR_THE_LIBRARY = {"dev", "examples"}
IMPORTED_AS = {"PyYAML": "yaml"}
"""what is not imported by the name that it is installed by"""


def packages(requirements: Iterable[str]) -> frozenset[str]:
    """The names before versions, extras and markers, as they are imported."""
    names = (re.split(r"[^\w-]", requirement, maxsplit=1)[0] for requirement in requirements)
    return frozenset(IMPORTED_AS.get(name, name) for name in names)


EXTRAS = packages(
    requirement
    for extra, requirements in PROJECT["optional-dependencies"].items()
    if extra not in NOT_FOR_THE_LIBRARY
    for requirement in requirements
)
DECLARED = packages(PROJECT["dependencies"]) | EXTRAS | sys.stdlib_module_names | {"graflow"}


def test_the_library_imports_only_what_it_declares() -> None:
    assert rules.undeclared(library(), DECLARED) == []


def test_an_undeclared_import_is_noticed() -> None:
    tree = modules_of({"graflow/core/run.py": "import msgspec\ndef f():\n    import numpy.linalg"})
    assert rules.undeclared(tree, DECLARED) == ["graflow/core/run.py:3: numpy.linalg is no declared dependency"]


def test_the_library_and_its_commands_can_be_imported_without_any_extra() -> None:
    modules = ["graflow", "graflow.handlers", "graflow.testing"]
    modules += [target.partition(":")[0] for target in PROJECT["scripts"].values()]
    program = f"import importlib, sys\nsys.modules.update(dict.fromkeys({sorted(EXTRAS)}))\n"
    program += "".join(f"importlib.import_module({module!r})\n" for module in modules)
    subprocess.run([sys.executable, "-c", program], check=True, cwd=ROOT)
