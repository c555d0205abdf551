"""The checks that hold for every test, shown tests that break them."""

from __future__ import annotations

from pathlib import Path

import pytest

CONFTEST = Path(__file__).parents[1].joinpath("conftest.py").read_text("utf-8")
SETTINGS = "[pytest]\nasyncio_mode = auto\nasyncio_default_fixture_loop_scope = function\nfilterwarnings = error\n"


@pytest.fixture
def run(pytester: pytest.Pytester):
    """Runs a test module under the project's conftest and says how many tests came out how."""
    pytester.makeconftest(CONFTEST)
    pytester.makeini(SETTINGS)

    def run(module: str) -> dict[str, int]:
        pytester.makepyfile(module)
        return pytester.runpytest_inprocess("-p", "no:randomly", "-p", "no:cacheprovider").parseoutcomes()

    return run


def test_a_task_that_outlives_its_test_is_noticed(run) -> None:
    outcomes = run(
        """
        import asyncio

        kept = []

        async def test_leaves_a_task():
            kept.append(asyncio.create_task(asyncio.Event().wait()))
        """
    )
    assert outcomes == {"passed": 1, "errors": 1}


def test_a_thread_that_outlives_its_test_is_noticed(run, monkeypatch: pytest.MonkeyPatch) -> None:
    outcomes = run(
        """
        import threading

        import conftest
        conftest.THREAD_GRACE = 0.01
        end = threading.Event()

        def test_leaves_a_thread():
            threading.Thread(target=end.wait).start()

        def test_lets_it_end():
            end.set()
        """
    )
    assert outcomes == {"passed": 2, "errors": 1}


@pytest.mark.parametrize("call", ["time.sleep(0.001)", "os.stat('.')", "os.listdir()"])
def test_a_blocking_call_on_the_event_loop_is_noticed(run, call: str) -> None:
    outcomes = run(
        f"""
        import asyncio, os, time

        async def test_blocks():
            {call}

        def test_blocks_in_a_loop_of_its_own():
            asyncio.run(test_blocks())

        async def test_blocks_in_a_thread():
            await asyncio.to_thread(lambda: time.sleep(0.001))

        def test_blocks_nobody():
            time.sleep(0.001)
        """
    )
    assert outcomes == {"failed": 2, "passed": 2}


def test_what_ends_with_its_fixture_is_no_leak(run) -> None:
    outcomes = run(
        """
        import asyncio
        import anyio.to_thread
        import pytest
        from hypothesis import given, strategies

        @pytest.fixture
        async def background():
            task = asyncio.create_task(asyncio.Event().wait())
            yield task
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

        async def test_uses_it(background):
            assert not background.done()

        async def test_uses_threads():
            await asyncio.to_thread(int)
            await anyio.to_thread.run_sync(int)

        @given(strategies.integers())
        async def test_has_many_examples(number):
            await asyncio.sleep(0)
        """
    )
    assert outcomes == {"passed": 3}
