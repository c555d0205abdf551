"""The page about testing keeps what it promises: its snippets are one file of tests, and pass."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2].joinpath("docs/testing.md").read_text("utf-8")


def test_the_snippets_of_the_page_are_tests_that_pass(pytester: pytest.Pytester) -> None:
    blocks = [textwrap.dedent(block) for block in re.findall(r"^ *```python\n(.*?)^ *```$", PAGE, re.DOTALL | re.MULTILINE)]
    pytester.makeini("[pytest]\nasyncio_mode = auto\nasyncio_default_fixture_loop_scope = function\nfilterwarnings = error\n")
    pytester.makepyfile("\n".join(blocks))
    outcomes = pytester.runpytest_inprocess("-p", "no:randomly", "-p", "no:cacheprovider").parseoutcomes()
    assert outcomes == {"passed": 5}
