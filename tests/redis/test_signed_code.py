"""Code that cannot be imported: signed by who submits it, verified by who runs it, and refused otherwise at both ends."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import pytest
from blockbuster import BlockBuster

from graflow import RetryPolicy, TaskContext, TaskWorker, WorkflowEngine, parallel, task
from graflow.backends.redis.backend import RedisBackend
from graflow.core.policy import GroupState
from graflow.errors import FunctionNotFoundError, SerializationError, TaskFailedError
from graflow.handlers import CoroutineHandler
from graflow.wire.keys import VARIABLE
from graflow.worker.main import main
from tests.redis.fleet import fleet_of
from tests.redis.signed import KEY, OLD, OTHER, SignedSite
from tests.redis.signed_jobs import makes_a_lambda

pytestmark = pytest.mark.usefixtures("no_key_leaks", "no_secret_key")


@pytest.fixture
async def site(redis_url: str) -> AsyncIterator[SignedSite]:
    site = SignedSite(redis_url)
    async with site.engine:
        yield site


class Adder:
    def __init__(self, number: int) -> None:
        self.number = number

    def __call__(self, n: int) -> int:
        return self.number + n


def made_here(number: int) -> Any:
    async def local(ctx: TaskContext, n: int) -> list[Any]:
        return [number + n, ctx.task_id]

    return local


def add(a: int, n: int) -> int:
    return a + n


# ---- it runs -------------------------------------------------------------------------------------------------------


async def test_what_cannot_be_imported_runs_on_worker_processes(
    redis_url: str, monkeypatch: pytest.MonkeyPatch, blockbuster: BlockBuster
) -> None:
    blockbuster.deactivate()  # the fleet looks for its processes
    me = os.getpid()
    objects = type("Local", (), {"__call__": lambda self, n: n * 100})
    members = [
        task(id="lambda")(lambda n: n + 1),
        task(id="closure")(made_here(10)),
        task(id="partial")(partial(add, 100)),
        task(id="object")(Adder(1000)),
        task(id="class")(objects()),
        task(id="elsewhere")(lambda n: os.getpid() != me),
    ]
    monkeypatch.setenv(VARIABLE, KEY)
    async with fleet_of(redis_url) as fleet, WorkflowEngine(redis_url) as engine:
        await fleet.start(number=2)
        result = await engine.execute(parallel(*members), inputs={"n": 5})
    assert result.output == [6, [15, "closure"], 105, 1005, 500, True]


async def test_a_task_that_a_lambda_makes_at_run_time_runs_too(site: SignedSite) -> None:
    number = 40

    async def last(given: int) -> int:
        return given + number

    async def first(ctx: TaskContext) -> int:
        ctx.next_task(task(id="last")(last).bind(given=2))
        return 1

    async with site.worker():
        result = await site.engine.execute(task(id="first")(first))
    assert result["last"] == 42


async def test_the_members_of_a_mapped_group_are_signed_as_one_task(site: SignedSite) -> None:
    async with site.worker():
        source = task(id="numbers")(lambda: list(range(20)))
        result = await site.engine.execute(source >> task(id="square")(lambda n: n * n).map(source))
    assert result.output == [n * n for n in range(20)]


async def test_policies_and_exception_classes_travel_the_same_way(site: SignedSite) -> None:
    class Flaky(Exception): ...

    async def fails_once(ctx: TaskContext) -> str:
        if ctx.attempt == 1:
            raise Flaky
        return "well"

    def enough(state: GroupState) -> bool:
        return len(state.succeeded) >= 1

    async def broken() -> None:
        raise ValueError

    flaky = task(id="flaky", retry=RetryPolicy(1, initial_interval=0, retry_on=Flaky))(fails_once)
    async with site.worker():
        result = await site.engine.execute(parallel(flaky, task(id="broken")(broken), name="both", policy=enough))
    assert result["flaky"] == "well"


async def test_the_same_run_submitted_again_is_the_same_run_though_it_was_signed_anew(site: SignedSite) -> None:
    one = task(id="one")(lambda: 1)
    first = await site.engine.submit(one, run_id="nightly")
    again = await site.engine.submit(one, run_id="nightly")
    assert (first.created, again.created) == (True, False)
    async with site.worker():
        assert (await again.result()).output == 1


async def test_a_key_may_be_given_to_engine_and_worker_in_code(redis_url: str) -> None:
    async with (
        TaskWorker(RedisBackend(redis_url, heart="loop"), secret_key=KEY),
        WorkflowEngine(redis_url, secret_key=KEY) as engine,
    ):
        assert (await engine.execute(task(id="one")(lambda: 1))).output == 1


# ---- keys ----------------------------------------------------------------------------------------------------------


async def test_without_a_key_it_fails_when_it_is_submitted_and_says_both_ways_out(redis_url: str) -> None:
    async with WorkflowEngine(redis_url) as engine:
        with pytest.raises(FunctionNotFoundError, match=rf"define it with def at the top level of a module .* or set {VARIABLE}"):
            await engine.submit(task(id="one")(lambda: 1))


async def test_a_task_made_at_run_time_without_a_key_fails_its_maker(redis_url: str) -> None:
    async with TaskWorker(RedisBackend(redis_url, heart="loop")), WorkflowEngine(redis_url) as engine:
        with pytest.raises(TaskFailedError, match=VARIABLE) as failed:
            await engine.execute(makes_a_lambda)
    assert isinstance(failed.value.__cause__, FunctionNotFoundError)


async def test_a_key_that_is_being_replaced_is_still_accepted(redis_url: str) -> None:
    site = SignedSite(redis_url, OLD)
    async with site.engine, site.worker(f"{KEY},{OLD}"):
        assert (await site.engine.execute(task(id="one")(lambda: 1))).output == 1


async def test_who_has_no_key_can_follow_and_read_a_run_whose_code_is_signed(
    site: SignedSite, redis_url: str, unpickled: list[str]
) -> None:
    await site.engine.submit(task(id="numbers")(lambda: [1, 2]), run_id="nightly")
    async with WorkflowEngine(redis_url) as other:
        handle = await other.attach("nightly")
        assert (await handle.peek()).status == "running"
        assert unpickled == []
        async with site.worker():
            assert (await handle.result(timeout=20))["numbers"] == [1, 2]
        told = [event.task_id async for event in handle.events() if event.type == "task_succeeded"]
    assert told == ["numbers"]


def test_a_worker_process_with_a_key_that_is_too_short_ends_with_one_line(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setenv(VARIABLE, "short")
    with pytest.raises(SystemExit) as ended:
        main(["--redis", "redis://localhost:1/0"])
    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"graflow-aworker: {VARIABLE}: the key has 5 bytes, and needs 32 or more; make one with")


@pytest.mark.parametrize(
    ("key", "reason"), [(None, "no_key"), (OTHER, "unknown_key"), ("new:another-secret-of-the-same-name-as-that", "altered")]
)
async def test_a_worker_without_the_key_opens_nothing(site: SignedSite, unpickled: list[str], key: str | None, reason: str) -> None:
    handle = await site.engine.submit(task(id="one")(lambda: 1))
    async with site.worker(key):
        told = await site.refused(handle, reason)
    assert VARIABLE in told
    assert unpickled == []


@pytest.mark.parametrize("key", [None, OTHER])
async def test_a_worker_without_the_key_leaves_the_attempt_to_another_for_the_grace(site: SignedSite, key: str | None, caplog: Any) -> None:
    handle = await site.engine.submit(task(id="one")(lambda: 1))
    async with site.worker(key, grace=60.0):
        async with asyncio.timeout(10):
            while "cannot be run here" not in caplog.text:  # noqa: ASYNC110 - the log has no event
                await asyncio.sleep(0.01)
        async with site.worker():
            assert (await handle.result(timeout=20)).output == 1
    assert await site.letters.count() == 0


# ---- what cannot be sent -------------------------------------------------------------------------------------------


async def test_what_a_closure_holds_and_cannot_travel_is_named_at_submit(site: SignedSite) -> None:
    client = site.backend.client.commands

    async def fetch() -> Any:
        return await client.get("x")

    with pytest.raises(SerializationError, match=r"task fetch: closure variable 'client'\..* is a ") as caught:
        await site.engine.submit(task(fetch))
    assert caught.value.path.startswith("task fetch: closure variable 'client'.")


async def test_a_function_that_cannot_be_put_together_at_the_worker_is_an_unknown_function(site: SignedSite) -> None:
    class Breaks:
        def __reduce__(self) -> Any:
            return (int, ("no number",))

        def __call__(self) -> None: ...

    handle = await site.engine.submit(task(id="one")(Breaks()))
    async with site.worker():
        with pytest.raises(TaskFailedError, match="signed pickle, which cannot be opened here: ValueError"):
            await handle.result(timeout=20)
    assert (await site.letters.list())[0].reason == "unknown_function"


# ---- handlers that send code ---------------------------------------------------------------------------------------


async def test_signed_code_reaches_child_processes_of_a_worker_and_of_an_engine_in_memory(
    site: SignedSite, blockbuster: BlockBuster
) -> None:
    blockbuster.deactivate()  # a child is started
    number, me = 40, os.getpid()

    def add(n: int) -> list[Any]:
        return [number + n, os.getpid() != me]

    added = task(id="added", handler="process")(add)
    async with site.worker():
        assert (await site.engine.execute(added, inputs={"n": 2})).output == [42, True]
    async with WorkflowEngine(secret_key=KEY) as engine:
        assert (await engine.execute(added, inputs={"n": 2})).output == [42, True]
    async with WorkflowEngine() as engine:
        with pytest.raises(FunctionNotFoundError, match=f"'added' cannot be run by a process or container of its own.*{VARIABLE}"):
            await engine.submit(added, inputs={"n": 2})


class Sending(CoroutineHandler):
    sends_code = True


async def test_code_that_cannot_get_to_a_child_is_refused_at_submit_in_memory_too() -> None:
    async with WorkflowEngine(handlers={"child": Sending()}) as engine:
        with pytest.raises(FunctionNotFoundError, match="'a' cannot be run by a process or container of its own"):
            await engine.submit(task(id="a", handler="child")(lambda: 1))
    async with WorkflowEngine(handlers={"child": Sending()}, secret_key=KEY) as engine:
        assert (await engine.execute(task(id="a", handler="child")(lambda: 1))).output == 1
