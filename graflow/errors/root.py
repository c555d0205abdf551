"""The root of the tree of errors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from collections.abc import Callable


class GraflowError(Exception):
    """The root of the tree: ``except GraflowError`` catches whatever Graflow itself raises.

    Errors can be pickled and copied: message and fields come along, cause and traceback (as for any exception) do not.
    """

    code: ClassVar[str] = "GF000"

    def __reduce__(self) -> tuple[Callable[..., GraflowError], tuple[Any, ...]]:
        # Exception's own would call the class with the message alone, and most of these ask for fields by name.
        return _rebuild, (type(self), self.args, dict(self.__dict__))


def _rebuild(kind: type[GraflowError], args: tuple[Any, ...], fields: dict[str, Any]) -> GraflowError:
    error = kind.__new__(kind, *args)
    error.__dict__.update(fields)
    return error
