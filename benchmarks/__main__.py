"""``python -m benchmarks ...``"""

from __future__ import annotations

import asyncio
import json
from typing import Annotated

import typer
from rich.console import Console

from benchmarks import local

app = typer.Typer(help=__doc__, no_args_is_help=True, add_completion=False)


@app.callback()
def benchmarks() -> None:
    """Figures of this machine, at this moment; only the ratios within one run mean anything elsewhere."""


@app.command("local")
def run_local(
    sizes: Annotated[str, typer.Option(help="Steps per graph, separated by commas.")] = "1000,10000,100000",
    shapes: Annotated[str, typer.Option(help="Which graphs: chain, fan, lattice, loop.")] = "chain,fan,lattice,loop",
    repeat: Annotated[int, typer.Option(help="Measurements of each; the median counts.", min=1)] = 5,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object instead of tables.")] = False,
) -> None:
    """The in-memory engine beside bare asyncio running the same coroutines, one asyncio task per step."""
    console = Console(stderr=as_json)
    wanted = [local.SHAPES[name] for name in shapes.split(",")]
    counts = [int(size) for size in sizes.split(",")]
    with console.status("measuring") as status:
        rows = asyncio.run(local.measure(wanted, counts, repeat, lambda text: status.update(text)))
        latency = asyncio.run(local.measure_latency())
    if as_json:
        print(json.dumps({"shapes": [row.as_dict() for row in rows], "one_task_runs": latency}, indent=2))
    else:
        console.print(local.as_table(rows))
        console.print(local.as_latency_table(latency))


if __name__ == "__main__":
    app()
