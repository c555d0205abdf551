"""Child processes: work that holds the GIL side by side, and code that may crash without taking its program along."""

import asyncio
import ctypes
import os

from graflow import SyncTaskContext, WorkflowEngine, at_least_n, parallel, task
from graflow.errors import ChildDiedError, TaskFailedError
from graflow.handlers import ProcessHandler


@task(handler="process")
def count_primes(ctx: SyncTaskContext, start: int, stop: int) -> int:
    found = sum(all(n % d for d in range(2, int(n**0.5) + 1)) for n in range(max(start, 2), stop))
    ctx.channel.atomic_add("primes", found)  # the channel, progress and the log work from there as they do anywhere
    return found


@task
async def total(primes: int) -> str:
    return f"{primes} primes below 20000"


@task(handler="process")
def crash() -> None:
    ctypes.string_at(0)


@task(handler="process")
def leave(code: int) -> None:
    os._exit(code)


def death(error: TaskFailedError) -> str:
    cause = error.__cause__
    assert isinstance(cause, ChildDiedError)
    return cause.signal or f"exit code {cause.exit_code}"


async def main() -> None:
    parts = [count_primes.clone(f"part{n}", start=5000 * n, stop=5000 * (n + 1)) for n in range(4)]
    # A handler of one's own making replaces the one that every engine has.
    async with WorkflowEngine(handlers={"process": ProcessHandler(2, prewarm=2, recycle_calls=100)}) as engine:
        result = await engine.execute(parallel(*parts, name="parts") >> total)
        print(result.output, "in parts of", *result["parts"])

        spare = parallel(crash, leave.bind(code=3), count_primes.clone("well", start=0, stop=10), name="spare")
        result = await engine.execute(spare.with_policy(at_least_n(1)))
        print("well:", result["well"])
        for failed in ("crash", "leave"):
            print(f"{failed}: {death(result.errors[failed])}")


if __name__ == "__main__":  # the children run this file again under another name, for the functions in it
    asyncio.run(main())
