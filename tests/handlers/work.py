"""Tasks that run in children: they must be importable there."""

from __future__ import annotations

import ctypes
import enum
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from typing import Any

from graflow import RetryLater, RetryPolicy, RunStatus, SyncTaskContext, TaskContext, TypedChannel, task
from graflow.wire.functions import register
from graflow.wire.signing import Pickled


class Colour(enum.Enum):
    RED = "red"


@dataclass
class Point:
    x: int
    y: list[int]


class Declined(Exception):
    def __init__(self, card: str, *, reason: str) -> None:
        super().__init__(f"{card}: {reason}")
        self.reason = reason


@task(handler="process")
def add(a: int, b: int = 1) -> int:
    return a + b


@task(handler="process")
def positional(a: int, b: int = 5, /, *, c: int = 7) -> list[int]:
    return [a, b, c]


@task(handler="process")
async def add_async(a: int, b: int = 1) -> int:
    return a + b


@task(handler="process")
def who() -> int:
    return os.getpid()


@task(handler="process")
def echo(value: Any) -> Any:
    return value


@task(handler="process")
def point(value: Point) -> Point:
    return Point(value.x + 1, [*value.y, value.x])


@task(handler="process")
async def use_channel(ctx: TaskContext) -> list[Any]:
    await ctx.channel.set("tuple", (1, 2))
    await ctx.channel.append("list", 1, Colour.RED)
    async with ctx.channel.lock("l", wait=1.0):
        await ctx.channel.atomic_add("n", 2)
    counted = TypedChannel(ctx.channel, int)
    return [await ctx.channel.get("tuple"), await ctx.channel.get("missing", 7), await counted.get("n"), await ctx.channel.keys()]


@task(handler="process")
def use_channel_blocking(ctx: SyncTaskContext) -> list[Any]:
    ctx.channel.set("tuple", (1, 2))
    ctx.channel.append("list", 1, Colour.RED)
    with ctx.channel.lock("l", wait=1.0):
        ctx.channel.atomic_add("n", 2)
    return [ctx.channel.get("tuple"), ctx.channel.get("missing", 7), ctx.channel.get("n"), ctx.channel.keys()]


