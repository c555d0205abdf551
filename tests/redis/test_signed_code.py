"""Code that cannot be imported: signed by who submits it, verified by who runs it, and refused otherwise at both ends."""

from __future__ import annotations

import asyncio
import os
import pickle
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import msgspec
import pytest
from blockbuster import BlockBuster

from graflow import RetryPolicy, TaskContext, TaskWorker, WorkflowEngine, best_effort, parallel, task
from graflow.backends.redis.backend import RedisBackend
from graflow.core.policy import GroupState
from graflow.errors import FunctionNotFoundError, SerializationError, TaskFailedError, UntrustedPayloadError
from graflow.handlers import CoroutineHandler
from graflow.wire.keys import VARIABLE, Claims, Signer
from graflow.wire.signing import Pickled
from tests.redis.fleet import fleet_of

pytestmark = pytest.mark.usefixtures("no_key_leaks")

KEY = "new:correct-horse-battery-staple"
OLD = "old:the-key-of-the-year-before"
OTHER = "other:somebody-elses-secret-key"


class Site:
    """An engine with a key, and workers with theirs, all of which is in this process but knows nothing of it."""

    def __init__(self, url: str, key: str | None = KEY) -> None:
        self.url = url
        self.backend = self._backend(key)
        self.engine = WorkflowEngine(self.backend)
        self.letters = self.backend.dead_letters

    def _backend(self, key: str | None, **options: Any) -> RedisBackend:
        return RedisBackend(self.url, heart="loop", secret_key=key, **options)

    @asynccontextmanager
    async def worker(self, key: str | None = KEY, grace: float = 0.0) -> AsyncIterator[TaskWorker]:
        async with TaskWorker(self._backend(key, unknown_grace=grace), queues=None, grace=0.0) as worker:
            yield worker

    async def tamper(self, change: Callable[[bytes], bytes]) -> None:
        """Change every plan on the server."""
        commands = self.backend.client.commands
        keys = [key async for key in commands.scan_iter(match="*:plan:*")]
        assert keys
        for key in keys:
            blob = await commands.hget(key, "blob")
            changed = change(blob)
            assert changed != blob
            await commands.hset(key, "blob", changed)

    async def refused(self, handle: Any, reason: str) -> str:
        """That the run fails for that reason, and that its dead letter says so."""
        with pytest.raises(TaskFailedError) as failed:
            await handle.result(timeout=20)
        cause = failed.value.__cause__
        assert isinstance(cause, UntrustedPayloadError), cause
        assert cause.reason == reason
        (letter,) = await self.letters.list()
        assert (letter.reason, letter.run_id) == ("untrusted", handle.run_id)
        assert str(cause) in letter.detail
        return str(cause)


@pytest.fixture(autouse=True)
def no_key_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)


@pytest.fixture
async def site(redis_url: str) -> AsyncIterator[Site]:
    site = Site(redis_url)
    async with site.engine:
        yield site


class Unpickled:
    """What has been looked up for a pickle, as Python's own audit tells it."""

    def __init__(self) -> None:
        self.on = False
        self.names: list[str] = []

    def hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.on and event == "pickle.find_class":
            self.names.append(f"{arguments[0]}.{arguments[1]}")


_hook = Unpickled()
sys.addaudithook(_hook.hear)  # for good: Python knows no other way


@pytest.fixture
def unpickled() -> Iterator[list[str]]:
    _hook.names, _hook.on = [], True
    yield _hook.names
    _hook.on = False


def envelopes_in(blob: bytes) -> list[bytes]:
    found: list[bytes] = msgspec.msgpack.decode(blob)[1]["tables"][3]
    return found


def with_envelopes(change: Callable[[list[bytes]], list[bytes]]) -> Callable[[bytes], bytes]:
    def changed(blob: bytes) -> bytes:
        version, body = msgspec.msgpack.decode(blob)
        body["tables"][3] = change(body["tables"][3])
        return msgspec.msgpack.encode([version, body])

    return changed


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


async def test_a_task_that_a_lambda_makes_at_run_time_runs_too(site: Site) -> None:
    number = 40

    async def last(given: int) -> int:
        return given + number

    async def first(ctx: TaskContext) -> int:
        ctx.next_task(task(id="last")(last).bind(given=2))
        return 1

    async with site.worker():
        result = await site.engine.execute(task(id="first")(first))
    assert result["last"] == 42


