"""What may be asked of a barrier, on every backend, and how to say what may not."""

from __future__ import annotations

from typing import Any

from graflow.core.clock import is_wait
from graflow.core.naming import is_text
from graflow.errors import ConfigurationError, UnknownRunError


def check_parties(group_id: str, parties: Any) -> None:
    """Raise a ConfigurationError for a number of parties that could never open a barrier."""
    if not isinstance(parties, int) or isinstance(parties, bool):
        raise ConfigurationError(f"barrier {group_id!r}: parties={parties!r} is no whole number; say how many open it", setting="parties")
    if parties < 1:
        raise ConfigurationError(f"barrier {group_id!r} wants at least one party, not {parties}", setting="parties")


def check_place(group_id: Any, run_id: Any) -> None:
    """Raise a ConfigurationError for what is no name of a barrier, or of a run that it could belong to."""
    check_name(group_id, "group_id")
    if run_id is not None:
        check_name(run_id, "run_id")


def check_timeout(timeout: Any) -> None:
    """Raise a ConfigurationError for what does not say how long to wait."""
    if not is_wait(timeout):
        raise ConfigurationError(f"timeout={timeout!r}: give the seconds to wait, or None for as long as it takes", setting="timeout")


def check_name(value: Any, setting: str) -> None:
    """Raise a ConfigurationError for what is no name."""
    if not isinstance(value, str) or not value:
        raise ConfigurationError(f"{setting}={value!r}: give a text that is not empty", setting=setting)
    if not is_text(value):
        raise ConfigurationError(f"{setting}={value!r}: give a text in valid Unicode", setting=setting)


def other_parties(group_id: str, asked: int, known: int, run_id: str | None) -> ConfigurationError:
    """The error for two ideas of one barrier: whoever came second would wait for a door that opens too early, or never."""
    remedy = "use another group_id" if run_id is not None else "use another group_id, or give run_id= to keep the barriers of runs apart"
    return ConfigurationError(
        f"barrier {group_id!r} exists and is opened by {known} parties, not by {asked}; {remedy}, or cleanup_barrier() it first",
        setting="parties",
    )


def unknown_barrier(group_id: str, run_id: str | None) -> ConfigurationError:
    """The error for a barrier that there is none of."""
    again = "" if run_id is None else f", run_id={run_id!r}"
    return ConfigurationError(f"no barrier {group_id!r}: create_barrier({group_id!r}, parties{again}) comes first", setting="group_id")


def run_is_over(run_id: str) -> UnknownRunError:
    """The error for what only a run has that goes on, such as its barriers."""
    return UnknownRunError(f"run {run_id!r} is over", run_id=run_id)
