"""A worker in a process of its own: ``python -m tests.docker.worker URL ENGINE IMAGE [ID]``."""

from __future__ import annotations

import asyncio
import sys

from graflow import TaskWorker
from graflow.handlers import DockerHandler


async def main(url: str, engine: str, image: str, worker_id: str | None = None) -> None:
    handler = DockerHandler(image, host=engine, pull="never", memory="64m", concurrency=8, prewarm=2, packages=["tests"])
    async with TaskWorker(url, handlers={"docker": handler}, worker_id=worker_id):
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
