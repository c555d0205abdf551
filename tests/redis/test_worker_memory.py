"""What a worker takes, as the system sees it: little when it begins, and little more after plans that are large."""

from __future__ import annotations

from pathlib import Path

import pytest
from blockbuster import BlockBuster

from graflow import TaskGraph, WorkflowEngine, chain, parallel
from graflow.backends.redis.client import RedisClient
from graflow.backends.redis.planstore import MOST_NODES, PlanStore
from graflow.core.compiler import compile_plan
from tests.redis import jobs
from tests.redis.fleet import Fleet
from tests.redis.server import servers

MIB = 2**20
LIMIT = 48 * MIB
WITH_ARGUMENTS = 50 * MIB
"""where each of 20 000 tasks brings arguments of its own: not what is asked for, and what it comes to beside OpenTelemetry, which the examples bring
along and redis-py imports where it is (2 MiB)"""
NODES = 20_000

pytestmark = pytest.mark.parametrize("redis_server", sorted(servers(), reverse=True)[:1], indirect=True)


@pytest.fixture(autouse=True)
def may_block(blockbuster: BlockBuster) -> None:
    """The tests look at processes in ways that block for a moment."""
    blockbuster.deactivate()


def resident(pid: int) -> int:
    """Bytes of memory of a process."""
    return next(int(line.split()[1]) * 1024 for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS:"))


def fan(name: str) -> TaskGraph:
    graph = TaskGraph(name)
    graph.add(parallel(*(jobs.nothing.clone(f"{name}{number}") for number in range(NODES)), name=name))
    return graph


def fan_with_arguments(name: str) -> TaskGraph:
    graph = TaskGraph(name)
    graph.add(parallel(*(jobs.given.clone(f"{name}{number}", number=number) for number in range(NODES)), name=name))
    return graph


def line(name: str, length: int = NODES) -> TaskGraph:
    """As many steps one after the other, of which only the first few are run."""
    graph = TaskGraph(name)
    graph.add(chain(jobs.nothing, jobs.last_of_all, *(jobs.nothing.clone(f"{name}{number}") for number in range(length))))
    return graph


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="only Linux tells in this way")
@pytest.mark.timeout(60)
async def test_a_worker_stays_below_48_mib_whatever_large_plans_it_has_run(fleet: Fleet, engine: WorkflowEngine) -> None:
    [member] = await fleet.start()
    taken = {"idle": resident(member.pid)}
    for graph in (fan("a"), line("b"), fan("c"), line("d"), fan_with_arguments("e")):  # the last leaves what it took with the process
        await engine.execute(graph, timeout=40)
        taken[graph.name] = resident(member.pid)
    told = {name: f"{size / MIB:.1f} MiB" for name, size in taken.items()}
    assert taken.pop("e") < WITH_ARGUMENTS, told
    assert max(taken.values()) < LIMIT, told


async def test_a_large_plan_makes_room_for_the_next_before_that_is_decoded(redis_client: RedisClient) -> None:
    store = PlanStore(redis_client, None)
    keys = await uploaded(redis_client, "one", "two")
    await store.load(keys[0])
    await store.load(keys[1])
    assert store.at_hand(keys[0], "r") is None
    assert store.at_hand(keys[1], "r") is not None


async def test_large_plans_that_are_run_side_by_side_are_not_fetched_in_turns(redis_client: RedisClient) -> None:
    store = PlanStore(redis_client, None)
    keys = await uploaded(redis_client, "one", "two", "three")
    for _ in range(3):
        for key in keys:
            await store.load(key)
    assert None not in [store.at_hand(key, "r") for key in keys]
    assert 3 * NODES < MOST_NODES


async def uploaded(client: RedisClient, *names: str) -> list[str]:
    """The keys of plans that another process has put on the server."""
    sender, keys = PlanStore(client, None), list[str]()
    for name in names:
        plan = compile_plan(line(name))
        keys.append(sender.key_of(plan))
        await sender.upload(plan, keys[-1])
    return keys
