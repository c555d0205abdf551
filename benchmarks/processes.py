"""Tasks in child processes beside ``concurrent.futures.ProcessPoolExecutor``, which calls the same function in the same number of processes."""

from __future__ import annotations

import asyncio
import multiprocessing
import statistics
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from rich.table import Table

from graflow import WorkflowEngine, parallel, task
from graflow.handlers import ProcessHandler

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


def increase(n: int) -> int:
    """Next to nothing, so that what is measured is the way there and back."""
    return n + 1


increase_task = task("increase", handler="process")(increase)


@dataclass(frozen=True)
class Row:
    """One way of asking, in microseconds per task: the median of the rounds."""

    what: str
    pool: float
    graflow: float

    def as_dict(self) -> dict[str, Any]:
        return asdict(self) | {"ratio": self.graflow / self.pool}


async def measure(processes: int, calls: int, rounds: int, say: Callable[[str], None]) -> list[Row]:
    """One call after the other, and many at once. Pool and handler take turns, so that a busy moment of the machine strikes both."""
    single: dict[str, list[float]] = {"pool": [], "graflow": []}
    many: dict[str, list[float]] = {"pool": [], "graflow": []}
    loop = asyncio.get_running_loop()
    spawn = multiprocessing.get_context("spawn")
    graph = parallel(*(increase_task.clone(f"i{number}", n=number) for number in range(calls)))
    handler = ProcessHandler(processes, prewarm=processes)
    with ProcessPoolExecutor(processes, mp_context=spawn) as pool:
        async with WorkflowEngine(handlers={"process": handler}) as engine:

            async def in_pool(n: int) -> None:
                await loop.run_in_executor(pool, increase, n)

            async def in_child(n: int) -> None:
                await engine.execute(increase_task, inputs={"n": n})

            async def all_in_pool() -> None:
                await asyncio.gather(*(in_pool(n) for n in range(calls)))

            await all_in_pool()
            await engine.execute(graph)
            for number in range(rounds):
                say(f"round {number + 1} of {rounds}")
                single["pool"].append(await _median(in_pool, calls // 4))
                single["graflow"].append(await _median(in_child, calls // 4))
                many["pool"].append(await _timed(all_in_pool()) / calls)
                many["graflow"].append(await _timed(engine.execute(graph)) / calls)
    return [
        Row("one after the other", *(statistics.median(single[name]) * 1e6 for name in ("pool", "graflow"))),
        Row(f"{calls} at once", *(statistics.median(many[name]) * 1e6 for name in ("pool", "graflow"))),
    ]


async def _median(call: Callable[[int], Awaitable[None]], calls: int) -> float:
    return statistics.median([await _timed(call(number)) for number in range(calls)])


async def _timed(work: Awaitable[Any]) -> float:
    began = time.perf_counter()
    await work
    return time.perf_counter() - began


def as_table(rows: list[Row]) -> Table:
    """The rows for people."""
    table = Table(title="tasks in child processes, microseconds each")
    for column in ("", "ProcessPoolExecutor", "graflow", "ratio"):
        table.add_column(column, justify="right" if column else "left")
    for row in rows:
        table.add_row(row.what, f"{row.pool:.0f}", f"{row.graflow:.0f}", f"{row.graflow / row.pool:.2f}x")
    return table
