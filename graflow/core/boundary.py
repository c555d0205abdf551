"""The border between Graflow and the code of its users: what they raise is caught here, and nowhere else."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self


class UserCode:
    """``with UserCode() as code: ...`` keeps what the block raises in ``code.error``.

    Exceptions become values, because a task that raises is an ordinary outcome. What is no ``Exception`` (a cancellation, ``SystemExit``,
    ``KeyboardInterrupt``) concerns the process rather than the task and goes on.
    """

    __slots__ = ("error",)

    def __init__(self) -> None:
        self.error: Exception | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> bool:
        if isinstance(error, Exception):
            self.error = error
            return True
        return False
