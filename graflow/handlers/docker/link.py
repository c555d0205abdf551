"""The standard streams of a container: bytes to its program and from it, and what C code prints on the side."""

from __future__ import annotations

import logging
import re
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
_HEAD: Final = b"\0graflow call "
_MARK: Final = re.compile(re.escape(_HEAD) + rb"(\d{10})\0")
_LENGTH: Final = len(_HEAD) + 11
"""bytes of a mark, which tells on standard error which call begins"""


class DockerLink:
    """The streams, attached.

    Attributes:
        heard: called with each piece of standard error.
        last_words: the end of what came on standard error, of the last call.
    """

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._ended = False
        self._early: deque[bytes] = deque()
        self.heard: Callable[[bytes], None] | None = None
        self.last_words: bytes = b""
        self._held = b""
        self._call = 0
        self._awaited = 0

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
        held, self._held = self._held, b""
        self._tell(held)

    def forget(self, *, until: int) -> None:
        """Nothing of earlier calls belongs to the last words any more. It may still be on its way, as this stream does not keep step with the
        other: those of a call begin where that is marked."""
        self.last_words = b""
        self._awaited = until

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
        text, *rest = _MARK.split(self._held + data)
        pieces = [text, *rest]
        pieces[-1], self._held = _cut(pieces[-1])
        self._tell(pieces[0])
        for call, said in zip(pieces[1::2], pieces[2::2], strict=True):
            self._call = int(call)
            self._tell(said)

    def _tell(self, text: bytes) -> None:
        if text and self._call >= self._awaited:
            self.last_words = (self.last_words + text)[-LAST_WORDS:]
        if text and self.heard is not None:
            self.heard(text)

    async def close(self) -> None:
        """Detach; the program sees the end of its input."""
        self._ended = True
        try:
            await self._stream.close()
        except AssertionError:  # aiodocker takes it for granted that the connection is still there
            return


def _cut(text: bytes) -> tuple[bytes, bytes]:
    """A text, and what may be the beginning of a mark at its end."""
    at = text.rfind(b"\0")
    tail = text[at:]
    if at < 0 or len(tail) >= _LENGTH or not _HEAD.startswith(tail[: len(_HEAD)]):
        return text, b""
    return text[:at], tail
