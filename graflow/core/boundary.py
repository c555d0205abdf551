"""The border between Graflow and the code of its users: what they raise is caught here, and nowhere else."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Final

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self


_MARK: Final = "__graflow_raised_by_task__"


def raised_by_task(error: BaseException) -> None:
    """An error is the task's own, whatever it looks like: signals interrupt the main thread only."""
    error.__dict__[_MARK] = True


class UserCode:
    """``with UserCode() as code: ...`` keeps what the block raises in ``code.error``.

    Exceptions become values, because a task that raises is an ordinary outcome. That goes for ``SystemExit`` too, and for whatever else
    is no ``Exception`` (``pytest.fail`` raises such a one): the process belongs to all its tasks, and none may end it, or take its worker
    along. Only ``KeyboardInterrupt`` goes on, as it comes from the user at the keyboard, unless :func:`raised_by_task` has seen it.

    Attributes:
        passing: what goes on all the same; a subclass for an event loop adds cancellations.
        error: what was raised and kept.
    """

    __slots__ = ("error",)

    passing: ClassVar[tuple[type[BaseException], ...]] = (KeyboardInterrupt,)

    def __init__(self) -> None:
        self.error: BaseException | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> bool:
        if error is None or (isinstance(error, self.passing) and _MARK not in error.__dict__):
            return False
        self.error = error
        return True
