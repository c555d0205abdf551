"""Runs over HTTP, with their events as server-sent events, which browsers resume by themselves: uvicorn examples.fastapi_sse:app"""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import uuid4

from fastapi import FastAPI, Header
from fastapi.responses import JSONResponse, StreamingResponse

from graflow import RunHandle, TaskContext, WorkflowEngine, task
from graflow.errors import UnknownRunError

engine = WorkflowEngine()


@task
async def cook(ctx: TaskContext, dish: str) -> str:
    for step in range(1, 4):
        await asyncio.sleep(0.5)
        ctx.progress(step, 3, f"{dish}, step {step}")
    return f"{dish} is served"


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with engine:  # as long as the application runs
        yield


app = FastAPI(title="Kitchen", lifespan=lifespan)
app.add_exception_handler(UnknownRunError, lambda request, error: JSONResponse({"detail": str(error)}, 404))


async def stream(handle: RunHandle, after: str | None = None) -> AsyncIterator[str]:
    async for event in handle.events(after=after):
        yield f"id: {event.id}\nevent: {event.type}\ndata: {json.dumps(dict(event.data))}\n\n"


@app.post("/runs", status_code=202)
async def start(dish: str) -> dict[str, str]:
    return {"run_id": (await engine.submit(cook, run_id=f"{dish}-{uuid4().hex[:8]}", inputs={"dish": dish})).run_id}


@app.get("/runs/{run_id}/events")
async def follow(run_id: str, last_event_id: str | None = Header(None)) -> StreamingResponse:
    return StreamingResponse(stream(await engine.attach(run_id), last_event_id), media_type="text/event-stream")  # readers come and go


@app.delete("/runs/{run_id}", status_code=204)
async def stop(run_id: str) -> None:
    await (await engine.attach(run_id)).cancel("stopped by the guest")  # returns when its tasks have stopped


@app.post("/dishes")
async def dine(dish: str) -> str:
    async with await engine.submit(cook, inputs={"dish": dish}) as handle:  # however this block is left, the run does not go on after it
        return (await handle.result(timeout=10)).output
