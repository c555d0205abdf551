"""``python -m benchmarks ...``"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from benchmarks import containers, local, processes
from benchmarks.redis import chart, environments, measuring
from benchmarks.redis.contenders import BARE, GRAFLOW, PEERS
from benchmarks.redis.figures import Sizes
from benchmarks.redis.report import as_text

WIDE = 120
"""Columns for tables that go to a file."""

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


@app.command("processes")
def run_processes(
    number: Annotated[int, typer.Option("--processes", help="Child processes.", min=1)] = 2,
    calls: Annotated[int, typer.Option(help="Calls in each round.", min=8)] = 2000,
    repeat: Annotated[int, typer.Option(help="Rounds; the median counts.", min=1)] = 5,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object instead of a table.")] = False,
) -> None:
    """Tasks in child processes, beside ProcessPoolExecutor calling the same function in as many processes."""
    console = Console(stderr=as_json)
    with console.status("measuring") as status:
        rows = asyncio.run(processes.measure(number, calls, repeat, lambda text: status.update(text)))
    if as_json:
        print(json.dumps({"processes": [row.as_dict() for row in rows]}, indent=2))
    else:
        console.print(processes.as_table(rows))


@app.command("docker")
def run_docker(
    image: Annotated[str, typer.Option(help="An image with Python and `true`; made from packages of this machine unless given.")] = "",
    host: Annotated[str, typer.Option(help="Where the engine is.", envvar="DOCKER_HOST")] = "unix:///var/run/docker.sock",
    many: Annotated[int, typer.Option(help="Containers for the rate.", min=1)] = containers.Sizes.many,
    lanes: Annotated[int, typer.Option(help="How many of them at once.", min=1)] = containers.Sizes.lanes,
    rounds: Annotated[int, typer.Option(help="Rounds; the median counts.", min=1)] = containers.Sizes.rounds,
    network: Annotated[str, typer.Option(help="The network of the shell's containers; Docker's own choice unless given.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object instead of a table.")] = False,
) -> None:
    """Tasks in containers, beside `docker run --rm IMAGE true` from the shell."""
    console = Console(stderr=as_json)
    if not image:
        from tests.docker.api import Api, socket_of
        from tests.docker.build_image import provide

        image = provide(Api(socket_of(host)))
    sizes = containers.Sizes(many=many, lanes=lanes, rounds=rounds, network=network)
    with console.status("measuring") as status:
        rows = asyncio.run(containers.measure(image, host, sizes, lambda text: status.update(text)))
    if as_json:
        print(json.dumps({"containers": [row.as_dict() for row in rows]}, indent=2))
    else:
        console.print(containers.as_table(rows))


@app.command("redis")
def run_redis(
    peers: Annotated[str, typer.Option(help="Which task queues, separated by commas; none with ''.")] = ",".join(PEERS),
    tasks: Annotated[int, typer.Option(help="Tasks to enqueue, to drain and to gather.", min=100)] = Sizes.tasks,
    rounds: Annotated[int, typer.Option(help="Turns of each contender; the median counts.", min=1)] = Sizes.rounds,
    samples: Annotated[int, typer.Option(help="Single tasks, and wake-ups, whose latency is measured.", min=2)] = Sizes.samples,
    fresh: Annotated[bool, typer.Option(help="Install the peers anew, in their newest versions.")] = False,
    without: Annotated[str, typer.Option(help="Leave out graflow or bare.")] = "",
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Also write everything, the single rounds included, to this file.")
    ] = None,
    picture: Annotated[
        Path | None, typer.Option("--chart", help="Also draw a bar chart: an .svg file, or a .png where something can make one.")
    ] = None,
) -> None:
    """Workers on a Redis of their own: Graflow beside task queues, each in an environment made for it, and beside bare redis-py."""
    console = Console()
    if not console.is_terminal:
        console.width = WIDE
    unknown = [name for name in _names(peers) if name not in PEERS]
    if unknown:
        raise typer.BadParameter(f"{', '.join(unknown)}: there are {', '.join(PEERS)}", param_hint="--peers")
    if picture is not None and (reason := chart.can_write(picture)):
        raise typer.BadParameter(reason, param_hint="--chart")
    contenders = [*(PEERS[name] for name in _names(peers)), BARE, GRAFLOW]
    contenders = [contender for contender in contenders if contender.name not in _names(without)]
    for contender in contenders if fresh else ():
        environments.forget(contender)
    sizes = Sizes(tasks=tasks, samples=samples, rounds=rounds)
    with console.status("measuring") as status:
        report = asyncio.run(measuring.measure(contenders, sizes, status.update))
    console.print(as_text(report))
    if json_file is not None:
        json_file.write_text(json.dumps(report.as_dict(), indent=2) + "\n")
    if picture is not None:
        chart.write(report, picture)


def _names(listed: str) -> list[str]:
    return [name.strip() for name in listed.split(",") if name.strip()]


if __name__ == "__main__":
    app()
