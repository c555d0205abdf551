"""Signed code and values on their way: sealed for the run that is submitted, and verified where they are wanted.

Keys and envelopes are made in :mod:`graflow.wire.keys`.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from graflow.core.identity import reference
from graflow.core.staying import StaysHere
from graflow.errors import UntrustedPayloadError
from graflow.wire.keys import VARIABLE, Claims, Opened, Signer, check, no_key, signer_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import ModuleType

    from graflow.wire.sources import CodeKind

__all__ = ["VARIABLE", "Pickled", "RunSigner", "SentCode", "Signer", "ToSign", "current", "may_hold_values", "signer_of", "signing_for"]

T = TypeVar("T")

_NOTHING: Final = object()


class RunSigner(StaysHere):
    """Signs what belongs to one run. One function or value is pickled once, however many tasks have it.

    Args:
        signer: the keys.
        run_id: the run.
    """

    instead = "it has secrets; set GRAFLOW_SECRET_KEY in the other process"

    __slots__ = ("_pickles", "run_id", "signer", "used")

    def __init__(self, signer: Signer, run_id: str) -> None:
        self.signer: Signer = signer
        self.run_id: str = run_id
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

    def seal_value(self, value: Any) -> bytes:
        """The envelope of a value. Raises like :meth:`seal`."""
        self.used = True
        return self.signer.seal(Claims("value", self.run_id, (), ""), _pickling().dumps(value, "Pickled"))

    def _pickled(self, code: Any, what: str) -> bytes:
        known = self._pickles.get(id(code))
        if known is None:
            known = self._pickles[id(code)] = (code, _pickling().dumps(code, what))
        return known[1]


class ToSign:
    """Code without an importable name, and who may use it, in the order in which they were met."""

    __slots__ = ("code", "kind", "owners")

    def __init__(self, code: Any, kind: CodeKind) -> None:
        self.code: Any = code
        self.kind: CodeKind = kind
        self.owners: dict[str, None] = {}


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
                raise no_key(what, instead="define it there with def at the top level of a module, which then travels by name")
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
            self._loaded = _pickling().loads(data, self._opened.claims.name)
        return self._loaded


def may_hold_values(data: bytes) -> bool:
    """Whether there may be a signed value in a plan or a task. What is made of those bytes is then for one run alone: the value is verified for
    the run in which it was decoded, and another that came upon it would find it verified."""
    return _VALUE in data


_VALUE: Final = b"\xa5value"
"""what the claims of every such envelope hold"""
_current: Final[ContextVar[RunSigner | None]] = ContextVar("graflow_run_signer", default=None)


def current() -> RunSigner | None:
    """The keys and the run of what is going on; None without a key, and outside of runs."""
    return _current.get()


class _Signing:
    """A class, and not a generator, as a worker with a key has one around each attempt."""

    __slots__ = ("_run", "_token")

    def __init__(self, run: RunSigner) -> None:
        self._run = run

    def __enter__(self) -> RunSigner:
        self._token = _current.set(self._run)
        return self._run

    def __exit__(self, *_: object) -> None:
        _current.reset(self._token)


def _pickling() -> ModuleType:
    """Imported when it is first needed: most processes neither make a pickle nor open one."""
    from graflow.wire import pickling

    return pickling


_NOBODY: Final = nullcontext(None)


def signing_for(signer: Signer | None, run_id: str) -> AbstractContextManager[RunSigner | None]:
    """Inside the block, values that opted in are signed and verified for a run. Without a signer, nothing, at next to no cost."""
    return _NOBODY if signer is None else _Signing(RunSigner(signer, run_id))


class Pickled(Generic[T]):
    """A value that is to travel as a pickle, for what the codec has no way to send: ``Pickled(model)`` as an input, bound argument, result or channel
    value arrives as a ``Pickled`` whose ``value`` it is.

    It is signed for the run, and needs a key at both ends (``GRAFLOW_SECRET_KEY``). It is verified, and only then unpickled, when ``value`` is
    first asked for. In memory, where nothing is sent, it is handed on as it is.

    Example::

        @task
        async def train(rows: list[Row]) -> Pickled[Model]:
            return Pickled(fit(rows))

        @task
        async def predict(train: Pickled[Model], row: Row) -> float:
            return train.value.predict(row)
    """

    __slots__ = ("_envelope", "_run", "_value")

    def __init__(self, value: T) -> None:
        self._value: Any = value
        self._envelope: bytes | None = None
        self._run: RunSigner | None = None

    @classmethod
    def sent(cls, envelope: bytes) -> Pickled[Any]:
        """One that arrived, in whatever run is going on."""
        made = cls.__new__(cls)
        made._value = _NOTHING
        made._envelope = envelope
        made._run = current()
        return made

    @property
    def value(self) -> T:
        """The value; one that arrived is verified and unpickled the first time.

        Raises:
            UntrustedPayloadError: it was not signed, or not for this run; or there is no key here.
            FunctionNotFoundError: it cannot be unpickled here.
        """
        if self._value is _NOTHING:
            self._value = self._opened()
        found: T = self._value
        return found

    def _opened(self) -> Any:
        envelope, run, what = self._envelope, self._run, "a Pickled value"
        assert envelope is not None
        if run is None:
            raise no_key(what)
        opened = run.signer.open(envelope, what)
        check(opened.claims, what, kind="value", run_id=run.run_id)
        return _pickling().loads(opened.pickle, what)

    def envelope(self) -> bytes | None:
        """What it travels as in the run that is going on; None without a key. Within its run one that arrived travels on as it came, unopened.

        Raises:
            SerializationError: the value cannot be pickled.
        """
        run, mine = current(), self._run
        if self._envelope is not None and (run is None or (mine is not None and mine.run_id == run.run_id)):
            if run is not None:
                run.used = True
            return self._envelope
        return None if run is None else run.seal_value(self.value)

    def __reduce__(self) -> Any:
        return Pickled, (self.value,)

    def __repr__(self) -> str:
        return "Pickled(...)" if self._value is _NOTHING else f"Pickled({self._value!r})"
