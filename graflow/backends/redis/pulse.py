"""The process that renews a worker's lease, out of reach of whatever the worker runs.

It is started as a file, isolated and without site-packages, and so imports nothing but a few modules of Python's own: it is there in some 30 ms and
takes some 10 MB. :class:`graflow.backends.redis.leases.ProcessHeart` starts it and speaks with it in lines.

It is told: a line of JSON first (where the server is, the scripts, the times), then ``=NAME`` (renew the lease of that name), ``-`` (renew nothing
for now), ``.`` (the worker's event loop turns), ``!`` (the worker ends in good order).

It says: ``+ SENT`` (renewed by a call sent at that time of the monotonic clock), ``- NAME`` (that lease has lapsed), ``? TEXT`` (something for the
log), ``~`` (still not renewed), ``* NUMBER`` (attempts of the dead were put back in line).

The lease is not renewed while the worker is stopped, or while its event loop has not turned for longer than ``stall``. When the worker is gone, its
lease is taken away at once and its work put back in line.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import sys
import time
from contextlib import suppress
from typing import Any, Final

TURN: Final = 1.0
"""seconds after which it looks around, if nothing else happens"""
AGAIN: Final = 0.25
"""seconds until a renewal that failed is tried again"""
SLICES: Final = 50
"""calls in a row that recover work, before the lease is renewed again"""


class Refused(Exception):
    """The server's own error."""


