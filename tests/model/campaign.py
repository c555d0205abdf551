"""The random cases, by number: ``python -m tests.model.campaign 24000`` runs as many, ``--case 17`` one of them.

A number gives the same graph, the same behaviour and the same order on every machine. The four kinds of cases take turns.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Callable
from random import Random

from graflow.core.board import STATUS_NAMES
from graflow.core.plan import RUN
from graflow.core.run import RunState
from tests.model.check import ViolationError, demand
from tests.model.drive import Case, Ran, drive
from tests.model.generate import Drawing, Habits, Shape, sources_come_first
from tests.model.oracle import Oracle

Facts = Counter[str]
LIMITS = ("steps", "cycles")


def without_loops(number: int, random: Random, machine: type[RunState], twin: bool) -> Facts:
    """A graph without loops comes out as the oracle says, in whatever order."""
    graph = Drawing(random, Shape(loops=False)).draw()
    habits = Habits(fail=random.choice((0, 0.05, 0.15)), retry=0.05, suspend=0.03, goto=0.2, new=0.1, iterate=0.1)
    case = Case(graph, f"dag {number}", habits, "continue", 800)
    oracle = Oracle(case)
    for order in range(2):
        state = drive(case, order, machine, twin=twin and order == 0).state
        demand(state.end is not None and state.end.status == oracle.status, f"the run {state.end}, not {oracle.status}")
        for name, verdict in oracle.verdicts.items():
            node = state.find(name) if verdict.certain else None
            if node is not None:
                found = (STATUS_NAMES[state.status[node]], state.results.get(node))
                expected = (verdict.status, verdict.result)
                demand(found == expected, f"{name} is {found}, the oracle says {expected}")
            demand(node is not None or not verdict.certain, f"{name} was never made")
    return Facts({"nodes judged by the oracle": len(oracle.verdicts)})


def in_any_order(number: int, random: Random, machine: type[RunState], twin: bool) -> Facts:
    """Loops and gotos that nothing runs beside: results, statuses and cycles do not depend on the order."""
    graph = Drawing(random, Shape()).draw()
    while not sources_come_first(graph):
        graph = Drawing(random, Shape()).draw()
    habits = Habits(fail=random.choice((0, 0.1)), retry=0.05, suspend=0.03, goto=0.2, new=0.1, iterate=0.1)
    case = Case(graph, f"order {number}", habits, "continue", 800)
    ran = [drive(case, order, machine, twin=twin and order == 0) for order in range(3)]
    if any(one.state.end is None or one.state.end.cause in LIMITS for one in ran):
        return Facts({"ended by a limit": 1})
    whole = not any(one.cancelled for one in ran)
    if not whole and any(one.state.cycle[group] > 1 for one in ran for group in one.state.scopes if group != RUN):
        # How far members got before they were cancelled differs, so do their cycles, and by these they behave next time.
        return Facts({"groups visited again after members were cancelled": 1})
    summaries = [Ran(one.state, not whole).summary() for one in ran]
    for other in summaries[1:]:
        told = [f"{a} or {b}" for a, b in zip(summaries[0], other, strict=False) if a != b]
        demand(other == summaries[0], f"it depends on the order: {'; '.join(told) or 'other nodes'}")
    return Facts({"went round or back": any(cycle > 1 for cycle in ran[0].state.cycle)})


def anything_goes(number: int, random: Random, machine: type[RunState], twin: bool) -> Facts:
    """Wild graphs and wild tasks: the machine does what the reference does, and keeps its invariants."""
    return _wild(number, random, machine, twin, start=False)


def from_the_middle(number: int, random: Random, machine: type[RunState], twin: bool) -> Facts:
    """The same, begun at some node."""
    return _wild(number, random, machine, twin, start=True)


def _wild(number: int, random: Random, machine: type[RunState], twin: bool, *, start: bool) -> Facts:
    graph = Drawing(random, Shape(early=True, wild=True)).draw()
    calm = random.choice((0.3, 1, 1))
    habits = Habits(fail=0.08 * calm, retry=0.08, suspend=0.05, goto=0.3, wild=True, new=0.15, iterate=0.1, stop=0.01, outside=0.003)
    begin = random.choice([node.id for node in graph.nodes if node.group is None]) if start else None
    on_failure = random.choice(("fail", "continue", "continue"))
    case = Case(graph, f"wild {number}", habits, on_failure, random.choice((300, 300, 300, 30, None)), begin)
    state = drive(case, 0, machine, twin=twin).state
    end = state.end.cause if state.end is not None else ""
    return Facts({f"wild: {end}": 1, "went round or back": any(cycle > 1 for cycle in state.cycle)})


KINDS: tuple[Callable[[int, Random, type[RunState], bool], Facts], ...] = (
    without_loops,
    in_any_order,
    anything_goes,
    from_the_middle,
)


def run_case(number: int, machine: type[RunState] = RunState, *, twin: bool = True) -> Facts:
    """Run one case, beside the reference unless ``twin`` is false.

    Raises:
        ViolationError: something is wrong; or whatever broke. Either has a note with the command that repeats it.
    """
    kind = KINDS[number % len(KINDS)]
    try:
        return kind(number, Random(f"case {number}"), machine, twin)
    except Exception as error:
        error.add_note(f"{kind.__name__}; again with: python -m tests.model.campaign --case {number}")
        raise


def main(arguments: list[str]) -> int:
    """The command line. Returns the number of failures, at most 100."""
    parser = argparse.ArgumentParser(prog="python -m tests.model.campaign", description=__doc__)
    parser.add_argument("count", nargs="?", type=int, default=24_000, help="how many cases to run")
    parser.add_argument("--first", type=int, default=0, help="the number of the first")
    parser.add_argument("--case", type=int, help="run only this one, and show where it breaks")
    chosen = parser.parse_args(arguments)
    if chosen.case is not None:
        print(dict(run_case(chosen.case)))
        return 0
    facts, failures, began = Facts(), 0, time.monotonic()
    for number in range(chosen.first, chosen.first + chosen.count):
        try:
            facts += run_case(number)
        except (ViolationError, LookupError, RecursionError, TypeError, ValueError, AttributeError) as error:
            failures += 1
            print(f"{type(error).__name__}: {str(error)[:400]}\n  {' '.join(error.__notes__)}")
    print(f"{chosen.count} cases, {failures} failures, {time.monotonic() - began:.1f} s")
    print("\n".join(f"{count:8} {what}" for what, count in sorted(facts.items())))
    return min(failures, 100)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
