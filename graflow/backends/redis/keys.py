"""Every name that Graflow uses in Redis, made in one place.

All keys of a partition carry the hash tag ``{namespace:partition}``, so that one script reaches them all, on a cluster too. A script is given the
prefix as ``KEYS[1]`` and puts the same rest behind it.

Pub/sub knows no databases: what is published in one is heard in all. So the names of its channels say which one is meant, if it is not the first,
and a script is told how they begin as ``KEYS[2]``. Otherwise workers of one database passed for workers of the other.
"""

from __future__ import annotations

from typing import Final
from urllib.parse import quote, unquote

from graflow.core.options import PRIORITIES, Priority
from graflow.errors import ConfigurationError

_RANKS: Final = {priority: rank for rank, priority in enumerate(PRIORITIES)}
"""What comes first is fetched first."""


def stream_name(queue: str, handler: str, priority: Priority) -> str:
    """``<rank>:<handler>:<queue>``. Sorted, the names are in the order of their priorities. The handler is quoted, so the queue may be anything."""
    return f"{_RANKS[priority]}:{quote(handler, safe='')}:{queue}"


def parse_stream(name: str) -> tuple[str, str, Priority]:
    """The queue, handler and priority of a name that :func:`stream_name` made."""
    rank, handler, queue = name.split(":", 2)
    return queue, unquote(handler), PRIORITIES[int(rank)]


class Keys:
    """The names of one partition. Those that there is one of are attributes, the others are made by a method.

    Raises:
        ConfigurationError: a namespace that would not survive as a hash tag.
    """

    __slots__ = (
        "counts",
        "dead_items",
        "dead_letters",
        "deadlines",
        "delayed",
        "leases",
        "namespace",
        "partition",
        "prefix",
        "pulse",
        "queues",
        "scope",
        "stops",
        "streams",
        "tick",
        "topics",
        "workers",
    )

    def __init__(self, namespace: str, partition: int = 0, database: int = 0) -> None:
        if not namespace or not namespace.isprintable() or any(mark in namespace for mark in "{} "):
            raise ConfigurationError(
                f"{namespace!r} is no namespace: it is part of every key and may have neither braces nor blanks", setting="namespace"
            )
        self.namespace: str = namespace
        self.partition: int = partition
        self.prefix: str = f"{{{namespace}:{partition}}}:"
        self.topics: str = f"{self.prefix}@{database}:" if database else self.prefix
        """what the names of pub/sub channels begin with"""
        self.scope: tuple[str, ...] = (self.prefix,) if self.topics == self.prefix else (self.prefix, self.topics)
        """what every script is given as its KEYS"""
        self.streams: str = f"{self.prefix}streams"
        """set of the stream names that there are"""
        self.delayed: str = f"{self.prefix}delayed"
        """sorted set of messages by the time that they wait for"""
        self.deadlines: str = f"{self.prefix}deadlines"
        """sorted set of runs with a time limit, by its end"""
        self.tick: str = f"{self.prefix}tick"
        """stream that wakes blocked readers, when a delayed message comes in that is due before the others"""
        self.leases: str = f"{self.prefix}leases"
        """sorted set of consumers by the millisecond at which each is taken for dead"""
        self.workers: str = f"{self.prefix}workers"
        """hash of what each consumer says about itself"""
        self.dead_letters: str = f"{self.prefix}dlq"
        """sorted set of dead letters by the millisecond at which each died"""
        self.dead_items: str = f"{self.prefix}dlq:items"
        """hash of their contents"""
        self.counts: str = f"{self.prefix}counts"
        """hash of counters"""
        self.stops: str = f"{self.topics}stops"
        """pub/sub channel: attempts that no longer count"""
        self.pulse: str = f"{self.topics}pulse"
        """pub/sub channel: a worker lives, and what it can do"""
        self.queues: str = f"{self.topics}queues"
        """pub/sub channel: there is a new stream"""

    # ---- keys ----

    def stream(self, name: str) -> str:
        """The stream of a name made by :func:`stream_name`."""
        return f"{self.prefix}q:{name}"

    def plan(self, digest: str) -> str:
        """Hash: a plan, shared by every run of it."""
        return f"{self.prefix}plan:{digest}"

    def run(self, run_id: str) -> str:
        """Hash: the state of a run."""
        return f"{self.prefix}run:{run_id}"

    def results(self, run_id: str) -> str:
        """Hash: the results of a run by node."""
        return f"{self.prefix}res:{run_id}"

    def failed(self, run_id: str) -> str:
        """Sorted set: the top-level nodes of a run that failed, in the order in which they did."""
        return f"{self.prefix}failed:{run_id}"

    def later(self, run_id: str) -> str:
        """Set: what of a run is among the delayed."""
        return f"{self.prefix}later:{run_id}"

    def events(self, run_id: str) -> str:
        """Stream: what happened in a run."""
        return f"{self.prefix}ev:{run_id}"

    def channel(self, run_id: str) -> str:
        """Hash: the values of a run's channel."""
        return f"{self.prefix}ch:{run_id}"

    def channel_ttl(self, run_id: str) -> str:
        """Sorted set: the channel's keys that have a life span, by its end."""
        return f"{self.prefix}cht:{run_id}"

    def value(self, run_id: str, node: int, token: str) -> str:
        """A large result, written before the settle that names it. The run id comes last: it may hold colons, and so may a token, which is quoted."""
        return f"{self.prefix}val:{node}:{quote(token, safe='')}:{run_id}"

    def once(self, operation: str) -> str:
        """The reply to an operation that must not happen twice, for one that is sent again."""
        return f"{self.prefix}once:{operation}"

    def barrier(self, group: str, run_id: str | None = None) -> str:
        """Hash: the state of a barrier, of a run or of none. A run's id may hold colons, so its length in bytes says where it ends."""
        return f"{self.prefix}bar:{group}" if run_id is None else f"{self.prefix}rbar:{len(run_id.encode())}:{run_id}:{group}"

    # ---- pub/sub channels ----

    def inbox(self, engine_id: str) -> str:
        """What an engine process is told."""
        return f"{self.topics}inbox:{engine_id}"

    def told(self, run_id: str) -> str:
        """A run has new events."""
        return f"{self.topics}told:{run_id}"

    def changed(self, run_id: str) -> str:
        """A key of a run's channel was set, whose name is the payload; a lock was freed, a barrier of the run opened; without any, the run ended."""
        return f"{self.topics}changed:{run_id}"

    def door(self, group: str) -> str:
        """A barrier of no run has opened."""
        return f"{self.topics}door:{group}"