class Server:
    """One connection, made when it is needed. Every call ends: with a reply, with Refused, or with OSError and without the connection."""

    def __init__(self, facts: dict[str, Any]) -> None:
        self._facts = facts
        self._socket: socket.socket | None = None
        self._replies: Any = None

    def call(self, *words: bytes | str | int) -> Any:
        """Send a command and return its reply, as bytes, int, list or None."""
        try:
            if self._socket is None:
                self._connect()
            return self._ask(words)
        except Refused:
            raise
        except (OSError, ValueError) as error:
            self.close()
            raise error if isinstance(error, OSError) else ConnectionError(f"not an answer: {error}") from error

    def script(self, text: str, sha: str, *args: bytes | str | int) -> Any:
        """Run a script with the partition's prefix."""
        prefix = self._facts["prefix"]
        try:
            return self.call("EVALSHA", sha, 1, prefix, *args)
        except Refused as error:
            if not str(error).startswith("NOSCRIPT"):
                raise
            return self.call("EVAL", text, 1, prefix, *args)

    def close(self) -> None:
        """Give the connection up."""
        for each in (self._replies, self._socket):
            if each is not None:
                with suppress(OSError):
                    each.close()
        self._socket = self._replies = None

    def _connect(self) -> None:
        facts = self._facts
        if facts["port"]:
            link = socket.create_connection((facts["host"], facts["port"]), timeout=facts["timeout"])
            link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        else:
            link = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            link.settimeout(facts["timeout"])
            self._socket = link
            link.connect(facts["host"])
        self._socket = link
        if facts["tls"] is not None:
            self._socket = _encrypted(link, facts["host"], facts["tls"])
        self._replies = self._socket.makefile("rb")
        try:
            if facts["credentials"]:
                self._ask(("AUTH", *facts["credentials"]))
            if facts["db"]:
                self._ask(("SELECT", facts["db"]))
        except Refused:
            self.close()
            raise

    def _ask(self, words: tuple[bytes | str | int, ...]) -> Any:
        assert self._socket is not None
        parts = [word if isinstance(word, bytes) else str(word).encode() for word in words]
        self._socket.sendall(b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%s\r\n" % (len(part), part) for part in parts))
        return self._reply()

    def _reply(self) -> Any:
        line: bytes = self._replies.readline()
        if not line.endswith(b"\r\n"):
            raise ConnectionError("the server closed the connection")
        kind, rest = line[:1], line[1:-2]
        if kind == b"-":
            raise Refused(rest.decode("utf-8", "replace"))
        if kind == b"+":
            return rest
        size = int(rest)
        if kind == b":":
            return size
        if kind == b"*":
            return [self._reply() for _ in range(size)]
        if kind != b"$":
            raise ValueError(line[:40])
        if size < 0:
            return None
        data: bytes = self._replies.read(size + 2)
        if len(data) != size + 2:
            raise ConnectionError("the server closed the connection")
        return data[:-2]


def _encrypted(link: socket.socket, host: str, facts: dict[str, Any]) -> socket.socket:
    import ssl  # only now: it is half of the memory that this process takes

    context = ssl.create_default_context()
    context.check_hostname = facts["check_hostname"]
    context.verify_mode = ssl.VerifyMode(facts["cert_reqs"])
    for flag in facts["include_verify_flags"]:
        context.verify_flags |= flag
    for flag in facts["exclude_verify_flags"]:
        context.verify_flags &= ~flag
    if facts["certfile"] or facts["keyfile"]:
        context.load_cert_chain(facts["certfile"], facts["keyfile"], facts["password"])
    if facts["ca_certs"] or facts["ca_path"] or facts["ca_data"]:
        context.load_verify_locations(facts["ca_certs"], facts["ca_path"], facts["ca_data"])
    if facts["min_version"] is not None:
        context.minimum_version = facts["min_version"]
    if facts["ciphers"] is not None:
        context.set_ciphers(facts["ciphers"])
    return context.wrap_socket(link, server_hostname=host)


class Parent:
    """The worker, as seen from here."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.handle: int | None = None
        """readable once it is gone, on Linux"""
        with suppress(AttributeError, OSError):
            self.handle = os.pidfd_open(pid)

    @property
    def gone(self) -> bool:
        """Whether it has ended. Its end of the pipe tells as much, unless a child of its own has inherited that."""
        return os.getppid() != self.pid

    @property
    def stopped(self) -> bool:
        """Whether it is held up by SIGSTOP or a debugger, where that can be seen."""
        try:
            with open(f"/proc/{self.pid}/stat", "rb") as file:
                return file.read().rpartition(b")")[2].split()[0] in (b"T", b"t")
        except (OSError, IndexError):
            return False


class Pulse:
    """Beats until the worker ends or is gone."""

    def __init__(self, parent: Parent, facts: dict[str, Any], early: bytes) -> None:
        self._facts = facts
        self._server = Server(facts)
        self._parent = parent
        self._input = early
        self._name = ""
        self._due = self._ticked = time.monotonic()
        self._held_up = False
        self._ended = False
        self._failing = False

    def run(self) -> None:
        """Until the end."""
        poll = select.poll()
        poll.register(0, select.POLLIN)
        if self._parent.handle is not None:
            poll.register(self._parent.handle, select.POLLIN)
        self._take(b"")
        while not self._ended:
            wait = min(TURN, max(0.0, self._due - time.monotonic())) if self._name else TURN
            for handle, _ in poll.poll(wait * 1000):
                data = os.read(0, 65536) if handle == 0 else b""
                if not data:
                    return self._bury()
                self._take(data)
            if self._parent.gone:
                return self._bury()
            if self._name and not self._ended and time.monotonic() >= self._due:
                self._beat()
        return None

    def _take(self, data: bytes) -> None:
        *lines, self._input = (self._input + data).split(b"\n")
        for line in lines:
            kind, rest = line[:1], line[1:].decode()
            if kind == b"!":
                self._ended = True
            elif kind in (b"=", b"-"):
                self._name = rest
                self._due = time.monotonic()
            self._ticked = time.monotonic()
        if lines and self._held_up:  # it goes on: whether the lease has outlasted that is to be known at once
            self._held_up = False
            self._due = time.monotonic()

    # ---- beating ----

    def _beat(self) -> None:
        facts, now = self._facts, time.monotonic()
        self._due = now + facts["every"]
        if self._must_not():
            self._held_up = True
            return
        self._due = now + AGAIN
        try:
            lives, others = self._server.script(*facts["beat"], facts["shift"], self._name, facts["lease"], "")
        except (OSError, Refused) as error:
            self._say("~" if self._failing else f"? the lease cannot be renewed: {error}")
            self._failing = True
            return
        self._failing = False
        self._due = now + facts["every"]
        if lives:
            self._say(f"+ {now!r}")
        else:
            self._say(f"- {self._name}")
            self._name = ""
        if others:
            with suppress(OSError):  # the next call of this worker, or of another, goes on with it
                self._recover(SLICES)

    def _must_not(self) -> bool:
        if self._parent.stopped:
            return True
        late = time.monotonic() - self._ticked
        if late <= self._facts["stall"]:
            return False
        if not self._held_up:
            self._say(f"? the event loop has not turned for {late:.0f} s: the lease is not renewed until it does")
        return True

    def _recover(self, slices: int) -> None:
        """Put the work of dead workers back in line."""
        facts, total = self._facts, 0
        try:
            for _ in range(slices):
                number = self._server.script(*facts["reap"], facts["shift"], *facts["reap_args"])[0]
                total += number
                if number < facts["reap_args"][-1]:
                    break
        except Refused as error:
            self._say(f"? work of dead workers cannot be put back in line: {error}")
        if total:
            self._say(f"* {total}")

    def _bury(self) -> None:
        """The worker is gone: nobody shall wait for its lease. For as long as that lasts; after it, others know by themselves."""
        name, keys = self._name, self._facts["keys"]
        until = time.monotonic() + self._facts["lease"] / 1000
        while name and time.monotonic() < until:
            try:
                self._server.call("ZREM", keys["leases"], name)
                self._server.call("HDEL", keys["workers"], name)
                return self._recover(SLICES)
            except (OSError, Refused):
                time.sleep(AGAIN)
        return None

    def _say(self, text: str) -> None:
        with suppress(OSError):  # nobody is there to hear it
            os.write(1, text.encode("utf-8", "replace").replace(b"\n", b" ") + b"\n")


def main() -> None:
    """Read what there is to know, and beat. The argument is the number of the worker's process."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # meant for the worker, which may still have work to end: this process ends with it
    parent, data = Parent(int(sys.argv[1])), b""
    while b"\n" not in data:
        if select.select([0], [], [], TURN)[0]:
            more = os.read(0, 1 << 20)
            if not more:
                return
            data += more
        elif parent.gone:
            return
    line, _, rest = data.partition(b"\n")
    Pulse(parent, json.loads(line), rest).run()


if __name__ == "__main__":
    main()
