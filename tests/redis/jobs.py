"""Tasks for worker processes, which find them by their names here. What they do to the world is counted on the server, and so outlives them."""

from __future__ import annotations

import asyncio
import ctypes
import os
import time
from functools import cache

import redis
import redis.asyncio

from graflow import SyncTaskContext, TaskContext, task

ADDRESS = "JOBS_REDIS"
"""the environment variable with the server's URL"""

STARTS = "jobs:starts"
"""list of "<task> <attempt> <pid> <monotonic time>", one for each start"""
ENDS = "jobs:ends"
"""the same for each end"""
GO = "jobs:go"
"""tasks that wait for it go on once something is put in"""


@cache
def server() -> redis.asyncio.Redis:
    return redis.asyncio.Redis.from_url(os.environ[ADDRESS], decode_responses=True, socket_timeout=None)


@cache
def server_for_threads() -> redis.Redis:
    return redis.Redis.from_url(os.environ[ADDRESS], decode_responses=True, socket_timeout=None)


def note(ctx: TaskContext | SyncTaskContext) -> str:
    return f"{ctx.task_id} {ctx.attempt} {os.getpid()} {time.monotonic()}"


async def insist(list_name: str, ctx: TaskContext) -> None:
    """Write it down, also while the server is being restarted."""
    while True:
        try:
            await server().rpush(list_name, note(ctx))
            return
        except redis.RedisError:
            await asyncio.sleep(0.05)


@task
async def nothing() -> None: ...


@task
async def given(number: int) -> int:
    return number


@task
async def last_of_all(ctx: TaskContext) -> None:
    """Ends its run with success, whatever comes after it."""
    ctx.terminate_workflow("enough")


@task
async def short(ctx: TaskContext, number: int = 0) -> int:
    await insist(STARTS, ctx)
    await asyncio.sleep(0.02)
    await insist(ENDS, ctx)
    return number


@task
async def unhurried(ctx: TaskContext, number: int = 0) -> int:
    """Is still under way when something else has happened."""
    await asyncio.sleep(0.2)
    await insist(ENDS, ctx)
    return number


@task
async def patient(ctx: TaskContext) -> str:
    """Runs until it is told to go on."""
    await insist(STARTS, ctx)
    await server().blmove(GO, GO, 0, "LEFT", "LEFT")
    await insist(ENDS, ctx)
    return f"attempt {ctx.attempt}"


@task
def stubborn(ctx: SyncTaskContext) -> str:
    """The same in a thread, which heeds nothing else."""
    server_for_threads().rpush(STARTS, note(ctx))
    server_for_threads().blmove(GO, GO, 0, "LEFT", "LEFT")
    return f"attempt {ctx.attempt}"


@task
def poison(ctx: SyncTaskContext) -> None:
    """Takes its worker with it, when that has begun with all that it was given."""
    server_for_threads().rpush(STARTS, note(ctx))
    time.sleep(0.1)
    os._exit(13)


@task
def greedy(ctx: SyncTaskContext, seconds: int) -> int:
    """Keeps the GIL in one call, as a regular expression does that goes wrong, but for so many seconds on any machine. Returns those left."""
    server_for_threads().rpush(STARTS, note(ctx))
    left: int = ctypes.PyDLL(None).sleep(seconds)
    return left


EXITS = {each.__name__: each for each in (KeyboardInterrupt, SystemExit, GeneratorExit)}


@task
async def leaves(kind: str) -> None:
    raise EXITS[kind]("by itself")


@task
def leaves_thread(kind: str) -> None:
    raise EXITS[kind]("by itself")
