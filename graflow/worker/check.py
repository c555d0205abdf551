"""``graflow-aworker --check``: what a worker would do, who said so, and whether everything that it needs answers."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import time
from typing import TYPE_CHECKING, Any, Final

import msgspec

from graflow.errors import BackendUnavailableError, BackendUnsuitableError, ConfigurationError, HandlerError
from graflow.wire.signing import Signer
from graflow.worker.assembly import effective_options, retold
from graflow.worker.config import assemble
from graflow.worker.given import Given, as_list, as_mapping, listed, masked

if TYPE_CHECKING:
    from collections.abc import Sequence

    from graflow.backends.base import Backend
    from graflow.handlers import Handler
    from graflow.worker.assembly import HandlerPlan
    from graflow.worker.settings import Settings
    from graflow.worker.worker import TaskWorker

PATIENCE: Final = 15.0
"""seconds that a handler has to say how it is"""
PINGS: Final = 5
ORDER: Final = ("redis", "namespace", "apps", "queues", "concurrency", "task_timeout", "grace", "log_level")


class Row(msgspec.Struct, frozen=True):
    """A setting, its value without passwords, and where it came from: an option, a variable, a file with line, or the default."""

    value: Any
    source: str


class HandlerReport(msgspec.Struct, frozen=True):
    """A handler: its kind or class, and its options."""

    kind: str
    source: str
    options: dict[str, Row]


class Finding(msgspec.Struct, frozen=True):
    """Whether something answers: its version and such, or what is wrong."""

    what: str
    ok: bool
    told: str
    milliseconds: float | None = None


class WorkerReport(msgspec.Struct, frozen=True):
    """One worker."""

    worker_id: str | None
    source: str
    settings: dict[str, Row]
    handlers: dict[str, HandlerReport]
    checks: list[Finding]


class Report(msgspec.Struct, frozen=True):
    """All that was asked about. ``secret_keys`` are the names of the keys that are set, the first of which signs."""

    ok: bool
    file: str | None
    secret_keys: list[str]
    workers: list[WorkerReport]


def check(workers: Sequence[Settings], *, as_json: bool) -> int:
    """Print the report; the exit code is 1 if something does not answer.

    Raises:
        ConfigurationError: a mistake that would keep a worker from starting.
    """
    with contextlib.redirect_stdout(sys.stderr):  # what modules print when they are imported is no part of the report
        keys = _secret_keys(os.environ.get("GRAFLOW_SECRET_KEY", ""))
        reports = asyncio.run(_all([(settings, assemble(settings, remote=True)) for settings in workers]))
    report = Report(all(finding.ok for each in reports for finding in each.checks), workers[0].file, keys, reports)
    if as_json:
        sys.stdout.write(msgspec.json.format(msgspec.json.encode(report), indent=2).decode() + "\n")
    else:
        _show(report)
    sys.stdout.flush()
    return 0 if report.ok else 1


def _secret_keys(text: str) -> list[str]:
    """The names of the keys in the environment.

    Raises:
        ConfigurationError: one of them is none.
    """
    return list(Signer.of(text).names) if text else []


async def _all(workers: Sequence[tuple[Settings, TaskWorker]]) -> list[WorkerReport]:
    return [await _report(settings, worker) for settings, worker in workers]


async def _report(settings: Settings, worker: TaskWorker) -> WorkerReport:
    findings = [await _server(worker.backend)]
    handlers: dict[str, HandlerReport] = {}
    for name, plan in settings.handlers.items():
        handler = worker.handlers[name]
        options = effective_options(plan, handler, settings.given["concurrency"], settings.given["task_timeout"])
        rows = {option: _row(option, given) for option, given in options.items()}
        handlers[name] = HandlerReport(plan.kind.value, plan.kind.source, rows)
        if hasattr(handler, "health"):
            findings += await _health(plan, handler)
    named = settings.given["worker_id"]
    return WorkerReport(named.value, named.source, {name: _row(name, settings.given[name]) for name in ORDER}, handlers, findings)


def _row(name: str, given: Given) -> Row:
    return Row(_public(name, given.value), given.source)


def _public(name: str, value: Any) -> Any:
    """A value without passwords."""
    found: Any = value
    if isinstance(value, str):
        return masked(name, value)
    if isinstance(value, dict):
        return {str(key): _public(str(key), each) for key, each in found.items()}
    if isinstance(value, list | tuple):
        return [_public(name, each) for each in found]
    return value if value is None or isinstance(value, bool | int | float) else str(value)


# ---- whether it answers ---------------------------------------------------------------------------------------------


async def _server(backend: Backend) -> Finding:
    from graflow.backends.redis.backend import RedisBackend  # imported when it is needed: the client is an extra

    assert isinstance(backend, RedisBackend)
    client = backend.client
    commands: Any = client.commands
    try:
        await client.open()
        took: list[float] = []
        for _ in range(PINGS):
            began = time.perf_counter()
            await commands.ping()
            took.append(time.perf_counter() - began)
    except (BackendUnavailableError, BackendUnsuitableError) as error:
        return Finding("redis", False, _one_line(error))
    except OSError as error:
        return Finding("redis", False, _one_line(f"Redis at {client.where} does not answer: {error}"))
    finally:
        await client.close()
    version = ".".join(map(str, client.server_version)) or "of a version that it does not tell"
    best = min(took) * 1000
    return Finding("redis", True, f"Redis {version} at {client.where}, {best:,.1f} ms", best)


async def _health(plan: HandlerPlan, handler: Handler) -> list[Finding]:
    """What a handler says of itself by its ``async def health()``, if it has one."""
    name = plan.name
    health: Any = getattr(handler, "health")  # noqa: B009 - not every handler has it, and this says so
    began = time.perf_counter()
    try:
        async with asyncio.timeout(PATIENCE):
            told: Any = msgspec.to_builtins(await health(), enc_hook=str)
    except ConfigurationError as error:
        raise retold(plan, error) from error
    except HandlerError as error:
        return [Finding(name, False, _one_line(error))]
    except TimeoutError:
        return [Finding(name, False, f"gives no answer within {PATIENCE:g} s")]
    took = (time.perf_counter() - began) * 1000
    facts = as_mapping(told)
    if facts is None:
        return [Finding(name, True, f"{_one_line(told)}, {took:,.1f} ms", took)]
    missing = facts.pop("image", None) if facts.pop("image_present", None) is False else None
    text = ", ".join(f"{fact} {value}" for fact, value in facts.items())
    findings = [Finding(name, True, f"{_one_line(text)}, {took:,.1f} ms", took)]
    if missing is not None:
        told = f"the engine has no image {missing}, and will have to pull it first: docker pull {missing}"
        findings.append(Finding(f"{name} image", False, told))
    return findings


def _one_line(text: object) -> str:
    return masked("", " ".join(str(text).split()))


# ---- for people -----------------------------------------------------------------------------------------------------


def _show(report: Report) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    out = Console(highlight=False, markup=False, emoji=False, soft_wrap=False)
    for worker in report.workers:
        out.print(Text(f"worker {worker.worker_id or '(a name of its own)'}", "bold"), Text(f"  {worker.source}", "dim"))
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=False)
        table.add_column("", no_wrap=True)
        table.add_column("", overflow="fold")
        table.add_column("", overflow="fold", style="dim")
        for name, row in worker.settings.items():
            table.add_row(Text(f"  {name}"), Text(_words(row.value)), Text(row.source))
        for name, handler in worker.handlers.items():
            kind = "" if handler.kind == name else handler.kind
            table.add_row(Text(f"  handler {name}", "bold"), Text(kind), Text(handler.source))
            for option, row in handler.options.items():
                table.add_row(Text(f"    {option}"), Text(_words(row.value)), Text(row.source))
        out.print(table)
        for finding in worker.checks:
            sign, style = ("✓", "green") if finding.ok else ("✗", "red")
            out.print(Text(f"  {sign} {finding.what}: {finding.told}", style), soft_wrap=True)
        out.print()
    keys = f"set: {listed(report.secret_keys)}" if report.secret_keys else "not set; functions and values that would be pickled are refused"
    out.print(Text(f"GRAFLOW_SECRET_KEY is {keys}", "" if report.secret_keys else "dim"), soft_wrap=True)


def _words(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    if (found := as_mapping(value)) is not None:
        return ", ".join(f"{key}={_words(each)}" for key, each in found.items()) or "none"
    if (several := as_list(value)) is not None:
        return ", ".join(map(_words, several)) or "none"
    return f"{value:g}" if isinstance(value, float) else str(value)
