"""A worker's lease: renewed while it lives, and the same call looks for work of those that do not."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
import time
from abc import ABC, abstractmethod
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, Literal

from graflow.backends.redis import pulse
from graflow.backends.redis.client import FAILURES
from graflow.backends.redis.commands import ask_all
from graflow.backends.redis.scripts.runs import BEAT, BUDGET, REAP
from graflow.errors import GraflowError

if TYPE_CHECKING:
    from asyncio.subprocess import Process
    from collections.abc import Callable

    from graflow.backends.redis.client import RedisClient
    from graflow.backends.redis.scripts import Script
    from graflow.backends.redis.settings import RedisSettings

_log = logging.getLogger("graflow.redis")

LEASE: Final = 7.5
"""seconds after its last sign of life at which a worker is taken for dead"""
BEAT_EVERY: Final = 4.0
"""seconds between signs of life"""
LOOP_LEASE: Final = 6.0
"""the same where the event loop renews the lease, which looks for dead workers with each sign of life, and not when a lease can have lapsed"""
LOOP_BEAT_EVERY: Final = 2.0
MARGIN: Final = 1.0
"""seconds before the end of a lease that cannot be renewed at which the worker stops what it runs: before others begin with it"""
STALL_LIMIT: Final = 30.0
"""seconds for which the event loop may stand still: a task may hold the GIL for long, but a worker that is stuck for good must lose its lease"""
MOST_LOST: Final = 3
"""workers that a task may cost before it goes to the dead letters; LAST_CHANCE in scripts/delivering.lua"""
REAPED_AT_ONCE: Final = 100
_TICK: Final = 1.0
_PUNCTUAL: Final = 1.5
_FAREWELL: Final = 3.0
_PAUSES: Final = (0.0, 0.1, 0.5, 2.0)


class Heart(ABC):
    """Keeps a lease alive.

    Args:
        client: the server.
        lost: called, on the loop, when the lease has lapsed, or cannot be renewed and is about to: what the worker does counts no more, and it must
            take a new name.
        lease: seconds that a lease lasts.
        every: seconds between renewals.
    """

    def __init__(
        self, client: RedisClient, lost: Callable[[], object], *, lease: float = LEASE, every: float = BEAT_EVERY, margin: float = MARGIN
    ) -> None:
        self._client = client
        self._lost = lost
        self._lease = lease
        self._every = every
        self._consumer = ""
        self._info = b""
        self._safe = lease - margin

    @abstractmethod
    async def start(self, consumer: str, info: bytes) -> None:
        """Take a lease under a name. ``info`` says what the worker can do. After ``lost`` it may be called again, with another name."""

    async def say(self, info: bytes) -> None:
        """What the worker can do has changed.

        Not with a beat: one that says something takes a lease, and would bring back to life one that has lapsed, with its work in other hands.
        """
        consumer, keys = self._consumer, self._client.keys
        if consumer:
            self._info = info
            _, leased = await ask_all(self._client, [("HSET", keys.workers, consumer, info), ("ZSCORE", keys.leases, consumer)])
            if leased is None:  # whoever took the lease away had cleared up before this was written
                await ask_all(self._client, [("HDEL", keys.workers, consumer)])

    @abstractmethod
    async def stop(self) -> None:
        """Give the lease up, if there is one."""

    def _lose(self, reason: str) -> None:
        consumer, self._consumer = self._consumer, ""
        _log.warning("the lease of worker %s %s", consumer, reason, extra={"worker_id": consumer})
        self._lost()

    async def _retire(self) -> None:
        consumer, self._consumer = self._consumer, ""
        if consumer:
            await retire(self._client, consumer)


class LoopHeart(Heart):
    """Beats on the event loop. For tests and for workers that share their loop with nothing that blocks: it stops when the loop does."""

    _beating: asyncio.Task[None] | None = None

    def __init__(
        self,
        client: RedisClient,
        lost: Callable[[], object],
        *,
        lease: float = LOOP_LEASE,
        every: float = LOOP_BEAT_EVERY,
        margin: float = MARGIN,
    ) -> None:
        super().__init__(client, lost, lease=lease, every=every, margin=margin)

    async def start(self, consumer: str, info: bytes) -> None:
        """Take a lease under a name."""
        await beat(self._client, consumer, info, lease=self._lease)
        self._consumer = consumer
        self._beating = asyncio.create_task(self._beat(consumer), name=f"graflow-heart-{consumer}")

    async def stop(self) -> None:
        """Give the lease up."""
        beating, self._beating = self._beating, None
        if beating is not None:
            beating.cancel()
            await asyncio.wait((beating,))
        await self._retire()

    async def _beat(self, consumer: str) -> None:
        line = self._client.line("heart")
        args = (self._client.shift, consumer, round(self._lease * 1000), b"")
        while True:
            await asyncio.sleep(self._every)
            try:
                async with asyncio.timeout(self._safe - self._every):
                    lives, others = await self._client.call(BEAT, args, line=line)
            except (TimeoutError, GraflowError):
                return self._lose("cannot be renewed")
            if not lives:
                return self._lose("has lapsed")
            if others:
                await self._reap()

    async def _reap(self) -> None:
        try:
            await reap(self._client)
        except GraflowError as error:
            _log.warning("work of dead workers cannot be put back in line: %s", error)


class ProcessHeart(Heart):
    """Beats in a process of its own, see :mod:`graflow.backends.redis.pulse`: no task can keep it from beating, and it survives the worker for the
    moment that it takes to put the worker's tasks back in line."""

    def __init__(
        self,
        client: RedisClient,
        lost: Callable[[], object],
        *,
        lease: float = LEASE,
        every: float = BEAT_EVERY,
        margin: float = MARGIN,
        stall_limit: float = STALL_LIMIT,
    ) -> None:
        super().__init__(client, lost, lease=lease, every=every, margin=margin)
        self._stall_limit = stall_limit
        self._process: Process | None = None
        self._keeping: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._renewed = 0.0
        self._heard = 0.0
        self._turned = 0.0

    @property
    def pid(self) -> int | None:
        """Of the process that beats, while there is one."""
        return None if self._process is None else self._process.pid

    async def start(self, consumer: str, info: bytes) -> None:
        """Take a lease under a name."""
        await beat(self._client, consumer, info, lease=self._lease)
        self._consumer, self._info = consumer, info
        self._renewed = self._turned = time.monotonic()
        if self._keeping is None:
            self._keeping = asyncio.create_task(self._keep(), name="graflow-heart")
        else:
            self._tell(self._who())
        if self._timer is None:
            self._tick()

    async def stop(self) -> None:
        """Give the lease up, and end the process."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        keeping, self._keeping = self._keeping, None
        if keeping is not None:
            self._tell("!")
            done, _ = await asyncio.wait((keeping,), timeout=_FAREWELL)
            if not done:
                keeping.cancel()
                await asyncio.wait((keeping,))
        await self._retire()

    async def say(self, info: bytes) -> None:
        """What the worker can do has changed: the process, which tells of it with each beat, is to know it too."""
        await super().say(info)
        if self._consumer and self._info == info:
            self._tell(self._who())

    # ---- the process ----

    async def _keep(self) -> None:
        """Have a process that beats, for as long as the worker lives."""
        failures = 0
        while True:
            began = time.monotonic()
            try:
                code = await self._run()
                reason = f"ended with code {code}"
            except OSError as error:
                reason = f"could not be started: {error}"
            if self._keeping is None:
                return
            failures = failures + 1 if time.monotonic() - began < self._lease else 0
            _log.error("the process that renews the lease of worker %s %s; it is started anew", self._consumer, reason)
            await asyncio.sleep(_PAUSES[min(failures, len(_PAUSES) - 1)])

    async def _run(self) -> int:
        """Start it, and listen until it ends."""
        pipe = asyncio.subprocess.PIPE
        # Not in the worker's process group: what a terminal sends to that must not end it before the worker.
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-I", "-S", pulse.__file__, str(os.getpid()), stdin=pipe, stdout=pipe, start_new_session=True
        )
        try:
            if self._keeping is None:  # it was stopped meanwhile
                return 0
            self._process, self._heard = process, time.monotonic()
            self._tell(json.dumps(self._facts()))
            self._tell(self._who() if self._consumer else "-")
            assert process.stdout is not None
            async for line in process.stdout:
                self._hear(line.decode().rstrip("\n"))
            return await process.wait()
        finally:
            self._process = None
            await _end(process)

    def _who(self) -> str:
        return f"={self._info.hex()} {self._consumer}"

    def _facts(self) -> dict[str, Any]:
        client, settings = self._client, self._client.settings
        return {
            "host": settings.host,
            "port": settings.port,
            "db": settings.db,
            "credentials": settings.credentials,
            "tls": _tls_facts(settings),
            "timeout": self._lease / 4,
            "prefix": client.keys.prefix,
            "scope": client.keys.scope,
            "pulse": client.keys.pulse,
            "shift": client.shift,
            "lease": round(self._lease * 1000),
            "every": self._every,
            "stall": self._stall_limit,
            "beat": _script(BEAT),
            "reap": _script(REAP),
            "reap_args": (BUDGET, MOST_LOST, REAPED_AT_ONCE),
        }

    def _tell(self, line: str) -> None:
        process = self._process
        if process is not None and process.stdin is not None and not process.stdin.is_closing():
            process.stdin.write(line.encode() + b"\n")

    def _hear(self, line: str) -> None:
        kind, rest = line[:1], line[2:]
        self._heard = time.monotonic()
        if kind == "+":
            self._renewed = max(self._renewed, float(rest))
        elif kind == "-" and rest == self._consumer:
            self._lose("has lapsed")
        elif kind == "?":
            _log.warning("worker %s: %s", self._consumer, rest, extra={"worker_id": self._consumer})
        elif kind == "*":
            _tell_of_recovered(int(rest))

    # ---- the loop's side ----

    def _tick(self) -> None:
        """The loop turns. The process hears of it, and is looked after."""
        self._tell(".")
        now = time.monotonic()
        silent = self._every + self._lease / 3  # a beat, and what it may wait for the server
        left = min(self._renewed + self._safe, self._heard + silent) - now
        self._timer = asyncio.get_running_loop().call_later(min(_TICK, max(left, _TICK / 10)), self._tick)
        # After a standstill of the loop, what the process has said meanwhile is still to be read.
        punctual = now - self._turned < _PUNCTUAL
        self._turned = now
        if not punctual:
            return
        if self._consumer and now - self._renewed >= self._safe:
            self._tell("-")
            self._lose("cannot be renewed")
        elif self._process is not None and self._consumer and now - self._heard > silent:
            _kill(self._process)  # it neither beats nor says why it cannot


# ---- the calls ----


async def beat(client: RedisClient, consumer: str, info: bytes = b"", *, lease: float = LEASE) -> bool:
    """Renew a lease, or with ``info`` take one; False when it has lapsed."""
    lives, _ = await client.call(BEAT, (client.shift, consumer, round(lease * 1000), info))
    return bool(lives)


async def reap(client: RedisClient) -> int:
    """Put the work of dead workers back in line; how much there was."""
    total = 0
    while True:
        reply = await client.call(REAP, (client.shift, BUDGET, MOST_LOST, REAPED_AT_ONCE))
        reaped: int = reply[0]
        total += reaped
        if reaped < REAPED_AT_ONCE:
            break
    if total:
        _tell_of_recovered(total)
    return total


async def retire(client: RedisClient, consumer: str) -> None:
    """The worker ends: its lease is not waited for. What it still held is found by whoever looks next. It may have been the only one who knew when
    the next work is due, so another is made to ask."""
    keys = client.keys
    try:
        async with client.commands.pipeline(transaction=False) as pipe:
            pipe.zrem(keys.leases, consumer)
            pipe.hdel(keys.workers, consumer)
            pipe.xadd(keys.tick, {"m": ""}, maxlen=16, approximate=False, nomkstream=True)
            await pipe.execute()
    except FAILURES as error:  # it lapses by itself
        _log.info("the lease of worker %s could not be given up: %s", consumer, error, extra={"worker_id": consumer})


def make_heart(kind: Literal["process", "loop"], client: RedisClient, lost: Callable[[], object]) -> Heart:
    """A heart of that kind. Where no process of Python can be started, or pipes cannot be waited for, the loop has to do."""
    if kind == "process" and sys.executable and sys.platform != "win32":
        return ProcessHeart(client, lost)
    return LoopHeart(client, lost)


def _tell_of_recovered(number: int) -> None:
    _log.warning("%d attempts of workers that are gone were put back in line", number)


# ---- the process ----


def _script(script: Script) -> tuple[str, str]:
    return script.text, script.sha


def _tls_facts(settings: RedisSettings) -> dict[str, Any] | None:
    """How to encrypt, in the names of redis-py, which has filled in what the URL leaves open."""
    if not settings.encrypted:
        return None
    unused: Any = settings.kind(**settings.options, driver_info=None)
    names = ("keyfile", "certfile", "password", "ca_certs", "ca_path", "ca_data", "check_hostname", "min_version", "ciphers", "cert_reqs")
    facts: dict[str, Any] = {name: getattr(unused.ssl_context, name) for name in names}
    for name in ("include_verify_flags", "exclude_verify_flags"):
        facts[name] = [int(flag) for flag in getattr(unused.ssl_context, name) or ()]
    return facts


def _kill(process: Process) -> None:
    if process.returncode is None:
        with suppress(ProcessLookupError):
            process.kill()


async def _end(process: Process) -> None:
    """Leave nothing of it behind."""
    _kill(process)
    await process.communicate()
