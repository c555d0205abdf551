from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator

import pytest

from graflow import WorkflowEngine, task
from graflow.backends.redis.backend import RedisBackend
from graflow.backends.redis.scripts.runs import BUDGET, REAP
from tests.cli.conftest import Command, Ran
from tests.redis.server import RedisServer, find_server

STREAM = "2:coroutine:default"

Dlq = Callable[..., Ran]


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    if find_server() is None:
        pytest.skip("no redis-server on this machine")
    with RedisServer() as server:
        yield server


@pytest.fixture
def dlq(graflow: Command, server: RedisServer) -> Dlq:
    server.command("FLUSHALL")
    return lambda *arguments: graflow("dlq", *arguments, "--redis", server.url)


@task
async def job() -> None: ...


def bury(url: str, run_id: str, number: int = 1) -> None:
    """Have runs fail whose only task loses its worker."""

    async def bury() -> None:
        backend = RedisBackend(url, heart="loop")
        async with WorkflowEngine(backend) as engine:
            for place in range(number):
                await engine.submit(job, run_id=f"{run_id}-{place}")
                key = backend.client.keys.stream(STREAM)
                await backend.client.commands.xreadgroup("g", "nobody", {key: ">"})
                await backend.client.call(REAP, (0, BUDGET, 0, 100))

    asyncio.run(bury())


def ids(dlq: Dlq) -> list[str]:
    return [letter["id"] for letter in json.loads(dlq("--json").out)["letters"]]


def test_an_empty_list_says_so(dlq: Dlq) -> None:
    assert (dlq().code, dlq().out, dlq().err) == (0, "no dead letters\n", "")


def test_letters_are_listed_the_newest_first(dlq: Dlq, server: RedisServer) -> None:
    bury(server.url, "night", 3)
    lines = dlq("list").out.splitlines()
    assert lines[0].split() == ["id", "reason", "age", "queue", "run", "task"]
    assert [line.split()[1:] for line in lines[2:]] == [["lost_workers", "0s", "default", f"night-{n}", "job"] for n in (2, 1, 0)]
    assert dlq("--limit", "2").out.splitlines()[-1] == "2 of 3; more with --offset 2"
    assert dlq("--offset", "5").out == "3 dead letters, none of them after 5\n"


def test_json_has_the_letters_and_the_counters(dlq: Dlq, server: RedisServer) -> None:
    bury(server.url, "night")
    told = json.loads(dlq("--json").out)
    assert told["count"] == 1
    assert told["counters"]["dlq_sent"] == 1
    (letter,) = told["letters"]
    assert (letter["reason"], letter["run_id"], letter["task"], letter["attempt"]) == ("lost_workers", "night-0", "job", 1)
    assert json.loads(dlq("show", letter["id"], "--json").out) == letter


def test_a_letter_is_shown_with_its_bytes(dlq: Dlq, server: RedisServer) -> None:
    bury(server.url, "night")
    (id,) = ids(dlq)
    shown = dlq("show", id).out
    for text in (f"id       {id}", "detail   1 workers ended while they ran it", "run      night-0", "attempt  1", "night-0"):
        assert text in shown


def test_what_cannot_be_put_in_line_says_what_to_do(dlq: Dlq, server: RedisServer) -> None:
    bury(server.url, "night")
    ran = dlq("redrive", *ids(dlq))
    assert (ran.code, ran.out) == (2, "")
    assert ran.complaint == (
        "run 'night-0' has ended (failed), so 'job' is not put in line; submit it again with if_exists=\"rerun_failed\""
    )


def test_what_could_not_be_read_is_put_in_line(dlq: Dlq, server: RedisServer) -> None:
    bury(server.url, "night")
    (id,) = ids(dlq)

    async def spoil() -> None:
        backend = RedisBackend(server.url)
        await backend.open()
        keys, commands = backend.client.keys, backend.client.commands
        item = await commands.hget(keys.dead_items, id)  # type: ignore[misc]
        await commands.hset(keys.dead_items, id, item.replace(b"\x99\x01", b"\x99\x07"))  # type: ignore[misc]
        await backend.close()

    asyncio.run(spoil())
    assert (dlq("redrive", id).code, dlq().out) == (0, "no dead letters\n")
    assert dlq("redrive", id).code == 2


def test_letters_are_purged(dlq: Dlq, server: RedisServer) -> None:
    bury(server.url, "night", 4)
    assert dlq("purge", ids(dlq)[0]).out == "1 letter dropped\n"
    assert dlq("purge", "--older-than", "1h").out == "0 letters dropped\n"
    assert json.loads(dlq("purge", "--older-than", "0s", "--json").out) == {"purged": 3}
    assert dlq("purge", "--all").out == "0 letters dropped\n"


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["show"], "show takes the id of one letter; graflow dlq list shows them"),
        (["redrive"], "redrive takes the ids of letters; graflow dlq list shows them"),
        (["purge"], "purge takes ids, --older-than TIME or --all: one of the three"),
        (["purge", "1-1", "--all"], "purge takes ids, --older-than TIME or --all: one of the three"),
        (["purge", "--older-than", "soon"], "--older-than soon: write a number and a unit, such as 90s, 30m, 12h or 3d"),
        (["list", "1-1"], "list takes no ids; for one letter: graflow dlq show 1-1"),
        (["show", "1-1", "--all"], "--older-than and --all are for purge; show takes ids"),
        (["show", "1-1"], "there is no dead letter '1-1', or none any more; graflow dlq list shows those that there are"),
        (["purge", "1-1"], "there is no dead letter '1-1', or none any more; graflow dlq list shows those that there are"),
    ],
)
def test_a_mistake_is_one_line(dlq: Dlq, arguments: list[str], complaint: str) -> None:
    ran = dlq(*arguments)
    assert (ran.code, ran.out, ran.complaint) == (2, "", complaint)


def test_a_server_that_is_not_there_is_one_line(graflow: Command) -> None:
    ran = graflow("dlq", "--redis", "redis://localhost:1/0")
    assert (ran.code, ran.out) == (2, "")
    assert ran.complaint.startswith("Redis at localhost:1 does not answer")


def test_memory_has_no_dead_letters(graflow: Command) -> None:
    ran = graflow("dlq", "--redis", "memory://")
    assert (ran.code, ran.complaint) == (
        2,
        "memory:// has no dead letters; give the URL of a server, such as redis://localhost:6379/0",
    )
