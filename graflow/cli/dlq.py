"""``graflow dlq``: what no worker could run, looked at, put back in line, dropped."""

from __future__ import annotations

import asyncio
import enum
import os
import re
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, Final, cast

import typer
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from graflow.backends import open_backend
from graflow.cli.failures import CommandError, boundary, one_line
from graflow.cli.output import console, json_text, kept_clean
from graflow.cli.plain import to_plain
from graflow.cli.run import quieter
from graflow.worker.settings import LOCAL, url_of

if TYPE_CHECKING:
    from graflow.backends.redis.backend import RedisBackend
    from graflow.backends.redis.deadletters import DeadLetter, DeadLetters

UNITS: Final = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
RAW_SHOWN: Final = 512
"""bytes of a message that are shown"""
WIDTH: Final = 32

Answer = tuple[dict[str, Any], Callable[[Console], None]]
"""what is printed as JSON, and what is shown to people"""


class Action(enum.StrEnum):
    """What to do with dead letters."""

    LIST = "list"
    SHOW = "show"
    REDRIVE = "redrive"
    PURGE = "purge"


def dlq(
    action: Annotated[Action, typer.Argument(metavar="list|show|redrive|purge", show_default=False)] = Action.LIST,
    ids: Annotated[list[str] | None, typer.Argument(metavar="ID", help="The letters that are meant.", show_default=False)] = None,
    limit: Annotated[int, typer.Option(min=1, metavar="N", help="List no more than so many.")] = 100,
    offset: Annotated[int, typer.Option(min=0, metavar="N", help="Leave out the newest ones.")] = 0,
    older_than: Annotated[str | None, typer.Option(metavar="TIME", help="Purge those that are older: 90s, 30m, 12h, 3d.")] = None,
    every: Annotated[bool, typer.Option("--all", help="Purge all.")] = False,
    redis: Annotated[str | None, typer.Option(metavar="URL", help=f"The server; {LOCAL} unless set.", envvar="GRAFLOW_REDIS_URL")] = None,
    namespace: Annotated[
        str, typer.Option(metavar="NAME", help="Keeps applications that share a server apart.", envvar="REDIS_KEY_PREFIX")
    ] = "graflow",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
) -> None:
    """Look after the dead letters: messages that no worker could run, kept for 7 days.

    list shows them, the newest first; show ID all there is to know of one; redrive ID puts it back in line; purge drops one (ID), those older than
    a time, or all.
    """
    with boundary(debug=debug), kept_clean(wanted=as_json) as out:
        work = _work(action, ids or [], limit, offset, older_than, every)
        with quieter("graflow.redis"):
            told, show = asyncio.run(_with_letters(_backend(url_of(redis, os.environ), namespace), work))
        if as_json:
            out.write(json_text(told, out))
        else:
            show(console())


Work = Callable[["DeadLetters"], Awaitable[Answer]]


def _work(action: Action, ids: list[str], limit: int, offset: int, older_than: str | None, every: bool) -> Work:
    """What was asked for, or a CommandError."""
    if (older_than is not None or every) and action is not Action.PURGE:
        raise CommandError(f"--older-than and --all are for purge; {action.value} takes ids")
    match action:
        case Action.LIST:
            if ids:
                raise CommandError(f"list takes no ids; for one letter: graflow dlq show {ids[0]}")
            return lambda letters: _list(letters, limit, offset)
        case Action.SHOW:
            if len(ids) != 1:
                raise CommandError("show takes the id of one letter; graflow dlq list shows them")
            return lambda letters: _show(letters, ids[0])
        case Action.REDRIVE:
            if not ids:
                raise CommandError("redrive takes the ids of letters; graflow dlq list shows them")
            return lambda letters: _redrive(letters, ids)
        case Action.PURGE:
            if bool(ids) + (older_than is not None) + every != 1:
                raise CommandError("purge takes ids, --older-than TIME or --all: one of the three")
            seconds = None if older_than is None else _seconds(older_than)
            return lambda letters: _purge(letters, ids, seconds, every=every)


def _seconds(text: str) -> float:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smhd])", text.strip())
    if match is None:
        raise CommandError(f"--older-than {text}: write a number and a unit, such as 90s, 30m, 12h or 3d")
    return float(match[1]) * UNITS[match[2]]


def _backend(url: str, namespace: str) -> RedisBackend:
    backend = open_backend(url, namespace=namespace)
    if backend.local:
        raise CommandError(f"{url} has no dead letters; give the URL of a server, such as {LOCAL}")
    return cast("RedisBackend", backend)


