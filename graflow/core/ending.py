"""How a run is over, and why."""

from __future__ import annotations

from typing import Literal

import msgspec


class End(msgspec.Struct, frozen=True):
    """Why a run is over.

    ``cause`` is ``"completed"``, ``"terminated"``, ``"failed"``, ``"cancelled"``, ``"steps"``, ``"cycles"`` or ``"timeout"``; ``node`` is
    the node that brought it about, None when that came from outside.
    """

    status: Literal["succeeded", "failed", "cancelled"]
    cause: str
    node: int | None = None
    reason: str = ""
