"""Values for a run from the command line: ``--input limit=10 --input name=Ada --inputs more.json``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

from graflow.cli.failures import CommandError, one_line


def read_inputs(pairs: list[str], file: Path | None) -> dict[str, Any]:
    """The inputs of a run; what is given by name wins over what stands in the file.

    Args:
        pairs: texts such as ``limit=10``. A value that is JSON is read as such, any other is text.
        file: a JSON file with an object in it.

    Raises:
        CommandError: a text without a name or ``=``, a name given twice, or no such file or object.
    """
    inputs = {} if file is None else _read_file(file)
    given: set[str] = set()
    for pair in pairs:
        name, equals, text = pair.partition("=")
        name = name.strip()
        if not equals or not name:
            raise CommandError(f'--input {pair!r} is no NAME=VALUE; write --input limit=10, or --input \'names=["a", "b"]\'')
        if name in given:
            raise CommandError(f"--input {name} is given twice; for several values give a list: --input '{name}=[1, 2]'")
        given.add(name)
        inputs[name] = _value(text)
    return inputs


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except (json.JSONDecodeError, RecursionError):
        return text


def _read_file(file: Path) -> dict[str, Any]:
    try:
        value = json.loads(file.read_text("utf-8"))
    except OSError as error:
        raise CommandError(f"--inputs {file} cannot be read: {error.strerror}") from error
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise CommandError(f"--inputs {file} is no JSON: {one_line(error)}") from error
    if not isinstance(value, dict):
        raise CommandError(f'--inputs {file} holds a {type(value).__name__}; it should hold an object, such as {{"limit": 10}}')
    return cast("dict[str, Any]", value)