async def _with_letters(backend: RedisBackend, work: Work) -> Answer:
    await backend.open()
    try:
        return await work(backend.dead_letters)
    finally:
        await backend.close()


# ---- the actions ----------------------------------------------------------------------------------------------------


async def _list(letters: DeadLetters, limit: int, offset: int) -> Answer:
    found, number, counters = await letters.list(limit, offset), await letters.count(), await letters.counters()
    told = {"count": number, "counters": to_plain(counters), "letters": [to_plain(letter) for letter in found]}

    def show(out: Console) -> None:
        if not found:
            out.print("no dead letters" if not number else f"{number:,} dead letters, none of them after {offset:,}")
            return
        out.print(_table(found))
        if len(found) < number:
            out.print(Text(f"{len(found):,} of {number:,}; more with --offset {offset + len(found)}", "dim"))

    return told, show


def _table(letters: list[DeadLetter]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for name in ("id", "reason", "age"):
        table.add_column(name, no_wrap=True, justify="right" if name == "age" else "left")
    for name in ("queue", "run", "task"):
        table.add_column(name, overflow="fold")
    now = datetime.now(UTC)
    for letter in letters:
        age = _age((now - letter.time).total_seconds())
        cells = (letter.id, letter.reason, age, letter.queue, letter.run_id or "", letter.task or "")
        table.add_row(*(Text(one_line(cell)) for cell in cells))
    return table


async def _show(letters: DeadLetters, id: str) -> Answer:
    letter = _known(await letters.show(id), id)

    def show(out: Console) -> None:
        rows: dict[str, object] = {
            "id": letter.id,
            "reason": letter.reason,
            "detail": letter.detail,
            "died": _when(letter.time),
            "stream": f"queue {letter.queue}, handler {letter.handler}, priority {letter.priority}",
        }
        if letter.run_id is not None:
            rows |= {"run": letter.run_id, "task": letter.task, "attempt": letter.attempt}
        rows["size"] = f"{letter.size:,} bytes"
        for name, value in rows.items():
            out.print(Text(f"{name:<8} {one_line(value)}"), soft_wrap=True)
        out.print()
        for line in _dump(letter.raw[:RAW_SHOWN]):
            out.print(Text(line), soft_wrap=True)
        if letter.size > RAW_SHOWN:
            out.print(Text(f"and {letter.size - RAW_SHOWN:,} more bytes; --json has them all", "dim"))

    return cast("dict[str, Any]", to_plain(letter)), show


async def _redrive(letters: DeadLetters, ids: list[str]) -> Answer:
    for id in ids:
        if not await letters.redrive(id):
            _known(None, id)
    return {"redriven": ids}, lambda out: out.print(Text(f"{_letters(len(ids))} back in line"))


async def _purge(letters: DeadLetters, ids: list[str], seconds: float | None, *, every: bool) -> Answer:
    if ids:
        number = 0
        for id in ids:
            number += await letters.purge(id) or _known(0, id)
    elif every:
        number = await letters.purge(all=True)
    else:
        number = await letters.purge(older_than=seconds)
    return {"purged": number}, lambda out: out.print(Text(f"{_letters(number)} dropped"))


# ---- words ----------------------------------------------------------------------------------------------------------


def _known(found: Any, id: str) -> Any:
    if not found:
        raise CommandError(f"there is no dead letter {id!r}, or none any more; graflow dlq list shows those that there are")
    return found


def _letters(number: int) -> str:
    return f"{number:,} {'letter' if number == 1 else 'letters'}"


def _age(seconds: float) -> str:
    """As it is written for ``--older-than``, in the largest unit of which it is more than one."""
    unit = next((unit for unit in "dhm" if seconds >= 2 * UNITS[unit]), "s")
    return f"{max(0, int(seconds // UNITS[unit]))}{unit}"


def _when(time: datetime) -> str:
    return time.astimezone().strftime("%Y-%m-%d %H:%M:%S")


def _dump(data: bytes) -> list[str]:
    """Bytes in hexadecimal, and what of them is readable."""
    lines: list[str] = []
    for place in range(0, len(data), WIDTH):
        part = data[place : place + WIDTH]
        readable = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in part)
        lines.append(f"{place:04x}  {part.hex(' ', 4):<{2 * WIDTH + WIDTH // 4}} {readable}")
    return lines
