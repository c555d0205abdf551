"""The Lua scripts, each in a file of its own, and what puts them together."""

from __future__ import annotations

import hashlib
import re
from functools import cache, cached_property
from importlib.resources import files
from typing import Final

SELDOM: Final = "?"
"""before the name of a part that few calls need; see ``seldom`` in state.lua"""
INSIDE: Final = "{"
"""what comes after it is a function of its own, for which the names before it are looked up once, and not for each function in it"""

_NUMBERS: Final = re.compile(r"^local ((?:[A-Z][A-Z_]*(?:, )?)+) =\s+(-?\d+(?:, -?\d+)*)[ \t]*(?:--.*)?$", re.MULTILINE)
_TABLES: Final = re.compile(r"^local ([A-Z][A-Z_]*) = \{ ((?:[A-Z_]+ = \d+(?:, )?)+) \}$", re.MULTILINE)
_WORDS: Final = re.compile(r"""('(?:\\.|[^'\\\n])*'|"(?:\\.|[^"\\\n])*")|(--.*)|(?<![\w.])([A-Z][A-Z_]*(?:\.[A-Z_]+)?)\b(?!\.)""")


class Script:
    """A script as the server knows it.

    ``parts`` are names of files in this package, without ``.lua``, in the order in which they are put together: what they share comes first. Without
    any, the script is the one file of its own name. Files are read at once, so that a missing one is an error of the import and not of a run. What
    is sent is made of them when the script is first called: a process calls few of them, and all took 1.3 MB and a third of a second of its start.

    There is no shebang line: Redis 6.2 does not know it, and with one a script may not reach keys that it was not given.
    """

    def __init__(self, name: str, *parts: str, text: str | None = None) -> None:
        self.name: str = name
        self._parts = _read_all(parts or (name,)) if text is None else [text]

    @property
    def source(self) -> str:
        """The parts as they are written."""
        return "\n".join(self._parts)

    @cached_property
    def text(self) -> str:
        """What is sent: the same with the numbers in the place of their names, and without comments."""
        return with_numbers(self.source)

    @cached_property
    def sha(self) -> str:
        """The name by which the server keeps a script, not a protection of anything."""
        return hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()

    def __repr__(self) -> str:
        return f"<Script {self.name} {self.sha[:8]}>"


def with_numbers(source: str) -> str:
    """Lua with its named numbers written out.

    A script is run from its first line with every call, and makes all its functions anew. Each name from outside that a function uses is looked
    for among the locals that there are, one after the other: with a hundred names of numbers among them, this was two thirds of a small call.
    """
    known: dict[str, str] = {}
    for names, values in _NUMBERS.findall(source):
        known.update(zip(names.split(", "), values.split(", "), strict=True))
    for table, entries in _TABLES.findall(source):
        known.update((f"{table}.{name}", value) for name, value in (entry.split(" = ") for entry in entries.split(", ")))
    bare = _TABLES.sub("", _NUMBERS.sub("", source))

    def written(found: re.Match[str]) -> str:
        text, comment, word = found.groups()
        if text is not None:
            return str(text)
        if comment is not None:
            return ""
        value = known.get(word, word)
        return f"({value})" if value.startswith("-") else value

    lines = _WORDS.sub(written, bare).split("\n")
    return "\n".join(line.strip() for line in lines if line.strip())


def _read_all(parts: tuple[str, ...]) -> list[str]:
    return [*map(_read, parts), *("end)()" for part in parts if part == INSIDE)]


@cache
def _read(part: str) -> str:
    if part == INSIDE:
        return "return (function()"
    if part.startswith(SELDOM):
        return f"seldom(function()\n{_read(part[1:])}\nend)"
    return files(__name__).joinpath(f"{part}.lua").read_text("utf-8")
