"""Functions travel by name: found where the name leads, or refused with a reason."""

from __future__ import annotations

import json
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from graflow.errors import FunctionNotFoundError
from graflow.wire.functions import is_importable, reference, resolve
from tests.wire import functions_to_find as found

HERE = "tests.wire.functions_to_find"


@pytest.mark.parametrize(
    ("function", "name"),
    [
        (found.plain, f"{HERE}:plain"),
        (found.coroutine, f"{HERE}:coroutine"),
        (found.wrapped, f"{HERE}:wrapped"),
        (found.Tools.static, f"{HERE}:Tools.static"),
        (found.Tools.of_class, f"{HERE}:Tools.of_class"),
        (found.Tools.method, f"{HERE}:Tools.method"),
        (found.Tools, f"{HERE}:Tools"),
        (found.decorated.function, f"{HERE}:decorated"),
        (found.decorated_with_options.function, f"{HERE}:decorated_with_options"),
        (json.dumps, "json:dumps"),
        (len, "builtins:len"),
    ],
)
def test_a_function_is_found_again_by_its_reference(function: Callable[..., Any], name: str) -> None:
    assert reference(function) == name
    assert resolve(name) == function
    assert is_importable(function)


@pytest.mark.parametrize(
    ("function", "name"),
    [
        (found.nameless, f"{HERE}:<lambda>"),
        (found.make_local(), f"{HERE}:make_local.<locals>.local"),
        (found.half, f"functools:<partial {HERE}:plain>"),
        (found.Tools().method, f"{HERE}:<method Tools.method>"),
        (found.Tools(), f"{HERE}:<object Tools>"),
    ],
)
def test_what_has_no_importable_name_gets_one_that_is_refused(function: Callable[..., Any], name: str) -> None:
    assert reference(function) == name
    assert not is_importable(function)
    with pytest.raises(FunctionNotFoundError, match="define it with def at the top level") as caught:
        resolve(name)
    assert caught.value.reference == name


def test_a_task_stands_for_its_function() -> None:
    assert resolve(f"{HERE}:decorated") is found.decorated.function


@pytest.mark.parametrize("text", ["", "json", "json:", ":dumps"])
def test_what_is_no_reference_is_refused(text: str) -> None:
    with pytest.raises(FunctionNotFoundError, match="module:qualname"):
        resolve(text)


def test_a_missing_module_is_named() -> None:
    with pytest.raises(FunctionNotFoundError, match=r"there is no module 'nowhere_at_all'.*PYTHONPATH"):
        resolve("nowhere_at_all.tasks:fetch")


def test_a_missing_attribute_is_named_with_its_module() -> None:
    with pytest.raises(FunctionNotFoundError, match=f"{HERE} has no 'gone'"):
        resolve(f"{HERE}:gone")
    with pytest.raises(FunctionNotFoundError, match="Tools has no 'gone'"):
        resolve(f"{HERE}:Tools.gone")


def test_something_that_cannot_be_called_is_refused() -> None:
    with pytest.raises(FunctionNotFoundError, match="is a int, not a function"):
        resolve(f"{HERE}:NUMBER")


def write_module(folder: Path, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "app_of_the_test.py").write_text(text)
    monkeypatch.syspath_prepend(folder)
    monkeypatch.delitem(sys.modules, "app_of_the_test", raising=False)


def test_a_module_is_imported_if_need_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_module(tmp_path, "def fetch(): return 5", monkeypatch)
    assert resolve("app_of_the_test:fetch")() == 5


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("import not_installed_here", "importing app_of_the_test needs 'not_installed_here', which is not installed"),
        ("1 / 0", "importing app_of_the_test raised ZeroDivisionError"),
        ("this is no python", "importing app_of_the_test raised SyntaxError"),
        ("import sys; sys.exit(3)", "importing app_of_the_test raised SystemExit"),
    ],
)
def test_a_module_that_fails_to_import_is_a_designed_error_with_its_cause(
    text: str, problem: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_module(tmp_path, text, monkeypatch)
    with pytest.raises(FunctionNotFoundError, match=problem) as caught:
        resolve("app_of_the_test:fetch")
    assert caught.value.__cause__ is not None


def test_functions_of_the_main_module_are_not_importable_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    main = types.ModuleType("__main__")
    exec("def fetch(): return 5", main.__dict__)
    monkeypatch.setitem(sys.modules, "__main__", main)
    assert not is_importable(main.fetch)
    assert resolve("__main__:fetch") is main.fetch
    with pytest.raises(FunctionNotFoundError, match="move the function into a module"):
        resolve("__main__:gone")


def test_a_function_whose_name_leads_to_another_is_not_importable(monkeypatch: pytest.MonkeyPatch) -> None:
    before = found.plain
    monkeypatch.setattr(found, "plain", lambda n: n)
    assert not is_importable(before)