async def test_the_members_of_a_mapped_group_are_signed_as_one_task(site: Site) -> None:
    async with site.worker():
        source = task(id="numbers")(lambda: list(range(20)))
        result = await site.engine.execute(source >> task(id="square")(lambda n: n * n).map(source))
    assert result.output == [n * n for n in range(20)]


async def test_policies_and_exception_classes_travel_the_same_way(site: Site) -> None:
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


async def test_the_same_run_submitted_again_is_the_same_run_though_it_was_signed_anew(site: Site) -> None:
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
    from tests.redis.signed_jobs import makes_a_lambda

    async with TaskWorker(RedisBackend(redis_url, heart="loop")), WorkflowEngine(redis_url) as engine:
        with pytest.raises(TaskFailedError, match=VARIABLE) as failed:
            await engine.execute(makes_a_lambda)
    assert isinstance(failed.value.__cause__, FunctionNotFoundError)


async def test_a_key_that_is_being_replaced_is_still_accepted(redis_url: str) -> None:
    site = Site(redis_url, OLD)
    async with site.engine, site.worker(f"{KEY},{OLD}"):
        assert (await site.engine.execute(task(id="one")(lambda: 1))).output == 1


@pytest.mark.parametrize(("key", "reason"), [(None, "no_key"), (OTHER, "unknown_key"), ("new:another-secret-of-the-name", "altered")])
async def test_a_worker_without_the_key_opens_nothing(site: Site, unpickled: list[str], key: str | None, reason: str) -> None:
    handle = await site.engine.submit(task(id="one")(lambda: 1))
    async with site.worker(key):
        told = await site.refused(handle, reason)
    assert VARIABLE in told
    assert unpickled == []


@pytest.mark.parametrize("key", [None, OTHER])
async def test_a_worker_without_the_key_leaves_the_attempt_to_another_for_the_grace(site: Site, key: str | None, caplog: Any) -> None:
    handle = await site.engine.submit(task(id="one")(lambda: 1))
    async with site.worker(key, grace=60.0):
        async with asyncio.timeout(10):
            while "cannot be run here" not in caplog.text:  # noqa: ASYNC110 - the log has no event
                await asyncio.sleep(0.01)
        async with site.worker():
            assert (await handle.result(timeout=20)).output == 1
    assert await site.letters.count() == 0


# ---- tampering -----------------------------------------------------------------------------------------------------


async def test_an_altered_envelope_is_refused_before_anything_is_unpickled(site: Site, unpickled: list[str]) -> None:
    handle = await site.engine.submit(task(id="one")(lambda: 1))
    await site.tamper(with_envelopes(lambda found: [found[0][:-40] + bytes([found[0][-40] ^ 1]) + found[0][-39:]]))
    async with site.worker():
        await site.refused(handle, "altered")
    assert unpickled == []


class Attack:
    def __reduce__(self) -> Any:
        return (os.putenv, ("GRAFLOW_TEST_OWNED", "1"))


async def test_a_pickle_in_place_of_an_envelope_is_refused(site: Site, unpickled: list[str]) -> None:
    handle = await site.engine.submit(task(id="one")(lambda: 1))
    await site.tamper(with_envelopes(lambda found: [pickle.dumps(Attack())]))
    async with site.worker():
        await site.refused(handle, "unsigned")
    assert unpickled == []


async def test_a_name_of_signed_code_that_did_not_come_along_is_refused(site: Site, unpickled: list[str]) -> None:
    handle = await site.engine.submit(task(id="one")(lambda: 1))
    await site.tamper(with_envelopes(lambda found: []))
    async with site.worker():
        await site.refused(handle, "unsigned")
    assert unpickled == []


async def test_functions_that_were_swapped_between_two_tasks_are_refused(site: Site, unpickled: list[str]) -> None:
    handle = await site.engine.submit(parallel(task(id="a")(lambda: "a"), task(id="b")(lambda: "b"), name="both", policy=best_effort))
    await site.tamper(with_envelopes(lambda found: found[::-1]))
    async with site.worker():
        result = await handle.result(timeout=20)
    assert {type(error.__cause__) for error in result.errors.values()} == {UntrustedPayloadError}
    assert all("was signed as the function" in str(error) for error in result.errors.values())
    assert [letter.reason for letter in await site.letters.list()] == ["untrusted"] * 2
    assert unpickled == []


