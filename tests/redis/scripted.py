"""A run on the scripts, driven without workers: the same calls as on :class:`~graflow.core.run.RunState`, so that both can be driven side by side."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
import redis
from redis.exceptions import NoScriptError

from graflow.backends.redis.blobs import encode
from graflow.backends.redis.deliveries import RedisDelivery, make_delivery
from graflow.backends.redis.entries import CONTINUATION, Brought, Reply, Token, decode_entry, read_reply
from graflow.backends.redis.events import read_events
from graflow.backends.redis.failures import read_error
from graflow.backends.redis.image import GENERATION, RunImage
from graflow.backends.redis.outcomes import continued, judged, settled
from graflow.backends.redis.plans import plan_records
from graflow.backends.redis.scripts import Script
from graflow.backends.redis.scripts.runs import BUDGET, CLAIM, CONTROL, SETTLE, SUBMIT
from graflow.backends.redis.verdicts import judge
from graflow.core.board import ACTIVE
from graflow.core.outcome import Failure, GroupFailure, Outcome
from graflow.core.plan import RUN, Plan
from graflow.core.run import OnFailure
from graflow.wire.local import this_process
from tests.model.check import demand

PREFIX = "{m:0}:"
PLACELESS_OR_SUSPENDED = 96
ROUNDS = 3000
"""fetches after which a run that still hands itself continuations is going in a circle"""
Attempt = tuple[int, int, int]
_numbers = itertools.count()


@dataclass
class Calls:
    """The scripts as a client calls them.

    Attributes:
        server: a client of a server that is the test's own.
        budget: units of work for one call; a small one makes many continuations.
        shift: milliseconds that the scripts add to the server's time.
        replaced: what to call instead of the scripts, by name: for broken variants.
    """

    server: redis.Redis
    budget: int = BUDGET
    shift: int = 0
    replaced: Mapping[str, Script] = field(default_factory=dict)

    def __call__(self, script: Script, *args: Any) -> Any:
        """Call a script that takes the shift and the budget first."""
        return self.raw(script, self.shift, self.budget, *args)

    def raw(self, script: Script, *args: Any) -> Any:
        """Call a script with these very arguments."""
        script = self.replaced.get(script.name, script)
        try:
            return self.server.evalsha(script.sha, 1, PREFIX, *args)
        except NoScriptError:
            return self.server.eval(script.text, 1, PREFIX, *args)

    def streams(self) -> list[str]:
        """The names of all streams, in the order of their priorities."""
        return sorted(name.decode() for name in self.server.smembers(f"{PREFIX}streams"))

    def wanted(self, most: int) -> bytes:
        """The request for so many attempts of any kind."""
        return encode([[most, self.streams(), False]])

    def upload(self, plan: Plan, digest: str) -> None:
        """Put a plan where runs look for it."""
        plan.recipes = plan.recipes or [None] * len(plan.ids)
        records = list(plan_records(plan, digest=digest, local_code=this_process).items())
        for begin in range(0, len(records), 512):
            self.server.hset(f"{PREFIX}plan:{digest}", mapping=dict(records[begin : begin + 512]))

    def submit(
        self,
        run_id: str,
        digest: str,
        *,
        start: int | None = None,
        on_failure: OnFailure = "fail",
        max_steps: int | None = None,
        token: str = "token",
        timeout: int = 0,
        if_exists: str = "attach",
    ) -> list[Any]:
        """Begin a run of a plan that is there."""
        limits = [-1 if start is None else start, int(on_failure == "continue"), max_steps or 0, timeout]
        asked = [run_id, digest, token, *limits, "", 60, "", if_exists, 0, "0", "digest"]
        reply: list[Any] = self(SUBMIT, encode(asked))
        return reply

    def claim(self, consumer: str, most: int = 1000, entries: Sequence[Any] = (), *, again: bool = False) -> Reply:
        """Hand out what a read has brought, and up to so much more."""
        return read_reply(self(CLAIM, encode(entries), consumer, self.wanted(most) if most else b"", "1" if again else "0"))

    def settle(self, outcomes: Sequence[Any], consumer: str = "c", most: int = 0) -> Reply:
        """Write outcomes, and take up to so many attempts."""
        return read_reply(self(SETTLE, encode(outcomes), consumer, self.wanted(most) if most else b"", b""))

    def image(self, run_id: str) -> RunImage:
        """What there is of a run."""
        return RunImage(self.server.hgetall(f"{PREFIX}run:{run_id}"), self.server.hgetall(f"{PREFIX}res:{run_id}"))


class ScriptedRun:
    """One run, and the attempts of it that are out.

    Args:
        calls: the scripts.
        plan: the plan, which must be able to travel in this process.
        patient: leave continuations in ``waiting`` for :meth:`go_on`, where otherwise each is worked off at once.
    """

    def __init__(
        self,
        calls: Calls,
        plan: Plan,
        *,
        start: int | None = None,
        on_failure: OnFailure = "fail",
        max_steps: int | None = None,
        patient: bool = False,
    ) -> None:
        self.calls, self.plan, self.patient = calls, plan, patient
        self.server = calls.server
        self.id = f"r{next(_numbers)}"
        self.deliveries: dict[Attempt, Brought] = {}
        self.waiting: list[tuple[Token, bytes]] = []
        self.asked: deque[Brought] = deque()
        """policies of the user's own that wait for their turn"""
        self.cursor = "-"
        calls.upload(plan, f"p-{self.id}")
        reply = calls.submit(self.id, f"p-{self.id}", start=start, on_failure=on_failure, max_steps=max_steps)
        demand(reply[0] == b"created", f"submit answers {reply}")
        self.fetch()

    # ---- in and out ----

    def fetch(self) -> None:
        """Take everything that is in line, and, unless patient, work off whatever goes on by itself. When nothing does, policies are asked."""
        for _ in range(ROUNDS):
            reply = self.calls.claim("c")
            for brought in reply.deliveries:
                entry = decode_entry(brought.text)
                if entry.node < len(self.plan.ids) and self.plan.groups[entry.node] is not None:
                    self.asked.append(brought)
                else:
                    attempt = (entry.node, entry.cycle, entry.attempt)
                    demand(attempt not in self.deliveries, f"{attempt} was handed out twice")
                    self.deliveries[attempt] = brought
            demand(not reply.odd, f"entries that cannot be read: {reply.odd}")
            self.waiting += reply.continuations
            while self.waiting and not self.patient:
                self.go_on()
            if reply.continuations or reply.deliveries:
                continue
            if not self.asked:
                return
            self.judge(self.asked.popleft())
        demand(False, "it goes on and on by itself")

    def go_on(self) -> None:
        """Work one continuation off."""
        token, text = self.waiting.pop(0)
        entry = decode_entry(text)
        outcome = continued(token.stream, token.id, entry.run_id, entry.generation, CONTINUATION)
        demand(self.calls.settle([outcome]).answers == [1] or self.patient, "a continuation is refused")

    def judge(self, brought: Brought) -> None:
        """Answer for a policy of the user's own, as a worker does: whether or not anybody still wants to know."""
        entry, image = decode_entry(brought.text), self.image()
        wanted = self.counts((entry.node, entry.cycle, entry.attempt), image)
        verdict = judge(self.plan, entry.node, image, lambda node: self.name_of(node, image), entry.attempt)
        taken = self.calls.settle([judged(brought.token, entry, verdict)]).answers == [1]
        # What waited for a region to be made undecided again comes before the verdict, and may be the end of the group.
        demand(taken == wanted or goes_on_in_pieces(image), f"a verdict that {'is wanted is refused' if wanted else 'is void is taken'}")

    def delivery(self, attempt: Attempt) -> RedisDelivery:
        """An attempt as a worker is given it."""
        brought = self.deliveries[attempt]
        return make_delivery(brought, decode_entry(brought.text), self.plan, this_process)

    def settle(self, node: int, cycle: int, attempt: int, outcome: Outcome) -> bool:
        """Send an outcome; whether it was taken."""
        if (node, cycle, attempt) not in self.deliveries:
            return False
        done = settled(self.delivery((node, cycle, attempt)), outcome, PREFIX, this_process)
        for key, value in done.values.items():
            self.server.set(key, value, ex=60)
        if done.items:
            self.server.hset(done.items[0], mapping=dict(enumerate(done.items[1])))  # type: ignore[arg-type]
        answers = self.calls.settle([done.fields]).answers
        self.fetch()
        return answers == [1]

    def control(self, what: str, *args: Any) -> bool:
        """Ask something of the run; whether it was done."""
        reply = self.calls(CONTROL, self.id, what, *args)
        self.fetch()
        return bool(reply[:2] == [b"done", 1])

    def resume(self, node: int, cycle: int) -> bool:
        """Let a suspended step go on."""
        return self.image().visit(node).cycle == cycle and self.control("resume", node, str(next(_numbers)))

    def cancel(self, reason: str) -> bool:
        """End the run from outside."""
        return self.control("cancel", reason, str(next(_numbers)))

    def time_out(self, reason: str) -> bool:
        """End the run because its time is up."""
        return self.control("expire", reason, self.image().numbers[GENERATION])

    # ---- what there is ----

    def image(self) -> RunImage:
        """What there is of the run."""
        return self.calls.image(self.id)

    def name_of(self, node: int, image: RunImage | None = None) -> str:
        """The id of a node."""
        return name_in(self.plan, image or self.image(), node)

    def errors(self, image: RunImage) -> dict[int, Failure | GroupFailure]:
        """The errors of nodes, in the order in which they happened."""
        return {node: read_error(parts, node, self) for node, parts in image.errors.items()}

    def out(self) -> set[Attempt]:
        """Attempts that were handed out and still count."""
        image = self.image()
        return {attempt for attempt in self.deliveries if self.counts(attempt, image)}

    def counts(self, attempt: Attempt, image: RunImage) -> bool:
        """Whether the outcome of an attempt would be taken."""
        void = void_in(image)
        return is_running(image, attempt) and not (void and is_void(self.plan, image, void, attempt[0]))

    def void(self, image: RunImage) -> list[Attempt]:
        """Attempts that were handed out and have yet to be stopped, for what they stand in is to be made undecided again."""
        void = void_in(image)
        return sorted(each for each in self.deliveries if void and is_running(image, each) and is_void(self.plan, image, void, each[0]))

    def suspended(self, image: RunImage) -> set[int]:
        """Steps that wait for an answer, and would take it."""
        void = void_in(image)
        return {node for node in image.suspended if not is_void(self.plan, image, void, node)}

    def told(self) -> list[tuple[str, int, int | None]]:
        """Events since the last time: type, node, attempt."""
        found: list[tuple[str, int, int | None]] = []
        for entry, fields in self.server.xrange(f"{PREFIX}ev:{self.id}", min=self.cursor):
            self.cursor = f"({entry.decode()}"
            found += [(event.type, event.node, event.attempt) for event in read_events(fields[b"e"])]
        return found


