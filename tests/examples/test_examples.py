"""Each example runs as it stands, in a process of its own, and prints what its reader expects."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import pytest

from tests.redis.server import RedisServer, find_server

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
ON_REDIS = "on_workers.py"
"""wants a server"""
WEB = "fastapi_sse.py"
"""runs until it is told to stop, and so has a test of its own"""

PRINTS = {
    "quickstart.py": """
Oslo: 0.0 degrees on average, 3.5 at noon
from fetch=[-4.5, 1.0, 3.5], mean=0.0, warmest=3.5
Lima: 22.0 degrees on average, 24.5 at noon
from fetch=[19.0, 24.5, 22.5], mean=22.0, warmest=24.5
""",
    "arguments.py": """
A-17 of 21 November: 37.35 EUR, 2 copies in en
A-17 of 21 November: 41.5 EUR, 2 copies in fr
ArgumentTypeError: parameter 'discount' of task 'price' is annotated float and was given the str 'ten percent': {...}
""",
    "groups.py": """
all answer:         broker for 295
any may fail:       broker for 295
two are enough:     broker for 295
one has to answer:  airline for 310
strict fails:       charter: charter does not answer
""",
    "processes.py": """
2262 primes below 20000 in parts of 669 560 525 508
well: 4
crash: SIGSEGV
leave: exit code 3
""",
    "mapping.py": """
values:  [1815, 1922]
results: 1815 - 1897 - 1922 (3 dates, 2 looked up at once)
date[0]: nobody knows when Beowulf was written
""",
    "router.py": """
my invoice is wrong: A corrected invoice is on its way.
it will crash at start: We are sorry. It will be fixed in the next release.
the crash broke my invoice: We are sorry. A corrected invoice is on its way. It will be fixed in the next release.
just saying hello: no reply
""",
    "agent_loop.py": """
  round 1: First I need height 1 of 2.
  round 2: First I need height 2 of 2.
  round 3: Now the difference.
  round 4: The Eiffel Tower, by 234 m.
The Eiffel Tower, by 234 m.
  round 1: Let me look that up once more.
  round 2: Let me look that up once more.
  round 3: Let me look that up once more.
  round 4: Let me look that up once more.
no answer after 4 rounds
""",
    "pagination.py": """
page 1: Sirius, Canopus, Arcturus
page 2: Vega, Capella, Rigel
page 3: Procyon, Achernar
8 stars on 3 pages, from Sirius to Achernar
page 1: Sirius, Canopus, Arcturus, Vega, Capella, Rigel
page 2: Procyon, Achernar
8 stars on 2 pages, from Sirius to Achernar
""",
    "crawler.py": """
/               2 links
/about          2 links
/blog           3 links
/blog/asyncio   2 links
/blog/graphs    1 links
/missing        0 links
/team           1 links
broken: /missing
""",
    "channels.py": """
50 seats sold at 3 desks; printed A1, A2, B1, B2; discount over
""",
    "retries.py": """
  charging visa, attempt 1, key order-visa:charge:1
  charging visa, attempt 2, key order-visa:charge:1
  charging visa, attempt 3, key order-visa:charge:1
paid
  charging expired, attempt 1, key order-expired:charge:1
given up after attempt 1: this card has expired
look_up_rate again, after RetryLater
print_receipt again, after TaskTimeoutError
{'look_up_rate': 1.08, 'print_receipt': 'printed'}
""",
    "saga.py": """
flight booked
hotel booked
paid
-> trip sold; the run succeeded, tasks failed: none
flight booked
hotel booked
Hotel Lisboa cancelled, because pay failed: not enough money
LH 422 cancelled
-> trip not sold; the run succeeded, tasks failed: ['pay']
""",
    "keep_going.py": """
failed: Klingon ('no dictionary for Klingon')
done:   Finnish: hei
done:   Finnish, proofread: Hei!
done:   French: bonjour
done:   French, proofread: Bonjour!
done:   Latin: salve
done:   Latin, proofread: Salve!
not:    Klingon, proofread: {...}
""",
    "cancellation.py": """
  oven off, the sponge is out
from outside: cancelled
  oven off, the tart is out
left behind: cancelled
  oven off, the pie is out
too slow: over after 0.02 s
  oven off, the strudel is out
by a task: smell_smoke said 'smoke'
""",
    "events.py": """
scan: #.. page 1
scan: ##. page 2
scan: ### page 3
The owl and the pussycat went to sea {...}
... and, picking up after event {...}
in a beautiful pea-green boat {...}
succeeded, 13 words
""",
    "run_ids.py": """
created: True, and then: False
run 'nightly-2026-11-21' exists with other inputs; {...}
now:   running {...}
later: failed, {'dump': 'library.dump'}, no space left
again: /backups/library.dump
no such run: nightly-1999-12-31
""",
    "resources.py": """
library open
reader 1: 3 books
reader 2: 2 books
library closed
""",
    "custom_handler.py": """
dome opens
  turn to Vega
  observe[0], attempt 1: a cloud
  turn to Mars
  observe[1] seen
  turn to Pluto
  observe[2], attempt 1: nothing to see
  turn to Vega
  observe[0] seen
  turn to Pluto
  observe[2] seen
brightest: Mars
dome closes
""",
    "virtual_time.py": """
overdue after 14.007 days and 3 attempts to mail
nobody else is reminded
tested in a moment
""",
    "many_runs.py": """
 4995 x RunResult
    5 x WorkflowCancelledError
order 0 from warehouse 0
sold out
{...} tasks a second
""",
    "on_workers.py": """
submitted: running
the run is on the server, and this process may end
  done: fetch
  done: {...}
  done: {...}
  done: report
Oslo: 0.0 degrees on average, 3.5 at noon
""",
    "sync_script.py": """
{...} files, the largest is {...}.py; zipped they take {...}% less; fingerprint {...}
""",
}


def examples() -> list[Path]:
    return sorted(EXAMPLES.glob("*.py"))


@contextmanager
def a_server() -> Iterator[dict[str, str]]:
    """A Redis server for one example, and the variable that names it."""
    if find_server() is None:
        pytest.skip("no redis-server on this machine")
    with RedisServer(aof=True) as server:
        yield {"GRAFLOW_REDIS_URL": server.url}


@pytest.mark.parametrize("name", [path.name for path in examples() if path.name != WEB])
def test_an_example_prints_what_its_reader_expects(name: str) -> None:
    with a_server() if name == ON_REDIS else nullcontext({}) as variables:
        command = [sys.executable, "-W", "error", f"examples/{name}"]
        environment = {**os.environ, **variables}
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    expected = re.escape(PRINTS[name].strip("\n")).replace(re.escape("{...}"), ".*")
    assert re.fullmatch(expected, done.stdout.strip("\n")), done.stdout


@pytest.mark.parametrize("path", examples(), ids=lambda path: path.name)
def test_an_example_is_short_and_says_what_it_shows(path: Path) -> None:
    text = path.read_text("utf-8")
    assert len(text.splitlines()) < 60
    assert text.startswith('"""')


def test_the_readme_lists_every_example_and_nothing_else() -> None:
    listed = re.findall(r"^\| \[(.+?)\]\((.+?)\) \|", EXAMPLES.joinpath("README.md").read_text("utf-8"), re.MULTILINE)
    assert all(name == target for name, target in listed)
    assert sorted(name for name, _ in listed) == [path.name for path in examples()]
    assert sorted([*PRINTS, WEB]) == [path.name for path in examples()]
