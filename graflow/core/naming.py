"""Ids: what may be one, and what to say when two nodes share one or there is none of that name."""

from __future__ import annotations

import difflib
from itertools import islice
from typing import TYPE_CHECKING, Any

from graflow.errors import DuplicateTaskError, GraphError, UnknownTaskError

if TYPE_CHECKING:
    from collections.abc import Iterable

_MOST_COMPARED = 1000
"""Close matches are looked for among so many ids: the search is slow, and an error message should not be."""


def check_id(value: Any, what: str) -> str:
    """``value`` as an id. Raises GraphError when it is no text or empty."""
    if not isinstance(value, str) or not value:
        raise GraphError(f"{what} must be a text that is not empty, not {value!r}")
    return value


def fault_in_label(value: Any) -> str | None:
    """What is wrong with the name of a queue, a handler or a worker; None if it will do.

    Such names stand in one line with others: in the names of streams, in ``--queues a,b``, in logs. With a line break in it a name was cut in two
    where a retry was put off, and the retry lost; with a comma no command line could name it.
    """
    if not isinstance(value, str) or not value:
        return "give a text that is not empty"
    if not value.isprintable() or "," in value or value != value.strip():
        return "give printable characters, without commas, and without blanks at the ends"
    return None


def check_label(value: Any, what: str) -> None:
    """Raise a GraphError for what will not do as the name of a queue or handler."""
    if fault := fault_in_label(check_id(value, what)):
        raise GraphError(f"{what}{value!r}: {fault}")


def is_text(value: str) -> bool:
    """Whether it can be written down: half of a surrogate pair, as in an undecodable file name, cannot."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def duplicate_error(node_id: str, where: str) -> DuplicateTaskError:
    """The error for two different nodes of one id."""
    return DuplicateTaskError(
        f"two different nodes {where} have the id {node_id!r}; give one of them another, "
        "as in t.clone('other-id') or t.map(..., name='other-id')",
        ids=(node_id,),
    )


def unknown_error(node_id: str, graph: str, known: Iterable[str], why: str = "") -> UnknownTaskError:
    """The error for an id that the graph does not have; names close matches and the first of those that it has."""
    ids = list(known)
    if not ids:
        return UnknownTaskError(f"{why}{node_id!r} is not in the graph {graph!r}, which is empty", ids=(node_id,))
    guess = close_matches(node_id, ids)
    return UnknownTaskError(f"{why}{node_id!r} is not in the graph {graph!r}; {guess}it has {listed(ids)}", ids=(node_id,), known=ids[:5])


def close_matches(wanted: str, known: Iterable[str]) -> str:
    """``did you mean ...?`` with what is spelt like ``wanted``, or an empty text."""
    close = difflib.get_close_matches(str(wanted), islice(known, _MOST_COMPARED), n=3)
    return f"did you mean {' or '.join(map(repr, close))}? " if close else ""


def listed(ids: list[str]) -> str:
    """The first five, and how many more there are."""
    return ", ".join(map(repr, ids[:5])) + (f" and {len(ids) - 5} more" if len(ids) > 5 else "")
