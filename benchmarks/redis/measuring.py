"""The measurement: every contender in turn, several rounds of it, on one server."""

from __future__ import annotations

import asyncio
import os
import platform
import statistics
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.redis import figures as f
from benchmarks.redis.contenders import Contender
from benchmarks.redis.environments import prepared, version_of
from benchmarks.redis.errors import LeftOut
from benchmarks.redis.figures import Sizes
from benchmarks.redis.programs import Turn
from benchmarks.redis.server import Server, private_server

IDLE_PAUSE = 0.01
"""Seconds of idleness before a task or a wake-up whose latency is measured."""
WARM_UP = 3


@dataclass
class Report:
    """What came of it.

    Attributes:
        rounds: of each contender, of each figure, what each round gave.
        versions: of each contender that could be installed.
        left_out: why a contender took no part, or gave up.
        conditions: what else must be known to understand the figures.
    """

    sizes: Sizes
    peers: list[str]
    rounds: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    conditions: dict[str, str] = field(default_factory=dict)

    @property
    def medians(self) -> dict[str, dict[str, float]]:
        return f.medians(self.rounds)

    @property
    def verdicts(self) -> list[f.Verdict]:
        return [f.judged(target, self.medians, self.peers) for target in f.targets(self.sizes)]

    def as_dict(self) -> dict[str, Any]:
        """For other programs: all that there is, the single rounds included."""
        return {
            "conditions": self.conditions,
            "sizes": vars(self.sizes),
            "versions": self.versions,
            "left_out": self.left_out,
            "medians": self.medians,
            "rounds": self.rounds,
            "targets": [
                {
                    "figure": verdict.target.figure.key,
                    "asked": verdict.target.asked,
                    "beside": verdict.beside,
                    "graflow": verdict.ours,
                    "other": verdict.other,
                    "ratio": verdict.ratio,
                    "met": verdict.met,
                }
                for verdict in self.verdicts
            ],
        }


async def measure(contenders: Sequence[Contender], sizes: Sizes, say: Callable[[str], None]) -> Report:
    """Every contender, as often as there are rounds. They take turns, so that a busy moment of the machine strikes all.

    The order is turned from round to round: nobody always comes after the same one.
    """
    report = Report(sizes, [contender.name for contender in contenders if contender.is_peer])
    programs: dict[str, Path] = {}
    for contender in contenders:
        say(f"preparing {contender.name}")
        await _unless_left_out(report, contender, _prepare(report, programs, contender))
    async with private_server() as server:
        report.conditions = _conditions(server)
        for number in range(sizes.rounds):
            shift = number % len(contenders)
            for contender in (*contenders[shift:], *contenders[:shift]):
                if contender.name not in report.left_out:
                    say(f"round {number + 1} of {sizes.rounds}: {contender.name}")
                    turn = Turn(contender, programs[contender.name], server)
                    await _unless_left_out(report, contender, _take(report, turn, sizes))
    return report


async def _unless_left_out(report: Report, contender: Contender, work: Awaitable[None]) -> None:
    try:
        await work
    except LeftOut as reason:
        report.left_out[contender.name] = str(reason)


async def _prepare(report: Report, programs: dict[str, Path], contender: Contender) -> None:
    programs[contender.name] = await asyncio.to_thread(prepared, contender)
    report.versions[contender.name] = await asyncio.to_thread(version_of, contender, programs[contender.name])


async def _take(report: Report, turn: Turn, sizes: Sizes) -> None:
    """One turn. What it gave is kept when all of it is there, so that a contender has as many rounds of each figure."""
    given: dict[str, list[float]] = {}
    async with turn:
        await _throughput(turn, sizes, given)
        await _latencies(turn, sizes, given)
        sizes_of_worker = [size / 2**20 for size in turn.resident()]
        given[f.RESIDENT.key] = [sizes_of_worker[0]]
        if len(sizes_of_worker) > 1:
            given[f.RESIDENT_ALL.key] = [sum(sizes_of_worker)]
    kept = report.rounds.setdefault(turn.contender.name, {})
    for key, values in given.items():
        kept.setdefault(key, []).append(statistics.median(values))


async def _throughput(turn: Turn, sizes: Sizes, given: dict[str, list[float]]) -> None:
    """Fill the queue while there is no worker; start one and see it drained; then all of it again with a worker that waits."""
    given["enqueue"] = [(await turn.ask("enqueue", sizes.tasks))["seconds"]]
    await turn.start_worker()
    drained = await turn.ask("drain")
    if drained["tasks"]:  # else they were too few: all were done when the first was seen to be
        given[f.DRAIN.key] = [drained["tasks"] / drained["seconds"]]
        given[f.WORKER_CPU.key] = [drained["cpu"]["worker"] / drained["tasks"] * 1e6]
    await turn.ask("one", WARM_UP)
    gathered = await turn.ask("gather", sizes.tasks)
    given[f.GATHER.key] = [gathered["tasks"] / gathered["seconds"]]
    spent = {"wall": gathered["seconds"], **gathered["cpu"]}
    for part, seconds in spent.items():
        given[f"spent_{part}"] = [seconds / gathered["tasks"] * 1e6]


async def _latencies(turn: Turn, sizes: Sizes, given: dict[str, list[float]]) -> None:
    each = (await turn.ask("one", sizes.samples, pause=IDLE_PAUSE))["each"]
    cuts = statistics.quantiles(each, n=20)
    given[f.IDLE.key], given[f.IDLE_P95.key] = [cuts[9] * 1e3], [cuts[18] * 1e3]
    given["fan"] = [(await turn.ask("fan", sizes.fan))["seconds"] * 1e3 for _ in range(3)]
    given["hop"] = [(await turn.ask("chain", sizes.hops))["seconds"] / sizes.hops * 1e3 for _ in range(3)]
    for name, seconds in (await turn.ask("wakes", sizes.samples, pause=IDLE_PAUSE))["each"].items():
        given[name] = [second * 1e6 for second in seconds]


def _conditions(server: Server) -> dict[str, str]:
    return {
        "redis": server.version,
        "python": platform.python_version(),
        "cores": str(len(os.sched_getaffinity(0))),
        "machine": f"{platform.system()} {platform.machine()}",
    }
