"""The web application of the examples: runs that are started, followed, resumed and stopped over HTTP."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any, NamedTuple

import httpx
import pytest

from examples import fastapi_sse as kitchen
from graflow import testing
from graflow.testing import VirtualEngine


class Event(NamedTuple):
    id: str
    type: str
    data: dict[str, Any]


def parse(stream: str) -> list[Event]:
    fields = [dict(line.split(": ", 1) for line in block.splitlines()) for block in stream.split("\n\n") if block]
    return [Event(each["id"], each["event"], json.loads(each["data"])) for each in fields]


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> VirtualEngine:
    """In the place of the application's own, for nobody to wait while something cooks."""
    engine = testing.engine()
    monkeypatch.setattr(kitchen, "engine", engine)
    return engine


@pytest.fixture
async def client(engine: VirtualEngine) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(kitchen.app)
    async with (
        kitchen.app.router.lifespan_context(kitchen.app),
        httpx.AsyncClient(transport=transport, base_url="http://kitchen", timeout=None) as client,
    ):
        yield client


async def start(client: httpx.AsyncClient, dish: str) -> str:
    response = await client.post("/runs", params={"dish": dish})
    assert response.status_code == 202
    run_id: str = response.json()["run_id"]
    assert run_id.startswith(f"{dish}-")
    return run_id


async def follow(client: httpx.AsyncClient, run_id: str, **headers: str) -> list[Event]:
    response = await client.get(f"/runs/{run_id}/events", headers={name.replace("_", "-"): value for name, value in headers.items()})
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/event-stream")
    return parse(response.text)


async def test_the_events_of_a_run_are_streamed_from_its_start_to_its_end(client: httpx.AsyncClient) -> None:
    events = await follow(client, await start(client, "ramen"))
    assert [event.type for event in events] == ["run_started", "task_started", *["progress"] * 3, "task_succeeded", "run_finished"]
    assert [event.data["message"] for event in events if event.type == "progress"] == [f"ramen, step {n}" for n in (1, 2, 3)]
    assert events[-1].data["status"] == "succeeded"
    assert len({event.id for event in events}) == len(events)


async def test_a_stream_is_resumed_after_the_last_event_that_was_seen(client: httpx.AsyncClient) -> None:
    run_id = await start(client, "ramen")
    events = await follow(client, run_id)
    for seen in range(1, len(events)):
        assert await follow(client, run_id, Last_Event_ID=events[seen - 1].id) == events[seen:]
    assert await follow(client, run_id, Last_Event_ID=events[-1].id) == []


async def test_a_run_can_be_stopped_while_it_is_followed(client: httpx.AsyncClient, engine: VirtualEngine) -> None:
    run_id = await start(client, "stew")
    reader = asyncio.create_task(follow(client, run_id))
    await asyncio.sleep(0.7)
    assert (await client.delete(f"/runs/{run_id}")).status_code == 204
    events = await reader
    assert [event.type for event in events].count("progress") == 1
    assert events[-1].data == {"status": "cancelled", "cause": "cancelled", "reason": "stopped by the guest"}
    handle = await engine.attach(run_id)
    assert await handle.status() == "cancelled"


@pytest.mark.parametrize(("method", "path"), [("GET", "/runs/nowhere/events"), ("DELETE", "/runs/nowhere")])
async def test_a_run_that_nobody_started_is_not_found(client: httpx.AsyncClient, method: str, path: str) -> None:
    response = await client.request(method, path)
    assert response.status_code == 404
    assert "no run 'nowhere' here" in response.json()["detail"]


async def test_an_answer_can_be_waited_for(client: httpx.AsyncClient) -> None:
    assert (await client.post("/dishes", params={"dish": "tea"})).json() == "tea is served"


async def test_a_reader_gets_events_as_they_happen_and_may_hang_up_without_the_run_noticing(
    client: httpx.AsyncClient, engine: VirtualEngine
) -> None:
    run_id = await start(client, "curry")
    chunks: list[str] = []
    gone = asyncio.Event()

    async def receive() -> dict[str, Any]:
        await gone.wait()
        return {"type": "http.disconnect"}

    async def send(message: dict[str, Any]) -> None:
        chunks.append(message.get("body", b"").decode())
        if "step 1" in chunks[-1]:
            gone.set()

    path = f"/runs/{run_id}/events"
    scope = {
        "type": "http",
        "method": "GET",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": [],
        "http_version": "1.1",
    }
    await kitchen.app(scope, receive, send)
    assert [event.type for event in parse("".join(chunks))] == ["run_started", "task_started", "progress"]
    handle = await engine.attach(run_id)
    assert await handle.status() == "running"
    assert (await handle.result()).output == "curry is served"
