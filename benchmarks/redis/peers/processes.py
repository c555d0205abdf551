"""What processes use, looked at from outside, so that a worker is measured as it is shipped. Linux only."""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path

PROC = Path("/proc")
ALL_THREADS = 2
"""The clock of what a process used in all its threads, in user mode and in the kernel: what getrusage tells the process itself."""


def family(pid: int) -> list[int]:
    """A process and its descendants, oldest first: some workers have helpers, which are part of the price."""
    found = [pid]
    for parent in found:
        for children in PROC.glob(f"{parent}/task/*/children"):
            with suppress(FileNotFoundError, ProcessLookupError):  # it ended while we looked
                found += map(int, children.read_text().split())
    return found


def cpu_seconds(pid: int) -> float:
    """Seconds of processor time that a process and its descendants have used, to the microsecond."""
    used = 0.0
    for member in family(pid):
        with suppress(OSError):
            used += time.clock_gettime((~member << 3) | ALL_THREADS)
    return used


def resident_bytes(pid: int) -> list[int]:
    """The resident memory of a process and of its descendants, the largest first."""
    sizes = []
    for member in family(pid):
        with suppress(FileNotFoundError, ProcessLookupError):
            lines = (PROC / str(member) / "status").read_text().splitlines()
            sizes += [int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS:")]
    return sorted(sizes, reverse=True)
