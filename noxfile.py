"""The project's checks, each a session: ``nox`` runs them all, ``nox -s lint`` runs one, ``nox -l`` lists them.

Inside an environment that has the ``dev`` extra, ``nox --no-venv`` makes no other: ``.ci/run`` does so.
"""

from __future__ import annotations

import nox

nox.needs_version = ">=2025.5"
nox.options.sessions = ["lint", "types", "tests"]
nox.options.reuse_existing_virtualenvs = True


def _prepare(session: nox.Session) -> None:
    """Install the project with its development extra, unless the caller's environment is to be used as it is."""
    if session.venv_backend != "none":
        session.install("-e", ".[dev]")


@nox.session
def lint(session: nox.Session) -> None:
    """Style: ruff's rules and its formatting."""
    _prepare(session)
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")


@nox.session
def types(session: nox.Session) -> None:
    """Types: pyright and mypy, both strict, and nothing public left untyped."""
    _prepare(session)
    session.run("pyright")
    session.run("pyright", "--verifytypes", "graflow", "--ignoreexternal")
    session.run("mypy")


@nox.session
def tests(session: nox.Session) -> None:
    """The test suite, the examples included. Arguments after ``--`` go to pytest."""
    _prepare(session)
    session.run("python", "-m", "pytest", *session.posargs)


@nox.session
def examples(session: nox.Session) -> None:
    """The examples only."""
    _prepare(session)
    session.run("python", "-m", "pytest", "tests/examples", *session.posargs)


@nox.session
def bench(session: nox.Session) -> None:
    """The benchmarks. Arguments after ``--`` go to them."""
    _prepare(session)
    session.run("python", "-m", "benchmarks", *session.posargs)
