"""A run on the scripts, driven without workers: the same calls as on :class:`~graflow.core.run.RunState`, so that both can be driven side by side."""

from __future__ import annotations

import itertools
from typing import Any

import msgspec
import redis

from graflow.backends.redis.blobs import as_text, encode
from graflow.backends.redis.deliveries import RedisDelivery, make_delivery
from graflow.backends.redis.entries import CONTINUATION, Brought, Token, decode_entry, read_reply
from graflow.backends.redis.events import read_events
from graflow.backends.redis.failures import read_error
from graflow.backends.redis.image import RunImage
from graflow.backends.redis.outcomes import continued, judged, settled
from graflow.backends.redis.plans import plan_records
from graflow.backends.redis.scripts import Script
from graflow.backends.redis.scripts.runs import CLAIM, CONTROL, SETTLE, SUBMIT
from graflow.backends.redis.verdicts import judge
from graflow.core.outcome import Failure, GroupFailure, Outcome
from graflow.core.plan import Plan
from graflow.core.run import OnFailure
from graflow.wire.local import this_process

PREFIX = "{m:0}:"
Attempt = tuple[int, int, int]
_parts = msgspec.msgpack.Decoder(list[msgspec.Raw]).decode
_runs = itertools.count()


class ScriptedRun:
    """One run, and the attempts of it that are out.

    Args:
        server: a client of a server that is the test's own.
        plan: the plan, which must be able to travel in this process.
        budget: units of work for one call; a small one makes many continuations.
        scripts: what to call instead of the scripts, by name: for broken variants.
    """

    def __init__(
        self,
        server: redis.Redis,
        plan: Plan,
        *,
        start: int | None = None,
        on_failure: OnFailure = "fail",
        max_steps: int | None = None,
        budget: int = 512,
        scripts: dict[str, Script] | None = None,
    ) -> None:
        self.server, self.plan, self.budget = server, plan, budget
        self.scripts = scripts or {}
        self.id = f"r{next(_runs)}"
        self.digest = f"p-{self.id}"
        self.tokens: dict[Attempt, tuple[Token, bytes]] = {}
        self.deliveries: dict[Attempt, Brought] = {}
        self.cursor = "-"
        plan.recipes = plan.recipes or [None] * len(plan.ids)
        if not server.hexists(f"{PREFIX}plan:{self.digest}", "head"):
            records = plan_records(plan, digest=self.digest, local_code=this_process)
            server.hset(f"{PREFIX}plan:{self.digest}", mapping=dict(records.items()))
        asked = [self.id, self.digest, "token", -1 if start is None else start, int(on_failure == "continue"), max_steps or 0, 0, "", 60, "", "attach", 0, "0", "digest"]
        reply = self.call(SUBMIT, encode(asked))
        assert reply[0] == b"created", reply
        self.fetch()

    def call(self, script: Script, *args: Any) -> Any:
        script = self.scripts.get(script.name, script)
        return self.server.eval(script.text, 1, PREFIX, 0, self.budget, *args)

    # ---- in and out ----

    def fetch(self) -> None:
        """Take everything that is in line, and work off whatever goes on by itself."""
        while True:
            streams = sorted(name.decode() for name in self.server.smembers(f"{PREFIX}streams"))
            wanted = encode([[1000, streams, False]])
            reply = read_reply(self.call(CLAIM, encode([]), "c", wanted, "0"))
            for brought in reply.deliveries:
                entry = decode_entry(brought.text)
                if entry.node < len(self.plan.ids) and self.plan.groups[entry.node] is not None:
                    self.judge(brought)
                else:
                    self.deliveries[entry.node, entry.cycle, entry.attempt] = brought
            assert not reply.odd
            for token, text in reply.continuations:
                entry = decode_entry(text)
                outcome = continued(token.stream, token.id, entry.run_id, entry.generation, CONTINUATION)
                assert self.call(SETTLE, encode([outcome]), "c", "", "")[0] == [1]
            if not reply.continuations and not reply.deliveries:
                break

    def judge(self, brought: Brought) -> None:
        """Answer for a policy of the user's own, as a worker does."""
        entry, image = decode_entry(brought.text), self.image()
        verdict = judge(self.plan, entry.node, image, lambda node: self.name_of(node, image), entry.attempt)
        assert self.call(SETTLE, encode([judged(brought.token, entry, verdict)]), "c", "", "")[0] == [1]

    def delivery(self, attempt: Attempt) -> RedisDelivery:
        brought = self.deliveries[attempt]
        return make_delivery(brought, decode_entry(brought.text), self.plan, this_process)

    def settle(self, node: int, cycle: int, attempt: int, outcome: Outcome | Any) -> bool:
        brought = self.deliveries.get((node, cycle, attempt))
        if brought is None:
            return False
        done = settled(self.delivery((node, cycle, attempt)), outcome, PREFIX, this_process)
        for key, value in done.values.items():
            self.server.set(key, value, ex=60)
        if done.items:
            self.server.hset(done.items[0], mapping=dict(enumerate(done.items[1])))
        answers = self.call(SETTLE, encode([done.fields]), "c", "", "")[0]
        self.fetch()
        return bool(answers == [1])

    def control(self, what: str, *args: Any) -> bool:
        reply = self.call(CONTROL, self.id, what, *args)
        self.fetch()
        return bool(reply == [b"done", 1])

    def resume(self, node: int, cycle: int) -> bool:
        if self.image().visit(node).cycle != cycle:
            return False
        return self.control("resume", node, str(next(_runs)))

    def cancel(self, reason: str) -> bool:
        return self.control("cancel", reason, str(next(_runs)))

    def time_out(self, reason: str) -> bool:
        return self.control("expire", reason)

    # ---- what there is ----

    def image(self) -> RunImage:
        return RunImage(self.server.hgetall(f"{PREFIX}run:{self.id}"), self.server.hgetall(f"{PREFIX}res:{self.id}"))

    def name_of(self, node: int, image: RunImage | None = None) -> str:
        image = image or self.image()
        if node < len(self.plan.ids):
            return self.plan.ids[node]
        placed = image.range_of(node)
        if placed is not None:
            mapping = self.plan.groups[placed[0]].mapping  # type: ignore[union-attr]
            return f"{mapping.task.id}[{placed[1]}]"
        return image.made[node].id

    def errors(self, image: RunImage) -> dict[int, Failure | GroupFailure]:
        return {node: read_error(parts, node, self) for node, parts in image.errors.items()}

    def out(self) -> set[Attempt]:
        """Attempts that are out: in line or in somebody's hands, and that still count."""
        image = self.image()
        if image.state != "r":
            return set()
        found: set[Attempt] = set()
        for attempt in self.deliveries:
            node, cycle, number = attempt
            visit = image.visit(node)
            byte = image.bytes[node]
            if byte % 8 == 1 and not byte & 96 and (visit.cycle, visit.attempt) == (cycle, number):
                found.add(attempt)
        return found

    def told(self) -> list[tuple[str, int, int | None]]:
        """Events since the last time: type, node, attempt."""
        entries = self.server.xrange(f"{PREFIX}ev:{self.id}", min=self.cursor)
        found: list[tuple[str, int, int | None]] = []
        for entry, fields in entries:
            self.cursor = f"({entry.decode()}"
            found += [(event.type, event.node, event.attempt) for event in read_events(fields[b"e"])]
        return found


__all__ = ["ScriptedRun", "as_text"]
