"""The scripts that move runs, put together from their parts.

Each is given the prefix of the partition as ``KEYS[1]``; what its ``ARGV`` is, its file says at the top.
"""

from __future__ import annotations

from typing import Final

from graflow.backends.redis.scripts import Script

BUDGET: Final = 512
"""units of work that one call may do: attempts put in line, dead paths passed on, members looked at"""

MACHINE: Final = (
    "ranges",
    "state",
    "pages",
    "board",
    "{",
    "?bulk",
    "attempts",
    "?rounds",
    "?directives",
    "?groups",
    "run",
    "writing",
    "deadletters",
)
"""the state machine, which a script that moves runs begins with"""

SUBMIT: Final = Script("submit", *MACHINE, "submit")
SETTLE: Final = Script("settle", *MACHINE, "?refusals", "delivering", "settle")
CLAIM: Final = Script("claim", *MACHINE, "?refusals", "delivering", "claim")
CONTROL: Final = Script("control", *MACHINE, "control")
REAP: Final = Script("reap", *MACHINE, "reap")
WANTED: Final = Script("wanted", *MACHINE, "wanted")
TELL: Final = Script("tell", *MACHINE, "tell")
BURY: Final = Script("bury", *MACHINE, "bury")
ENQUEUE: Final = Script("enqueue", *MACHINE, "enqueue")
DEQUEUE: Final = Script("dequeue", *MACHINE, "delivering", "dequeue")
BEAT: Final = Script("beat", "beat")
LOOK: Final = Script("look", "look")
