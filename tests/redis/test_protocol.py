"""The delivery protocol under Hypothesis: whatever workers do or fail to do, nothing is lost and nothing counts twice.

Broken scripts that only this notices are among the tests. ``HYPOTHESIS_PROFILE=nightly`` searches for longer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import pytest
import redis
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule, run_state_machine_as_test

from graflow.backends.redis.scripts import Script
from tests.redis.crowds import play_crowd
from tests.redis.protocol import TICKS, Crowd, Worker
from tests.redis.script_mutants import PROTOCOL_MUTANTS, Mutant, crowds_until_caught

STEPS = 30
CROWDS = 300
"""how many a broken script may survive"""
places = st.integers(0, 60)
lost = st.booleans()


class Protocol(RuleBasedStateMachine):
    """What a crowd of workers may do, in any order."""

    server: ClassVar[redis.Redis]
    replaced: ClassVar[Mapping[str, Script]] = {}

    @initialize(budget=st.sampled_from((512, 3)), number=places)
    def begin(self, budget: int, number: int) -> None:
        self.crowd = Crowd(self.server, budget=budget, replaced=self.replaced)
        self.crowd.submit(number, lost=False)

    def worker(self, place: int) -> Worker:
        return self.crowd.workers[place % len(self.crowd.workers)]

    def run(self, place: int) -> str:
        return list(self.crowd.runs)[place % len(self.crowd.runs)]

    @precondition(lambda self: len(self.crowd.runs) < 3)
    @rule(number=places, lost=lost)
    def submit(self, number: int, lost: bool) -> None:
        self.crowd.submit(number, lost=lost)

    @rule(place=places, lost=lost)
    def run_again(self, place: int, lost: bool) -> None:
        self.crowd.rerun(self.run(place), lost=lost)

    @rule(who=places, most=st.integers(1, 4), lost=lost)
    def fetch(self, who: int, most: int, lost: bool) -> None:
        self.crowd.fetch(self.worker(who), most, lost=lost)

    @rule(who=places, fate=st.sampled_from(("well", "lost", "put back", "reply lost")))
    def read(self, who: int, fate: str) -> None:
        self.crowd.read(self.worker(who), fate)

    @rule(who=places)
    def recover(self, who: int) -> None:
        self.crowd.recover(self.worker(who))

    @precondition(lambda self: self.crowd.issued)
    @rule(
        who=places, back=places, how=st.sampled_from(("as it does", "plain", "fail", "later", "suspend")), lost=lost, most=st.integers(0, 2)
    )
    def settle(self, who: int, back: int, how: str, lost: bool, most: int) -> None:
        self.crowd.settle(self.worker(who), -1 - back, how, lost=lost, most=most)

    @precondition(lambda self: self.crowd.issued)
    @rule(who=places, back=places, lost=lost)
    def hand_back(self, who: int, back: int, lost: bool) -> None:
        self.crowd.settle(self.worker(who), -1 - back, "hand back", lost=lost)

    @rule(who=places)
    def beat(self, who: int) -> None:
        self.crowd.beat(self.worker(who))

    @rule(who=places)
    def die(self, who: int) -> None:
        self.crowd.die(self.worker(who))

    @rule(milliseconds=st.sampled_from(TICKS))
    def tick(self, milliseconds: int) -> None:
        self.crowd.calls.shift += milliseconds

    @rule(lost=lost)
    def reap(self, lost: bool) -> None:
        self.crowd.reap(lost=lost)

    @precondition(lambda self: self.crowd.suspensions)
    @rule(place=places, which=places, lost=lost)
    def resume(self, place: int, which: int, lost: bool) -> None:
        self.crowd.resume(self.run(place), which, lost=lost)

    @rule(place=places, lost=lost)
    def cancel(self, place: int, lost: bool) -> None:
        self.crowd.cancel(self.run(place), lost=lost)

    @rule()
    def flush_scripts(self) -> None:
        self.server.script_flush()

    @invariant()
    def nothing_is_lost_and_nothing_is_twice(self) -> None:
        if hasattr(self, "crowd"):
            self.crowd.check()

    def teardown(self) -> None:
        if hasattr(self, "crowd"):
            self.crowd.finish()


def run_machine(server: redis.Redis, replaced: Mapping[str, Script], chosen: Any) -> None:
    """Let the crowd do what it may."""
    machine = type("Protocol", (Protocol,), {"server": server, "replaced": replaced})
    run_state_machine_as_test(machine, settings=settings(chosen, stateful_step_count=STEPS, suppress_health_check=list(HealthCheck)))


def test_whatever_workers_do_nothing_is_lost_and_nothing_counts_twice(server: redis.Redis) -> None:
    run_machine(server, {}, settings(max_examples=max(1, settings().max_examples // 2)))


@pytest.mark.parametrize("mutant", PROTOCOL_MUTANTS, ids=lambda mutant: mutant.name)
def test_a_broken_script_is_caught(broken_server: redis.Redis, mutant: Mutant, record_property: Callable[[str, object], None]) -> None:
    caught = crowds_until_caught(broken_server, mutant, CROWDS)
    assert caught is not None, f"it survived {CROWDS} crowds"
    record_property("crowds", caught[0])
    print(f"{mutant.name}: caught after {caught[0]} crowds: {caught[1]}")


def test_crowds_that_catch_broken_scripts_find_nothing_wrong_with_the_others(server: redis.Redis) -> None:
    for number in range(40):
        play_crowd(server, number)
