"""Keys, and the envelopes that are signed with them: what a pickle needs before anybody opens it.

A pickle executes whatever its bytes say. One is accepted only in an envelope: signed (HMAC-SHA256) with a key that both ends were given, and bound by
the signature to what it is for. An envelope that is moved to another task, function or run is refused, and nothing of it has been looked at by then.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Final, Literal

import msgspec

from graflow.core.staying import StaysHere
from graflow.errors import ConfigurationError, PythonVersionError, SerializationError, UntrustedPayloadError

VARIABLE: Final = "GRAFLOW_SECRET_KEY"
"""the environment variable with the key or keys"""
SHORTEST: Final = 32
"""bytes of a secret, at least"""
VERSION: Final = 1
"""of the envelope"""
PYTHON: Final = f"{sys.version_info.major}.{sys.version_info.minor}"

_MAKE_ONE: Final = 'make one with: python -c "import secrets; print(secrets.token_urlsafe(32))"'
_PURPOSE: Final = b"graflow/signed-pickle"

Kind = Literal["function", "policy", "error", "value"]


class Claims(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    """What a signature says that a pickle is for.

    Attributes:
        kind: what it is: the function of a task, the policy of a group, an exception class of a retry policy, or a value.
        run: the run.
        owners: the tasks or groups that may use it; none for a value, which may go anywhere within its run.
        name: ``module:qualname`` of code; empty for a value.
        python: the minor version of Python that pickled it, as ``3.11``: bytecode is that of one.
    """

    kind: Kind
    run: str
    owners: tuple[str, ...]
    name: str
    python: str = PYTHON


class _Envelope(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    version: int
    key: str
    claims: bytes
    pickle: bytes
    mac: bytes


class Opened(msgspec.Struct, frozen=True):
    """What was in an envelope whose signature is good. What it is good for, the claims say."""

    claims: Claims
    pickle: bytes


_encode: Final = msgspec.msgpack.Encoder().encode
_envelope: Final = msgspec.msgpack.Decoder(_Envelope).decode
_claims: Final = msgspec.msgpack.Decoder(Claims).decode


class Signer(StaysHere):
    """Signs with the first of its keys, and accepts all of them. Its ``repr`` shows their names only.

    Args:
        keys: secrets by the names that envelopes call them by.
    """

    instead = "it has secrets; set GRAFLOW_SECRET_KEY in the other process"

    __slots__ = ("_first", "_keys")

    def __init__(self, keys: Mapping[str, bytes]) -> None:
        self._keys = dict(keys)
        self._first = next(iter(self._keys))

    @classmethod
    def of(cls, text: str, *, setting: str = VARIABLE) -> Signer:
        """The signer of a setting: one secret, or ``name:secret,name:secret`` of which the first signs.

        A secret without a name is called by the beginning of its hash. To rotate: put the new key behind the old one everywhere, then in front,
        and when no run of the old one is left, drop that.

        Raises:
            ConfigurationError: there is no key, one is too short, or two have one name. The message shows no secret.
        """
        keys: dict[str, bytes] = {}
        for part in text.split(","):
            name, colon, secret = part.strip().partition(":")
            if not colon:
                name, secret = "", name
            data = secret.strip().encode("utf-8", "surrogateescape")
            called = name.strip() or hashlib.sha256(data).hexdigest()[:8]
            if len(data) < SHORTEST:
                what = f"the key {name.strip()!r}" if colon else "the key"
                raise ConfigurationError(
                    f"{setting}: {what} has {len(data)} bytes, and needs {SHORTEST} or more; {_MAKE_ONE}", setting=setting
                )
            if called in keys:
                raise ConfigurationError(
                    f"{setting}: two keys are called {called!r}; give each a name of its own, as name:secret", setting=setting
                )
            keys[called] = data
        return cls(keys)

    @property
    def names(self) -> tuple[str, ...]:
        """What the keys are called; the first signs."""
        return tuple(self._keys)

    @property
    def secrets(self) -> dict[str, bytes]:
        """The keys themselves, for a child process that is trusted with them."""
        return dict(self._keys)

    def seal(self, claims: Claims, pickled: bytes) -> bytes:
        """The envelope of a pickle."""
        said = _encode(claims)
        return _encode(_Envelope(VERSION, self._first, said, pickled, self._mac(VERSION, self._first, said, pickled)))

    def open(self, envelope: bytes, what: str) -> Opened:
        """What is in an envelope. Nothing of it is unpickled.

        Args:
            envelope: the bytes that arrived.
            what: what they are called in errors.

        Raises:
            UntrustedPayloadError: it is no envelope, was altered, or its key is none of ours.
            SerializationError: it was signed with a key of ours, and made by a newer version.
        """
        found = _read(envelope, what)
        if found.key not in self._keys:
            raise UntrustedPayloadError(
                f"{what} is signed with the key {found.key!r}, and the keys here are {', '.join(map(repr, self._keys))}; give both ends the "
                f"same {VARIABLE}, and keep an old key behind the new one for as long as there are runs of it",
                reason="unknown_key",
            )
        # Before anything that the envelope says is believed, its version too: "from a newer version" is waited for, and an altered one must not be.
        if not hmac.compare_digest(self._mac(found.version, found.key, found.claims, found.pickle), found.mac):
            raise UntrustedPayloadError(
                f"{what} does not match its signature by the key {found.key!r}: it was altered on its way, or signed with another secret of "
                f"that name; nothing of it was opened. See who can write to the server, and whether both ends have the same {VARIABLE}",
                reason="altered",
            )
        if found.version != VERSION:
            raise SerializationError(
                f"{what} came in an envelope of version {found.version}, and this process knows version {VERSION}: upgrade graflow here",
                type_name="envelope",
            )
        return Opened(_claims(found.claims), found.pickle)

    def _mac(self, version: int, key: str, claims: bytes, pickled: bytes) -> bytes:
        """Each part behind its length, so that no two different envelopes look alike; the purpose first, so that no other use of the key does.

        Those of all versions to come are to be made so: a process that does not know a version can then tell it from one that was altered.
        """
        mac = hmac.new(self._keys[key], digestmod=hashlib.sha256)
        for part in (_PURPOSE, str(version).encode(), key.encode("utf-8", "surrogatepass"), claims, pickled):
            mac.update(len(part).to_bytes(8, "big"))
            mac.update(part)
        return mac.digest()

    def __repr__(self) -> str:
        return f"<Signer {', '.join(self._keys)}>"


def signer_of(secret_key: str | None = None) -> Signer | None:
    """The signer of a key that was given in code, else of the environment; None without one.

    Raises:
        ConfigurationError: see :meth:`Signer.of`.
    """
    if secret_key is not None:
        if not isinstance(secret_key, str):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ConfigurationError(f"secret_key=: give a text, not a {type(secret_key).__name__}; {_MAKE_ONE}", setting="secret_key")
        return Signer.of(secret_key, setting="secret_key")
    text = os.environ.get(VARIABLE, "")
    return Signer.of(text) if text.strip() else None


def check(claims: Claims, what: str, *, kind: Kind, run_id: str, owner: str | None = None, name: str = "") -> None:
    """That a pickle is what it is taken for. The signature must have been verified.

    Args:
        claims: what the signature says.
        what: what the pickle is called in errors.
        kind: what it is used as.
        run_id: the run that uses it.
        owner: the task or group that does, None for a value.
        name: what the code is said to be.

    Raises:
        UntrustedPayloadError: it was signed for something else.
        PythonVersionError: it is bytecode of another minor version of Python.
    """
    if claims.run != run_id:
        raise UntrustedPayloadError(
            f"{what} was signed for run {claims.run!r} and is used in {run_id!r}: somebody has copied it there; submit the graph again, "
            "which signs it for its own run, and see who can write to the server",
            reason="replayed",
        )
    if claims.kind != kind or claims.name != name or (owner is not None and owner not in claims.owners):
        raise UntrustedPayloadError(
            f"{what} was signed as the {claims.kind} {claims.name!r} of {_listed(claims.owners)}, and is used as the {kind} {name!r} of "
            f"{owner!r}: somebody has put it there; see who can write to the server",
            reason="swapped",
        )
    if kind != "value" and claims.python != PYTHON:
        raise PythonVersionError(
            f"{what} was pickled by Python {claims.python}, and this is {PYTHON}: run both ends on one minor version, or define it with def "
            "at the top level of a module, which then travels by name",
            task_id=owner or "", here=PYTHON, there=claims.python,
        )  # fmt: skip


def no_key(what: str, *, instead: str = "") -> UntrustedPayloadError:
    """The error of who receives a pickle and has no key; ``instead`` is another way out."""
    return UntrustedPayloadError(
        f"{what} came as a signed pickle, and there is no key here to verify it with; set {VARIABLE} here to the secret of where it was sent"
        f"{instead and ', or '}{instead}",
        reason="no_key",
    )


def _read(envelope: bytes, what: str) -> _Envelope:
    try:
        found = _envelope(envelope)
    except (ValueError, RecursionError) as error:
        reason = "unsigned" if envelope[:1] == b"\x80" and len(envelope) > 1 else "altered"  # a pickle begins so
        told = "is a pickle that nobody has signed" if reason == "unsigned" else "is no envelope of Graflow's, or was altered"
        raise UntrustedPayloadError(f"{what} {told}; it was not opened. See who can write to the server", reason=reason) from error
    if not found.mac:
        raise UntrustedPayloadError(f"{what} bears no signature; it was not opened. See who can write to the server", reason="unsigned")
    return found


def _listed(owners: Sequence[str]) -> str:
    return ", ".join(map(repr, owners[:3])) + (f" and {len(owners) - 3} more" if len(owners) > 3 else "")
