"""Values that opt in: signed for their run, and opened by who asks for them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from graflow import TaskContext, TaskWorker, WorkflowEngine, task
from graflow.backends.redis.backend import RedisBackend
from graflow.errors import SerializationError, TaskFailedError, UntrustedPayloadError
from graflow.wire.keys import VARIABLE
from graflow.wire.signing import Pickled
from tests.redis.signed import KEY, SignedSite, plan_of
from tests.redis.signed_jobs import later, opens

pytestmark = pytest.mark.usefixtures("no_key_leaks", "no_secret_key")


@pytest.fixture
async def site(redis_url: str) -> AsyncIterator[SignedSite]:
    site = SignedSite(redis_url)
    async with site.engine:
        yield site


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

    site = SignedSite(redis_url)
    async with site.engine, site.worker():
        graph = task(id="train")(train).bind(extra=Pickled(Model(2))) >> task(id="use")(use)
        result = await site.engine.execute(graph, inputs={"start": Pickled(Model(1))})
    assert result.output[:2] == [3, 100]
    assert result.output[2].value.weight == 100
    assert result["train"].value.weight == 100


async def test_a_value_of_another_run_is_refused_unopened(site: SignedSite, unpickled: list[str]) -> None:
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


async def test_a_bound_value_that_a_worker_has_verified_for_its_run_is_refused_to_another_that_is_given_its_plan(site: SignedSite) -> None:
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
    async with WorkflowEngine(redis_url) as engine:
        with pytest.raises(SerializationError, match=rf'inputs\["model"\].*set {VARIABLE}'):
            await engine.submit(opens, inputs={"model": Pickled(Model(1))})
