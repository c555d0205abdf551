"""Workers that die, stall, hear nothing and say everything twice, played on the scripts in virtual time, and what must hold whatever they do."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any, NamedTuple

import msgspec
import redis

from graflow.backends.redis.blobs import as_text
from graflow.backends.redis.deliveries import make_delivery
from graflow.backends.redis.entries import CONTINUATION, Brought, Entry, Reply, Token, decode_entry
from graflow.backends.redis.image import GENERATION, LIVE, OUT, SUSPENSIONS, RunImage
from graflow.backends.redis.outcomes import continued, handed_back, judged, settled
from graflow.backends.redis.scripts import Script
from graflow.backends.redis.scripts.runs import BEAT, CONTROL, REAP
from graflow.backends.redis.verdicts import judge
from graflow.core.board import ACTIVE
from graflow.core.outcome import Failure, Outcome, Retry, Success, Suspend, TaskError
from graflow.core.plan import Plan
from graflow.wire.local import this_process
from tests.model.check import demand
from tests.model.generate import Script as Behaviour
from tests.model.plans import make_plan
from tests.redis.script_cases import forget_all, wild_case
from tests.redis.scripted import PREFIX, Calls, is_running, name_in
from tests.redis.sidebyside import with_list

LEASE = 1_000_000
"""virtual milliseconds; so many that the real ones of a test do not matter"""
TICKS = (300_000, 1_500_000)
"""a moment, and longer than a lease: no sum of them comes near a whole number of leases"""
SOON = 400_000
CONTINUING = 8
MOST_LOST = 3
_numbers = count()


class Key(NamedTuple):
    """An attempt of all runs."""

    run_id: str
    generation: int
    node: int
    cycle: int
    attempt: int


class Waiting(NamedTuple):
    """A message of a run: in line, in somebody's hands, or to be put in line later."""

    entry: Entry
    consumer: str | None


class Found(NamedTuple):
    """What a read has brought."""

    stream: str
    id: str
    text: bytes

    @property
    def told(self) -> tuple[Any, ...]:
        """As the script is told of it."""
        return (self.stream, self.id, "m", as_text(self.text))


@dataclass
class Worker:
    """Somebody who takes attempts."""

    name: str
    hands: dict[Token, Brought] = field(default_factory=dict)


@dataclass
class Run:
    """A run and what its tasks would do."""

    plan: Plan
    behaviour: Behaviour
    digest: str
    token: str