@task(handler="process")
def asks_from_threads(ctx: SyncTaskContext) -> int:
    threads = [threading.Thread(target=ctx.channel.atomic_add, args=("n", 1)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    total: int = ctx.channel.get("n")
    return total


@task(handler="process")
def wrong_append(ctx: SyncTaskContext) -> None:
    ctx.channel.set("k", 1)
    ctx.channel.append("k", 2)


@task(handler="process")
def tells(ctx: SyncTaskContext) -> str:
    ctx.progress(1, 2, "half")
    ctx.emit({"t": (1, 2)}, name="token")
    ctx.logger.warning("seen %d", 3, extra={"shop": "north"})
    logging.getLogger("shop").error("broken", extra={"colour": Colour.RED, "odd": object()})
    print("printed, with", "umlaut ä")
    print("no end of line", end="")
    os.write(1, b"from C\n")
    subprocess.run([sys.executable, "-c", "print('from a child')"], check=True)
    return ctx.idempotency_key


@task(handler="process")
def reads_result(ctx: SyncTaskContext) -> Any:
    return ctx.result_of("add"), ctx.attempt, ctx.cycle, ctx.task_id, ctx.workflow


@task(handler="process", max_cycles=5)
def counts(ctx: SyncTaskContext, n: int = 0) -> int:
    if n < 3:
        ctx.next_iteration(n + 1)
    return n


@task(handler="process")
def goes(ctx: SyncTaskContext) -> None:
    ctx.next_task("landing")


@task(handler="process")
def adds_a_task(ctx: SyncTaskContext) -> None:
    ctx.next_task(add.clone("added", a=40))


@task
async def landing() -> str:
    return "landed"


@task
async def passed_over() -> str:
    return "passed over"


@task(handler="process")
def raises() -> None:
    raise Declined("4242", reason="stolen")


@task(handler="process")
def raises_unknown() -> None:
    kind = type("Homemade", (LookupError,), {"__module__": "nowhere"})
    raise kind("gone")


@task(handler="process")
def raises_odd() -> None:
    class Odd(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no text")

    raise Odd


@task(handler="process")
def leaves(how: str) -> None:
    if how == "SystemExit":
        sys.exit(3)
    if how == "KeyboardInterrupt":
        raise KeyboardInterrupt
    raise GeneratorExit


@task(handler="process")
def later(ctx: SyncTaskContext) -> int:
    if ctx.channel.atomic_add("tries") == 1:
        raise RetryLater(0.01)
    return ctx.attempt


@task(handler="process")
def exits(code: int) -> None:
    os._exit(code)


@task(handler="process")
def killed_after_writing(path: str) -> None:
    with open(path, "a") as file:
        file.write("begun\n")
    os.kill(os.getpid(), signal.SIGKILL)


@task(handler="process")
def mutters() -> str:
    os.write(2, b"for nobody else\n" * 10)
    return "muttered"


@task(handler="process")
def killed() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@task(handler="process")
def crashes() -> None:
    ctypes.string_at(0)


@task(handler="process")
def hangs(ctx: SyncTaskContext) -> None:
    grandchild = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    ctx.channel.set("pids", [os.getpid(), grandchild.pid])
    time.sleep(600)


@task(handler="process")
def holds_the_gil(ctx: SyncTaskContext) -> None:
    ctx.channel.set("pids", [os.getpid()])
    ctypes.PyDLL(None).sleep(600)


@task(handler="process")
def babbles() -> None:
    while True:
        print("x" * 1000)


@task(handler="process")
def fills_the_channel(ctx: SyncTaskContext) -> None:
    for n in range(1_000):
        ctx.channel.append(f"list-{n}", "x" * 10_000)


@task(handler="process")
def asks_for_what_has_a_long_name(ctx: SyncTaskContext) -> None:
    for n in range(1_000):
        ctx.channel.exists(f"{n}" + "x" * 10_000)


@task(handler="process")
def asks_often(ctx: SyncTaskContext) -> int:
    for _ in range(2_000):
        ctx.channel.get("n")
    return 1


@task(handler="process")
def large() -> bytes:
    return bytes(2_000_000)


@task(handler="process")
def unsendable() -> Any:
    return {"a": [threading.Lock()]}


@task(handler="process")
def takes_memory() -> int:
    globals()["kept"] = bytearray(b"x") * 160_000_000
    return os.getpid()


@task(handler="process")
def leaves_a_thread(ctx: SyncTaskContext) -> None:
    def speak_late() -> None:
        while not os.path.exists(ctx.channel.get("path")):
            time.sleep(0.01)

    threading.Thread(target=speak_late, daemon=True).start()


@task(handler="process")
def environment(name: str) -> str | None:
    return os.environ.get(name)


class Model:
    """No plain value, and no dataclass: only a pickle of it can travel."""

    def __init__(self, factor: int) -> None:
        self.factor = factor


@task(handler="process")
def train(factor: int) -> Pickled[Model]:
    return Pickled(Model(factor))


@task(handler="process")
def predict(ctx: SyncTaskContext, train: Pickled[Model], n: int) -> int:
    ctx.channel.set("model", train)
    again: Pickled[Model] = ctx.channel.get("model")
    return train.value.factor * n + again.value.factor


class Refused(Exception):
    """To be retried."""


@task(handler="process", retry=RetryPolicy(max_retries=2, initial_interval=0.01, retry_on=(Refused,)))
def third_time(ctx: SyncTaskContext) -> int:
    if ctx.attempt < 3:
        raise Refused
    return ctx.attempt


@task(handler="process")
def forks(ctx: SyncTaskContext) -> str:
    copy = os.fork()
    if copy:
        ctx.channel.set("copy", copy)
        return "the task"
    print("said by a copy")
    return "a copy"


@task(handler="process")
def waits_for_the_copy(forks: str, copy: int) -> list[str]:
    """In the same child: there is one only."""
    os.waitpid(copy, 0)
    return [forks, "its own answer"]


@task(handler="process")
def logs_badly() -> str:
    logging.getLogger("shop").error("hi %d", "x")
    return "went on"


@task(handler="process")
def writes_bytes() -> None:
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    sys.stdout.buffer.write("bytes ä\n".encode())


@task(handler="process")
def cancels_with_an_object(ctx: SyncTaskContext) -> None:
    ctx.cancel_workflow(object())  # type: ignore[arg-type]  # pyright: ignore


@task(handler="process")
def asks_too_much(ctx: SyncTaskContext) -> list[str]:
    """So many waits at once that some are refused; the others end when something is put there."""
    errors: list[str] = []

    def wait() -> None:
        try:
            ctx.channel.wait("never", timeout=None if len(errors) else 5.0)
        except Exception as error:
            errors.append(str(error))

    threads = [threading.Thread(target=wait, daemon=True) for _ in range(1100)]
    for thread in threads:
        thread.start()
    while not errors:
        time.sleep(0.01)
    return errors[:1]


@task(handler="process")
def takes_a_name_of_status(status: RunStatus = RunStatus.SUCCEEDED) -> bool:
    return status == "succeeded"


@register("handlers.registered")
@task(handler="process")
def registered(n: int) -> int:
    return n + 1


@task(handler="process")
def returns_a_lock() -> Any:
    return threading.Lock()


@task(handler="process")
def meets_errors_of_the_channel(ctx: SyncTaskContext) -> list[Any]:
    met: list[Any] = []
    ctx.channel.set("number", 1)
    for act in (lambda: ctx.channel.set("lock", threading.Lock()), lambda: ctx.channel.append("number", 2)):
        try:
            act()
        except Exception as error:
            known: Any = error
            met.append([type(error).__module__, type(error).__name__, known.code, getattr(error, "key", "")])
    return met


@task(handler="process")
def knows_the_errors() -> list[Any]:
    from graflow.errors import GraflowError, OutOfMemoryError, ParallelGroupError, RunError

    made: Any = ParallelGroupError("no", run_id="r", group_id="g", failed={}, succeeded=(), cancelled=())
    return [issubclass(ParallelGroupError, RunError), issubclass(OutOfMemoryError, GraflowError), made.code, made.group_id, str(made)]


@task(handler="process")
def types_a_blocking_channel(ctx: SyncTaskContext) -> None:
    channel: Any = ctx.channel
    TypedChannel(channel, int)


class Cluttered(Exception):
    """With more to say than its text."""


@task(handler="process")
def declines(known: bool) -> None:
    kind: Any = Cluttered if known else type("Unheard", (ValueError,), {})
    error = kind("no")
    error.reason, error.lock = "limit", threading.Lock()
    error.add_note("card 17")
    raise error
