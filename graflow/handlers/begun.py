"""Which call a child has begun with, known also when it has died without a word."""

from __future__ import annotations

import mmap
import os
import sys
from typing import Final

SIZE: Final = 8
"""bytes of the number of a call"""


class BegunCalls:
    """Memory that is shared with one child, into which it writes the number of each call before it runs any of the task's code.

    A call that a dead child never began with can be given to another one. No frame could tell it apart: one more for each call would cost more
    than many calls take, and a child may be killed between any two. Where the system has no such memory, each call may have been begun.
    """

    def __init__(self) -> None:
        self._page: mmap.mmap | None = None
        self.descriptor: int | None = None
        """for the child to inherit"""
        if sys.platform == "linux":
            self.descriptor = os.memfd_create("graflow-begun")
            os.ftruncate(self.descriptor, SIZE)
            self._page = mmap.mmap(self.descriptor, SIZE)

    @property
    def inherited(self) -> tuple[int, ...]:
        """The descriptors that the child is to inherit."""
        return () if self.descriptor is None else (self.descriptor,)

    def hand_over(self) -> None:
        """The child has its own descriptor by now."""
        if self.descriptor is not None:
            os.close(self.descriptor)

    def includes(self, call: int) -> bool:
        """Whether the child may have begun with this call."""
        return self._page is None or int.from_bytes(self._page[:SIZE], "big") >= call

    def close(self) -> None:
        """Give the memory back."""
        if self._page is not None:
            self._page.close()
