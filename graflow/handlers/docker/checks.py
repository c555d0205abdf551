"""Kinds of settings and what is wrong with a value: one line that says what to give."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping
from typing import Any, Final, TypeVar, cast

from graflow.errors import ConfigurationError

Word = TypeVar("Word", bound=str)

_NAME: Final = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_IMAGE: Final = re.compile(
    rf"(?:[A-Za-z0-9][A-Za-z0-9.-]*(?::\d+)?/)?{_NAME}(?:/{_NAME})*(?::[A-Za-z0-9_][\w.-]{{0,127}})?(?:@sha256:[0-9a-f]{{64}})?|sha256:[0-9a-f]{{64}}",
    re.ASCII,
)
"""what Docker takes for a reference: [host[:port]/]name[/name...][:tag][@digest], or an id"""


def wrong(setting: str, value: Any, remedy: str) -> ConfigurationError:
    """The error for a value that cannot be meant."""
    return ConfigurationError(f"DockerHandler({setting}={value!r}): {remedy}", setting=setting)


def number(setting: str, value: Any, *, what: str, least: float) -> float:
    """A number that may have a fraction."""
    if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value) or value < least:
        raise wrong(setting, value, f"give {what}, {least:g} or more")
    return float(value)


def flag(setting: str, value: Any) -> bool:
    """Yes or no."""
    if not isinstance(value, bool):
        raise wrong(setting, value, "give True or False")
    return value


def choice(setting: str, value: Any, words: tuple[Word, ...]) -> Word:
    """One of a few words."""
    for word in words:
        if value == word:
            return word
    raise wrong(setting, value, f"give {' or '.join(map(repr, words))}")


def matching(setting: str, value: Any, pattern: str, what: str) -> str:
    """A text of a certain form."""
    if not isinstance(value, str) or re.fullmatch(pattern, value, re.ASCII) is None:
        raise wrong(setting, value, f"give {what}")
    return value


def texts(setting: str, value: Any, *, example: str) -> tuple[str, ...]:
    """Several texts. A single one is a mistake that would be taken letter by letter."""
    if isinstance(value, str) or not isinstance(value, list | tuple | set | frozenset):
        raise wrong(setting, value, f"give a tuple of texts, such as {example}")
    found = tuple(cast("Collection[Any]", value))
    if not all(isinstance(each, str) and each for each in found):
        raise wrong(setting, value, f"give texts that are not empty, such as {example}")
    return found


def text_mapping(setting: str, value: Any, *, example: str) -> Mapping[str, str]:
    """Texts by name."""
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise wrong(setting, value, f"give a mapping of texts, such as {example}")
    found = cast("Mapping[object, object]", value)
    for name, each in found.items():
        if not isinstance(name, str) or not isinstance(each, str):
            raise wrong(setting, value, f"{name!r}: {each!r} are not both texts; numbers go in quotes, as in {example}")
    return cast("Mapping[str, str]", dict(found))


def image(setting: str, value: Any) -> str:
    """The name of an image, as Docker reads it."""
    if not isinstance(value, str) or _IMAGE.fullmatch(value) is None:
        raise wrong(setting, value, "give the name of an image in lower case, such as python:3.11-slim or host:5000/team/image:tag")
    return value
