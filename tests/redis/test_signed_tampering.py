"""Signed code that was tampered with on the server is refused before anything is unpickled, each kind with its reason."""

from __future__ import annotations

import asyncio
import os
import pickle
from collections.abc import AsyncIterator
from typing import Any

import pytest
from blockbuster import BlockBuster

from graflow import TaskContext, TaskWorker, best_effort, parallel, task
from graflow.backends.redis.backend import RedisBackend
from graflow.errors import TaskFailedError, UntrustedPayloadError
from graflow.wire.keys import Claims, Signer
from tests.redis.signed import KEY, SignedSite, made_in, plan_of, with_envelopes
from tests.redis.signed_jobs import one

pytestmark = pytest.mark.usefixtures("no_key_leaks", "no_secret_key")


@pytest.fixture
async def site(redis_url: str) -> AsyncIterator[SignedSite]:
    site = SignedSite(redis_url)
    async with site.engine:
        yield site


async def test_an_altered_envelope_is_refused_before_anything_is_unpickled(site: SignedSite, unpickled: list[str]) -> None:
    handle = await site.engine.submit(task(id="one")(lambda: 1))
    await site.tamper(with_envelopes(lambda found: [found[0][:-40] + bytes([found[0][-40] ^ 1]) + found[0][-39:]]))
    async with site.worker():
        await site.refused(handle, "altered")
    assert unpickled == []


class Attack:
    def __reduce__(self) -> Any:
        return (os.putenv, ("GRAFLOW_TEST_OWNED", "1"))


async def test_a_pickle_in_place_of_an_envelope_is_refused(site: SignedSite, unpickled: list[str]) -> None:
    handle = await site.engine.submit(task(id="one")(lambda: 1))
    await site.tamper(with_envelopes(lambda found: [pickle.dumps(Attack())]))
    async with site.worker():
        await site.refused(handle, "unsigned")
    assert unpickled == []


async def test_a_name_of_signed_code_that_did_not_come_along_is_refused(site: SignedSite, unpickled: list[str]) -> None:
    handle = await site.engine.submit(task(id="one")(lambda: 1))
    await site.tamper(with_envelopes(lambda found: []))
    async with site.worker():
        await site.refused(handle, "unsigned")
    assert unpickled == []


async def test_functions_that_were_swapped_between_two_tasks_are_refused(site: SignedSite, unpickled: list[str]) -> None:
    handle = await site.engine.submit(parallel(task(id="a")(lambda: "a"), task(id="b")(lambda: "b"), name="both", policy=best_effort))
    await site.tamper(with_envelopes(lambda found: found[::-1]))
    async with site.worker():
        result = await handle.result(timeout=20)
    assert {type(error.__cause__) for error in result.errors.values()} == {UntrustedPayloadError}
    assert all("was signed as the function" in str(error) for error in result.errors.values())
    assert [letter.reason for letter in await site.letters.list()] == ["untrusted"] * 2
    assert unpickled == []


async def test_a_signed_function_is_refused_under_another_name(site: SignedSite, unpickled: list[str]) -> None:
    handle = await site.engine.submit(task(id="one")(lambda: 1))
    await site.tamper(lambda blob: blob.replace(b"<signed 0>:tests.", b"<signed 0>:tasty."))
    async with site.worker():
        await site.refused(handle, "swapped")
    assert unpickled == []


async def test_what_another_run_was_sent_is_refused(site: SignedSite, unpickled: list[str]) -> None:
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


async def test_a_replayed_task_of_run_time_is_refused(site: SignedSite, unpickled: list[str]) -> None:
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


async def test_a_signed_policy_that_was_altered_fails_its_group(site: SignedSite, unpickled: list[str]) -> None:
    handle = await site.engine.submit(parallel(one, one.clone("two"), name="both", policy=lambda state: True))
    await site.tamper(with_envelopes(lambda found: [found[0][:-1] + bytes([found[0][-1] ^ 1])]))
    async with site.worker():
        await site.refused(handle, "altered")
    assert unpickled == []


async def test_code_of_another_python_is_not_opened(site: SignedSite, unpickled: list[str]) -> None:
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


async def test_a_child_is_given_nothing_that_was_altered(site: SignedSite, unpickled: list[str], blockbuster: BlockBuster) -> None:
    blockbuster.deactivate()
    handle = await site.engine.submit(task(id="one", handler="process")(lambda: 1))
    await site.tamper(with_envelopes(lambda found: [found[0][:-1] + bytes([found[0][-1] ^ 1])]))
    async with site.worker():
        await site.refused(handle, "altered")
    assert unpickled == []
