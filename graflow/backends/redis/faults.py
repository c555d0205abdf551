"""What went wrong between this process and Redis, and what is to be done about it: one table.

An error is known by its code, the first word of what the server says, or by its class where it has none. Redis 6.2 wraps errors that happen inside a
script into another, so the code is looked for there too.
"""

from __future__ import annotations

import random
import re
import ssl
from enum import Enum
from typing import Final

from redis import exceptions as redis

from graflow.errors import BackendUnavailableError, BackendUnsuitableError, GraflowError, QueueFullError


class Remedy(Enum):
    """What to do about an error."""

    RESEND = "send the same again, after a pause"
    """it may have been carried out already: only for what may be carried out twice"""
    RESOLVE = "connect anew, then send the same again"
    """the server at the other end is not the one that is needed any more"""
    REPAIR = "give the server what it lacks, then send the same again"
    FULL = "there is no room: tell whoever wants to put something in"
    FATAL = "tell the user: it would be the same again"


CODES: Final[dict[str, Remedy]] = {
    "LOADING": Remedy.RESEND,
    "TRYAGAIN": Remedy.RESEND,
    "CLUSTERDOWN": Remedy.RESEND,
    "MASTERDOWN": Remedy.RESEND,
    "NOREPLICAS": Remedy.RESEND,
    "MISCONF": Remedy.RESEND,
    "BUSY": Remedy.RESEND,
    "READONLY": Remedy.RESOLVE,
    "UNBLOCKED": Remedy.RESOLVE,
    "MOVED": Remedy.RESOLVE,
    "ASK": Remedy.RESOLVE,
    "NOSCRIPT": Remedy.REPAIR,
    "NOGROUP": Remedy.REPAIR,
    "OOM": Remedy.FULL,
    "NOAUTH": Remedy.FATAL,
    "WRONGPASS": Remedy.FATAL,
    "NOPERM": Remedy.FATAL,
    "WRONGTYPE": Remedy.FATAL,
    "CROSSSLOT": Remedy.FATAL,
}
"""What the server says. A code that is not here is fatal."""

CLASSES: Final[tuple[tuple[type[Exception], Remedy], ...]] = (
    # In this order: redis-py derives the first two from its ConnectionError, though no new connection would help.
    (redis.AuthenticationError, Remedy.FATAL),
    (redis.AuthorizationError, Remedy.FATAL),
    (redis.ConnectionError, Remedy.RESEND),
    (redis.TimeoutError, Remedy.RESEND),
    (redis.InvalidResponse, Remedy.RESOLVE),
    (ssl.SSLCertVerificationError, Remedy.FATAL),
    (OSError, Remedy.RESEND),
)
"""Errors without a code: those that happen on this side of the connection."""

SLOW: Final = frozenset({"MISCONF", "LOADING", "BUSY", "NOREPLICAS", "CLUSTERDOWN"})
"""What takes the server, or whoever runs it, seconds to mend."""

_PAUSE: Final = 0.05
_LONGEST: Final = 2.0
_SLOW_PAUSE: Final = 0.5
_INSIDE_SCRIPT: Final = re.compile(r"@user_script: ?\d+: -?(?:@user_script: ?\d+: -?)?([A-Z]{2,})\b")
_MAX_CLIENTS: Final = "max number of clients"


def code_of(error: BaseException) -> str:
    """The server's code for an error; empty where it gave none, as for errors of the connection."""
    known = getattr(error, "status_code", None)
    text = str(error)
    code = known if isinstance(known, str) else _first_word(text)
    if code == "ERR" and (inside := _INSIDE_SCRIPT.search(text)):
        return inside[1]
    return code


def classify(error: BaseException) -> Remedy:
    """What to do about an error that came out of a command, or out of connecting."""
    code = code_of(error)
    if remedy := CODES.get(code):
        return remedy
    if _MAX_CLIENTS in str(error):
        return Remedy.RESEND
    # redis-py tells of whatever happens while it connects as a ConnectionError; the one behind it says whether to try again.
    behind = error.__cause__ or error.__context__
    if type(error) is redis.ConnectionError and isinstance(behind, (redis.RedisError, ssl.SSLCertVerificationError)):
        return classify(behind)
    return next((remedy for kind, remedy in CLASSES if isinstance(error, kind)), Remedy.FATAL)


def pause(error: BaseException, tries: int) -> float:
    """Seconds to wait before the next try, after so many: anything up to a bound that doubles, so that clients which lost the same server do not
    all come back at once."""
    first = _SLOW_PAUSE if code_of(error) in SLOW else _PAUSE
    return random.uniform(0.0, min(_LONGEST, first * 2.0 ** min(tries, 16)))


def as_graflow(error: BaseException, where: str, *, queue: str = "", limit: int = 0) -> GraflowError:
    """The error that users see, to be raised from the one that it says the same as. ``where`` names the server, without a password."""
    reason = str(error) or type(error).__name__
    match classify(error):
        case Remedy.FULL:
            room = f"its maxmemory of {limit} bytes is used up" if limit else "its maxmemory is used up"
            return QueueFullError(f"Redis at {where} takes nothing more in: {room} ({reason})", queue=queue, limit=limit)
        case Remedy.FATAL:
            return BackendUnsuitableError(f"Redis at {where} refuses: {reason}")
        case _:
            return BackendUnavailableError(f"Redis at {where} does not answer: {reason}")


def _first_word(text: str) -> str:
    word = text.partition(" ")[0]
    return word if word.isascii() and word.isupper() and word.isalpha() else ""
