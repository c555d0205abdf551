"""Tasks that run in containers: what is around them, and what they do to themselves."""

from __future__ import annotations

import asyncio
import ctypes
import logging
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from graflow import RetryPolicy, SyncTaskContext, TaskContext, task


@task(handler="docker")
def double(n: int) -> int:
    print("doubling", n)
    return 2 * n


@task(handler="docker")
async def double_async(n: int) -> int:
    await asyncio.sleep(0)
    return 2 * n


@task(handler="docker")
def python_version() -> list[int]:
    return list(sys.version_info[:2])


@task(handler="docker")
def hostname() -> str:
    """Which container it is: the first half of its id."""
    return socket.gethostname()


@task(handler="docker")
def walls() -> dict[str, Any]:
    """Everything about the container that can be read from within."""
    status = dict(line.split(":\t", 1) for line in Path("/proc/self/status").read_text().splitlines() if ":\t" in line)
    found: dict[str, Any] = {
        "uid": os.getuid(),
        "gid": os.getgid(),
        "groups": os.getgroups(),
        "capabilities": [int(status[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")],
        "no_new_privileges": status["NoNewPrivs"],
        "interfaces": sorted(os.listdir("/sys/class/net")),
        "init": Path("/proc/1/comm").read_text().strip(),
        "limits": {name: _cgroup(name) for name in ("memory", "swap", "pids", "cpu")},
        "mounts": {parts[1]: parts[3].split(",") for line in Path("/proc/mounts").read_text().splitlines() if (parts := line.split())},
        "errors": {},
    }
    for path in ("/here", "/usr/here", "/graflow/here", "/graflow/code/tests/here"):
        try:
            Path(path).write_text("x")
        except OSError as error:
            found["errors"][path] = type(error).__name__ if not error.errno else os.strerror(error.errno)
    Path("/tmp/here").write_text("#!/bin/sh\necho ran\n")
    os.chmod("/tmp/here", 0o755)
    try:
        subprocess.run(["/tmp/here"], check=True)
    except OSError as error:
        found["errors"]["exec"] = type(error).__name__
    try:
        socket.create_connection(("192.0.2.1", 80), timeout=2)
    except OSError as error:
        found["errors"]["connect"] = os.strerror(error.errno or 0)
    return found


def _cgroup(name: str) -> str | None:
    """A limit of the control group, from version 1 or 2 of its files."""
    places = {
        "memory": ("memory/memory.limit_in_bytes", "memory.max"),
        "swap": ("memory/memory.memsw.limit_in_bytes", "memory.swap.max"),
        "pids": ("pids/pids.max", "pids.max"),
        "cpu": ("cpu/cpu.cfs_quota_us", "cpu.max"),
    }
    for place in places[name]:
        path = Path("/sys/fs/cgroup") / place
        if path.exists():
            return path.read_text().strip()
    return None


@task(handler="docker")
def variables() -> dict[str, str]:
    return dict(os.environ)


@task(handler="docker")
def working_directory() -> str:
    return os.getcwd()


@task(handler="docker")
def read_file(path: str) -> str:
    return Path(path).read_text()


@task(handler="docker")
def write_file(path: str, text: str) -> str:
    try:
        Path(path).write_text(text)
    except OSError as error:
        return os.strerror(error.errno or 0)
    return "written"


@task(handler="docker")
def talk(ctx: SyncTaskContext, n: int) -> int:
    """Everything that a context can do, from a container that has no network."""
    before = ctx.channel.get("count", 0)
    with ctx.channel.lock("mutex"):
        ctx.channel.atomic_add("count", n)
    ctx.channel.append("seen", "container")
    ctx.progress(1, 2, "half")
    ctx.emit({"n": n}, name="token")
    logging.getLogger("flows.talk").warning("said %s", n)
    print("printed", n)
    os.write(2, b"from C\n")
    return int(before)


@task(handler="docker")
async def talk_async(ctx: TaskContext, n: int) -> Any:
    await ctx.channel.set("greeting", {"n": n})
    async with ctx.channel.lock("mutex"):
        await ctx.channel.atomic_add("count", n)
    return await ctx.channel.get("greeting")


@task(handler="docker")
def fail(n: int) -> None:
    raise ValueError(f"no {n}")


@task(handler="docker", retry=RetryPolicy(max_retries=2, initial_interval=0.01, jitter=False))
def fail_twice(ctx: SyncTaskContext) -> int:
    if ctx.attempt < 3:
        raise ValueError("not yet")
    return ctx.attempt


@task(handler="docker")
def sleep(seconds: float) -> str:
    time.sleep(seconds)
    return "slept"


@task(handler="docker", timeout=1.0)
def sleep_too_long() -> None:
    time.sleep(60)


@task(handler="docker")
def sleep_after_saying(ctx: SyncTaskContext, seconds: float) -> None:
    ctx.progress(0, 1, socket.gethostname())
    time.sleep(seconds)


@task(handler="docker")
def eat(megabytes: int) -> int:
    return len(bytearray(os.urandom(1 << 20) * megabytes))


@task(handler="docker")
def leave(code: int) -> None:
    os.write(2, b"last words\n")
    os._exit(code)


@task(handler="docker")
def mutter() -> str:
    """As C code does: beside what Python prints."""
    os.write(2, b"for nobody else\n" * 10)
    return "muttered"


@task(handler="docker")
def leave_quietly() -> None:
    os._exit(3)


@task(handler="docker")
def kill_self(number: int) -> None:
    os.kill(os.getpid(), number)
    time.sleep(60)


@task(handler="docker")
def shout(size: int) -> None:
    for _ in range(size // 1000):
        print("x" * 999)


@task(handler="docker")
def shout_in_c(size: int) -> None:
    for _ in range(size // 1000):
        os.write(2, b"x" * 999 + b"\n")
    time.sleep(60)


@task(handler="docker")
def large(size: int) -> bytes:
    return b"x" * size


@task(handler="docker")
def leave_orphans() -> int:
    """Children of children, which somebody has to reap: how many processes are zombies a moment later."""
    for _ in range(5):
        subprocess.run(["sh", "-c", "sh -c 'exit 0' & exit 0"], check=True)
    deadline = time.monotonic() + 10
    while (count := _zombies()) and time.monotonic() < deadline:
        time.sleep(0.01)
    return count


def _zombies() -> int:
    states = []
    for each in Path("/proc").iterdir():
        if each.name.isdecimal():
            try:
                states.append((each / "stat").read_text().rpartition(")")[2].split()[0])
            except OSError:
                continue
    return states.count("Z")


@task(handler="docker")
def fork_bomb() -> int:
    """How many children could be had."""
    children = []
    try:
        while len(children) < 1000:
            children.append(subprocess.Popen(["sleep", "60"]))
    except OSError:
        return len(children)
    finally:
        for child in children:
            child.kill()
    return -1


@task(handler="docker")
def add_up(double: int, local: int) -> int:
    return double + local


@task
def local(n: int) -> int:
    return n + 1


@task(handler="docker")
def sleep_once_for_long(ctx: SyncTaskContext, note: str) -> int:
    """The first attempt never ends by itself."""
    ctx.progress(0, 1, note)
    if ctx.attempt == 1:
        time.sleep(600)
    return ctx.attempt


@task(handler="docker")
def hold_the_interpreter_once(ctx: SyncTaskContext) -> int:
    """The first attempt stays in C code for long, and lets no other thread run meanwhile."""
    hold = ctypes.PyDLL(None).sleep
    ctx.progress(0, 1, socket.gethostname())
    if ctx.attempt == 1:
        hold(600)
    return ctx.attempt


@task
async def from_coroutine(ctx: TaskContext) -> str:
    await ctx.channel.append("who", "coroutine")
    ctx.progress(1, 1, "coroutine")
    return "coroutine"


@task
def from_thread(ctx: SyncTaskContext) -> str:
    ctx.channel.append("who", "thread")
    ctx.progress(1, 1, "thread")
    return "thread"


@task(handler="process")
def from_process(ctx: SyncTaskContext) -> str:
    ctx.channel.append("who", "process")
    ctx.progress(1, 1, "process")
    ctx.logger.warning("here is %s", "process")
    return "process"


@task(handler="docker")
def from_container(ctx: SyncTaskContext) -> str:
    ctx.channel.append("who", "container")
    ctx.progress(1, 1, "container")
    ctx.logger.warning("here is %s", "container")
    return "container"


@task(handler="mine")
async def from_mine(ctx: TaskContext) -> str:
    await ctx.channel.append("who", "mine")
    ctx.progress(1, 1, "mine")
    return "mine"


@task(handler="docker")
def who_was_there(ctx: SyncTaskContext) -> list[str]:
    """In a container again: what all the others have written."""
    return sorted(ctx.channel.get("who"))
