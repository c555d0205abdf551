"""Events: progress, messages of a task's own, and following a run from its start or from where one left off."""

import asyncio

from graflow import SyncTaskContext, TaskContext, WorkflowEngine, task

TEXT = "The owl and the pussycat went to sea in a beautiful pea-green boat"


@task
def scan(ctx: SyncTaskContext, pages: int) -> int:
    for page in range(1, pages + 1):
        ctx.progress(page, pages, f"page {page}")  # from a thread just as well
    return pages


@task
async def recite(ctx: TaskContext, scan: int) -> int:
    for word in TEXT.split():
        await asyncio.sleep(0.001)
        ctx.emit(word, name="word")  # one token of a stream
    return len(TEXT.split())


async def main() -> None:
    async with WorkflowEngine() as engine:
        handle = await engine.submit(scan >> recite, inputs={"pages": 3})
        last = ""
        async for event in handle.events():
            match event.type:
                case "progress":
                    done, total = event.data["done"], event.data["total"]
                    print(f"{event.task_id}: {'#' * done}{'.' * (total - done)} {event.data['message']}")
                case "message":
                    print(event.data["data"], end=" ", flush=True)
                    if event.data["data"] == "sea":
                        last = event.id
                        break  # the reader goes away; the run goes on

        print("\n... and, picking up after event", last)
        async for event in handle.events(after=last):
            if event.type == "message":
                print(event.data["data"], end=" ")
            elif event.type == "run_finished":  # the last one
                print(f"\n{event.data['status']}, {(await handle.result())[recite]} words")


if __name__ == "__main__":
    asyncio.run(main())