async def test_a_signed_function_is_refused_under_another_name(site: Site, unpickled: list[str]) -> None:
    handle = await site.engine.submit(task(id="one")(lambda: 1))
    await site.tamper(lambda blob: blob.replace(b"<signed 0>:tests.", b"<signed 0>:tasty."))
    async with site.worker():
        await site.refused(handle, "swapped")
    assert unpickled == []


async def test_what_another_run_was_sent_is_refused(site: Site, unpickled: list[str]) -> None:
    one = task(id="one")(lambda: 1)
    async with site.worker():
        first = await site.engine.submit(one, run_id="first")
        await first.result()
    kept = await site.backend.client.commands.hget(site.backend.client.keys.plan(await plan_of(site, "first")), "blob")
    del unpickled[:]
    handle = await site.engine.submit(one, run_id="second")
    place = site.backend.client.keys.plan(await plan_of(site, "second"))
    await site.backend.client.commands.hset(place, "blob", kept)
    async with site.worker():
        await site.refused(handle, "replayed")
    assert unpickled == []


async def plan_of(site: Site, run_id: str) -> str:
    found = await site.backend.client.commands.hget(site.backend.client.keys.run(run_id), "plan")
    return found.decode()


async def made_in(site: Site, run_id: str) -> list[tuple[bytes, bytes]]:
    """The tasks that were made in a run, as they lie on the server."""
    fields = await site.backend.client.commands.hgetall(site.backend.client.keys.run(run_id))
    return [pair for pair in fields.items() if pair[0][:1] == b"D"]


async def test_a_replayed_task_of_run_time_is_refused(site: Site, unpickled: list[str]) -> None:
    """What a task made in one run is put in the place of what the same task made in another."""

    async def first(ctx: TaskContext) -> int:
        ctx.next_task(task(id="last", queue="later")(lambda: 2))
        return 1

    graph = task(id="first")(first)
    commands, keys = site.backend.client.commands, site.backend.client.keys
    made: list[tuple[str, bytes, bytes]] = []
    handles = [await site.engine.submit(graph, run_id=run_id) for run_id in ("one", "two")]
    backend = RedisBackend(site.url, heart="loop", secret_key=KEY, unknown_grace=0.0)
    async with TaskWorker(backend, queues=["default"], grace=0.0), asyncio.timeout(20):
        for run_id in ("one", "two"):
            while not (fields := await made_in(site, run_id)):  # noqa: ASYNC110 - nobody is told of it
                await asyncio.sleep(0.01)
            made.append((run_id, *fields[0]))
    await commands.hset(keys.run("two"), made[1][1], made[0][2])
    del unpickled[:]
    async with site.worker():
        assert (await handles[0].result(timeout=20))["last"] == 2
        await site.refused(handles[1], "replayed")


async def test_a_signed_policy_that_was_altered_fails_its_group(site: Site, unpickled: list[str]) -> None:
    from tests.redis.signed_jobs import one

    handle = await site.engine.submit(parallel(one, one.clone("two"), name="both", policy=lambda state: True))
    await site.tamper(with_envelopes(lambda found: [found[0][:-1] + bytes([found[0][-1] ^ 1])]))
    async with site.worker():
        await site.refused(handle, "altered")
    assert unpickled == []


async def test_code_of_another_python_is_not_opened(site: Site, unpickled: list[str]) -> None:
    def as_if_of_another_python(found: list[bytes]) -> list[bytes]:
        signer = Signer.of(KEY)
        opened = signer.open(found[0], "it")
        claims = Claims(opened.claims.kind, opened.claims.run, opened.claims.owners, opened.claims.name, "3.9")
        return [signer.seal(claims, opened.pickle)]

    handle = await site.engine.submit(task(id="one")(lambda: 1))
    await site.tamper(with_envelopes(as_if_of_another_python))
    async with site.worker():
        with pytest.raises(TaskFailedError, match=r"pickled by Python 3\.9"):
            await handle.result(timeout=20)
    assert (await site.letters.list())[0].reason == "unknown_function"
    assert unpickled == []


# ---- what cannot be sent -------------------------------------------------------------------------------------------


async def test_what_a_closure_holds_and_cannot_travel_is_named_at_submit(site: Site) -> None:
    client = site.backend.client.commands

    async def fetch() -> Any:
        return await client.get("x")

    with pytest.raises(SerializationError, match=r"task fetch: closure variable 'client'\..* is a ") as caught:
        await site.engine.submit(task(fetch))
    assert caught.value.path.startswith("task fetch: closure variable 'client'.")