def name_in(plan: Plan, image: RunImage, node: int) -> str:
    """The id of a node of a run."""
    if node < len(plan.ids):
        return plan.ids[node]
    placed = image.range_of(node)
    if placed is None:
        return image.made[node].id
    group = plan.groups[placed[0]]
    assert group is not None
    assert group.mapping is not None
    return f"{group.mapping.task.id}[{placed[1]}]"


def goes_on_in_pieces(image: RunImage) -> list[list[Any]]:
    """What waits for a large region that is gone round or back to, and so made undecided again, in pieces; those pieces among it."""
    agenda: Any = msgspec.msgpack.decode(image.fields[b"agenda"]) if b"agenda" in image.fields else ()
    pieces: list[list[Any]] = list(agenda[5]) if agenda else []
    return pieces


def void_in(image: RunImage) -> list[range]:
    """Nodes that are yet to be made undecided again."""
    return [range(piece[2], piece[3] + 1) for piece in goes_on_in_pieces(image) if piece[0] == 1]


def is_void(plan: Plan, image: RunImage, void: list[range], node: int) -> bool:
    """Whether a node, or a group around it, is one of these."""
    while node != RUN:
        if any(node in part for part in void):
            return True
        placed = image.range_of(node)
        node = plan.scope[node] if node < len(plan.ids) else placed[0] if placed is not None else image.made[node].scope
    return False


def is_running(image: RunImage, attempt: Attempt) -> bool:
    """Whether the outcome of an attempt would be taken."""
    node, cycle, number = attempt
    if image.state != "r" or node >= image.count:
        return False
    byte, visit = image.bytes[node], image.visit(node)
    return byte % 8 == ACTIVE and not byte & PLACELESS_OR_SUSPENDED and (visit.cycle, visit.attempt) == (cycle, number)
