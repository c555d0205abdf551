"""The hash of a run, as the scripts write it, read back: what there is of every node."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

from graflow.backends.redis.blobs import from_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

PAGE: Final = 256
"""nodes in a page; see scripts/state.lua, which this file is the other side of"""
STEPS, STEP_LIMIT, OUT, LIVE, SUSPENSIONS, NEXT, GENERATION, JUMPS, PLANNED = 0, 1, 3, 4, 5, 6, 11, 12, 14
VISITED, EXTRA, PLACELESS, SUSPENDED = 8, 16, 32, 64

_numbers: Final = msgspec.msgpack.Decoder(list[int]).decode
_parts: Final = msgspec.msgpack.Decoder(list[msgspec.Raw]).decode
_any: Final = msgspec.msgpack.Decoder().decode


class Made(NamedTuple):
    """A task made at run time: its maker, scope, branch, id, stream and limit of visits, the makers of its maker, and the task as it was sent."""

    maker: int
    scope: int
    branch: int
    id: str
    stream: str
    max_cycles: int | None
    chain: list[list[Any]]
    task: bytes


class Refusal(NamedTuple):
    """What ``U<node>`` holds of an attempt that workers could not run; see scripts/refusals.lua."""

    cycle: int
    attempt: int
    data: bytes


class Visit(NamedTuple):
    """Visits and attempts of a node, spent retries, and who led to the present visit where no edge did."""

    cycle: int
    attempt: int
    retries: int
    came_from: list[int] | None


def read_made(data: bytes) -> Made:
    """What ``D<node>`` holds."""
    parts = _parts(data)
    maker, scope, branch, name, stream, max_cycles, chain = (_any(parts[place]) for place in (0, 1, 2, 3, 4, 5, 7))
    return Made(maker, scope, branch, name, stream, max_cycles or None, chain or [], from_text(parts[8]))


def spread(runs: Sequence[int]) -> Iterator[int]:
    """The numbers of ranges lo, hi, lo, hi..."""
    for place in range(0, len(runs), 2):
        yield from range(runs[place], runs[place + 1] + 1)


class RunImage:
    """One moment of a run.

    Args:
        fields: the run's hash.
        results: the hash of its results.
    """

    def __init__(self, fields: Mapping[bytes, bytes], results: Mapping[bytes, bytes]) -> None:
        self.fields = fields
        self.state: str = fields[b"st"].decode()
        self.plan: str = fields[b"plan"].decode()
        self.numbers: list[int] = _numbers(fields[b"v"])
        self.count: int = self.numbers[NEXT]
        self.bytes: bytes = self._pages(b"s")
        self.status: bytearray = bytearray(byte % 8 for byte in self.bytes)
        self.results: dict[int, bytes] = {int(node): value for node, value in results.items()}
        self.keys: dict[int, list[int]] = {}
        self.kept: dict[int, list[bytes]] = {}
        self.errors: dict[int, list[msgspec.Raw]] = {}
        self.made: dict[int, Made] = {}
        self.suspended: dict[int, str] = {}
        self.refused: dict[int, Refusal] = {}
        self._read_nodes()
        self.ranges: list[list[int]] = _any(fields[b"R"]) if b"R" in fields else []
        self.end: tuple[str, str, int | None, str] | None = None
        if b"end" in fields:
            status, cause, node, reason = _any(fields[b"end"])
            self.end = (status, cause, None if node is False else node, reason)

    def _pages(self, kind: bytes) -> bytes:
        pages = range((self.count + PAGE - 1) // PAGE)
        return b"".join(self.fields.get(b"%b%d" % (kind, page), b"").ljust(PAGE, b"\0") for page in pages)[: self.count]

    def _read_nodes(self) -> None:
        errors: list[tuple[int, int, list[msgspec.Raw]]] = []
        for name, value in self.fields.items():
            kind, node = name[:1], name[1:]
            if not node.isdigit():
                continue
            if kind == b"E":
                parts = _parts(value)
                errors.append((_any(parts[0]), int(node), parts))
            elif kind == b"K":
                self.keys[int(node)] = list(spread(_any(value)))
            elif kind == b"F":
                self.kept[int(node)] = [from_text(part) for part in _parts(value)]
            elif kind == b"D":
                self.made[int(node)] = read_made(value)
            elif kind == b"U":
                parts = _parts(value)
                self.refused[int(node)] = Refusal(_any(parts[0]), _any(parts[1]), from_text(parts[6]))
            elif kind == b"Z":
                self.suspended[int(node)] = value.decode("utf-8", "surrogateescape")
        self.errors = {node: parts for _, node, parts in sorted(errors, key=lambda entry: entry[0])}

    def visit(self, node: int) -> Visit:
        """How often the node was visited, and how often it was tried."""
        byte = self.bytes[node]
        if byte & EXTRA:
            cycle, attempt, retries, came_from, _ = _any(self.fields[b"N%d" % node])
            return Visit(cycle, attempt, retries, came_from or None)
        visits = 1 if byte & VISITED else 0
        return Visit(visits, visits, 0, None)

    def range_of(self, node: int) -> tuple[int, int] | None:
        """The mapped group that a node is a member of, and its place in it."""
        for low, high, group, place in self.ranges:
            if low <= node <= high:
                return group, place + node - low
        return None