async def test_a_function_that_cannot_be_put_together_at_the_worker_is_an_unknown_function(site: Site) -> None:
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


class Sending(CoroutineHandler):
    sends_code = True


async def test_code_that_cannot_get_to_a_child_is_refused_at_submit_in_memory_too() -> None:
    async with WorkflowEngine(handlers={"child": Sending()}) as engine:
        with pytest.raises(FunctionNotFoundError, match="'a' cannot be run by a child process"):
            await engine.submit(task(id="a", handler="child")(lambda: 1))
    async with WorkflowEngine(handlers={"child": Sending()}, secret_key=KEY) as engine:
        assert (await engine.execute(task(id="a", handler="child")(lambda: 1))).output == 1


# ---- values --------------------------------------------------------------------------------------------------------


class Model:
    """Neither dataclass nor struct: the codec has no way to send it."""

    def __init__(self, weight: int) -> None:
        self.weight = weight


async def test_values_that_opt_in_go_from_input_to_task_to_channel_to_result(redis_url: str) -> None:
    async def train(ctx: TaskContext, start: Pickled[Model], extra: Pickled[Model]) -> Pickled[Model]:
        await ctx.channel.set("kept", Pickled(Model(start.value.weight + extra.value.weight)))
        return Pickled(Model(100))

    async def use(ctx: TaskContext, train: Pickled[Model]) -> list[Any]:
        kept = await ctx.channel.get("kept")
        return [kept.value.weight, train.value.weight, train]

    site = Site(redis_url)
    async with site.engine, site.worker():
        graph = task(id="train")(train).bind(extra=Pickled(Model(2))) >> task(id="use")(use)
        result = await site.engine.execute(graph, inputs={"start": Pickled(Model(1))})
    assert result.output[:2] == [3, 100]
    assert result.output[2].value.weight == 100
    assert result["train"].value.weight == 100


async def test_a_value_of_another_run_is_refused_unopened(site: Site, unpickled: list[str]) -> None:
    from tests.redis.signed_jobs import opens

    first = await site.engine.submit(opens, inputs={"model": Pickled(Model(1))}, run_id="first")
    second = await site.engine.submit(opens, inputs={"model": Pickled(Model(2))}, run_id="second")
    commands, keys = site.backend.client.commands, site.backend.client.keys
    theirs = await commands.hget(keys.channel("first"), "model")
    await commands.hset(keys.channel("second"), "model", theirs)
    await first.cancel("its value is enough")
    del unpickled[:]
    async with site.worker():
        with pytest.raises(TaskFailedError, match="was signed for run 'first' and is used in 'second'") as failed:
            await second.result(timeout=20)
        assert isinstance(failed.value.__cause__, UntrustedPayloadError)
    assert unpickled == []


async def test_a_bound_value_that_a_worker_has_verified_for_its_run_is_refused_to_another_that_is_given_its_plan(site: Site) -> None:
    from tests.redis.signed_jobs import later, opens

    graph = opens.bind(model=Pickled(Model(1)))
    commands, keys = site.backend.client.commands, site.backend.client.keys
    async with TaskWorker(RedisBackend(site.url, heart="loop", secret_key=KEY), grace=0.0):
        assert (await (await site.engine.submit(graph, run_id="first")).result()).output == "Model"
        second = await site.engine.submit(later, run_id="second")
        ((_, fields),) = await commands.xrange(keys.stream("2:coroutine:later"))
        theirs, ours = await plan_of(site, "first"), await plan_of(site, "second")
        told = fields[b"m"].replace(ours.encode(), theirs.encode())
        await commands.xadd(keys.stream("2:coroutine:default"), {"m": told})  # to the worker that has the plan, and what was made of it
        with pytest.raises(TaskFailedError, match="was signed for run 'first' and is used in 'second'"):
            await second.result(timeout=20)
        await commands.delete(keys.stream("2:coroutine:later"))


async def test_without_a_key_a_value_does_not_leave(redis_url: str) -> None:
    from tests.redis.signed_jobs import opens

    async with WorkflowEngine(redis_url) as engine:
        with pytest.raises(SerializationError, match=rf'inputs\["model"\].*set {VARIABLE}'):
            await engine.submit(opens, inputs={"model": Pickled(Model(1))})
