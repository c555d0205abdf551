"""What can go wrong with one contender while the others go on."""

from __future__ import annotations


class LeftOut(Exception):
    """A contender cannot take part. The message is the reason, in one line."""
