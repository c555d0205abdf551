"""A thread and the loop that waits for it, at the moments in which they miss each other."""

from __future__ import annotations

import threading
from typing import Any

from graflow.handlers import ThreadHandler
from graflow.handlers.thread import _Watched  # pyright: ignore[reportPrivateUsage]


class Call:
    """As much of a call as is looked at."""

    run_id, task_id = "r", "t"
    cancelled = False


def watched(function: Any) -> tuple[ThreadHandler, Call, _Watched]:
    handler, call = ThreadHandler(), Call()
    return handler, call, _Watched(handler, call, function)  # type: ignore[arg-type]


def test_a_function_that_is_given_up_before_it_began_is_not_called() -> None:
    called: list[int] = []
    handler, call, function = watched(lambda: called.append(1))
    function.leave()
    assert call.cancelled
    assert function() is None
    assert (called, handler.abandoned) == ([], 0)


def test_a_function_that_is_given_up_while_it_runs_is_counted_until_it_returns() -> None:
    began, leave = threading.Event(), threading.Event()

    def run() -> str:
        began.set()
        leave.wait(10)
        return "done"

    handler, call, function = watched(run)
    thread = threading.Thread(target=function)
    thread.start()
    began.wait(10)
    function.leave()
    assert (call.cancelled, handler.abandoned) == (True, 1)
    leave.set()
    thread.join(10)
    assert handler.abandoned == 0


def test_a_function_that_has_returned_or_raised_is_not_abandoned() -> None:
    def fail() -> None:
        raise ValueError

    for run in (lambda: 1, fail):
        handler, call, function = watched(run)
        try:
            function()
        except ValueError:
            assert run is fail
        function.leave()
        assert (call.cancelled, handler.abandoned) == (False, 0)
