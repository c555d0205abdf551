"""What belongs to its process, and is never made into bytes."""

from __future__ import annotations

from typing import ClassVar, NoReturn, SupportsIndex

from graflow.errors import SerializationError


class StaysHere:
    """Base of what cannot travel: a pickle of it is refused, by whoever asks for it.

    Without that, some of it could be pickled: a channel of the memory backend arrived in a child as a copy, and what a task wrote into it never got
    to its run; a signer took its secrets along.
    """

    __slots__ = ()

    instead: ClassVar[str] = "make it where it is used"
    """what to do, for the error"""

    def __reduce_ex__(self, protocol: SupportsIndex, /) -> NoReturn:
        kind = type(self).__qualname__
        raise SerializationError(f"a {kind} stays in its process and cannot be pickled: {self.instead}", type_name=kind)
