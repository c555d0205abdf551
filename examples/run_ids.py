"""Runs with a name: submit is idempotent by run_id, anybody can attach and peek, and what failed can be run again."""

import asyncio

from graflow import RunStatus, WorkflowEngine, task
from graflow.errors import RunConflictError, TaskFailedError, UnknownRunError

disk = {"full": True}


@task
async def dump(database: str) -> str:
    await asyncio.sleep(0.01)
    return f"{database}.dump"


@task
async def store(dump: str) -> str:
    await asyncio.sleep(0.01)
    if disk["full"]:
        raise OSError("no space left")
    return f"/backups/{dump}"


async def main() -> None:
    backup, name, inputs = dump >> store, "nightly-2026-11-21", {"database": "library"}
    async with WorkflowEngine() as engine:
        first = await engine.submit(backup, run_id=name, inputs=inputs)
        second = await engine.submit(backup, run_id=name, inputs=inputs)  # say, by a second cron job
        print(f"created: {first.created}, and then: {second.created}")

        try:
            await engine.submit(backup, run_id=name, inputs={"database": "shop"})
        except RunConflictError as error:
            print(error)

        handle = await engine.attach(name)
        print("now:  ", await handle.status(), dict((await handle.peek()).results))
        try:
            await handle.result()
        except TaskFailedError as error:
            snapshot = await handle.peek()  # never raises for a failed run
            print(f"later: {snapshot.status}, {dict(snapshot.results)}, {error.__cause__}")

        disk["full"] = False
        again = await engine.submit(backup, run_id=name, inputs=inputs, if_exists="rerun_failed")
        assert (await again.result()).status is RunStatus.SUCCEEDED
        print("again:", (await again.peek()).output)

        try:
            await engine.attach("nightly-1999-12-31")
        except UnknownRunError as error:
            print(f"no such run: {error.run_id}")


if __name__ == "__main__":
    asyncio.run(main())
