"""An engine with a key and workers with theirs, and ways to tamper with what lies between them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest

from graflow import TaskWorker, WorkflowEngine
from graflow.backends.redis.backend import RedisBackend
from graflow.errors import TaskFailedError, UntrustedPayloadError

KEY = "new:correct-horse-battery-staple-and-more"
OLD = "old:the-key-of-the-year-before-this-one"
OTHER = "other:somebody-elses-secret-key-of-32-bytes"


class SignedSite:
    """An engine with a key, and workers with theirs, all of which is in this process but knows nothing of it."""

    def __init__(self, url: str, key: str | None = KEY) -> None:
        self.url = url
        self.backend = self._backend(key)
        self.engine = WorkflowEngine(self.backend)
        self.letters = self.backend.dead_letters

    def _backend(self, key: str | None, **options: Any) -> RedisBackend:
        return RedisBackend(self.url, heart="loop", secret_key=key, **options)

    @asynccontextmanager
    async def worker(self, key: str | None = KEY, grace: float = 0.0) -> AsyncIterator[TaskWorker]:
        async with TaskWorker(self._backend(key, unknown_grace=grace), queues=None, grace=0.0) as worker:
            yield worker

    async def tamper(self, change: Callable[[bytes], bytes]) -> None:
        """Change every plan on the server."""
        commands = self.backend.client.commands
        keys = [key async for key in commands.scan_iter(match="*:plan:*")]
        assert keys
        for key in keys:
            blob = await commands.hget(key, "blob")
            changed = change(blob)
            assert changed != blob
            await commands.hset(key, "blob", changed)

    async def refused(self, handle: Any, reason: str) -> str:
        """That the run fails for that reason, and that its dead letter says so."""
        with pytest.raises(TaskFailedError) as failed:
            await handle.result(timeout=20)
        cause = failed.value.__cause__
        assert isinstance(cause, UntrustedPayloadError), cause
        assert cause.reason == reason
        (letter,) = await self.letters.list()
        assert (letter.reason, letter.run_id) == ("untrusted", handle.run_id)
        assert str(cause) in letter.detail
        return str(cause)


def envelopes_in(blob: bytes) -> list[bytes]:
    found: list[bytes] = msgspec.msgpack.decode(blob)[1]["tables"][3]
    return found


def with_envelopes(change: Callable[[list[bytes]], list[bytes]]) -> Callable[[bytes], bytes]:
    def changed(blob: bytes) -> bytes:
        version, body = msgspec.msgpack.decode(blob)
        body["tables"][3] = change(body["tables"][3])
        return msgspec.msgpack.encode([version, body])

    return changed


async def plan_of(site: SignedSite, run_id: str) -> str:
    found = await site.backend.client.commands.hget(site.backend.client.keys.run(run_id), "plan")
    return found.decode()


async def made_in(site: SignedSite, run_id: str) -> list[tuple[bytes, bytes]]:
    """The tasks that were made in a run, as they lie on the server."""
    fields = await site.backend.client.commands.hgetall(site.backend.client.keys.run(run_id))
    return [pair for pair in fields.items() if pair[0][:1] == b"D"]
