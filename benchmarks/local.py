"""The engine in memory beside bare asyncio."""

from __future__ import annotations

import asyncio
import gc
import statistics
import time
import tracemalloc
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from rich.table import Table

from benchmarks.shapes import SHAPES, Shape, step
from graflow import WorkflowEngine

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

__all__ = ["SHAPES", "as_latency_table", "as_table", "measure", "measure_latency"]

LIMIT = 1_000_000


@dataclass(frozen=True)
class Row:
    """One shape at one size. Times are medians in microseconds per step; memory is in bytes per step.

    ``first`` is the first execution of a graph, the compiling of its plan included; ``again`` the following ones, whose plan is there.
    ``kept`` is what a finished run holds while its result is held, ``peak`` the most that was held while it ran.
    """

    shape: str
    steps: int
    bare: float
    draw: float
    first: float
    again: float
    kept: float
    peak: float

    def as_dict(self) -> dict[str, Any]:
        return asdict(self) | {"first_ratio": self.first / self.bare, "again_ratio": self.again / self.bare}


async def measure(shapes: Sequence[Shape], sizes: Sequence[int], repeat: int, say: Callable[[str], None]) -> list[Row]:
    """Every shape at every size. Bare and engine take turns, so that a busy moment of the machine strikes both."""
    rows = []
    for shape in shapes:
        for steps in sizes:
            say(f"{shape.name}, {steps} steps")
            rows.append(await _measure_one(shape, steps, repeat))
    return rows


async def _measure_one(shape: Shape, steps: int, repeat: int) -> Row:
    times: dict[str, list[float]] = {"bare": [], "draw": [], "first": [], "again": []}
    async with WorkflowEngine() as engine:
        await shape.bare(steps)
        await engine.execute(shape.draw(min(steps, 1000)), max_steps=LIMIT)
        for _ in range(repeat):
            gc.collect()
            times["bare"].append(await _timed(shape.bare(steps)))
            began = time.perf_counter()
            graph = shape.draw(steps)
            times["draw"].append(time.perf_counter() - began)
            gc.collect()
            times["first"].append(await _timed(engine.execute(graph, max_steps=LIMIT)))
            gc.collect()
            times["again"].append(await _timed(engine.execute(graph, max_steps=LIMIT)))
        kept, peak = await _memory(engine, shape, steps)
    per_step = {name: statistics.median(values) / steps * 1e6 for name, values in times.items()}
    return Row(shape.name, steps, per_step["bare"], per_step["draw"], per_step["first"], per_step["again"], kept / steps, peak / steps)


async def _timed(work: Awaitable[Any]) -> float:
    began = time.perf_counter()
    await work
    return time.perf_counter() - began


async def _memory(engine: WorkflowEngine, shape: Shape, steps: int) -> tuple[int, int]:
    """Bytes kept by a finished run and its result, and the peak; the graph itself is the caller's and does not count."""
    graph = shape.draw(steps)
    gc.collect()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    handle = await engine.submit(graph, max_steps=LIMIT)
    result = await handle.result()
    peak = tracemalloc.get_traced_memory()[1] - before
    gc.collect()
    kept = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert result.status == "succeeded"
    return kept, peak


async def measure_latency(runs: int = 500) -> dict[str, float]:
    """Runs of one task each, one after the other: percentiles in milliseconds, beside a bare asyncio task's median."""
    bare, ours = [], []
    async with WorkflowEngine() as engine:
        for _ in range(runs):
            bare.append(await _timed(asyncio.create_task(step())))
            ours.append(await _timed(engine.execute(step)))
    cuts = statistics.quantiles(ours, n=100)
    return {
        "bare_p50_ms": statistics.median(bare) * 1e3,
        "p50_ms": cuts[49] * 1e3,
        "p95_ms": cuts[94] * 1e3,
        "p99_ms": cuts[98] * 1e3,
    }


def as_table(rows: Sequence[Row]) -> Table:
    """For people."""
    table = Table(title="In memory, beside bare asyncio (us per step, medians)", title_justify="left")
    for heading in ("shape", "steps", "bare", "draw", "first run", "ratio", "next runs", "ratio", "kept B/step", "peak B/step"):
        table.add_column(heading, justify="left" if heading == "shape" else "right")
    for row in rows:
        first, again = f"{row.first / row.bare:.2f}x", f"{row.again / row.bare:.2f}x"
        figures = (
            f"{row.bare:.1f}",
            f"{row.draw:.1f}",
            f"{row.first:.1f}",
            first,
            f"{row.again:.1f}",
            again,
            f"{row.kept:.0f}",
            f"{row.peak:.0f}",
        )
        table.add_row(row.shape, f"{row.steps:,}", *figures)
    return table


def as_latency_table(latency: dict[str, float]) -> Table:
    """For people."""
    table = Table(title="Runs of one task, one after the other (ms)", title_justify="left")
    for name in latency:
        table.add_column(name.removesuffix("_ms").replace("_", " "), justify="right")
    table.add_row(*(f"{value:.3f}" for value in latency.values()))
    return table
