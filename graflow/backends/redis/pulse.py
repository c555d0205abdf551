"""The process that renews a worker's lease, out of reach of whatever the worker runs.

It is started as a file, isolated and without site-packages, and so imports nothing but a few modules of Python's own: it is there in some 30 ms and
takes some 10 MB. :class:`graflow.backends.redis.leases.ProcessHeart` starts it and speaks with it in lines.

It is told: a line of JSON first (where the server is, the scripts, the times), then ``=INFO NAME`` (renew the lease of that name; what the worker
can do, in hex), ``-`` (renew nothing for now), ``.`` (the worker's event loop turns), ``!`` (the worker ends in good order).

It says: ``+ SENT`` (renewed by a call sent at that time of the monotonic clock), ``- NAME`` (that lease has lapsed), ``? TEXT`` (something for the
log), ``~`` (still not renewed), ``* NUMBER`` (attempts of the dead were put back in line).

A worker with nothing to do shall cost the server no more than a command a second, those inside scripts included. So a beat is a plain command, by
the server's time as it must be by now, and a script only in doubt; and dead workers are looked for when the next lease can have lapsed.

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
CHORE: Final = 3
"""beats until the next of the things that are done now and then"""
SELDOM: Final = 900
"""beats until the script is asked once more, which has what workers share live on"""
CLOCK: Final = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)  # the former goes on while the machine sleeps
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
        """Run a script of the partition."""
        scope = self._facts["scope"]
        try:
            return self.call("EVALSHA", sha, len(scope), *scope, *args)
        except Refused as error:
            if not str(error).startswith("NOSCRIPT"):
                raise
            return self.call("EVAL", text, len(scope), *scope, *args)

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
    context.minimum_version = facts["min_version"] or context.minimum_version
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
        self._name, self._info = "", b""
        self._ahead = 0.0  # milliseconds by which the server's clock is ahead of ours, rather too few than too many
        self._epoch: bytes | None = None
        self._until = 0.0  # the end of the lease, as far as is known, by the server's clock
        self._beats = 0
        self._told = 0  # the beat from which on somebody may listen to what workers say of themselves
        self._streams: list[bytes] = []
        self._due = self._look_due = self._ticked = time.monotonic()
        self._held_up = self._ended = self._failing = False

    def run(self) -> None:
        """Until the end."""
        poll = select.poll()
        poll.register(0, select.POLLIN)
        if self._parent.handle is not None:
            poll.register(self._parent.handle, select.POLLIN)
        self._take(b"")
        while not self._ended:
            due = self._due if self._held_up else min(self._due, self._look_due)
            wait = min(TURN, max(0.0, due - time.monotonic())) if self._name else TURN
            for handle, _ in poll.poll(wait * 1000):
                data = os.read(0, 65536) if handle == 0 else b""
                if not data:
                    return self._bury()
                self._take(data)
            if self._parent.gone:
                return self._bury()
            if self._name and not self._ended and time.monotonic() >= self._due:
                self._beat()
            if self._name and not self._ended and not self._held_up and time.monotonic() >= self._look_due:
                self._look()
        return None

    def _take(self, data: bytes) -> None:
        *lines, self._input = (self._input + data).split(b"\n")
        for line in lines:
            kind, rest = line[:1], line[1:].decode()
            if kind == b"!":
                self._ended = True
            elif kind in (b"=", b"-"):
                info, _, self._name = rest.partition(" ")
                self._info, self._until, self._epoch = bytes.fromhex(info), 0.0, None
                self._due = self._look_due = time.monotonic()
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
            lives, others = self._renew()
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
        self._beats += 1
        with suppress(OSError, Refused):  # the next call of this worker, or of another, goes on with it
            if others:
                self._recover(SLICES)
            elif not self._beats % CHORE:
                self._do_chore(self._beats // CHORE)

    def _renew(self) -> tuple[int, int]:
        """Whether the lease is ours, and whether there is a reason to look."""
        facts, began = self._facts, time.monotonic()
        if self._epoch is not None and self._server_time() < self._until and self._beats % SELDOM:
            with suppress(Refused):  # a server whose memory is full refuses this, and not the script
                until = self._server_time() + facts["lease"]
                if self._server.call("ZADD", self._key("leases"), "XX", "CH", f"{until:.0f}", self._name):
                    self._until = until
                    self._say_who()
                    return 1, 0
        # It may have lapsed, and then it is not to be brought back to life.
        lives, others = self._server.script(*facts["beat"], facts["shift"], self._name, facts["lease"], "")
        if lives:
            self._ask_time()
            self._epoch = self._server.call("GET", self._key("epoch"))
            self._until = self._server_time() + facts["lease"] - (time.monotonic() - began) * 1000
        return lives, others

    def _say_who(self) -> None:
        """Tell the applications that this worker lives, and which life of the server this is; less often when none of them listens."""
        if self._beats >= self._told:
            word = _packed(self._epoch or b"", self._name.encode(), self._info)
            self._told = self._beats + (1 if self._server.call("PUBLISH", self._facts["pulse"], word) else 2)

    def _ask_time(self) -> None:
        seconds, micros = map(int, self._server.call("TIME"))
        self._ahead = seconds * 1000 + micros / 1000 + self._facts["shift"] - time.clock_gettime(CLOCK) * 1000

    def _server_time(self) -> float:
        """In milliseconds, as it must be by now: were every beat to ask, it would be a command more."""
        return time.clock_gettime(CLOCK) * 1000 + self._ahead

    # ---- others ----

    def _look(self) -> None:
        """Whether the lease of another worker has lapsed. If not, there is nothing to look for before the first of them can."""
        lease: float = self._facts["lease"] / 1000
        self._look_due = time.monotonic() + AGAIN
        with suppress(OSError, Refused):
            found = self._server.call("ZRANGE", self._key("leases"), 0, 1, "WITHSCORES")
            others = [float(score) for name, score in zip(found[::2], found[1::2], strict=True) if name != self._name.encode()]
            left = (min(others) - self._server_time()) / 1000 if others else lease
            if left < 0:
                self._recover(SLICES)
            else:
                self._look_due = time.monotonic() + min(left, lease) + AGAIN / 2  # its end, on the server's own clock

    def _do_chore(self, number: int) -> None:
        """One at a time: ask for the time, or look at one of the streams."""
        if number % 2:
            self._ask_time()
        elif not self._streams:
            self._streams = self._server.call("SMEMBERS", self._key("streams"))
        elif self._has_stray(self._streams.pop()):
            self._recover(SLICES)

    def _has_stray(self, stream: bytes) -> bool:
        """Whether something on a stream is in the hands of a worker without a lease: the last resort, see reap.lua for the first."""
        found = self._server.call("XINFO", "CONSUMERS", self._key("q:").encode() + stream, "g")
        known = (dict(zip(flat[::2], flat[1::2], strict=True)) for flat in found)
        return any(each[b"pending"] and self._server.call("ZSCORE", self._key("leases"), each[b"name"]) is None for each in known)

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
        """The worker is gone: nobody shall wait for its lease. For as long as that lasts; after it, others know by themselves. One that has lapsed
        is taken away all the same: what the worker read since then is to be recovered too."""
        until = time.monotonic() + self._facts["lease"] / 1000
        while time.monotonic() < until:
            try:
                with suppress(Refused):  # by a server whose memory is full
                    self._server.call("ZADD", self._key("leases"), "XX", 0, self._name)
                    return self._recover(SLICES)
                self._server.call("ZREM", self._key("leases"), self._name)
                return self._recover(SLICES)
            except (OSError, Refused):
                time.sleep(AGAIN)

    def _key(self, name: str) -> str:
        return f"{self._facts['prefix']}{name}"

    def _say(self, text: str) -> None:
        with suppress(OSError):  # nobody is there to hear it
            os.write(1, text.encode("utf-8", "replace").replace(b"\n", b" ") + b"\n")


def _packed(*texts: bytes) -> bytes:
    """A message as the scripts would pack it: an array of texts."""
    return bytes([0x90 + len(texts)]) + b"".join(b"\xda" + len(text).to_bytes(2, "big") + text for text in texts)


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
