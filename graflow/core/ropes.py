"""Nested tuples of nodes: what the operators build, so that joining ten thousand tasks one by one copies nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeGuard

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


def leaves(rope: Any) -> Iterator[Any]:
    """What is in the tuples, left to right. Not by recursion: they nest as deep as operators were written in a row."""
    stack: list[Any] = [rope]
    while stack:
        top = stack.pop()
        if _is_tuple(top):
            stack.extend(reversed(top))
        else:
            yield top


def _is_tuple(value: object) -> TypeGuard[tuple[Any, ...]]:
    return type(value) is tuple


def shortened(joiner: str, ids: Sequence[str]) -> str:
    """Ids for a message, at most six of them."""
    return joiner.join(ids if len(ids) <= 6 else [*ids[:3], f"... ({len(ids) - 4} more)", ids[-1]])
