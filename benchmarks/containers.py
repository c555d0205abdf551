"""Tasks in containers beside ``docker run --rm IMAGE true`` from the shell, on the same engine with the same image."""

from __future__ import annotations

import asyncio
import os
import statistics
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from rich.table import Table

from benchmarks.contained import increase
from graflow import WorkflowEngine, parallel
from graflow.handlers import DockerHandler

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

MEMORY = "64m"


@dataclass(frozen=True)
class Row:
    """One way of running, beside the shell's: seconds each, or how many a second; the median of the rounds."""

    what: str
    unit: str
    shell: float
    graflow: float

    def as_dict(self) -> dict[str, Any]:
        return asdict(self) | {"ratio": self.graflow / self.shell}


@dataclass(frozen=True)
class Sizes:
    """How much is measured."""

    singles: int = 8
    reused: int = 100
    many: int = 24
    lanes: int = 4
    rounds: int = 3
    network: str = ""


async def measure(image: str, host: str, sizes: Sizes, say: Callable[[str], None]) -> list[Row]:
    """Single tasks and many of them. Shell and handler take turns, so that a busy moment of the machine strikes both."""
    times: dict[str, list[float]] = {"shell": [], "fresh": [], "reused": [], "many shell": [], "many fresh": []}
    run = _shell(image, host, sizes.network)
    await run()
    for number in range(sizes.rounds):
        say(f"round {number + 1} of {sizes.rounds}")
        times["shell"] += [await _timed(run()) for _ in range(sizes.singles)]
        times["fresh"] += await _fresh(image, host, sizes)
        times["reused"] += await _reused(image, host, sizes)
        times["many shell"].append(sizes.many / await _timed(_in_lanes(run, sizes)))
        times["many fresh"].append(await _rate(image, host, sizes))
    middle = {name: statistics.median(values) for name, values in times.items()}
    return [
        Row("a fresh container, kept ready", "s", middle["shell"], middle["fresh"]),
        Row("one that is used again", "s", middle["shell"], middle["reused"]),
        Row(f"fresh ones, {sizes.lanes} at once", "per s", middle["many shell"], middle["many fresh"]),
    ]


def _handler(image: str, host: str, **settings: Any) -> DockerHandler:
    return DockerHandler(image, host=host, pull="never", memory=MEMORY, packages=["benchmarks"], **settings)


async def _fresh(image: str, host: str, sizes: Sizes) -> list[float]:
    handler = _handler(image, host, prewarm=2)
    async with WorkflowEngine(handlers={"docker": handler}) as engine:
        times = []
        for number in range(sizes.singles):
            while handler.warm < 2:  # noqa: ASYNC110 - what is measured is a task that finds one ready
                await asyncio.sleep(0.01)
            times.append(await _timed(engine.execute(increase, inputs={"n": number})))
        return times


async def _reused(image: str, host: str, sizes: Sizes) -> list[float]:
    async with WorkflowEngine(handlers={"docker": _handler(image, host, isolation="worker")}) as engine:
        await engine.execute(increase, inputs={"n": 0})
        return [await _timed(engine.execute(increase, inputs={"n": number})) for number in range(sizes.reused)]


async def _rate(image: str, host: str, sizes: Sizes) -> float:
    """From a pool that has nothing ready, and with the removal of the last container."""
    graph = parallel(*(increase.clone(f"i{number}", n=number) for number in range(sizes.many)))
    began = time.perf_counter()
    async with WorkflowEngine(handlers={"docker": _handler(image, host, concurrency=sizes.lanes)}) as engine:
        await engine.execute(graph)
    return sizes.many / (time.perf_counter() - began)


def _shell(image: str, host: str, network: str = "") -> Callable[[], Awaitable[None]]:
    environment = {**os.environ, "DOCKER_HOST": host}
    options = ["--network", network] if network else []

    async def run() -> None:
        process = await asyncio.create_subprocess_exec("docker", "run", "--rm", *options, image, "true", env=environment)
        if await process.wait() != 0:
            raise RuntimeError(f"docker run --rm {image} true: exit code {process.returncode}")

    return run


async def _in_lanes(run: Callable[[], Awaitable[None]], sizes: Sizes) -> None:
    async def lane() -> None:
        for _ in range(sizes.many // sizes.lanes):
            await run()

    await asyncio.gather(*(lane() for _ in range(sizes.lanes)))


async def _timed(work: Awaitable[Any]) -> float:
    began = time.perf_counter()
    await work
    return time.perf_counter() - began


def as_table(rows: list[Row]) -> Table:
    """The rows for people."""
    table = Table(title="tasks in containers")
    for column in ("", "docker run", "graflow", "ratio"):
        table.add_column(column, justify="right" if column else "left")
    for row in rows:
        shell, graflow = (f"{value * 1e3:.1f} ms" if row.unit == "s" else f"{value:.1f} per s" for value in (row.shell, row.graflow))
        table.add_row(row.what, shell, graflow, f"{row.graflow / row.shell:.4f}x")
    return table
