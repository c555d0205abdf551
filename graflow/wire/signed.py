"""Signed code on its way: sealed for the run that is submitted, and verified for the attempt that wants it."""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final

from graflow.core.identity import reference
from graflow.errors import UntrustedPayloadError
from graflow.wire import pickling
from graflow.wire.signing import Claims, Opened, Signer, check, no_key

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from graflow.wire.sources import CodeKind

_NOTHING: Final = object()


class RunSigner:
    """Signs what belongs to one run. One function or value is pickled once, however many tasks have it.

    Args:
        signer: the keys.
        run_id: the run.
    """

    __slots__ = ("_pickles", "run_id", "signer", "used")

    def __init__(self, signer: Signer, run_id: str) -> None:
        self.signer = signer
        self.run_id = run_id
        self.used: bool = False
        """whether anything was signed: then the bytes are this run's alone"""
        self._pickles: dict[int, tuple[Any, bytes]] = {}

    def seal(self, code: Any, kind: CodeKind, owners: Sequence[str]) -> bytes:
        """The envelope of a function, policy or class, for the tasks or groups that may use it.

        Raises:
            SerializationError: it holds something that cannot be pickled.
            ConfigurationError: cloudpickle is not installed.
        """
        self.used = True
        what = f"{'group' if kind == 'policy' else 'task'} {owners[0]}"
        return self.signer.seal(Claims(kind, self.run_id, tuple(owners), reference(code)), self._pickled(code, what))

    def seal_value(self, value: Any, name: str) -> bytes:
        """The envelope of a value. Raises like :meth:`seal`."""
        self.used = True
        return self.signer.seal(Claims("value", self.run_id, (), ""), pickling.dumps(value, name))

    def _pickled(self, code: Any, what: str) -> bytes:
        known = self._pickles.get(id(code))
        if known is None:
            known = self._pickles[id(code)] = (code, pickling.dumps(code, what))
        return known[1]


class SentCode:
    """Code in an envelope that came along with a plan or a task.

    Its signature is verified once; what it claims to be for is compared with each use. Nothing is unpickled before it was admitted.

    Args:
        envelope: the bytes.
        signer: the keys of this process, None without any.
    """

    __slots__ = ("_admitted", "_envelope", "_loaded", "_opened", "_owners", "_signer")

    def __init__(self, envelope: bytes, signer: Signer | None) -> None:
        self._envelope = envelope
        self._signer = signer
        self._opened: Opened | None = None
        self._owners: frozenset[str] = frozenset()
        self._admitted: bool = False
        self._loaded: Any = _NOTHING

    def admit(self, kind: CodeKind, name: str, run_id: str, owner: str) -> None:
        """Verify it for a run and a task or group.

        Raises:
            UntrustedPayloadError: it is not signed, or for something else; or there is no key here.
            PythonVersionError: it was pickled by another minor version of Python.
        """
        opened = self._opened
        if opened is None:
            what = f"the code {name!r} of {owner!r}"
            if self._signer is None:
                raise no_key(what)
            opened = self._opened = self._signer.open(self._envelope, what)
            self._owners = frozenset(opened.claims.owners)
        claims = opened.claims
        if claims.run != run_id or claims.kind != kind or claims.name != name or owner not in self._owners or not self._admitted:
            check(claims, f"the code {name!r} of {owner!r}", kind=kind, run_id=run_id, owner=owner, name=name)
            self._admitted = True

    def pickled(self) -> bytes:
        """The pickle. Raises UntrustedPayloadError before it was admitted."""
        if self._opened is None or not self._admitted:
            raise UntrustedPayloadError(
                "signed code is wanted outside of the run that it was sent for; it was not opened", reason="unverified"
            )
        return self._opened.pickle

    def load(self) -> Any:
        """What was pickled, the same object each time.

        Raises:
            UntrustedPayloadError: it was not admitted.
            FunctionNotFoundError: it cannot be unpickled here.
        """
        if self._loaded is _NOTHING:
            data = self.pickled()
            assert self._opened is not None
            self._loaded = pickling.loads(data, self._opened.claims.name)
        return self._loaded


_current: Final[ContextVar[RunSigner | None]] = ContextVar("graflow_run_signer", default=None)


def current() -> RunSigner | None:
    """The keys and the run of what is going on; None without a key, and outside of runs."""
    return _current.get()


@contextmanager
def signing_for(signer: Signer | None, run_id: str) -> Generator[RunSigner | None]:
    """Inside the block, values that opted in are signed and verified for a run. Without a signer, nothing."""
    if signer is None:
        yield None
        return
    run = RunSigner(signer, run_id)
    token = _current.set(run)
    try:
        yield run
    finally:
        _current.reset(token)
