"""Where the code comes from that a plan names: by import, from this process, or signed along with the plan."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Literal, Protocol

from graflow.errors import UntrustedPayloadError
from graflow.wire.local import LocalCode, find

if TYPE_CHECKING:
    from collections.abc import Sequence

CodeKind = Literal["function", "policy", "error"]
"""what code is to its plan: a task's function, a group's policy, or an exception class of a retry policy"""

SIGNED: Final = "<signed "
"""what the name of signed code begins with: ``<signed 3>:module:qualname`` is the fourth envelope that came along"""


class SignedCode(Protocol):
    """Code in an envelope; :class:`graflow.wire.signed.SentCode`."""

    def admit(self, kind: CodeKind, name: str, run_id: str, owner: str) -> None:
        """Verify it for a run and a task or group. Raises UntrustedPayloadError."""
        ...

    def pickled(self) -> bytes:
        """The pickle, once admitted."""
        ...

    def load(self) -> Any:
        """What was pickled, once admitted."""
        ...


class CodeSource:
    """What the names of one plan lead to.

    Args:
        local: where code without an importable name is looked for in this process.
        signed: the envelopes that came along.
    """

    __slots__ = ("_local", "signed")

    def __init__(self, local: LocalCode | None, signed: Sequence[SignedCode] = ()) -> None:
        self._local = local
        self.signed: Sequence[SignedCode] = signed

    def find(self, name: str) -> Any:
        """The function or class of that name; its module is imported if need be.

        Raises:
            FunctionNotFoundError: it is not to be had here.
            UntrustedPayloadError: it is signed, and was not admitted.
        """
        code = self.envelope(name)
        return find(name, self._local) if code is None else code.load()

    def envelope(self, name: str) -> SignedCode | None:
        """The envelope that a name leads to; None for code that is found otherwise. Raises IndexError."""
        if not name.startswith(SIGNED):
            return None
        return self.signed[int(name[len(SIGNED) : name.index(">")])]

    def admit(self, kind: CodeKind, name: str, run_id: str, owner: str) -> None:
        """Verify the code of that name, if it came signed, for a run and the task or group that it belongs to.

        Raises:
            UntrustedPayloadError: it was not signed, or not for this.
        """
        if not name.startswith(SIGNED):
            return
        try:
            code = self.envelope(name)
        except (ValueError, IndexError):
            code = None
        if code is None:
            raise UntrustedPayloadError(f"{owner!r} is to run {name!r}, of which no signed code came along", reason="unsigned")
        code.admit(kind, plain_name(name), run_id, owner)


def plain_name(name: str) -> str:
    """``module:qualname`` of a name, be it that of signed code or not."""
    return name.partition(">:")[2] if name.startswith(SIGNED) else name
