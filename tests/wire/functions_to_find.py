"""Functions of every kind of name."""

from __future__ import annotations

import functools
from collections.abc import Callable

from graflow.core.task import task


def plain(n: int) -> int:
    return n


async def coroutine(n: int) -> int:
    return n


@task
def decorated(n: int) -> int:
    return n


@task(id="another-name", timeout=5.0)
async def decorated_with_options(n: int) -> int:
    return n


def logged(function: Callable[..., int]) -> Callable[..., int]:
    @functools.wraps(function)
    def wrapper(*args: int) -> int:
        return function(*args)

    return wrapper


@logged
def wrapped(n: int) -> int:
    return n


class Tools:
    def method(self) -> int:
        return 1

    @staticmethod
    def static() -> int:
        return 1

    @classmethod
    def of_class(cls) -> int:
        return 1

    def __call__(self) -> int:
        return 1


def make_local() -> Callable[[], int]:
    def local() -> int:
        return 1

    return local


nameless = lambda: 1  # noqa: E731
half = functools.partial(plain, 1)
NUMBER = 7
