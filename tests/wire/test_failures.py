"""Exceptions as bytes: what can travel does, and what cannot keeps nothing else back."""

from __future__ import annotations

import threading
from typing import Any

from graflow.core.outcome import describe
from graflow.wire.failures import decode_failure, encode_failure


class Declined(Exception):
    """With more to say than its text."""

    def __init__(self, text: str, reason: str) -> None:
        super().__init__(text)
        self.reason = reason
        self.lock = threading.Lock()


def sent(error: Exception) -> Any:
    return decode_failure(encode_failure(describe(error, "pay"))).exception


def test_notes_come_along() -> None:
    error = ValueError("no")
    error.add_note("card 17")
    assert sent(error).__notes__ == ["card 17"]


def test_an_attribute_that_cannot_travel_keeps_no_other_back() -> None:
    error = Declined("no", "limit")
    error.add_note("card 17")
    arrived = sent(error)
    assert type(arrived) is Declined
    assert vars(arrived) == {"reason": "limit", "__notes__": ["card 17"]}
