"""``graflow graph``: draw a workflow."""

from __future__ import annotations

import enum
import shutil
from pathlib import Path
from typing import Annotated, Any, TextIO

import typer

from graflow.cli.failures import CommandError, boundary
from graflow.cli.loading import Runnable, load
from graflow.cli.output import json_text, kept_clean
from graflow.cli.run import TARGET_HELP
from graflow.draw import draw, picture_of
from graflow.draw.picture import Picture, graph_of

WIDTH = 100
"""characters, where there is no terminal to ask"""
NARROWEST = 20


class Format(enum.StrEnum):
    """How a graph is drawn."""

    ASCII = "ascii"
    MERMAID = "mermaid"
    DOT = "dot"


def graph(
    target: Annotated[str, typer.Argument(metavar="FILE_OR_MODULE[:WORKFLOW]", help=TARGET_HELP)],
    format: Annotated[Format | None, typer.Option("--format", "-f", help="For terminals (the default), Mermaid or Graphviz.")] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write it to a file.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print nodes, edges and groups as one JSON object.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
) -> None:
    """Draw a workflow without running it.

    Exit codes: 0 it is drawn, 2 there is nothing that can be drawn, or what was drawn could not be run.
    """
    with boundary(debug=debug), kept_clean(wanted=True) as out:
        if as_json and format is not None:
            raise CommandError(f"--json and --format {format.value} exclude each other; give one of them")
        found = load(target)
        picture = picture_of(found)
        text = json_text(as_object(picture), out) if as_json else _drawn(found, format or Format.ASCII, output, out)
        _deliver(text, output, out)
        graph_of(found).validate()


def as_object(picture: Picture) -> dict[str, Any]:
    """What ``--json`` prints of a graph."""
    boxes = picture.boxes.values()
    return {
        "name": picture.name,
        "nodes": [{"id": box.id, "kind": box.kind, "group": box.parent, "start": box.is_start, "output": box.is_output} for box in boxes],
        "edges": [{"source": arrow.source, "target": arrow.target, "on": arrow.on, "back": arrow.is_back} for arrow in picture.arrows],
        "groups": [
            {
                "id": box.id,
                "members": box.members,
                "policy": box.policy,
                "limit": box.limit,
                "task": box.instances_of,
                "items": box.items_of,
            }
            for box in boxes
            if box.kind != "task"
        ],
    }


def _drawn(found: Runnable, format: Format, output: Path | None, out: TextIO) -> str:
    columns = WIDTH if output is not None else max(shutil.get_terminal_size((WIDTH, 24)).columns, NARROWEST)
    text = draw(found, format.value, width=columns)
    if output is None and format is Format.ASCII and not _can_show(text, out):
        return draw(found, "ascii", width=columns, plain=True)
    return text


def _can_show(text: str, out: TextIO) -> bool:
    try:
        text.encode(out.encoding or "utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _deliver(text: str, output: Path | None, out: TextIO) -> None:
    if output is None:
        out.write(text)
        return
    try:
        output.write_text(text, "utf-8", "backslashreplace")
    except OSError as error:
        raise CommandError(f"--output {output} cannot be written: {error.strerror}") from error
