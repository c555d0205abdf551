"""The pool by itself, with boxes that are nothing but what they hold: what is made for whom, and how much of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from graflow.handlers.docker.labels import Purpose
from graflow.handlers.docker.pool import Pool


class Box:
    def __init__(self, number: int, mounts: Mapping[str, str]) -> None:
        self.container = f"box {number}"
        self.mounts = mounts

    def fits(self, mounts: Mapping[str, str]) -> bool:
        return mounts.items() <= self.mounts.items()

    def doze(self, died: Callable[[Any], None]) -> None:
        return

    async def wake(self) -> bool:
        return True

    async def close(self) -> None:
        return


class Bin:
    def discard(self, container: str) -> asyncio.Task[None]:
        return asyncio.create_task(asyncio.sleep(0))


class Maker:
    """Makes boxes, in a while; too many are an error, as the pool would otherwise go on for ever."""

    def __init__(self, most: int) -> None:
        self.made = 0
        self.most = most

    async def __call__(self, mounts: Mapping[str, str], purpose: Purpose | None) -> Any:
        self.made += 1
        assert self.made <= self.most, "boxes are made without end"
        await asyncio.sleep(0.001 * (self.made % 3))
        return Box(self.made, mounts)


def pool_of(maker: Maker, *, prewarm: int, reuse: bool) -> Pool:
    bin: Any = Bin()
    return Pool(maker, bin, prewarm=prewarm, reuse=reuse, mounts={})


CALLS = 24


@pytest.mark.parametrize("reuse", [False, True])
@pytest.mark.parametrize("prewarm", [0, 1, 3])
async def test_calls_that_need_different_things_under_one_name_each_get_what_they_need(prewarm: int, reuse: bool) -> None:
    pool = pool_of(Maker(CALLS * (3 + prewarm)), prewarm=prewarm, reuse=reuse)
    pool.open()

    async def call(number: int) -> None:
        needs = {"corp": f"/ns{number % 3}"}
        box = await pool.take(needs, Purpose("run", "task", number))
        assert box.fits(needs)
        await asyncio.sleep(0.002)
        if reuse:
            pool.give(box)
        else:
            pool.drop(box)

    async with asyncio.timeout(5):
        await asyncio.gather(*[call(number) for number in range(CALLS)])
        await pool.close()


async def test_a_call_that_gives_up_leaves_the_others_their_turn() -> None:
    maker = Maker(6)
    pool = pool_of(maker, prewarm=0, reuse=False)
    calls = [asyncio.create_task(pool.take({"corp": f"/ns{n}"}, Purpose("run", "task", n))) for n in range(3)]
    await asyncio.sleep(0)
    calls[0].cancel()
    calls += [asyncio.create_task(pool.take({"corp": f"/ns{n}"}, Purpose("run", "task", n))) for n in range(3, 5)]
    async with asyncio.timeout(5):
        boxes = [await call for call in calls[1:]]
    assert [box.mounts["corp"] for box in boxes] == ["/ns1", "/ns2", "/ns3", "/ns4"]
    await pool.close()
