"""One value that somebody gave: by an option, in the environment or in a file; and what it has to be."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from graflow.core.naming import fault_in_label
from graflow.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

LEVELS: Final = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
DEFAULT: Final = "default"
"""the source of what nobody gave"""

_SECRET: Final = re.compile(r"(?i)pass(word|wd)?($|_)|secret|token|credential|(^|_)key$|api_?key")
_IN_URL: Final = re.compile(r"(?<=://)([^/@\s]*):[^/@\s]+@|(?<=[?&]password=)[^&\s]+")
_LONGEST: Final = 60


@dataclass(frozen=True)
class Given:
    """A value and where it came from.

    Attributes:
        value: what was given: text from options and variables, anything from a file.
        source: the option, the variable, the file and line, or :data:`DEFAULT`.
        key: the path of the key in the file, empty elsewhere.
        locate: file and line of a path in that file.
    """

    value: Any
    source: str = DEFAULT
    key: str = ""
    locate: Callable[[str], str] | None = field(default=None, repr=False, compare=False)

    @property
    def place(self) -> str:
        """Where it stands, for the beginning of a message."""
        return f"{self.source}: {self.key}" if self.key else self.source

    def refuse(self, advice: str) -> ConfigurationError:
        """The error that names the place and the value, and says what to give instead."""
        if self.key:
            text = f"{self.place}: {advice}, not {shown(self.key, self.value)}"
        else:
            value = masked(self.source, str(self.value))
            text = f"{self.place} {value if value and value.isprintable() else repr(value)}: {advice}"
        return ConfigurationError(text, setting=self.key or self.source)

    def but(self, value: Any) -> Given:
        """Another value from the same place."""
        return replace(self, value=value)

    def item(self, name: str | int, value: Any) -> Given:
        """A value inside of this one."""
        if self.locate is None:
            return self.but(value)
        key = f"{self.key}{step(name)}"
        return replace(self, value=value, key=key, source=self.locate(key))


def step(name: str | int) -> str:
    """One step of a path, as it is written: ``.name``, ``[0]``, or ``['a name']``."""
    if isinstance(name, str) and re.fullmatch(r"[\w-]+", name):
        return f".{name}"
    return f"[{name!r}]"


def masked(name: str, value: str) -> str:
    """A text without its passwords: all of it where the name says that it is one, or else what stands in URLs."""
    if value and _SECRET.search(name):
        return "***"
    return _IN_URL.sub(lambda found: f"{found[1]}:***@" if found[0].endswith("@") else "***", value)


def shown(name: str, value: Any) -> str:
    """A value of a file in a message: short, in the words of the file, without passwords."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return str(value).lower()
    if _SECRET.search(name.rpartition(".")[2]):
        return "***"
    text = masked("", repr(value))
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def as_list(value: Any) -> list[Any] | None:
    """A list of the file; None for anything else."""
    found: list[Any] = value
    return found if isinstance(value, list) else None


def as_mapping(value: Any) -> dict[Any, Any] | None:
    """A mapping of the file; None for anything else."""
    found: dict[Any, Any] = value
    return found if isinstance(value, dict) else None


# ---- what they have to be -------------------------------------------------------------------------------------------


def text(given: Given) -> str:
    """A text that is not empty.

    Raises:
        ConfigurationError: it is none. So do the functions below.
    """
    if not isinstance(given.value, str):
        raise given.refuse("give a text (in quotes, if need be)")
    if not given.value.strip():
        raise given.refuse("give a text that is not empty")
    return given.value


def whole(given: Given, least: int = 0) -> int:
    """A whole number."""
    value = given.value
    if not given.key and isinstance(value, str) and value.isascii() and value.isdigit():
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise given.refuse(f"give a whole number, {least} or more")
    return value


def concurrency(given: Given) -> int:
    """How many at once."""
    return whole(given, 1)


def seconds(given: Given, least: float = 0.0) -> float:
    """A time in seconds."""
    value = given.value
    if not given.key and isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            value = None
    if not isinstance(value, int | float) or isinstance(value, bool) or not least <= value < float("inf"):
        raise given.refuse(f"give a number of seconds, {least:g} or more")
    return float(value)


def limit(given: Given) -> float | None:
    """A time limit; nothing, which only a file can say, is none."""
    return None if given.value is None else seconds(given, 0.001)


def names(given: Given) -> tuple[str, ...]:
    """Names: between commas, or as the list of a file."""
    value = given.value
    if isinstance(value, str):
        between = tuple(name.strip() for name in value.split(",") if name.strip())
        if not between:
            raise given.refuse("give one name at least, or several with commas")
        return between
    found = as_list(value)
    if not found:
        raise given.refuse("give a list of names")
    return tuple(text(given.item(number, name)) for number, name in enumerate(found))


def labels(given: Given) -> tuple[str, ...]:
    """Names of queues."""
    found = names(given)
    for number, name in enumerate(found):
        if fault := fault_in_label(name):
            raise given.item(number, name).refuse(fault)
    return found


def label(given: Given) -> str:
    """The name of a worker."""
    if fault := fault_in_label(text(given)):
        raise given.refuse(fault)
    return str(given.value)


def level(given: Given) -> str:
    """A level of logging."""
    if not isinstance(given.value, str) or given.value.upper() not in LEVELS:
        raise given.refuse(f"use one of {', '.join(LEVELS)}")
    return given.value.upper()


CHECKS: Final[Mapping[str, Callable[[Given], Any]]] = {
    "redis": text, "namespace": text, "apps": names, "concurrency": concurrency, "queues": labels,
    "task_timeout": limit, "grace": seconds, "log_level": level, "worker_id": label,
}  # fmt: skip
"""what each setting of a worker has to be"""


def checked(name: str, given: Given) -> Given:
    """The setting of that name, with the value that was meant.

    Raises:
        ConfigurationError: it makes no sense.
    """
    return given.but(CHECKS[name](given))


def listed(names: Sequence[str], last: str = "and") -> str:
    """``a, b and c``."""
    return f"{', '.join(names[:-1])} {last} {names[-1]}" if len(names) > 1 else "".join(names)
