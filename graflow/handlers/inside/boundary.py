"""The border to the code of the task's author: what it raises becomes a value."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import TracebackType


class UserCode:
    """``with UserCode() as code: ...`` keeps whatever the block raises in ``code.error``.

    In a child that goes for every exception there is: nobody presses Ctrl-C here, and a task that calls ``exit()`` or raises
    KeyboardInterrupt has failed.
    """

    def __init__(self) -> None:
        self.error: BaseException | None = None

    def __enter__(self) -> UserCode:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> bool:
        self.error = error
        return True
