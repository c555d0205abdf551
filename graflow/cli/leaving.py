"""How a command ends when a task's thread does not: Python waits for its threads, and such a one may take for ever."""

from __future__ import annotations

import os
import sys
import threading

_abrupt = False


def be_abrupt() -> None:
    """Do not wait for threads when the command ends: some run tasks that nobody waits for any more."""
    global _abrupt
    _abrupt = True


def leave(code: int) -> None:
    """End the process, at once if need be.

    Raises:
        SystemExit: where nothing stands in the way of an ordinary end.
    """
    running = [thread for thread in threading.enumerate() if not thread.daemon and thread is not threading.main_thread()]
    if _abrupt and running:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    raise SystemExit(code)
