"""What is measured of a contender, and what Graflow is asked to reach."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import dataclass

Rounds = Mapping[str, Mapping[str, list[float]]]
"""Of each contender, of each figure: what each round gave."""
Medians = Mapping[str, Mapping[str, float]]


@dataclass(frozen=True)
class Figure:
    """One thing that is measured. ``more`` says that more of it is better."""

    key: str
    title: str
    unit: str
    more: bool = False


@dataclass(frozen=True)
class Sizes:
    """How much of everything."""

    tasks: int = 20_000
    fan: int = 1000
    hops: int = 200
    samples: int = 200
    rounds: int = 3


@dataclass(frozen=True)
class Target:
    """What is asked of Graflow: a figure's ratio to the same figure of ``beside``, or of the best peer, or the figure itself. The ``aim`` is
    what would be better still.
    """

    figure: Figure
    asked: float
    beside: str = "best peer"
    aim: float | None = None


@dataclass(frozen=True)
class Verdict:
    """A target and what came of it. ``ratio`` is Graflow's figure over the other one, ``met`` is None where one of them is missing."""

    target: Target
    ours: float | None
    other: float | None
    beside: str
    met: bool | None

    @property
    def ratio(self) -> float | None:
        return None if self.ours is None or self.other is None else self.ours / self.other


DRAIN = Figure("drain", "no-op tasks, from a full queue", "tasks/s", more=True)
GATHER = Figure("gather", "no-op tasks, from submit to results", "tasks/s", more=True)
WORKER_CPU = Figure("worker_cpu", "worker's CPU per task", "us")
IDLE = Figure("idle_p50", "one task, alone, p50", "ms")
IDLE_P95 = Figure("idle_p95", "the same, p95", "ms")
RESIDENT = Figure("resident", "worker's memory, resident", "MiB")
RESIDENT_ALL = Figure("resident_all", "the same with its helpers", "MiB")
BARRIER = Figure("barrier", "barrier, from release to wake-up, p50", "us")
PUBLISH = Figure("publish", "from publish to message, p50", "us")
SPENT = tuple(
    Figure(f"spent_{part}", title, "us")
    for part, title in (("wall", "wall time"), ("worker", "worker CPU"), ("server", "Redis CPU"), ("engine", "client CPU"))
)


def sized(sizes: Sizes) -> dict[str, Figure]:
    """The figures whose titles say how much."""
    return {
        "fan": Figure("fan", f"{sizes.fan:,} side by side, and one after them", "ms"),
        "hop": Figure("hop", f"a hop of a chain of {sizes.hops:,}", "ms"),
        "enqueue": Figure("enqueue", f"enqueueing {sizes.tasks:,} tasks", "s"),
    }


def shown(sizes: Sizes) -> list[Figure]:
    """The figures of the main table, in its order."""
    more = sized(sizes)
    figures = [DRAIN, GATHER, WORKER_CPU, more["fan"], more["hop"], IDLE, IDLE_P95, more["enqueue"], RESIDENT, RESIDENT_ALL]
    return [*figures, BARRIER, PUBLISH]


def targets(sizes: Sizes) -> list[Target]:
    """What issue and design ask for."""
    more = sized(sizes)
    return [
        Target(DRAIN, 6.0, aim=10.0),
        Target(WORKER_CPU, 0.2, "saq"),
        Target(more["fan"], 0.2),
        Target(more["hop"], 0.5, "saq"),
        Target(IDLE, 1.0, "saq"),
        Target(more["enqueue"], 0.2),
        Target(RESIDENT, 48.0, "itself"),
        Target(BARRIER, 1.5, "publish"),
    ]


def medians(rounds: Rounds) -> dict[str, dict[str, float]]:
    """The figure that counts: the median of its rounds."""
    return {
        name: {key: statistics.median(values) for key, values in figures.items() if values} for name, figures in rounds.items() if figures
    }


def judged(target: Target, figures: Medians, peers: list[str]) -> Verdict:
    """Hold a target against what was measured. Where the peer to compare with has not been measured, the best one stands in."""
    key, more = target.figure.key, target.figure.more
    ours = figures.get("graflow", {}).get(key)
    match target.beside:
        case "itself":
            other, beside = 1.0, "itself"
        case "publish":
            other, beside = figures.get("graflow", {}).get(PUBLISH.key), "bare publish"
        case _:
            there = {name: figures[name][key] for name in peers if key in figures.get(name, {})}
            best = (max if more else min)(there, key=there.__getitem__, default=None)
            beside = target.beside if target.beside in there else (best or target.beside)
            other = there.get(beside)
    met = None
    if ours is not None and other is not None:
        met = ours / other >= target.asked if more else ours / other <= target.asked
    return Verdict(target, ours, other, beside, met)
