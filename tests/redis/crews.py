"""A worker that is quick: it takes much at once and settles much at once, on the scripts alone. For large runs."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import redis

from graflow.backends.redis.deliveries import RedisDelivery, make_delivery
from graflow.backends.redis.entries import CONTINUATION, Entry, Reply, decode_entry
from graflow.backends.redis.events import Told, read_events
from graflow.backends.redis.image import RunImage
from graflow.backends.redis.outcomes import continued, settled
from graflow.backends.redis.scripts import Script
from graflow.backends.redis.scripts.runs import CONTROL
from graflow.core.outcome import Outcome, Success
from graflow.core.plan import Plan
from graflow.core.run import OnFailure
from graflow.wire.local import this_process
from tests.model.check import demand
from tests.redis.scripted import PREFIX, Calls, is_running

BATCH = 64
Decides = Callable[[RedisDelivery], Outcome]
_numbers = count()


def succeeds(delivery: RedisDelivery) -> Outcome:
    """Whatever it is, it returns."""
    return Success(delivery.spec.node)


class TimedCalls(Calls):
    """The scripts, and milliseconds that the longest call took the server: of its processor, and as it says itself."""

    def __init__(self, server: redis.Redis) -> None:
        super().__init__(server)
        pid = server.info("server")["process_id"]
        self._spent = Path(f"/proc/{pid}/task/{pid}/schedstat")
        self.longest = 0.0

    def raw(self, script: Script, *args: Any) -> Any:
        """Call a script with these very arguments."""
        before = self._processor_time()
        reply = super().raw(script, *args)
        self.longest = max(self.longest, self._processor_time() - before)
        return reply

    def _processor_time(self) -> float:
        return int(self._spent.read_text().split()[0]) / 1e6 if self._spent.exists() else 0.0

    def longest_of_all(self) -> float:
        """Others may have had the processor meanwhile: then the server says more than it took."""
        slow = [entry["duration"] / 1000 for entry in self.server.slowlog_get(1000) if entry["command"].startswith(b"EVAL")]
        return min(self.longest or 1e9, max(slow, default=10.0))


class LargeRun:
    """A run of a plan, begun.

    ``raced`` says that outcomes come in before it has come to rest, which in memory it always has.
    """

    def __init__(
        self, server: redis.Redis, plan: Plan, *, on_failure: OnFailure = "fail", max_steps: int | None = None, raced: bool = False
    ) -> None:
        self.plan, self.on_failure, self.max_steps, self.raced = plan, on_failure, max_steps, raced
        self.calls = TimedCalls(server)
        self.server = server
        self.history: list[tuple[int, int, int, Outcome]] = []
        """the outcomes that were taken, in their order"""
        self.cancelled = False
        self.id = f"large{next(_numbers)}"
        self.calls.upload(self.plan, self.id)
        self.held: list[Any] = []
        self.done = 0
        demand(self.calls.submit(self.id, self.id, on_failure=on_failure, max_steps=max_steps)[0] == b"created", "not begun")

    def take(self, reply: Reply) -> None:
        """What is handed out, and what is to go on."""
        self.held += reply.deliveries
        for token, text in reply.continuations:
            entry = decode_entry(text)
            self.held.append(continued(token.stream, token.id, entry.run_id, entry.generation, CONTINUATION))

    def work(self, most: int, decides: Decides = succeeds, *, batch: int = BATCH) -> int:
        """Settle up to so many attempts; how many there were. Continuations come on top."""
        settled_ = 0
        while settled_ < most:
            while not self.held and self.lines():
                self.take(self.calls.claim("c", BATCH))  # brings nothing where all that it finds no longer counts
            if not self.held:
                break
            outcomes: list[Any] = []
            meant: list[tuple[int, int, int, Outcome] | None] = []
            for each in self.held[:batch]:
                if isinstance(each, tuple) and not hasattr(each, "token"):
                    outcomes.append(each)
                    meant.append(None)
                    continue
                delivery = make_delivery(each, decode_entry(each.text), self.plan, this_process)
                outcome = decides(delivery)
                meant.append((delivery.spec.node, delivery.spec.cycle, delivery.spec.attempt, outcome))
                done = settled(delivery, outcome, PREFIX, this_process)
                if done.items:
                    for begin in range(0, len(done.items[1]), 512):
                        part = done.items[1][begin : begin + 512]
                        self.server.hset(done.items[0], mapping={str(begin + place): item for place, item in enumerate(part)})
                for key, value in done.values.items():
                    self.server.set(key, value, ex=60)
                outcomes.append(done.fields)
                settled_ += 1
            del self.held[:batch]
            reply = self.calls.settle(outcomes, "c", BATCH - len(self.held) if batch == BATCH else 0)
            self.history += [each for each, answer in zip(meant, reply.answers, strict=True) if each is not None and answer == 1]
            self.take(reply)
        self.done += settled_
        return settled_

    def settle(self, name: str, decides: Decides = succeeds) -> None:
        """Settle the attempt of that task, which must be in line or in hands."""
        node, kept = self.plan.index[name], list[Any]()
        while True:
            self.take(self.calls.claim("c", BATCH))
            found = [each for each in self.held if hasattr(each, "token") and self._is_newest_of(node, decode_entry(each.text))]
            kept += [each for each in self.held if hasattr(each, "token") and each not in found]
            goes_on = [each for each in self.held if not hasattr(each, "token")]
            self.held = []
            if found:
                break
            demand(goes_on or self.lines() > len(kept), f"{name} is not in line")
            if goes_on:
                self.calls.settle(goes_on)
        self.held = [*found, *goes_on]
        demand(self.work(1, decides, batch=len(self.held)) == 1, f"{name} was not settled")
        self.held = [*kept, *self.held]

    def _is_newest_of(self, node: int, entry: Entry) -> bool:
        return entry.node == node and is_running(self.image(), (entry.node, entry.cycle, entry.attempt))

    def begin_all(self) -> None:
        """Have everything started that can be: attempts are taken and held, and only the run itself goes on."""
        attempts: list[Any] = []
        while True:
            self.take(self.calls.claim("c", 500))
            attempts += [each for each in self.held if not isinstance(each, tuple) or hasattr(each, "token")]
            goes_on = [each for each in self.held if isinstance(each, tuple) and not hasattr(each, "token")]
            self.held = []
            if goes_on:
                self.calls.settle(goes_on)
            elif self.lines() == len(attempts):
                break
        self.held = attempts

    def lines(self) -> int:
        """How much is in line and in hands."""
        return sum(self.server.xlen(f"{PREFIX}q:{stream}") for stream in self.calls.streams())

    def cancel(self) -> None:
        """End it from outside."""
        demand(self.calls(CONTROL, self.id, "cancel", "enough", "token")[1] == 1, "not cancelled")
        self.cancelled = True

    def longest(self) -> float:
        """Milliseconds of the longest script so far."""
        return self.calls.longest_of_all()

    def told(self) -> list[Told]:
        """All events."""
        return [event for _, fields in self.server.xrange(f"{PREFIX}ev:{self.id}") for event in read_events(fields[b"e"])]

    def image(self) -> RunImage:
        """What there is of it."""
        return self.calls.image(self.id)
