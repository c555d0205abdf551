"""The random cases for the scripts, by number: ``python -m tests.redis.script_cases 3000`` runs as many, ``--case 17`` one of them.

A number gives the same graph, behaviour and order on every machine. Kinds take turns: beside the state machine with all the work that one call may
do, the same with next to none of it (so that nearly everything is a continuation) and with low thresholds (so that every page, join and fan-out is
a large one), and with outcomes that come in while continuations wait.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from random import Random
from unittest.mock import patch

import redis

from graflow.backends.redis import image, plans
from graflow.backends.redis.scripts import Script
from graflow.backends.redis.scripts.runs import CLAIM, CONTROL, SETTLE, SUBMIT
from graflow.core.board import STATUS_NAMES
from graflow.core.ending import End
from tests.model.check import ViolationError, demand
from tests.model.drive import Case
from tests.model.generate import Drawing, Habits, Shape
from tests.model.oracle import Oracle
from tests.redis.scripted import PREFIX, Calls
from tests.redis.server import RedisServer
from tests.redis.sidebyside import drive_both, drive_patiently, results_of

TIGHT_PAGE = 4
KINDS = ("beside", "beside, in little pieces", "beside", "by the oracle, patiently", "beside, in little pieces", "wild, patiently")


def wild_case(number: int) -> Case:
    """Anything goes: every other one with wild tasks, every third one begun at some node."""
    random, wild = Random(f"case {number}"), number % 2 == 1
    graph = Drawing(random, Shape(early=True, wild=wild)).draw()
    calm = random.choice((0.3, 1, 1))
    habits = Habits(fail=0.08 * calm, retry=0.08, suspend=0.05, goto=0.3, wild=wild, new=0.15, iterate=0.1, stop=0.01, outside=0.003)
    begin = random.choice([node.id for node in graph.nodes if node.group is None]) if number % 3 == 2 else None
    on_failure = random.choice(("fail", "continue", "continue"))
    return Case(graph, f"wild {number}", habits, on_failure, random.choice((300, 300, 300, 30, None)), begin)


def tame_case(number: int) -> Case:
    """A graph without loops, whose outcome does not depend on the order in which things happen."""
    random = Random(f"case {number}")
    graph = Drawing(random, Shape(loops=False)).draw()
    habits = Habits(fail=random.choice((0, 0.05, 0.15)), retry=0.05, suspend=0.03, goto=0.2, new=0.1, iterate=0.1)
    return Case(graph, f"dag {number}", habits, "continue", 800)


@cache
def tightened(script: Script) -> Script:
    """The script with its thresholds so low that little graphs are large ones to it."""
    text = script.source
    for large, small in (
        ("local SMALL = 16", "local SMALL = 2"),
        ("local PAGE = 256", f"local PAGE = {TIGHT_PAGE}"),
        ("local AT_ONCE = 64", "local AT_ONCE = 1"),
        ("local LINE = 1024", "local LINE = 2"),
    ):
        assert large in text, f"{large} is not in {script.name} any more"
        text = text.replace(large, small)
    return Script(script.name, text=text)


@contextmanager
def tight(replaced: Mapping[str, Script]) -> Iterator[Mapping[str, Script]]:
    """The scripts with low thresholds, and the same for what reads and writes what they do."""
    with patch.object(image, "PAGE", TIGHT_PAGE), patch.object(plans, "WORTH_IT", 2), patch.object(plans, "LARGE_JOIN", 2):
        yield {script.name: tightened(replaced.get(script.name, script)) for script in (SUBMIT, SETTLE, CLAIM, CONTROL)}


def run_case(server: redis.Redis, number: int, replaced: Mapping[str, Script] | None = None) -> str:
    """Run one case on a server of one's own. Returns how its run ended.

    Raises:
        ViolationError: something is wrong; or whatever broke. Either has a note with the command that repeats it.
    """
    kind = KINDS[number % len(KINDS)]
    random = Random(f"kind {number}")
    try:
        if kind == "beside":
            return _how(drive_both(Calls(server, replaced=replaced or {}), wild_case(number), 0).end)
        with tight(replaced or {}) as scripts:
            calls = Calls(server, budget=random.choice((1, 2, 3, 7)), replaced=scripts)
            if kind == "beside, in little pieces":
                return _how(drive_both(calls, wild_case(number), 0).end)
            if kind == "wild, patiently":
                end = drive_patiently(calls, wild_case(number), 0).image().end
                return f"patiently: {end and end[1]}"
            return by_the_oracle(calls, tame_case(number))
    except Exception as error:
        error.add_note(f"{kind}; again with: python -m tests.redis.script_cases --case {number}")
        raise


def _how(end: End | None) -> str:
    return end.cause if end is not None else ""


def by_the_oracle(calls: Calls, case: Case) -> str:
    """Whatever comes in between, a graph without loops comes out as the oracle says."""
    oracle = Oracle(case)
    scripted = drive_patiently(calls, case, 0)
    last = scripted.image()
    assert last.end is not None
    demand(last.end[0] == oracle.status, f"the run {last.end}, not {oracle.status}")
    results = results_of(last)
    nodes = {scripted.name_of(node, last): node for node in range(last.count)}
    for name, verdict in oracle.verdicts.items():
        if verdict.certain:
            demand(name in nodes, f"{name} was never made")
            found = STATUS_NAMES[last.status[nodes[name]]]
            demand(found == verdict.status, f"{name} is {found}, the oracle says {verdict.status}")
            demand((nodes[name] in results) == (found == "done"), f"{name} is {found}, its result {results.get(nodes[name])}")
    return f"patiently: {last.end[1]}"


def forget_all(server: redis.Redis) -> None:
    """Leave nothing of the cases before."""
    for key in list(server.scan_iter(f"{PREFIX}*", count=1000)):
        server.unlink(key)


def main(arguments: list[str]) -> int:
    """The command line. Returns the number of failures, at most 100."""
    parser = argparse.ArgumentParser(prog="python -m tests.redis.script_cases", description=__doc__)
    parser.add_argument("count", nargs="?", type=int, default=3000, help="how many cases to run")
    parser.add_argument("--first", type=int, default=0, help="the number of the first")
    parser.add_argument("--case", type=int, help="run only this one, and show where it breaks")
    chosen = parser.parse_args(arguments)
    facts: Counter[str] = Counter()
    failures, began = 0, time.monotonic()
    with RedisServer() as running, redis.Redis.from_url(running.url) as server:
        if chosen.case is not None:
            print(run_case(server, chosen.case))
            return 0
        for number in range(chosen.first, chosen.first + chosen.count):
            try:
                facts[run_case(server, number)] += 1
            except (ViolationError, redis.ResponseError, LookupError, TypeError, ValueError, AttributeError) as error:
                failures += 1
                print(f"{type(error).__name__}: {str(error)[:400]}\n  {' '.join(error.__notes__)}")
    print(f"{chosen.count} cases, {failures} failures, {time.monotonic() - began:.1f} s")
    print("\n".join(f"{count:8} {what}" for what, count in sorted(facts.items())))
    return min(failures, 100)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
