"""The child's end of the protocol: frames in, frames out, and requests that wait for their reply.

A frame is its length in 4 bytes, big-endian, and a MessagePack array whose first item says what it is. The protocol has two descriptors
of its own: whatever the task prints, or a library written in C, cannot get in between.
"""

from __future__ import annotations

import os
import queue
import select
import struct
import sys
import threading
from typing import TYPE_CHECKING, Any, TypeVar

from graflow.handlers.inside.msgpack import pack, unpack

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

T = TypeVar("T")

CHUNK = 1 << 16


def _no_extension(code: int, data: bytes) -> Any:
    raise ValueError("frames hold no extensions")


class Link:
    """Two descriptors, a lock for those who write, and a thread that reads.

    The thread also hears of the end: a child whose worker is gone ends at once, whatever its task is doing. Where the kernel sees to that, the
    thread is not started before a task asks for something: handing each call from one thread to the other would cost more than many calls take.
    """

    def __init__(self, incoming: int, outgoing: int) -> None:
        self._incoming = incoming
        self._outgoing = outgoing
        self._buffer = bytearray()
        self._lock = threading.Lock()
        self._replies: dict[int, Callable[[list[Any]], object]] = {}
        self._asked = 0
        self._listening = False
        self.calls: queue.SimpleQueue[list[Any]] = queue.SimpleQueue()
        """frames for the main thread"""
        self.cancelled: bool = False
        self.number: int = 0
        """of the call that is being run"""
        self.copied: bool = False
        """this is a copy of the child, made by a fork in its task: the protocol is not the copy's"""
        self._begun: Any = None
        self._marked: int | None = None
        os.register_at_fork(after_in_child=self._let_go)

    def _let_go(self) -> None:
        self.copied = True
        self._lock = threading.Lock()  # some other thread may have held it
        for descriptor in (self._incoming, self._outgoing):
            os.close(descriptor)

    # ---- frames ----

    def send(self, *parts: Any) -> None:
        """Write one frame; from any thread. What cannot be packed raises, and then nothing is written."""
        self.write(pack(list(parts)))

    def write(self, data: bytes) -> None:
        """Write a frame that is packed."""
        if self.copied:
            raise RuntimeError("this process is a copy made by os.fork(): only the process of the task itself can ask its worker")
        view = memoryview(struct.pack(">I", len(data)) + data)
        with self._lock:
            while view:
                view = view[os.write(self._outgoing, view) :]

    def mark_in(self, memory: int | None, *, errors: bool) -> None:
        """Where the beginning of each call is to be marked.

        Args:
            memory: a descriptor that is shared with the worker, which looks there when this process has died.
            errors: on standard error: in a container that runs several calls, what one of them writes there may be read amid the next.
        """
        if memory is not None:
            import mmap

            self._begun = mmap.mmap(memory, 8)
            os.close(memory)
        if errors:
            self._marked = os.dup(2)  # a task may close its own, or lead it elsewhere

    def mark(self, number: int) -> None:
        """A call begins."""
        if self._begun is not None:
            self._begun[:] = number.to_bytes(8, "big")
        if self._marked is not None:
            os.write(self._marked, b"\0graflow call %010d\0" % number)

    def receive(self) -> list[Any]:
        """The next frame. Raises EOFError when the other end is closed."""
        (size,) = struct.unpack(">I", self._read(4))
        frame: list[Any] = unpack(self._read(size), _no_extension)
        return frame

    def _read(self, size: int) -> bytes:
        while len(self._buffer) < size:
            data = os.read(self._incoming, max(CHUNK, size - len(self._buffer)))
            if not data:
                raise EOFError
            self._buffer += data
        data, self._buffer = bytes(self._buffer[:size]), self._buffer[size:]
        return data

    def is_idle(self, seconds: float) -> bool:
        """Whether nothing comes within some seconds; not to be asked while another thread reads."""
        if self._buffer:
            return False
        return sys.platform == "win32" or not select.select([self._incoming], [], [], seconds)[0]

    def next_call(self) -> list[Any]:
        """The next frame for the main thread, read by itself while there is no other thread to do it."""
        if self._listening:
            return self.calls.get()
        try:
            return self.receive()
        except EOFError:
            os._exit(0)

    # ---- the reading thread ----

    def listen(self) -> None:
        """Begin to read in a thread of its own, if that has not begun."""
        with self._lock:
            begun, self._listening = self._listening, True
        if not begun:
            threading.Thread(target=self._listen, name="graflow-link", daemon=True).start()

    def _listen(self) -> None:
        while True:
            try:
                frame = self.receive()
            except (EOFError, OSError):
                os._exit(0)  # nobody is left to hear the answer
            if frame[0] == "reply":
                answer = self._replies.pop(frame[1], None)
                if answer is not None:
                    answer(frame)
            elif frame[0] == "cancel":
                self.cancelled = True
            else:
                self.calls.put(frame)

    # ---- requests ----

    def _ask(self, answer: Callable[[list[Any]], object], request: tuple[Any, ...]) -> None:
        self.listen()
        with self._lock:
            self._asked += 1
            number = self._asked
            self._replies[number] = answer
        call, *what = request
        self.send("ask", call, number, *what)

    def ask_blocking(self, *request: Any) -> list[Any]:
        """Send a request, and block this thread until its reply is here."""
        box: queue.SimpleQueue[list[Any]] = queue.SimpleQueue()
        self._ask(box.put, request)
        return box.get()

    async def ask_waiting(self, *request: Any) -> list[Any]:
        """Send a request, and let the event loop go on until its reply is here."""
        import asyncio

        loop = asyncio.get_running_loop()
        reply: asyncio.Future[list[Any]] = loop.create_future()

        def settle(frame: list[Any]) -> None:
            if not reply.done():
                reply.set_result(frame)

        def answer(frame: list[Any]) -> None:
            loop.call_soon_threadsafe(settle, frame)

        self._ask(answer, request)
        return await reply


def finish(coroutine: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine that never waits: one whose requests block the thread."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        result: T = stop.value
        return result
    raise RuntimeError("a request of a def task cannot wait")
