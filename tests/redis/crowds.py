"""Crowds of workers by number: what Hypothesis does with one, without its wish to make a failure small."""

from __future__ import annotations

from collections.abc import Mapping
from random import Random

import redis

from graflow.backends.redis.scripts import Script
from tests.redis.protocol import TICKS, Crowd

STEPS = 40


def play_crowd(server: redis.Redis, number: int, replaced: Mapping[str, Script] | None = None) -> None:
    """Let the crowd of that number do what it does, and come to its end. Raises ViolationError if something is wrong."""
    random = Random(f"crowd {number}")
    crowd = Crowd(server, budget=random.choice((512, 3)), replaced=replaced)
    try:
        play(crowd, random)
    except Exception as error:
        error.add_note(f"again with: tests.redis.crowds.play_crowd(server, {number})")
        raise


def play(crowd: Crowd, random: Random) -> None:
    """This and that, and then the end."""
    crowd.submit(random.randrange(60), lost=False)
    for _ in range(STEPS):
        worker, lost = random.choice(crowd.workers), random.random() < 0.5
        run_id = random.choice(list(crowd.runs))
        match random.choices(range(10), (6, 2, 2, 8, 2, 1, 2, 2, 1, 1))[0]:
            case 0:
                crowd.fetch(worker, random.randint(1, 4), lost=lost)
            case 1:
                crowd.read(worker, random.choice(("well", "lost", "put back", "reply lost")))
            case 2:
                crowd.recover(worker)
            case 3 if crowd.issued:
                how = random.choice(("as it does", "as it does", "plain", "fail", "later", "suspend", "hand back", "hand back"))
                crowd.settle(worker, -1 - random.randrange(6), how, lost=lost, most=random.randint(0, 2))
            case 4:
                crowd.beat(worker)
            case 5:
                crowd.die(worker)
            case 6:
                crowd.calls.shift += random.choice(TICKS)
            case 7:
                crowd.reap(lost=lost)
            case 8 if crowd.suspensions:
                crowd.resume(run_id, 0, lost=lost)
            case 9 if random.random() < 0.3:
                crowd.cancel(run_id, lost=lost)
            case 9 if random.random() < 0.5:
                crowd.rerun(run_id, lost=lost)
            case 9 if len(crowd.runs) < 3:
                crowd.submit(random.randrange(60), lost=lost)
        crowd.check()
    crowd.finish()
