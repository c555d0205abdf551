"""The child's main program: take the protocol's descriptors away, say that we are ready, and run calls until the worker is gone."""

from __future__ import annotations

import contextlib
import faulthandler
import importlib
import logging
import os
import platform
import signal
import sys
from typing import Any

from graflow.handlers.inside import contexts, standins, values
from graflow.handlers.inside.boundary import STAGE
from graflow.handlers.inside.calls import Caller, Kit, Requests
from graflow.handlers.inside.link import Link
from graflow.handlers.inside.output import capture

PROTOCOL = 1
SOON = 0.02
"""seconds within which a child that is waited for has its first call"""


def serve() -> None:
    """Run until the other end of the protocol is closed."""
    link = _private_link()
    faulthandler.enable(2)  # a crash in C code leaves its traceback where the worker finds it
    _, setup = link.receive()
    os.environ[STAGE] = "serving"
    dies_with_the_worker = _die_with_the_worker(setup["with_parent"])
    # "" is wherever a task goes; a directory of its own code in the image is where this began, as for "python file.py".
    own = [each or os.getcwd() for each in sys.path] if setup["keep_path"] else []
    sys.path[:] = [*setup["path"], *own]
    link.mark_in(setup["begun"], errors=setup["marks"])
    kit = _kit(setup.get("secrets"))
    caller = Caller(link, kit, capture(link, kit.encode))
    about = {
        "protocol": PROTOCOL,
        "python": list(sys.version_info[:3]),
        "implementation": platform.python_implementation(),
        "pid": os.getpid(),
    }
    link.send("ready", about)
    if link.is_idle(SOON):  # kept ready ahead of use, with time to get what coroutines need; others have their call at once
        importlib.import_module("asyncio")
    if not dies_with_the_worker:
        link.listen()
    while True:
        _, number, what = link.next_call()
        if logging.root.level != what["level"]:  # setting it empties the caches of all loggers
            logging.root.setLevel(what["level"])
        caller.call(number, what)


def _private_link() -> Link:
    """The protocol's own descriptors. Standard output becomes standard error, so that what C code prints is not taken for an answer."""
    link = Link(os.dup(0), os.dup(1))
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    return link


def _die_with_the_worker(worker: int) -> bool:
    """A task that holds the GIL never lets the reading thread hear of the worker's end: on Linux the kernel sees to it."""
    if not worker or sys.platform != "linux":
        return False
    import ctypes

    PR_SET_PDEATHSIG = 1
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != worker:  # it died before we asked
        os._exit(0)
    return True


def _kit(secrets: dict[str, bytes] | None) -> Kit:
    if standins.is_installed():
        try:
            return _with_graflow(secrets)
        except ImportError as error:  # it is there without all that it needs, as where only its own package is mounted
            os.write(2, f"Graflow cannot be imported here ({error}); a stand-in takes its place\n".encode())
            standins.forget()
    return _without_graflow()


def _without_graflow() -> Kit:
    standins.install()

    def make_context(requests: Requests, who: dict[str, Any], is_async: bool) -> Any:
        return (contexts.Context if is_async else contexts.SyncContext)(requests, who)

    def directives(context: contexts.Context | contexts.SyncContext) -> dict[str, Any] | None:
        asked = dict(context.asked)
        if "iteration" in asked:
            asked["iteration"] = values.encode(asked["iteration"], "next_iteration")
        return asked or None

    return Kit(values.encode, values.decode, make_context, directives, contextlib.nullcontext)


def _with_graflow(secrets: dict[str, bytes] | None) -> Kit:
    from graflow.handlers import remote
    from graflow.wire import codec

    if secrets:
        remote.use_keys(secrets)
    return Kit(codec.encode, codec.decode, remote.make_context, remote.directives, remote.scope)
