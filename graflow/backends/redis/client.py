"""The connections of one backend to its server, and the one place that decides what happens when they fail."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, Final, TypeVar

from redis.asyncio import Redis
from redis.exceptions import RedisError, ResponseError

from graflow.backends.redis import checks, faults
from graflow.backends.redis.faults import Remedy
from graflow.backends.redis.keys import Keys
from graflow.backends.redis.link import Link, Word, connect, pack
from graflow.backends.redis.settings import RedisSettings as RedisSettings
from graflow.errors import BackendUnavailableError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from graflow.backends.redis.scripts import Script

_log = logging.getLogger("graflow.redis")

T = TypeVar("T")

PATIENCE: Final = 30.0
"""Seconds for which a script is sent again while the server is away: a restart or a failover fits in."""

OPENING: Final = 5.0
"""Seconds for which the first connection is tried: a wrong address should not take half a minute to be noticed."""

BLOCK: Final = 5.0
"""Seconds for which a blocking read blocks at most."""

FAILURES: Final = (RedisError, OSError)
"""Whatever a command or a connection can end with, other than its result."""

READER_GRACE: Final = 2.0
"""Seconds beyond that for which its reply is waited for."""


class CommitLine:
    """A named connection for scripts, made when it is first used and made anew when it was lost.

    What is sent over one line is answered in order; a slow script delays what was sent after it, so what must not wait has a line of its own.
    """

    __slots__ = ("_client", "_connecting", "_link", "name")

    def __init__(self, client: RedisClient, name: str) -> None:
        self.name: str = name
        self._client = client
        self._link: Link | None = None
        self._connecting = asyncio.Lock()

    async def ask(self, packed: bytes) -> Any:
        """Send a packed command and wait for its reply; errors are those of :meth:`graflow.backends.redis.link.Link.ask`."""
        link = self._link
        if link is None or not link.alive:
            link = await self._connect()
        return await link.ask(packed)

    def drop(self) -> None:
        """Give the connection up; the next command makes another."""
        link, self._link = self._link, None
        if link is not None:
            link.abort()

    async def _connect(self) -> Link:
        async with self._connecting:  # of many that lost the link together, one makes the new one
            if self._link is None or not self._link.alive:
                self._link = await self._client.connect()
            return self._link


class RedisClient:
    """A backend's connections: lines for scripts, a pool for ordinary commands, readers that block.

    Nothing is ever sent twice without its being decided here: only scripts are, which must stand it.

    Attributes:
        commands: redis-py's client for ordinary commands. It does not repeat any; its errors are redis-py's.
        shift: milliseconds that scripts add to the server's time. 0 but in tests, which put the time forward.
        server_version: of the Redis whose commands the server has; empty if it did not say.
        run_id: changes when the server is started anew or another takes its place; None if it did not say.
        on_new_server: called when it has changed.
    """

    def __init__(self, url: str, *, namespace: str = "graflow", partition: int = 0, patience: float = PATIENCE) -> None:
        self.settings: RedisSettings = RedisSettings.parse(url)
        self.keys: Keys = Keys(namespace, partition, self.settings.db)
        self.patience = patience
        self.shift = 0
        self.server_version: tuple[int, ...] = ()
        self.run_id: str | None = None
        self.on_new_server: list[Callable[[], object]] = []
        self.commands: Redis = Redis(connection_pool=self.settings.pool(greet=self._greet))
        self.repeats: int = 0
        """how often a script was sent again, because it was not known whether it had been carried out"""
        self._maxmemory = 0
        self._main = CommitLine(self, "commit")
        self._lines: dict[str, CommitLine] = {"commit": self._main}
        self._readers: list[Redis] = []
        self._closed = False

    @property
    def where(self) -> str:
        """The server's name, for messages."""
        return self.settings.where

    async def open(self, *, patience: float = OPENING) -> None:
        """Connect, and make sure that the server will do.

        Raises:
            BackendUnavailableError: no answer for ``patience`` seconds.
            BackendUnsuitableError: the server answers, but is not to be used as it is.
        """
        facts = await self._insist(self._look, patience)
        checks.judge(facts, self.where)
        self.server_version = facts.version or ()
        self._maxmemory = facts.maxmemory

    async def close(self) -> None:
        """Close every connection. Scripts that wait for an answer fail."""
        self._closed = True
        for line in self._lines.values():
            line.drop()
        for client in (self.commands, *self._readers):
            await client.aclose(close_connection_pool=True)
        self._readers.clear()

    # ---- scripts ----

    def line(self, name: str) -> CommitLine:
        """The line of that name; the same for every caller."""
        if name not in self._lines:
            self._lines[name] = CommitLine(self, name)
        return self._lines[name]

    async def call(
        self,
        script: Script,
        args: Sequence[Word],
        *,
        line: CommitLine | None = None,
        repair: Callable[[], Awaitable[object]] | None = None,
    ) -> Any:
        """Run a script and return its reply, as bytes, int, list or None.

        The same script with the same arguments is sent again when an answer is missing, for up to ``patience`` seconds: it may be carried out more
        than once, and must then do and say the same as if once. A cancelled call may still be carried out.

        Args:
            script: its ``KEYS`` are the scope of :class:`~graflow.backends.redis.keys.Keys`.
            args: its ``ARGV``.
            line: the connection to use, the common one by default.
            repair: awaited when the server has lost a consumer group (NOGROUP), before the script is sent again.

        Raises:
            BackendUnavailableError: no answer for too long.
            BackendUnsuitableError: the server refuses.
            QueueFullError: its memory is full.
            redis.ResponseError: a consumer group is missing, and no ``repair`` was given.
        """
        way = self._main if line is None else line
        scope = self.keys.scope
        packed = pack(("EVALSHA", script.sha, len(scope), *scope, *args))
        try:
            return await way.ask(packed)
        except FAILURES as error:
            first = error

        async def mend(error: BaseException, remedy: Remedy) -> bytes:
            if remedy is Remedy.RESOLVE:
                way.drop()
            if faults.code_of(error) == "NOSCRIPT":
                return pack(("EVAL", script.text, len(scope), *scope, *args))
            if remedy is Remedy.REPAIR:
                if repair is None:
                    raise error
                await repair()
            return packed

        return await self._again(way, first, mend)

    # ---- other connections ----

    async def reader(self, *, block: float = BLOCK) -> Redis:
        """A client with one connection of its own, for reads that block for up to ``block`` seconds. :meth:`close` closes it if nobody has.

        Its errors are redis-py's. A read that failed or was cancelled may have taken something all the same.
        """
        reader = Redis(connection_pool=self.settings.pool(1, answer=block + READER_GRACE, greet=self._greet))
        self._readers.append(reader)
        return reader

    async def connect(self, *, lost: Callable[[Link], object] | None = None, answer: float | None = None) -> Link:
        """A new connection of its own, for whoever looks after it. Errors are redis-py's."""
        if self._closed:
            raise self._over()
        link = await connect(self.settings, lost=lost, answer=answer)
        try:
            self._met(await checks.run_id_of(link))
            if self._closed:  # while it was being made
                raise self._over()
        except BaseException:
            link.abort()
            raise
        return link

    async def ping(self) -> bool:
        """Whether the server answers; if not, the log says why."""
        try:
            await self._main.ask(pack(("PING",)))
        except (*FAILURES, BackendUnavailableError) as error:
            _log.error("Redis at %s does not answer a ping: %s", self.where, error, extra=self._labels(error))
            return False
        return True

    async def health_check(self) -> dict[str, Any]:
        """``status`` "healthy" with ``connected_clients``, ``used_memory`` and ``uptime_seconds``, None for what the user may not know; or
        "unhealthy" with the ``error``, which is in the log too."""
        try:
            await self._main.ask(pack(("PING",)))
            info = await self._info()
        except (*FAILURES, BackendUnavailableError) as error:
            _log.error("Redis at %s is not healthy: %s", self.where, error, extra=self._labels(error))
            return {"status": "unhealthy", "error": str(error)}
        return {"status": "healthy"} | {
            name: int(info[field]) if field in info else None
            for name, field in (
                ("connected_clients", "connected_clients"),
                ("used_memory", "used_memory"),
                ("uptime_seconds", "uptime_in_seconds"),
            )
        }

    # ---- inside ----

    async def _look(self) -> checks.Facts:
        link = await self.connect()
        try:
            return await checks.look(link)
        finally:
            link.abort()

    async def _info(self) -> dict[str, str]:
        try:
            return checks.read_info(await self._main.ask(pack(("INFO",))))
        except ResponseError as error:
            if faults.code_of(error) != "NOPERM":
                raise
            return {}

    async def _greet(self, connection: Any) -> None:
        """What a connection of redis-py begins with: its own greeting, then ours."""
        await connection.on_connect()
        await connection.send_command("INFO", "server")
        try:
            self._met(checks.read_info(await connection.read_response()).get("run_id"))
        except ResponseError as error:
            if faults.code_of(error) != "NOPERM":
                raise

    def _met(self, run_id: str | None) -> None:
        known, self.run_id = self.run_id, run_id or self.run_id
        if known is not None and known != self.run_id:
            _log.warning("Redis at %s was started anew, or another server has taken its place", self.where)
            for hook in tuple(self.on_new_server):
                hook()

    async def insist(self, attempt: Callable[[], Awaitable[T]]) -> T:
        """Do something that changes nothing, again until there is an answer. Raises what :meth:`call` does."""
        return await self._insist(attempt, self.patience)

    async def _insist(self, attempt: Callable[[], Awaitable[T]], patience: float) -> T:
        """Try until it works, until the table says that it never will, or until patience is at an end."""
        until = asyncio.get_running_loop().time() + patience
        tries = 0
        while True:
            try:
                return await attempt()
            except FAILURES as error:
                await self._pause(error, tries, until)
            tries += 1

    async def _again(self, line: CommitLine, error: Exception, mend: Callable[[Exception, Remedy], Awaitable[bytes]]) -> Any:
        if faults.code_of(error) != "NOSCRIPT":
            self.repeats += 1
        until = asyncio.get_running_loop().time() + self.patience
        tries = 0
        while True:
            remedy = faults.classify(error)
            packed = await mend(error, remedy)
            if tries or remedy is not Remedy.REPAIR:  # what was repaired just now need not be waited for
                await self._pause(error, tries, until)
            try:
                return await line.ask(packed)
            except FAILURES as another:
                error = another
            tries += 1

    async def _pause(self, error: Exception, tries: int, until: float) -> None:
        wait = faults.pause(error, tries)
        late = asyncio.get_running_loop().time() + wait >= until
        if self._closed:
            raise self._over() from error
        if late or faults.classify(error) in (Remedy.FULL, Remedy.FATAL):
            raise faults.as_graflow(error, self.where, limit=self._maxmemory) from error
        await asyncio.sleep(wait)

    def _over(self) -> BackendUnavailableError:
        return BackendUnavailableError(f"the connection to Redis at {self.where} is closed")

    def _labels(self, error: BaseException) -> dict[str, Any]:
        return {"redis_host": self.settings.host, "redis_port": self.settings.port, "redis_error": str(error)}