class Crowd:
    """Several workers and runs.

    Args:
        server: a client of a server that is the test's own.
        budget: units of work for one call.
        replaced: broken scripts.
    """

    def __init__(self, server: redis.Redis, *, budget: int = 512, replaced: Mapping[str, Script] | None = None) -> None:
        forget_all(server)
        self.server = server
        self.calls = Calls(server, budget=budget, replaced=replaced or {})
        self.workers: list[Worker] = []
        self.leases: dict[str, int] = {}
        """when each worker there ever was is taken for dead"""
        self.runs: dict[str, Run] = {}
        self.issued: list[tuple[Token, Brought, Entry]] = []
        self.given: dict[Key, Token] = {}
        """who was given an attempt; it may be given again only when it was handed back"""
        self.committed: Counter[tuple[str, int, int, int]] = Counter()
        self.suspensions = 0
        """how many steps were ever suspended"""
        for _ in range(3):
            self.join()

    # ---- what may happen ----

    def join(self) -> Worker:
        """A new worker takes a lease."""
        worker = Worker(f"w{next(_numbers)}")
        self.workers.append(worker)
        demand(self.beat_as(worker, b"\x80")[0] == 1, "a new worker is refused")
        self.leases[worker.name] = self.calls.shift + LEASE
        return worker

    def beat_as(self, worker: Worker, info: bytes = b"") -> list[int]:
        """A sign of life."""
        reply: list[int] = self.calls.raw(BEAT, self.calls.shift, worker.name, LEASE, info)
        return reply

    def beat(self, worker: Worker) -> None:
        """A sign of life. A worker that learns that it was taken for dead drops everything and is another one from then on."""
        lives, until = self.beat_as(worker)[0], self.leases[worker.name]
        demand(
            bool(lives) == (until > self.calls.shift),
            f"a lease that ends at {until} is renewed at {self.calls.shift}: {lives}",
        )
        if lives:
            self.leases[worker.name] = self.calls.shift + LEASE
        else:
            self.workers.remove(worker)
            self.join()

    def die(self, worker: Worker) -> None:
        """A worker is gone at once, and another one comes."""
        self.workers.remove(worker)
        self.join()

    def submit(self, number: int, *, lost: bool) -> None:
        """Begin the run of a graph by number."""
        run_id = f"r{len(self.runs)}"
        case = wild_case(number)
        plan = make_plan(case.graph)
        run = self.runs[run_id] = Run(plan, Behaviour(case.graph, case.seed, case.habits), f"p-{run_id}", f"t{next(_numbers)}")
        self.calls.upload(plan, run.digest)
        self.begin(run_id, run, lost=lost)

    def rerun(self, run_id: str, *, lost: bool) -> None:
        """Submit a run once more; if it has failed it runs again."""
        self.runs[run_id].token = f"t{next(_numbers)}"
        self.begin(run_id, self.runs[run_id], lost=lost)

    def begin(self, run_id: str, run: Run, *, lost: bool) -> None:
        """Submit; with the reply lost, twice."""
        replies = self.twice(lambda: self.calls.submit(run_id, run.digest, max_steps=60, token=run.token, if_exists="rerun_failed"), lost)
        demand(all(reply[0] == replies[0][0] for reply in replies), f"submit says {replies}")

    def twice(self, call: Callable[[], Any], lost: bool) -> list[Any]:
        """Call, and once more with the same arguments when the reply is lost."""
        return [call() for _ in range(1 + lost)]

    def fetch(self, worker: Worker, most: int, *, lost: bool) -> None:
        """What a free worker takes."""
        reply = self.calls.claim(worker.name, most)
        if lost:
            self.note(reply)
        else:
            self.take(worker, reply)

    def read(self, worker: Worker, fate: str) -> None:
        """A read that has waited brings one entry, and the script makes it ready. ``fate`` is what goes wrong meanwhile."""
        entries = self.pending_of(worker, ">")
        if fate == "lost":
            return
        if fate == "put back":
            back = [(entry, decode_entry(entry.text)) for entry in entries]
            outcomes = [
                (at.stream, at.id, e.run_id, e.generation, e.node, e.cycle, e.attempt, "b", as_text(at.text), False, False, False)
                for at, e in back
            ]
            self.twice(lambda: self.calls.settle(outcomes, worker.name), lost=True)
            return
        for reply in self.twice(lambda: self.calls.claim(worker.name, 0, [entry.told for entry in entries]), fate == "reply lost"):
            self.take(worker, reply)

    def recover(self, worker: Worker) -> None:
        """What is pending under its name and not in its hands is taken again."""
        entries = [entry.told for entry in self.pending_of(worker, "0") if Token(entry.stream, entry.id) not in worker.hands]
        if entries:
            self.take(worker, self.calls.claim(worker.name, 0, entries, again=True))

    def pending_of(self, worker: Worker, since: str) -> list[Found]:
        """One new entry of each stream, or all that it was given before."""
        entries: list[Found] = []
        for stream in self.calls.streams():
            reply = self.server.xreadgroup("g", worker.name, {f"{PREFIX}q:{stream}": since}, count=1 if since == ">" else 1000)
            for _, found in reply or ():
                entries += [Found(stream, id.decode(), fields[b"m"]) for id, fields in found if fields]
        return entries

    def settle(self, worker: Worker, place: int, how: str, *, lost: bool, most: int = 0) -> None:
        """Send an outcome for a token that was ever issued to anybody."""
        token, brought, entry = self.issued[place % len(self.issued)]
        image = self.image(entry.run_id)
        if image is None:
            return
        outcome, final = self.outcome(token, brought, entry, image, how)
        replies = self.twice(lambda: self.calls.settle([outcome], worker.name, most), lost)
        for holder in self.workers:
            holder.hands.pop(token, None)
        answers = [reply.answers[0] for reply in replies]
        demand(sum(answers) <= 1, f"the outcome of {entry} was taken twice")
        if sum(answers):
            self.suspensions += how == "suspend"
            if how == "hand back":
                self.given.pop(_key(entry), None)
            if final:
                self.committed[entry.run_id, entry.generation, entry.node, entry.cycle] += 1
        for reply in replies[:-1]:
            self.note(reply)
        self.take(worker, replies[-1])

    def outcome(self, token: Token, brought: Brought, entry: Entry, image: RunImage, how: str) -> tuple[Any, bool]:
        """What is sent, and whether it decides the visit."""
        run = self.runs[entry.run_id]
        if entry.node == CONTINUATION:
            return continued(token.stream, token.id, entry.run_id, entry.generation, CONTINUATION), False
        if entry.node < len(run.plan.ids) and run.plan.groups[entry.node] is not None:
            current = image.numbers[GENERATION] == entry.generation
            met = not current or judge(run.plan, entry.node, image, lambda node: name_in(run.plan, image, node), entry.attempt)
            return judged(token, entry, met), True
        delivery = make_delivery(brought, entry, run.plan, this_process)
        if how == "hand back":
            return handed_back(delivery), False
        name = delivery.spec.task_id
        error = TaskError(name, entry.attempt, "Odd", "")
        chosen: Outcome | None
        match how:
            case "fail":
                chosen = Failure(error)
            case "later":
                chosen = Retry(SOON / 1000, error, counted=True)
            case "suspend":
                chosen = Suspend("asked")
            case "plain":
                chosen = Success(name, None, 0 if delivery.feeds_map else None)
            case _:
                chosen = with_list(run.behaviour.outcome(name, entry.cycle, entry.attempt))
        final = isinstance(chosen, Success | Failure) and not (
            isinstance(chosen, Success) and chosen.directives and chosen.directives.iteration
        )
        return settled(delivery, chosen, PREFIX, this_process).fields, final

    def reap(self, *, lost: bool) -> None:
        """Put in line what dead workers held; afterwards none of them holds anything."""
        replies = self.twice(lambda: self.calls(REAP, MOST_LOST, 100), lost)
        demand(not lost or replies[-1][0] == 0, "reaped twice")
        alive = {name for name, until in self.leases.items() if until > self.calls.shift}
        held = {each.consumer for each in self.messages() if each.consumer is not None}
        demand(held <= alive, f"{held - alive} are dead and hold something all the same")

    def cancel(self, run_id: str, *, lost: bool) -> None:
        """End a run from outside."""
        token = f"t{next(_numbers)}"
        replies = self.twice(lambda: self.calls(CONTROL, run_id, "cancel", "enough", token), lost)
        demand(replies[-1] == replies[0], f"cancel says {replies}")

    def resume(self, run_id: str, place: int, *, lost: bool) -> None:
        """Answer a step that waits."""
        image = self.image(run_id)
        if image is not None and image.suspended:
            node = sorted(image.suspended)[place % len(image.suspended)]
            token = f"t{next(_numbers)}"
            replies = self.twice(lambda: self.calls(CONTROL, run_id, "resume", node, token), lost)
            demand(replies[-1] == replies[0], f"resume says {replies}")

    # ---- what is known ----

    def take(self, worker: Worker, reply: Reply) -> None:
        """A reply has come."""
        self.note(reply)
        self.hold(worker, reply)

    def hold(self, worker: Worker, reply: Reply) -> None:
        """What it holds from now on."""
        for brought in reply.deliveries:
            worker.hands[brought.token] = brought
        for token, text in reply.continuations:
            worker.hands[token] = Brought(token, text, None, None, None, False)

    def note(self, reply: Reply) -> None:
        """What was handed out, whether or not anybody heard of it. An attempt is handed out once, under one token."""
        demand(not reply.odd, "an entry cannot be read")
        for brought in reply.deliveries:
            entry = decode_entry(brought.text)
            given = self.given.setdefault(_key(entry), brought.token)
            demand(given == brought.token, f"{entry} was handed out as {given} and as {brought.token}")
            self.issued.append((brought.token, brought, entry))
        for token, text in reply.continuations:
            self.issued.append((token, Brought(token, text, None, None, None, False), decode_entry(text)))

    def image(self, run_id: str) -> RunImage | None:
        """What there is of a run."""
        fields = self.server.hgetall(f"{PREFIX}run:{run_id}")
        return RunImage(fields, {}) if fields else None

    def messages(self) -> list[Waiting]:
        """Everything in line, in hands and put off."""
        found: list[Waiting] = []
        for stream in self.calls.streams():
            key = f"{PREFIX}q:{stream}"
            entries = self.server.xrange(key)
            pending = {each["message_id"]: each["consumer"].decode() for each in self.server.xpending_range(key, "g", "-", "+", 10_000)}
            demand(pending.keys() <= {id for id, _ in entries}, "something is pending and no longer in the stream")
            found += [Waiting(decode_entry(fields[b"m"]), pending.get(id)) for id, fields in entries]
        return found + [Waiting(_put_off(member), None) for member in self.server.zrange(f"{PREFIX}delayed", 0, -1)]

    # ---- what must hold ----

    def check(self) -> None:
        """Nothing is lost, nothing is there twice, and what is counted is what there is."""
        demand(all(number == 1 for number in self.committed.values()), "a visit was decided twice")
        self.check_put_off()
        for worker in self.workers:
            self.check_company(worker)
        waiting: dict[str, list[Waiting]] = {}
        for each in self.messages():
            waiting.setdefault(each.entry.run_id, []).append(each)
        for run_id, run in self.runs.items():
            image = self.image(run_id)
            demand(image is not None, f"{run_id} is gone")
            assert image is not None
            generation = image.numbers[GENERATION]
            mine = [each for each in waiting.get(run_id, ()) if each.entry.generation == generation]
            self.check_run(run_id, run, image, mine)

    def check_put_off(self) -> None:
        """What waits for its time is known to its run, and there is none of a run that is over."""
        later: dict[str, set[bytes]] = {run_id: set() for run_id in self.runs}
        for member in self.server.zrange(f"{PREFIX}delayed", 0, -1):
            later[_put_off(member).run_id].add(member)
        for run_id, members in later.items():
            demand(self.server.smembers(f"{PREFIX}later:{run_id}") == members, f"{run_id} does not know what it has put off")
            image = self.image(run_id)
            demand(not members or (image is not None and image.state == "r"), f"{run_id} is over and has put something off")

    def check_company(self, worker: Worker) -> None:
        """Nothing that one more death would condemn is held beside something else that has cost workers."""
        costs = {token: lost for token, brought in worker.hands.items() if (lost := decode_entry(brought.text).lost)}
        if len(costs) > 1 and max(costs.values()) >= MOST_LOST:
            held = {Token(entry.stream, entry.id) for entry in self.pending_of(worker, "0")}
            both = [lost for token, lost in costs.items() if token in held]
            demand(len(both) < 2 or max(both) < MOST_LOST, f"{worker.name} holds what has cost {both} workers")

    def check_run(self, run_id: str, run: Run, image: RunImage, mine: Sequence[Waiting]) -> None:
        """The same for one run."""
        held = sum(each.consumer is not None and each.entry.node != CONTINUATION for each in mine)
        demand(0 <= image.numbers[LIVE] <= held, f"{image.numbers[LIVE]} counted in hands, {held} are")
        if image.state != "r":
            return
        found = Counter((each.entry.node, each.entry.cycle, each.entry.attempt) for each in mine)
        expected = set(running(run.plan, image))
        goes_on = found.pop((CONTINUATION, 1, 1), 0)
        demand(goes_on == image.numbers[CONTINUING], f"{run_id}: {goes_on} continuations, {image.numbers[CONTINUING]} are expected")
        counts = {attempt: found[attempt] for attempt in expected}
        demand(all(number == 1 for number in counts.values()), f"{run_id}: how often there is what runs: {counts}")
        out = len(expected) + goes_on
        demand(image.numbers[OUT] == out, f"{run_id}: {image.numbers[OUT]} counted as outstanding, {out} are")
        demand(out > 0 or image.numbers[SUSPENSIONS] > 0, f"{run_id} has not ended, and nothing will ever end it")

    def finish(self) -> None:
        """All workers die, a new one comes, and everything comes to its end."""
        self.workers.clear()
        self.calls.shift += 10 * LEASE
        last = self.join()
        for _ in range(600):
            self.beat(last)
            self.reap(lost=False)
            self.fetch(last, 1000, lost=False)
            for token in list(last.hands):
                place = next(n for n, each in enumerate(self.issued) if each[0] == token)
                self.settle(last, place, "plain", lost=False)
            self.check()
            states = {run_id: image for run_id in self.runs if (image := self.image(run_id)) is not None}
            for run_id, image in states.items():
                self.resume(run_id, 0, lost=False) if image.suspended else None
            if all(image.state != "r" for image in states.values()) and not self.messages():
                break
            self.calls.shift += SOON
        self.check_the_end()

    def check_the_end(self) -> None:
        """Every run has ended, nothing is in line, and what is left has a life span."""
        left = [run_id for run_id in self.runs if (image := self.image(run_id)) is None or image.state == "r"]
        demand(not left, f"{left} never end")
        demand(not self.messages(), f"left in line: {self.messages()}")
        lasting = [key.decode() for key in self.server.scan_iter(f"{PREFIX}*", count=1000) if self.server.ttl(key) == -1]
        demand(not lasting, f"left for ever: {lasting}")


def running(plan: Plan, image: RunImage) -> Iterator[tuple[int, int, int]]:
    """What must be out: attempts of tasks, and policies that are asked for their verdict."""
    for node in range(image.count):
        visit = image.visit(node)
        attempt = (node, visit.cycle, visit.attempt)
        if node < len(plan.ids) and plan.groups[node] is not None:
            scope = image.fields.get(b"S%d" % node)
            if image.status[node] == ACTIVE and scope is not None and msgspec.msgpack.decode(scope, strict=False).get("j"):
                yield attempt
        elif is_running(image, attempt):
            yield attempt


def _key(entry: Entry) -> Key:
    return Key(entry.run_id, entry.generation, entry.node, entry.cycle, entry.attempt)


def _put_off(member: bytes) -> Entry:
    """What a member of the delayed is about."""
    return decode_entry(member.partition(b"\n")[2])
