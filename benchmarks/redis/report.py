"""The figures for people."""

from __future__ import annotations

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from benchmarks.redis import figures as f
from benchmarks.redis.measuring import Report

UNKNOWN = "-"


def as_text(report: Report) -> Group:
    """Tables: what was measured, what was asked for, and where the time goes; then who is missing, and why."""
    parts: list[RenderableType] = [_measured(report), Text(), _asked(report), Text(), _spent(report)]
    if report.left_out:
        parts += [Text(), *(Text(f"{name} is left out: {reason}", style="yellow") for name, reason in report.left_out.items())]
    return Group(*parts, Text(), Text(_conditions(report), style="dim"))


def print_report(report: Report, console: Console) -> None:
    console.print(as_text(report))


def number(value: float | None) -> str:
    """Three digits that matter, and no more than are there."""
    if value is None:
        return UNKNOWN
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def share(ratio: float) -> str:
    """A ratio as people say it: 6x, or 1/5, or 0.9x where the two are nearly the same."""
    if ratio < 2 / 3:
        return f"1/{1 / ratio:.1f}".removesuffix(".0")
    return f"{number(ratio).rstrip('0').rstrip('.') if ratio < 100 else number(ratio)}x"


def _measured(report: Report) -> Table:
    names = [name for name in report.versions if name in report.medians]
    table = Table(title=f"On Redis: medians, rounds: {report.sizes.rounds}", title_justify="left")
    table.add_column("")
    table.add_column("unit")
    for name in names:
        table.add_column(name, justify="right", style="bold" if name == "graflow" else "dim" if name == "bare" else "")
    for figure in f.shown(report.sizes):
        values = [report.medians[name].get(figure.key) for name in names]
        if any(value is not None for value in values):
            table.add_row(figure.title, figure.unit, *map(number, values))
    return table


def _asked(report: Report) -> Table:
    table = Table(title="Graflow beside the best of the others, and what is asked of it", title_justify="left")
    for heading in ("", "graflow", "beside", "its figure", "ratio", "asked", "met"):
        table.add_column(heading, justify="left" if heading in ("", "beside", "met") else "right")
    for verdict in report.verdicts:
        table.add_row(*_row(verdict))
    return table


def _row(verdict: f.Verdict) -> tuple[str, ...]:
    target, figure = verdict.target, verdict.target.figure
    bound = "at least" if figure.more else "at most"
    aim = f" (aim {share(target.aim)})" if target.aim else ""
    met = {True: "[green]yes[/]", False: "[red]no[/]", None: UNKNOWN}[verdict.met]
    ours = f"{number(verdict.ours)} {figure.unit}"
    if target.beside == "itself":
        return figure.title, ours, "", "", "", f"{bound} {number(target.asked)} {figure.unit}", met
    ratio = UNKNOWN if verdict.ratio is None else share(verdict.ratio)
    return figure.title, ours, verdict.beside, f"{number(verdict.other)} {figure.unit}", ratio, f"{bound} {share(target.asked)}{aim}", met


def _spent(report: Report) -> Table:
    title = "Where the time goes, from submit to all results (us per task; the parts run side by side)"
    table = Table(title=title, title_justify="left")
    table.add_column("")
    for figure in f.SPENT:
        table.add_column(figure.title, justify="right")
    for name, values in report.medians.items():
        table.add_row(name, *(number(values.get(figure.key)) for figure in f.SPENT), style="bold" if name == "graflow" else "")
    return table


def _conditions(report: Report) -> str:
    known = report.conditions
    versions = ", ".join(f"{name} {version}" for name, version in report.versions.items())
    return (
        f"Redis {known['redis']}, Python {known['python']}, {known['cores']} cores, {known['machine']}; {versions} (bare: redis-py). "
        "One worker process each. Only the ratios within one run mean anything elsewhere."
    )
