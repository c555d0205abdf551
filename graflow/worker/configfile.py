"""A YAML or TOML file as plain values, and the line on which each of them stands."""

from __future__ import annotations

import importlib
import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from graflow.errors import ConfigurationError
from graflow.worker.given import Given, as_mapping, shown, step

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Mapping

Keys = tuple[str | int, ...]
"""the way to a value: keys of mappings, and places in lists"""

MOST: Final = 20_000
"""values in a file. Aliases of YAML let a few lines stand for billions"""


@dataclass(frozen=True)
class Document:
    """What a file says.

    Attributes:
        name: the file, as it was named.
        data: its values.
        lines: where the key of each value stands, by its path. What is not there stands where the value around it does.
    """

    name: str
    data: Mapping[str, Any]
    lines: Mapping[str, int]

    def locate(self, key: str) -> str:
        """File and line of a path."""
        while key and key not in self.lines:  # shorter each time, whatever is in it
            key = key[: max(key.rfind("."), key.rfind("["), 0)]
        return f"{self.name}:{self.lines.get(key, 1)}"

    def given(self, keys: Keys, value: Any) -> Given:
        """A value at that place."""
        key = path_of(keys)
        return Given(value, self.locate(key), key, self.locate)

    def mistake(self, keys: Keys, text: str) -> ConfigurationError:
        """The error about that place."""
        where = self.given(keys, None)
        return ConfigurationError(f"{where.place}: {text}", setting=where.key)


def path_of(keys: Keys) -> str:
    """The way to a value as it is written: ``workers[0].handlers.docker``."""
    return "".join(map(step, keys)).removeprefix(".")


def read_document(path: str | os.PathLike[str]) -> Document:
    """Read a file.

    Raises:
        ConfigurationError: it is not there, is neither YAML nor TOML, or is no mapping; the message is one line.
    """
    file = Path(path)
    if file.suffix.lower() not in (".yaml", ".yml", ".toml"):
        raise ConfigurationError(f"{path}: give a file that ends with .yaml, .yml or .toml", setting="config")
    try:
        text = file.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be read: {error.strerror or error}", setting="config") from error
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise ConfigurationError(f"{path}:{line}: is no text in UTF-8", setting="config") from error
    found, lines = _toml(str(path), text) if file.suffix.lower() == ".toml" else _yaml(str(path), text)
    data = as_mapping(found)
    if found is None or data == {}:
        raise ConfigurationError(f"{path}: the file is empty; give it a list of workers", setting="config")
    if data is None:
        raise ConfigurationError(f"{path}:1: give a mapping with the key workers, not {shown('', found)}", setting="config")
    return Document(str(path), data, lines)


def _broken(name: str, line: int | None, kind: str, why: object) -> ConfigurationError:
    place = name if line is None else f"{name}:{line}"
    return ConfigurationError(f"{place}: is no {kind}: {' '.join(str(why).split())}", setting="config")


# ---- YAML -----------------------------------------------------------------------------------------------------------


def _yaml(name: str, text: str) -> tuple[Any, dict[str, int]]:
    try:
        yaml: Any = importlib.import_module("yaml")
    except ModuleNotFoundError as error:
        raise ConfigurationError(f"{name}: reading YAML needs PyYAML: pip install 'graflow[config]'", setting="config") from error
    try:
        loader = yaml.SafeLoader(text)
        node = loader.get_single_node()
        if node is None:
            return None, {}
        _refuse_twins(name, yaml, node)
        data = loader.construct_document(node)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise _broken(name, None if mark is None else mark.line + 1, "YAML", error.problem or error.context) from error
    except yaml.reader.ReaderError as error:
        raise _broken(
            name, text.count("\n", 0, error.position) + 1, "YAML", f"the character #x{error.character:04x} may not be in it"
        ) from error
    except (yaml.YAMLError, ValueError) as error:  # the latter of a date that there is not, among others
        raise _broken(name, None, "YAML", error) from error
    except (ArithmeticError, AttributeError, LookupError, TypeError) as error:  # PyYAML, of a value that does not fit the tag before it
        raise _broken(name, None, "YAML", f"a value does not fit its tag ({type(error).__name__}: {error})") from error
    except RecursionError as error:
        raise _broken(name, None, "YAML", "it is nested too deeply") from error
    lines: dict[str, int] = {}
    for number, (keys, line) in enumerate(_lines(yaml, node, ())):
        if number > MOST:
            raise _broken(name, None, "configuration", f"it has more than {MOST} values")
        lines[path_of(keys)] = line
    return data, lines


