"""Who may import whom. Each rule is also shown a tree that breaks it: a check that cannot fail checks nothing."""

from __future__ import annotations

from itertools import pairwise

import pytest

from tests.house import rules
from tests.house.source import library, modules_of


def test_lower_rooms_never_import_higher_ones() -> None:
    assert rules.rooms(library()) == []


def test_no_modules_import_each_other_in_a_circle() -> None:
    assert rules.circles(library()) == []


def test_nobody_inside_imports_the_top_package() -> None:
    assert rules.top_package(library()) == []


def test_the_core_knows_neither_an_event_loop_nor_io() -> None:
    assert rules.pure_core(library()) == []


@pytest.mark.parametrize(
    "text",
    [
        "import graflow.worker.lease",
        "from graflow.worker.lease import Lease",
        "from graflow.worker import lease",
        "from ..worker import lease",
        "from ..worker.lease import Lease",
        "if TYPE_CHECKING:\n    from graflow.worker.lease import Lease",
        "def late():\n    from graflow.worker import lease",
        "importlib.import_module('graflow.worker.lease')",
    ],
)
def test_an_import_upwards_is_noticed_in_whatever_form(text: str) -> None:
    tree = modules_of({"graflow/core/run.py": text, "graflow/worker/__init__.py": "", "graflow/worker/lease.py": ""})
    assert len(rules.rooms(tree)) == 1


def test_an_import_downwards_or_sideways_or_by_the_top_package_is_fine() -> None:
    tree = modules_of(
        {
            "graflow/__init__.py": "from graflow.cli.main import main",
            "graflow/__main__.py": "from graflow.cli.main import main",
            "graflow/errors.py": "import enum",
            "graflow/core/plan.py": "from graflow.errors import GraphError",
            "graflow/core/run.py": "from .plan import Plan",
            "graflow/cli/main.py": "from graflow.core import run",
        }
    )
    assert rules.rooms(tree) == []
    assert rules.top_package(tree) == []
    assert rules.circles(tree) == []


def test_a_module_outside_every_room_is_noticed() -> None:
    assert rules.rooms(modules_of({"graflow/utils.py": ""})) == ["graflow/utils.py: utils is no room"]


@pytest.mark.parametrize("late", ["from graflow.core.a import A", "def f():\n    import graflow.core.a"])
def test_a_circle_is_noticed_and_drawn(late: str) -> None:
    tree = modules_of(
        {
            "graflow/core/a.py": "from graflow.core.b import B",
            "graflow/core/b.py": "if TYPE_CHECKING:\n    from graflow.core import c",
            "graflow/core/c.py": late,
        }
    )
    (circle,) = rules.circles(tree)
    assert set(circle.split(" -> ")) == {"graflow.core.a", "graflow.core.b", "graflow.core.c"}
    steps = circle.split(" -> ")
    assert ("graflow.core.a", "graflow.core.b") in pairwise(steps)


@pytest.mark.parametrize("text", ["import graflow", "from graflow import task", "from .. import task"])
def test_an_import_of_the_top_package_is_noticed(text: str) -> None:
    assert len(rules.top_package(modules_of({"graflow/__init__.py": "", "graflow/engine/handle.py": text}))) == 1


@pytest.mark.parametrize("text", ["import asyncio", "from anyio import to_thread", "import asyncio.queues as queues"])
def test_an_event_loop_in_the_core_is_noticed(text: str) -> None:
    assert len(rules.pure_core(modules_of({"graflow/core/run.py": text}))) == 1
    assert rules.pure_core(modules_of({"graflow/worker/worker.py": text})) == []
