"""Who is measured: how each is installed, which program plays its client, and how its worker is started."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

PROGRAMS = Path(__file__).parent / "peers"


@dataclass(frozen=True)
class Contender:
    """One of those that are compared.

    Attributes:
        program: the file in ``peers`` that plays the client.
        worker: the command that starts one worker process; its first word is a program of the contender's environment.
        requirements: what its environment has, as pip is told; empty for what lives in the environment of the benchmark.
        package: the distribution whose version is shown.
    """

    name: str
    program: str
    worker: tuple[str, ...]
    package: str
    requirements: tuple[str, ...] = ()

    @property
    def is_peer(self) -> bool:
        return bool(self.requirements)


GRAFLOW = Contender(
    "graflow",
    "with_graflow.py",
    ("graflow-aworker", "--app", "benchmarks.redis.jobs", "--redis", "{url}", "--log-level", "WARNING"),
    package="graflow",
)
BARE = Contender("bare", "bare.py", ("python", "bare.py", "worker"), package="redis")
PEERS = {
    peer.name: peer
    for peer in (
        Contender(
            "arq",
            "with_arq.py",
            ("arq", "with_arq.WorkerSettings", "--custom-log-dict", "with_arq.LOGGING"),
            package="arq",
            requirements=("arq", "hiredis", "uvloop"),
        ),
        Contender(
            "saq",
            "with_saq.py",
            ("saq", "with_saq.settings"),
            package="saq",
            requirements=("saq[redis,hiredis]", "typing_extensions", "uvloop"),  # it imports typing_extensions and does not say so
        ),
        Contender(
            "streaq",
            "with_streaq.py",
            ("streaq", "run", "with_streaq:worker"),
            package="streaq",
            requirements=("streaq", "uvloop"),
        ),
        Contender(
            "taskiq-redis",
            "with_taskiq.py",
            ("taskiq", "worker", "with_taskiq:broker", "--workers", "1", "--log-level", "WARNING"),
            package="taskiq-redis",
            requirements=("taskiq-redis", "taskiq", "hiredis", "uvloop"),
        ),
    )
}
