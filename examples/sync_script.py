"""A plain script: def tasks, wf.run(), and no event loop to be seen."""

import zlib
from hashlib import sha256
from pathlib import Path

from graflow import SyncTaskContext, task, workflow


@task
def find(folder: str) -> list[str]:
    return sorted(str(path) for path in Path(folder).glob("*.py"))


@task
def measure(ctx: SyncTaskContext, path: str) -> tuple[str, int, int]:  # runs in threads, several at once
    data = Path(path).read_bytes()
    ctx.channel.atomic_add("bytes", len(data))
    return Path(path).name, len(data), len(zlib.compress(data))


@task
def fingerprint(find: list[str]) -> str:
    return sha256(b"".join(Path(path).read_bytes() for path in find)).hexdigest()[:12]


@task
def report(ctx: SyncTaskContext, measure: list[tuple[str, int, int]], fingerprint: str) -> str:
    largest = max(measure, key=lambda row: row[1])
    saved = 1 - sum(row[2] for row in measure) / ctx.channel.get("bytes")
    return f"{len(measure)} files, the largest is {largest[0]}; zipped they take {saved:.0%} less; fingerprint {fingerprint}"


with workflow("folder report") as wf:
    wf.add(find >> (measure.map(find, limit=4) | fingerprint) >> report)


def main() -> None:
    result = wf.run(inputs={"folder": str(Path(__file__).parent)})
    print(result[report])


if __name__ == "__main__":
    main()
