"""What the kernel says of processes that it has killed as memory ran out."""

from __future__ import annotations


def out_of_memory_kills() -> int:
    """How many there were so far, in the whole machine; 0 where it does not say. Reads a file: not for the event loop."""
    try:
        with open("/proc/vmstat") as file:
            counts = dict(line.split() for line in file)
    except (OSError, ValueError):
        return 0
    return int(counts.get("oom_kill", 0))
