"""Tasks and a handler for workers that are told by a file to import this."""

from __future__ import annotations

import asyncio
import os
from typing import Any

from graflow import task
from graflow.handlers import Handler, TaskCall


class StampHandler(Handler):
    """Adds a word to what tasks return."""

    def __init__(self, word: str = "stamped", times: int = 1) -> None:
        self.word = word
        self.times = times

    async def run(self, call: TaskCall) -> Any:
        return f"{await call.invoke()} {self.word * self.times}"


class Moody(Handler):
    """Cannot be made."""

    def __init__(self) -> None:
        raise OSError("no device\nhere")

    async def run(self, call: TaskCall) -> Any: ...


class Unwilling(StampHandler):
    """Can be made, and does not start."""

    async def start(self) -> None:
        from graflow.errors import HandlerError

        raise HandlerError("the device is taken")


stamp = StampHandler("by an object")


@task
async def order(city: str) -> str:
    return city


@task
def weigh(order: str) -> int:
    return len(order)


@task(handler="process")
def pack(weigh: int) -> int:
    return weigh * 2


@task(handler="stamp")
async def send(order: str, pack: int) -> str:
    return f"{order} {pack}"


@task
async def endless() -> None:
    await asyncio.sleep(3600)


@task(handler="docker")
def box(order: str) -> str:
    return f"{order} in {os.environ['WHERE']}"
