"""On workers: the same workflow over Redis, with its tasks in other processes, or in this one too.

Needs `pip install 'graflow[redis]'` and a server: GRAFLOW_REDIS_URL, or the one on this machine. More hands, in any number and on any machine:

    cd examples && graflow-aworker --app quickstart
"""

import asyncio
import os
from uuid import uuid4

from quickstart import report, wf  # a worker finds tasks by the module that they are in, so that is not this script

from graflow import WorkflowEngine

URL = os.environ.get("GRAFLOW_REDIS_URL", "redis://localhost:6379/0")


async def main() -> None:
    run_id = f"weather-{uuid4().hex[:8]}"
    async with WorkflowEngine(URL) as engine:  # runs nothing itself
        handle = await engine.submit(wf, inputs={"city": "Oslo"}, run_id=run_id)
        print("submitted:", (await handle.peek()).status.value)
    print("the run is on the server, and this process may end")

    async with WorkflowEngine(URL, embedded_worker=True) as engine:  # any process, any time; here with a worker in it
        handle = await engine.attach(run_id)
        async for event in handle.events():
            if event.type == "task_succeeded":
                print("  done:", event.task_id)
        result = await handle.result()
        print(result[report])


if __name__ == "__main__":
    asyncio.run(main())
