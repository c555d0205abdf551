"""The scripts that move runs, put together from their parts. Each is given the partition's prefix as ``KEYS[1]``; its ``ARGV`` is told where it begins."""

from __future__ import annotations

from typing import Final

from graflow.backends.redis.scripts import Script

BUDGET: Final = 512
"""units of work that one call may do: attempts put in line, dead paths passed on, members looked at"""

_MACHINE: Final = ("state", "board", "attempts", "rounds", "groups", "directives", "run", "writing", "deadletters")

SUBMIT: Final = Script("submit", *_MACHINE, "submit")
SETTLE: Final = Script("settle", *_MACHINE, "delivering", "settle")
CLAIM: Final = Script("claim", *_MACHINE, "delivering", "claim")
CONTROL: Final = Script("control", *_MACHINE, "control")
REAP: Final = Script("reap", *_MACHINE, "reap")
TELL: Final = Script("tell", *_MACHINE, "tell")
BURY: Final = Script("bury", *_MACHINE, "bury")
ENQUEUE: Final = Script("enqueue", *_MACHINE, "enqueue")
DEQUEUE: Final = Script("dequeue", *_MACHINE, "delivering", "dequeue")
BEAT: Final = Script("beat", "beat")
