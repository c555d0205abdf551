"""How a module is written. Each rule is also shown a text that breaks it."""

from __future__ import annotations

import pytest

from tests.house import rules
from tests.house.source import library, modules_of


def test_no_file_of_the_library_is_longer_than_400_lines() -> None:
    assert rules.long_files(library()) == []


def test_no_broad_except_swallows_an_error() -> None:
    assert rules.broad_excepts(library()) == []


def test_the_library_does_not_print() -> None:
    assert rules.prints(library()) == []


def test_every_module_says_what_it_is_for() -> None:
    assert rules.undocumented(library()) == []


def test_the_library_was_found_at_all() -> None:
    assert "graflow.errors" in library()


def test_a_long_file_is_noticed() -> None:
    assert rules.long_files(modules_of({"graflow/core/run.py": "\n" * 400})) == []
    assert len(rules.long_files(modules_of({"graflow/core/run.py": "\n" * 401}))) == 1


@pytest.mark.parametrize(
    "handler",
    [
        "except:\n    pass",
        "except Exception:\n    pass",
        "except BaseException as error:\n    log(error)",
        "except (ValueError, Exception):\n    pass",
        "except builtins.Exception:\n    pass",
        "except Exception:\n    if unlucky:\n        raise",
        "except* Exception:\n    pass",
    ],
)
def test_a_broad_except_that_swallows_is_noticed(handler: str) -> None:
    assert len(rules.broad_excepts(modules_of({"graflow/core/run.py": f"try:\n    f()\n{handler}"}))) == 1


@pytest.mark.parametrize("call", ["suppress(Exception)", "contextlib.suppress(OSError, BaseException)"])
def test_a_broad_suppress_is_noticed(call: str) -> None:
    assert len(rules.broad_excepts(modules_of({"graflow/core/run.py": f"with {call}:\n    f()"}))) == 1


@pytest.mark.parametrize(
    "text",
    [
        "try:\n    f()\nexcept BaseException:\n    undo()\n    raise",
        "try:\n    f()\nexcept Exception as error:\n    raise GraflowError('no') from error",
        "try:\n    f()\nexcept (OSError, ValueError):\n    pass",
        "with suppress(FileNotFoundError):\n    f()",
    ],
)
def test_a_narrow_except_and_one_that_raises_again_are_fine(text: str) -> None:
    assert rules.broad_excepts(modules_of({"graflow/core/run.py": text})) == []


def test_a_print_is_noticed_except_on_the_command_line() -> None:
    assert len(rules.prints(modules_of({"graflow/engine/handle.py": "print('here')"}))) == 1
    assert rules.prints(modules_of({"graflow/cli/main.py": "print('here')"})) == []


def test_a_module_without_a_docstring_is_noticed() -> None:
    tree = modules_of({"graflow/core/run.py": "import enum"})
    assert rules.undocumented(tree) == ["graflow/core/run.py: no docstring"]