def _refuse_twins(name: str, yaml: Any, root: Any) -> None:
    """A key that is there twice: PyYAML would take the last one and say nothing."""
    seen: set[int] = set()
    waiting = [root]
    while waiting:
        node = waiting.pop()
        if id(node) in seen:  # by an alias
            continue
        seen.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            waiting += node.value
        elif isinstance(node, yaml.MappingNode):
            before: dict[tuple[str, str], int] = {}
            for key, value in node.value:
                waiting.append(value)
                if isinstance(key, yaml.ScalarNode):
                    line = key.start_mark.line + 1
                    if (key.tag, key.value) in before:
                        first = before[key.tag, key.value]
                        raise _broken(name, line, "configuration", f"{key.value!r} is there twice, first on line {first}")
                    before[key.tag, key.value] = line


def _lines(yaml: Any, node: Any, keys: Keys) -> Iterator[tuple[Keys, int]]:
    """The lines inside of a node. Merges (``<<``) were resolved when the values were made."""
    if len(keys) > 50:  # a value that holds itself, by an alias
        return
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if isinstance(key, yaml.ScalarNode):
                inner = (*keys, key.value)
                yield inner, key.start_mark.line + 1
                yield from _lines(yaml, value, inner)
    elif isinstance(node, yaml.SequenceNode):
        for number, value in enumerate(node.value):
            inner = (*keys, number)
            yield inner, value.start_mark.line + 1
            yield from _lines(yaml, value, inner)


# ---- TOML -----------------------------------------------------------------------------------------------------------

_KEY: Final = r"""(?:[A-Za-z0-9_-]+|"[^"\n]*"|'[^'\n]*')"""
_DOTTED: Final = rf"{_KEY}(?:[ \t]*\.[ \t]*{_KEY})*"
_LINE: Final = re.compile(rf"[ \t]*(?:(?P<open>\[\[?)[ \t]*(?P<table>{_DOTTED})[ \t]*\]|(?P<key>{_DOTTED})[ \t]*=)")


def _toml(name: str, text: str) -> tuple[dict[str, Any], dict[str, int]]:
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        told = str(error)
        at = re.search(r" \(at line (\d+), column \d+\)$", told)
        raise _broken(name, int(at[1]) if at else None, "TOML", told[: at.start()] if at else told) from error
    except RecursionError as error:
        raise _broken(name, None, "TOML", "it is nested too deeply") from error
    return data, _search(text)


def _search(text: str) -> dict[str, int]:
    """The lines of tables and keys: tomllib does not tell them. Those inside of a value on one line stand on its line."""
    lines: dict[str, int] = {}
    counts: dict[Keys, int] = {}
    table: Keys = ()
    for number, line in enumerate(text.splitlines(), 1):
        found = _LINE.match(line)
        if found is None:
            continue
        if found["key"] is not None:
            keys = (*table, *_split(found["key"]))
        else:
            keys = ()
            *outer, last = _split(found["table"])
            for part in outer:
                keys = (*keys, part)
                if keys in counts:
                    keys = (*keys, counts[keys])
            keys = (*keys, last)
            if found["open"] == "[[":
                counts[keys] = counts.get(keys, -1) + 1
                keys = (*keys, counts[keys])
            table = keys
        for length in range(len(keys), 0, -1):  # what stands around it may have no line of its own
            lines.setdefault(path_of(keys[:length]), number)
    return lines


def _split(dotted: str) -> list[str]:
    return [part[1:-1] if part[0] in "\"'" else part for part in re.findall(_KEY, dotted)]
