"""A contender's two processes while it has its turn: the client that is asked, and the worker that is looked at."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from benchmarks.redis.contenders import PROGRAMS, Contender
from benchmarks.redis.errors import LeftOut
from benchmarks.redis.peers.processes import resident_bytes
from benchmarks.redis.server import Server

ROOT = Path(__file__).parents[2]
ANSWERING = 240.0
"""Seconds after which a question is taken for one that is never answered."""
STOPPING = 5.0
LONGEST_ANSWER = 4 * 2**20


class Turn:
    """One turn of one contender on one server."""

    def __init__(self, contender: Contender, programs: Path, server: Server) -> None:
        self.contender, self.programs, self.server = contender, programs, server
        self._client: asyncio.subprocess.Process | None = None
        self._worker: asyncio.subprocess.Process | None = None
        self._log: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed by __aexit__
        self._environment = {**os.environ, "BENCHMARK_REDIS_URL": server.url}
        if not contender.is_peer:
            self._environment["PYTHONPATH"] = str(ROOT)  # for benchmarks.redis.jobs

    async def __aenter__(self) -> Turn:
        await self.server.flush()
        self._client = await self._start("python", self.contender.program, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE)
        return self

    async def __aexit__(self, *_: object) -> None:
        for process in (self._client, self._worker):
            if process is not None:
                await _stop(process)
        self._log.close()

    async def start_worker(self) -> None:
        """Start the worker, of which there is one. It may not be ready yet when this returns."""
        self._worker = await self._start(*(word.format(url=self.server.url) for word in self.contender.worker), stdout=self._log)

    async def ask(self, do: str, count: int = 0, pause: float = 0.0) -> dict[str, Any]:
        """Have the client do something, and tell what it measured.

        Raises:
            LeftOut: it failed, or gave no answer in time.
        """
        assert self._client is not None
        assert self._client.stdin is not None
        assert self._client.stdout is not None
        pids = {"server": self.server.pid} | ({"worker": self._worker.pid} if self._worker else {})
        self._client.stdin.write(json.dumps({"do": do, "count": count, "pause": pause, "pids": pids}).encode() + b"\n")
        try:
            async with asyncio.timeout(ANSWERING):
                line = await self._client.stdout.readline()
        except TimeoutError:
            raise LeftOut(f"no answer to {do!r} in {ANSWERING:.0f} s{self._last_words()}") from None
        answer = json.loads(line) if line else {"error": f"its client ended{self._last_words()}"}
        if "error" in answer:
            raise LeftOut(answer["error"])
        return answer

    def resident(self) -> list[int]:
        """Bytes of memory of the worker and its helpers, the largest first."""
        assert self._worker is not None
        return resident_bytes(self._worker.pid)

    async def _start(self, program: str, *arguments: str, stdin: int | None = None, stdout: int | IO[bytes]) -> asyncio.subprocess.Process:
        try:
            return await asyncio.create_subprocess_exec(
                self.programs / program,
                *arguments,
                stdin=stdin,
                stdout=stdout,
                stderr=self._log,
                env=self._environment,
                cwd=PROGRAMS,
                limit=LONGEST_ANSWER,
                start_new_session=True,  # so that a worker's helpers can be ended with it
            )
        except FileNotFoundError as error:
            raise LeftOut(f"{error.filename} is not there") from None

    def _last_words(self) -> str:
        self._log.seek(0)
        lines = [line.strip() for line in self._log.read().decode(errors="replace").splitlines() if line.strip()]
        return f"; last it said: {lines[-1][:200]}" if lines else ""


async def _stop(process: asyncio.subprocess.Process) -> None:
    """End a process and whatever it has started: asked first, then made to."""
    if process.stdin is not None:
        process.stdin.close()
    else:
        with suppress(ProcessLookupError):
            process.terminate()
    with suppress(TimeoutError):
        async with asyncio.timeout(STOPPING):
            await process.wait()
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    await process.wait()
