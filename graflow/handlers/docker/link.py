"""The standard streams of a container: bytes to its program and from it, and what C code prints on the side."""

from __future__ import annotations

import logging
from collections import deque
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

    from aiodocker.stream import Stream

logger: logging.Logger = logging.getLogger("graflow.handlers.docker")

STDOUT: Final = 1
CHUNK: Final = 1 << 18
LAST_WORDS: Final = 4096
"""bytes of standard error that are kept: what a program says when it dies"""


class DockerLink:
    """The streams, attached.

    Attributes:
        heard: called with each piece of standard error.
        last_words: the end of what came on standard error.
    """

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._ended = False
        self._early: deque[bytes] = deque()
        self.heard: Callable[[bytes], None] | None = None
        self.last_words: bytes = b""

    async def open(self) -> None:
        """Attach."""
        await self._stream.__aenter__()

    async def send(self, data: bytes) -> None:
        """Write to standard input. Raises OSError when the connection is gone."""
        view = memoryview(data)
        while view:
            try:
                await self._stream.write_in(bytes(view[:CHUNK]))
            except (AssertionError, RuntimeError) as error:  # which is how aiodocker says so
                raise ConnectionResetError("the container is not attached any more") from error
            view = view[CHUNK:]

    async def receive(self) -> bytes:
        """What came on standard output; empty at the end. Cancelling it loses nothing."""
        return self._early.popleft() if self._early else await self._fresh()

    async def _fresh(self) -> bytes:
        while not self._ended:
            message = await self._next()
            if message is None:
                self._ended = True
            elif message[0] == STDOUT:
                if message[1]:
                    return message[1]
            else:
                self._hear(message[1])
        return b""

    async def watch(self) -> None:
        """Return when the program is gone, or writes much that nobody reads. What it wrote until then is kept for :meth:`receive`."""
        kept = 0
        while kept < CHUNK and not self._ended:
            data = await self._fresh()
            if data:
                self._early.append(data)
                kept += len(data)

    async def drain(self) -> None:
        """Read to the end, for the sake of standard error."""
        while await self._fresh():
            continue

    def stop(self) -> None:
        """Let :meth:`receive` see the end from now on."""
        self._ended = True

    async def _next(self) -> tuple[int, bytes] | None:
        import aiohttp

        try:
            return await self._stream.read_out()
        except (aiohttp.ClientError, AssertionError, OSError) as error:  # the engine was cut off, which the container's state will tell
            logger.debug("the connection to a container broke: %r", error)
            return None

    def _hear(self, data: bytes) -> None:
        self.last_words = (self.last_words + data)[-LAST_WORDS:]
        if self.heard is not None:
            self.heard(data)

    async def close(self) -> None:
        """Detach; the program sees the end of its input."""
        self._ended = True
        try:
            await self._stream.close()
        except AssertionError:  # aiodocker takes it for granted that the connection is still there
            return
