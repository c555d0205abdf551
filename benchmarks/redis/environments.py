"""An environment for each contender: made once, kept in the user's cache, used again by the next run."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

from benchmarks.redis.contenders import Contender
from benchmarks.redis.errors import LeftOut

INSTALLING = 600.0
"""Seconds that an installation may take."""


def prepared(contender: Contender) -> Path:
    """The directory of the contender's programs, after whatever it takes to have them.

    Raises:
        LeftOut: it cannot be installed.
    """
    if not contender.is_peer:
        return Path(sys.executable).parent
    home = _home(contender)
    programs, complete = home / "bin", home / "complete"
    if not complete.exists():  # a directory alone may be what an interrupted run left
        venv.create(home, clear=True, with_pip=True)
        _install(programs, contender)
        complete.touch()
    return programs


def version_of(contender: Contender, programs: Path) -> str:
    """The version of the contender that is measured."""
    program = f"import importlib.metadata as m; print(m.version({contender.package!r}))"
    done = subprocess.run([programs / "python", "-c", program], capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


def forget(contender: Contender) -> None:
    """Remove the contender's environment; the next run installs what is newest then."""
    shutil.rmtree(_home(contender), ignore_errors=True)


def _home(contender: Contender) -> Path:
    """Named after what is in it: other requirements, or another Python, are another environment."""
    what = f"{sys.implementation.cache_tag} {contender.requirements}"
    cache = Path(os.environ.get("XDG_CACHE_HOME") or tempfile.gettempdir())
    return cache / "graflow-benchmarks" / f"{contender.name}-{hashlib.sha256(what.encode()).hexdigest()[:12]}"


def _install(programs: Path, contender: Contender) -> None:
    command = [programs / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *contender.requirements]
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=INSTALLING, check=False)
    except subprocess.TimeoutExpired:
        raise LeftOut(f"pip did not finish in {INSTALLING:.0f} s") from None
    if done.returncode:
        errors = [line for line in done.stdout.splitlines() if line.startswith("ERROR")]
        raise LeftOut(f"pip: {errors[-1] if errors else f'exit code {done.returncode}'}")
